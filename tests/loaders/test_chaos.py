"""Workers are killed at random moments, and every epoch is the same as if nothing had happened.

``FIFTEEN_CHAOS_EPOCHS`` sets the count of epochs of each kind; see ``hatch run long:chaos``.
"""

import copy
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, sample_rng

from tests.loaders.datasets import assert_same

EPOCHS = int(os.environ.get("FIFTEEN_CHAOS_EPOCHS", "2"))

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(120 + 120 * EPOCHS),
    pytest.mark.usefixtures("no_leftovers"),
]

_STEPS_BETWEEN_KILLS = 6


class Mixed:
    """Samples of which some take much longer than others; leaves word of who loads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, index: int) -> dict[str, Any]:
        (self.folder / str(os.getpid())).touch()
        rng = sample_rng()
        work = rng.random((50, 50)) if index % 16 else rng.random((400, 400)).dot(np.ones((400, 5)))
        return {"index": index, "sum": work.sum(), "row": np.full(1000, index)}

    def __len__(self) -> int:
        return 256


def as_list(samples: list[Any]) -> Any:
    """A ``collate_fn`` whose minibatches vary in size."""
    longest = 1 + max(sample["index"] for sample in samples)
    padded = np.zeros((len(samples), longest))
    for row, sample in enumerate(samples):
        padded[row, : sample["index"]] = sample["sum"]
    return padded, [sample["index"] for sample in samples]


class _Killer(threading.Thread):
    """Kills a random worker that works now and then, but lets the loop progress in between."""

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        super().__init__()
        self._loader = loader
        self._random = random.Random(seed)
        self._progress = threading.Semaphore(0)
        self._stopped = threading.Event()
        self.kills = 0

    def step(self) -> None:
        """Tell that the loop has received a minibatch."""
        self._progress.release()

    def run(self) -> None:
        state = self._loader.workers_state
        assert state is not None
        while not self._stopped.is_set():
            for _ in range(_STEPS_BETWEEN_KILLS):
                self._progress.acquire()
            # Any moment within the loading of a minibatch or two.
            self._stopped.wait(self._random.random() * 0.01)
            pids = [pid for pid in state.pids if self._works(pid)]
            if pids and not self._stopped.is_set():
                # One that it killed before may be gone by now.
                with suppress(ProcessLookupError):
                    os.kill(self._random.choice(pids), signal.SIGKILL)
                    self.kills += 1

    def _works(self, pid: int) -> bool:
        dataset: Any = self._loader.dataset
        return (dataset.folder / str(pid)).exists()

    def stop(self) -> None:
        self._stopped.set()
        self._progress.release(_STEPS_BETWEEN_KILLS)
        self.join()


@contextmanager
def _killing(loader: DataLoader[Any], seed: int) -> Iterator[_Killer]:
    killer = _Killer(loader, seed)
    killer.start()
    try:
        yield killer
    finally:
        killer.stop()


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 2},
        {"num_workers": 3, "num_threads": 2},
        {"num_workers": 2, "collate_fn": as_list},
    ],
    ids=["processes", "threads in processes", "custom collate"],
)
def test_epochs_are_what_they_would_be_without_deaths(
    options: dict[str, Any], tmp_path: Path
) -> None:
    inline = DataLoader(
        Mixed(tmp_path), 8, **{k: v for k, v in options.items() if k == "collate_fn"}
    )
    expected = {seed: list(inline.minibatches(seed)) for seed in range(3)}
    with (
        DataLoader(Mixed(tmp_path), 8, **options) as loader,
        _killing(loader, EPOCHS) as killer,
    ):
        for epoch in range(EPOCHS):
            seed = epoch % 3
            for minibatch, wanted in zip(loader.minibatches(seed), expected[seed], strict=True):
                killer.step()
                assert_same(minibatch, wanted)
    assert killer.kills > EPOCHS


def test_held_minibatches_survive_deaths(tmp_path: Path) -> None:
    expected = list(DataLoader(Mixed(tmp_path), 8).minibatches(0))
    with (
        DataLoader(Mixed(tmp_path), 8, num_workers=2) as loader,
        _killing(loader, 1) as killer,
    ):
        for _ in range(EPOCHS):
            held = []
            for minibatch in loader.minibatches(0):
                killer.step()
                held.append(minibatch)
            for minibatch, wanted in zip(held, expected, strict=True):
                assert_same(minibatch, wanted)


def test_several_iterations_survive_deaths(tmp_path: Path) -> None:
    """Two at once in each of two threads, and one that is dropped half-way."""
    inline = DataLoader(Mixed(tmp_path), 8)
    expected = {seed: list(inline.minibatches(seed)) for seed in range(4)}
    failures: list[BaseException] = []
    with (
        DataLoader(Mixed(tmp_path), 8, num_workers=2) as loader,
        _killing(loader, 2) as killer,
    ):

        def iterate(seeds: tuple[int, int]) -> None:
            try:
                for _ in range(EPOCHS):
                    pairs = zip(*map(loader.minibatches, seeds), strict=True)
                    for position, pair in enumerate(pairs):
                        killer.step()
                        for minibatch, seed in zip(pair, seeds, strict=True):
                            assert_same(minibatch, expected[seed][position])
                    dropped = iter(loader.minibatches(9))
                    next(dropped)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=iterate, args=(seeds,)) for seeds in ((0, 1), (2, 3))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_eight_threads_get_exactly_their_own(tmp_path: Path) -> None:
    expected = {seed: list(DataLoader(Mixed(tmp_path), 16).minibatches(seed)) for seed in range(8)}
    failures: list[BaseException] = []
    with DataLoader(Mixed(tmp_path), 16, num_workers=2) as loader:

        def iterate(seed: int) -> None:
            try:
                for _ in range(2):
                    received = copy.deepcopy(list(loader.minibatches(seed)))
                    for minibatch, wanted in zip(received, expected[seed], strict=True):
                        assert_same(minibatch, wanted)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=iterate, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
