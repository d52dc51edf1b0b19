"""``python -m fifteen.data diagnose``: what it prints where, its exit status, and mistakes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fifteen._diagnose._command import main

pytestmark = pytest.mark.once

_PLANTED = "tests.diagnose.planted"
_USAGE = "python -m fifteen.data diagnose: error: "


def test_the_command_prints_a_report_and_its_progress_apart(
    no_leftovers: None, tmp_path: Path
) -> None:
    """For a module beside which it is started, as scripts are."""
    (tmp_path / "mine.py").write_text("digits = list(range(100))\n")
    command = [sys.executable, "-W", "error", "-m", "fifteen.data", "diagnose", "mine:digits"]
    process = subprocess.run(
        [*command, "--minibatch-size=10", "--step-ms=50", "--seconds=1"],
        cwd=tmp_path,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("A minibatch: 10 samples, 80 B\n")
    verdict = process.stdout.splitlines()[-1]
    assert re.match(r"The step is the bottleneck: it takes \d+(\.\d+)? ms, ", verdict)
    first, *_, last = process.stderr.splitlines()
    assert first.endswith("] samples, collation, transfer")
    assert last.endswith("] the loop")


def test_figures_for_tools(capsys: pytest.CaptureFixture[str]) -> None:
    target = f"{_PLANTED}:tiny_minibatches_in_memory"
    assert main(["diagnose", target, "--seconds", "0.2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["bottleneck"] == "minibatch size"
    assert figures["verdict"].startswith("The minibatches are tiny: ")
    assert figures["row_count"] == 1
    assert figures["recommended"] == figures["given"] == figures["settings"][0]


def test_a_step_function_gets_minibatches(capsys: pytest.CaptureFixture[str]) -> None:
    target, step = f"{_PLANTED}:tiny_minibatches_in_memory", f"{_PLANTED}:slow_step"
    assert main(["diagnose", target, "--step", step, "--seconds", "0.2"]) == 0
    assert "The step is the bottleneck" in capsys.readouterr().out


def test_a_picture_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "diagnosis.svg"
    target = f"{_PLANTED}:tiny_minibatches_in_memory"
    assert main(["diagnose", target, "--seconds=0.2", "--step-ms=1", f"--plot={picture}"]) == 0
    assert "ms per minibatch" in picture.read_text()


def test_a_picture_needs_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["diagnose", f"{_PLANTED}:quick", "--plot=a.svg"]) == 2
    assert capsys.readouterr() == (
        "",
        f"{_USAGE}--plot needs matplotlib: pip install 'fifteen[diagnose]'\n",
    )


class Terminal:
    """A stderr that somebody looks at."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("installed", [True, False], ids=["tqdm", "no tqdm"])
def test_a_terminal_has_a_bar_if_tqdm_is_there(
    installed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    assert main(["diagnose", f"{_PLANTED}:tiny_minibatches_in_memory", "--seconds=0.2"]) == 0
    assert ("| 1/2" in terminal.text) == installed
    assert ("[1/2] samples, collation, transfer\n" in terminal.text) != installed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine"], "MODULE:ATTRIBUTE must be of the form module:attribute, got 'mine'"),
        (["mine.py:x"], "MODULE:ATTRIBUTE must name a module that can be imported: No module"),
        (["mi/ne:x"], "MODULE:ATTRIBUTE must be of the form module:attribute, got 'mi/ne:x'"),
        ([".mine:x"], "MODULE:ATTRIBUTE must be of the form module:attribute, got '.mine:x'"),
        (["nowhere:x"], "MODULE:ATTRIBUTE must name a module that can be imported: No module"),
        ([f"{_PLANTED}:nothing"], "MODULE:ATTRIBUTE must name an attribute that exists: module"),
        (
            [f"{_PLANTED}:slow_step"],
            "MODULE:ATTRIBUTE must need no arguments, got slow_step: missing a required argument: "
            "'minibatch'\n",
        ),
        (
            [f"{_PLANTED}:Samples"],
            "--minibatch-size is needed for a dataset, and MODULE:ATTRIBUTE is a Samples\n",
        ),
        (
            [f"{_PLANTED}:Samples", "--minibatch-size=0"],
            "`minibatch_size` must be at least 1, got 0\n",
        ),
        (
            ["math:pi", "--minibatch-size=2"],
            "`dataset` must have `__getitem__` and `__len__`, got a float without",
        ),
        (
            [f"{_PLANTED}:quick", "--minibatch-size=2"],
            "--minibatch-size is for datasets, and a loader has its own (64), got 2\n",
        ),
        ([f"{_PLANTED}:quick", "--seconds=0"], "--seconds must be positive and finite, got 0.0\n"),
        ([f"{_PLANTED}:quick", "--step-ms=nan"], "--step-ms must be positive and finite, got nan"),
        ([f"{_PLANTED}:quick", "--step=math:pi"], "--step must be a function, got a float\n"),
        ([f"{_PLANTED}:quick", "--step=math:no"], "--step must name an attribute that exists: "),
        ([f"{_PLANTED}:quick", "--plot=a.nothing"], "--plot must end with one of "),
        (
            [f"{_PLANTED}:quick", "--plot=no/such/folder/a.svg"],
            "--plot must be in a folder that exists, got 'no/such/folder/a.svg'\n",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_without_a_traceback(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(_USAGE + message)
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["cure"],
        ["diagnose"],
        ["diagnose", "a:b", "--step-ms=1", "--step=a:b"],
        ["diagnose", "a:b", "--seconds=x"],
    ],
    ids=" ".join,
)
def test_argparse_reports_the_rest(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m fifteen.data")


def test_an_interrupt_ends_the_command_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("fifteen._diagnose._command.diagnose", interrupted)
    assert main(["diagnose", f"{_PLANTED}:tiny_minibatches_in_memory"]) == 130
    assert capsys.readouterr() == ("", "")


def test_an_error_of_the_dataset_keeps_its_traceback() -> None:
    """It is what its author needs."""
    with pytest.raises(KeyError) as caught:
        main(["diagnose", "tests.diagnose.test_diagnose_command:broken", "--minibatch-size=2"])
    assert caught.value.__notes__ == ["Raised while loading sample 0 of the dataset."]


class Broken:
    def __getitem__(self, index: int, /) -> Any:
        return dict[int, Any]()[index]

    def __len__(self) -> int:
        return 2


broken = Broken()
