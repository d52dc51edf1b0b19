"""Notebooks and IPython: dataset classes of cells, interrupted cells, kernels that end."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.libraries.kernels import Kernel, Outcome, kernel

_DATASET = """
import numpy as np
from fifteen.data import DataLoader, prefetching_map

class Powers:
    def __getitem__(self, index):
        return np.full(2, index**2)
    def __len__(self):
        return 4

loader = DataLoader(Powers(), 2, num_workers=2)
"""

_SHOW = "print([minibatch[:, 0].tolist() for minibatch in loader.minibatches(None)])"

_SQUARES = Outcome("[[0, 1], [4, 9]]\n", "", None)
_CUBES = Outcome("[[0, 1], [8, 27]]\n", "", None)
_NOTHING = Outcome("", "", None)


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    monkeypatch.setenv("HOME", str(tmp_path))
    # Of debugpy, about modules that are frozen into the interpreter.
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    with kernel(tmp_path) as running:
        yield running
    assert (tmp_path / "kernel.log").read_text() == ""


def test_a_class_of_a_cell_is_loaded_by_workers(notebook: Kernel) -> None:
    """Also when its cell was run again, changed: a loader has the class that it was given."""
    assert notebook.run(_DATASET) == _NOTHING
    assert notebook.run(_SHOW) == _SQUARES
    assert notebook.run("earlier = loader") == _NOTHING
    assert notebook.run(_DATASET.replace("index**2", "index**3")) == _NOTHING
    assert notebook.run(_SHOW) == _CUBES
    assert notebook.run(_SHOW.replace("loader", "earlier")) == _SQUARES


@pytest.mark.parametrize(
    "minibatches",
    ["cycled_minibatches(loader, 0)", "prefetching_map(cycled_minibatches(loader, 0))"],
)
def test_a_cell_that_was_interrupted_can_be_run_again(notebook: Kernel, minibatches: str) -> None:
    loop = f"""
from fifteen.data import cycled_minibatches

for step, minibatch in enumerate({minibatches}):
    if step == 200:
        print("in full swing", flush=True)
"""
    assert notebook.run(_DATASET) == _NOTHING
    for _ in range(2):
        interrupted = notebook.interrupt(loop)
        assert interrupted.error == "KeyboardInterrupt"
        assert interrupted.err == ""
        assert notebook.run(_SHOW) == _SQUARES


@pytest.mark.parametrize("now", [False, True], ids=["asked to", "killed"])
def test_nothing_is_left_of_a_kernel_that_ends(notebook: Kernel, now: bool) -> None:
    assert notebook.run(_DATASET + "\niteration = iter(loader.minibatches(0))") == _NOTHING
    assert notebook.run("next(iteration); print(len(loader.workers_state.pids))").out == "2\n"
    processes = notebook.processes()
    assert len(processes) >= 3
    notebook.manager.shutdown_kernel(now=now)
    assert psutil.wait_procs(processes, timeout=10)[1] == []


def test_a_class_of_an_ipython_session_is_loaded_by_workers(
    no_leftovers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = ["--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"]
    process = subprocess.run(
        [sys.executable, "-m", "IPython", *options],
        input=f"{_DATASET}\n{_SHOW}\nloader.close()\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert _SQUARES.out in process.stdout
    assert "Error" not in process.stdout
    assert process.stderr == ""
    assert process.returncode == 0
