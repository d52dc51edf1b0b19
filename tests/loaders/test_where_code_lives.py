"""Datasets that are defined where no other interpreter could import them from."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fifteen_data_loaders import DataLoader

from tests.loaders import scripts
from tests.loaders.datasets import FromFunction

# Without empty lines inside, as an interactive interpreter wants it.
_DATASET = """
import numpy as np
from fifteen_data_loaders import DataLoader

class Squares:
    def __getitem__(self, index):
        return np.full(2, index**2)
    def __len__(self):
        return 4

"""

_SCRIPT = f"""
{_DATASET}
with DataLoader(Squares(), 2, num_workers=2) as loader:
    print(*[minibatch.tolist() for minibatch in loader.minibatches(None)])

"""

_TEST = f"""
{_DATASET}
def test_squares():
    with DataLoader(Squares(), 2, num_workers=2) as loader:
        assert loader.minibatches(None)[1].tolist() == [[4, 4], [9, 9]]
"""


@pytest.mark.parametrize(
    ("arguments", "piped"),
    [
        (["-c", _SCRIPT], ""),
        (["-"], _SCRIPT),
        (["-m", "module"], ""),
        (["-i", "-q", "-E"], _SCRIPT),
    ],
    ids=["-c", "piped", "-m", "interactive"],
)
def test_the_interpreter_may_get_its_code_anyhow(
    no_leftovers: None, tmp_path: Path, arguments: list[str], piped: str
) -> None:
    (tmp_path / "module.py").write_text(_SCRIPT)
    process = subprocess.run(
        [sys.executable, *arguments],
        input=piped,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=scripts.TIMEOUT_SECONDS,
    )
    assert process.stdout == "[[0, 0], [1, 1]] [[4, 4], [9, 9]]\n", process.stderr
    assert process.returncode == 0
    prompts = process.stderr.replace(">>> ", "").replace("... ", "")
    assert prompts.strip() == ""


def test_a_test_module_may_hold_it_under_xdist(
    no_leftovers: None, pytester: pytest.Pytester
) -> None:
    """Its processes talk over their standard streams, and import test modules in their own way."""
    pytester.makepyfile(_TEST)
    result = pytester.runpytest_subprocess(
        "-n1", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"
    )
    result.assert_outcomes(passed=1)


def test_a_loader_at_the_top_of_the_dataset_s_module_starts_no_workers_in_workers(
    no_leftovers: None, tmp_path: Path
) -> None:
    (tmp_path / "module.py").write_text(f"""
{_DATASET}
class Constructed(Squares):
    def __getitem__(self, index):
        return loader.workers_state is None and loader.minibatches(None)[0][1, 0] == 1

loader = DataLoader(Squares(), 2, num_workers=1)
inner = DataLoader(Constructed(), 2, num_workers=1)
""")
    script = (
        "from module import inner, loader; print(inner.minibatches(None)[1], loader.num_workers)"
    )
    process = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=scripts.TIMEOUT_SECONDS,
    )
    assert (process.stderr, process.stdout) == ("", "[ True  True] 1\n")


def test_a_class_that_is_defined_again_does_not_disturb_its_loader(no_leftovers: None) -> None:
    """As when a cell of a notebook is run twice."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cell = "class Sample:\n    def __init__(self, x):\n        self.x = x"
    exec(cell, names)
    loader = DataLoader(
        FromFunction(names["Sample"], 8), 2, num_workers=1, collate_fn=lambda samples: samples
    )
    exec(cell, names)
    with loader:
        assert [[s.x for s in samples] for samples in loader.minibatches(None)] == [
            [0, 1], [2, 3], [4, 5], [6, 7]
        ]  # fmt: skip
