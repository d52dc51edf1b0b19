"""Mishaps that were found once, each held against the loader for good."""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, WorkerDiedError, WorkerError

from tests.loaders import scripts
from tests.loaders.datasets import FromFunction

pytestmark = pytest.mark.usefixtures("no_leftovers")


class _TwoArgumentsError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__("one argument")


def test_a_sample_that_cannot_be_unpickled_spoils_its_own_minibatch_only() -> None:
    def load(index: int) -> Any:
        return _TwoArgumentsError(1, 2) if index == 3 else index

    with DataLoader(FromFunction(load, 8), 2, num_workers=1) as loader:
        for _ in range(2):
            iteration = iter(loader.minibatches(None))
            assert next(iteration).tolist() == [0, 1]
            with pytest.raises(WorkerError, match="cannot be unpickled: TypeError: "):
                next(iteration)
            assert [minibatch.tolist() for minibatch in iteration] == [[4, 5], [6, 7]]


def test_closing_a_loader_wakes_whoever_waits_for_its_threads() -> None:
    release = threading.Event()

    def load(index: int) -> int:
        release.wait()
        return index

    loader = DataLoader(FromFunction(load, 64), 16, num_threads=2)
    errors: list[BaseException] = []

    def consume() -> None:
        try:
            list(loader.minibatches(None))
        except RuntimeError as error:
            errors.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    loader.close()
    release.set()
    consumer.join()
    assert [str(error) for error in errors] == [
        "this DataLoader is closed: construct another one to iterate again"
    ]


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_leaves_no_workers() -> None:
    dataset = FromFunction(int)
    dataset.rng = np.random.default_rng(0)  # type: ignore[attr-defined]
    with pytest.raises(UserWarning, match="random number generator"):
        DataLoader(dataset, 4, num_workers=2)


class _OneStarts:
    """The first worker loads it; the second fails to, some time later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, index: int) -> int:
        time.sleep(0.01)
        return index

    def __len__(self) -> int:
        return 40

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        try:
            (self.folder / "first").touch(exist_ok=False)
        except FileExistsError:
            raise OSError("no second one") from None


def test_an_error_of_a_start_costs_no_minibatch(tmp_path: Path) -> None:
    """It says that a worker is missing; what the others have loaded comes after it."""
    received: list[int] = []
    failed = False
    with DataLoader(_OneStarts(tmp_path), 4, num_workers=2) as loader:
        iteration = iter(loader.minibatches(None))
        while len(received) < 40:
            try:
                received += next(iteration).tolist()
            except WorkerDiedError:
                failed = True
    assert received == list(range(40))
    assert failed or len(os.listdir(tmp_path)) > 0


def test_too_few_descriptors_for_all_workers_leave_nothing_behind(tmp_path: Path) -> None:
    source = """
    import gc, os, resource
    from fifteen_data_loaders import DataLoader

    before = len(os.listdir("/proc/self/fd"))
    for spare in range(2, 60, 3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + spare, 4096))
        try:
            DataLoader(list(range(8)), 4, num_workers=8)
        except OSError:
            gc.collect()
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            assert len(os.listdir("/proc/self/fd")) == before, spare
    """
    code, _, err = scripts.run(tmp_path, source)
    assert (code, err) == (0, "")


def test_a_class_that_is_defined_again_does_not_disturb_its_loader() -> None:
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


def test_programs_that_a_dataset_runs_heed_sigterm() -> None:
    def load(index: int) -> int:
        import subprocess

        program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        program.terminate()
        return program.wait(timeout=30)

    with DataLoader(FromFunction(load, 1), 1, num_workers=1) as loader:
        assert loader.minibatches(None)[0].tolist() == [-15]


def test_a_timeout_shorter_than_the_start_does_not_stop_it() -> None:
    class SlowStart(FromFunction):
        def __setstate__(self, state: dict[str, Any]) -> None:
            time.sleep(1)
            self.__dict__.update(state)

    with DataLoader(SlowStart(int, 8), 4, num_workers=1, timeout=0.2) as loader:
        iteration = iter(loader.minibatches(None))
        with pytest.raises(TimeoutError, match="still starting"):
            next(iteration)
        while True:
            with suppress(TimeoutError):
                assert next(iteration).tolist() == [0, 1, 2, 3]
                break
