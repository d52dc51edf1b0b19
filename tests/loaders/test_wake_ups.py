"""Whoever waits is woken when there is something for it, and need not look again by itself."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, WorkerDiedError
from fifteen_data_loaders._engines._workers import _pool
from fifteen_data_loaders._engines._workers._wire import _board

from tests.loaders.datasets import FromFunction

pytestmark = pytest.mark.usefixtures("no_leftovers")


@pytest.fixture(autouse=True)
def _no_second_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missed stays missed, and hangs."""
    monkeypatch.setattr(_pool, "_FIRST_RECHECK_SECONDS", 3600)
    monkeypatch.setattr(_pool, "_LAST_RECHECK_SECONDS", 3600)


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 1},
        {"num_workers": 3},
        {"num_workers": 2, "num_threads": 4},
        {"num_workers": 2, "collate_fn": np.asarray},
        {"num_workers": 2, "prefetch": 1},
    ],
    ids=str,
)
def test_every_minibatch_wakes_who_waits_for_it(options: dict[str, Any]) -> None:
    with DataLoader(FromFunction(int, 2000), 8, **options) as loader:
        for seed in range(3):
            received = np.concatenate(list(loader.minibatches(seed)))
            assert sorted(received.tolist()) == list(range(2000))


def test_threads_that_wait_at_once_are_all_woken(tmp_path: Path) -> None:
    """Also when workers die under them."""

    def load(index: int) -> int:
        died = tmp_path / str(index)
        if index % 400 == 7 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return index

    received: dict[int, list[int]] = {}
    with DataLoader(FromFunction(load, 1600), 8, num_workers=2) as loader:

        def iterate(seed: int) -> None:
            minibatches = list(loader.minibatches(seed))
            received[seed] = sorted(np.concatenate(minibatches).tolist())

        with _threads(iterate, range(8)):
            pass
    assert received == {seed: list(range(1600)) for seed in range(8)}


def test_an_error_wakes_before_the_rest_of_its_minibatch_is_loaded(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")

    def load(index: int) -> int:
        if index == 0:
            raise LookupError("sample 0")
        if index == 15:
            open(tmp_path / "never").close()
        return index

    with (
        DataLoader(FromFunction(load, 16), 16, num_workers=2) as loader,
        pytest.raises(LookupError, match="sample 0"),
    ):
        next(iter(loader.minibatches(None)))


def test_who_finds_no_place_on_the_board_is_woken_when_there_is_one(tmp_path: Path) -> None:
    go = tmp_path / "go"

    def load(index: int) -> int:
        while not go.exists():
            time.sleep(0.01)
        return index

    count = _board.PLACES + 100
    received: dict[int, list[int]] = {}
    with DataLoader(FromFunction(load, count), 1, num_workers=2, prefetch=count) as loader:

        def iterate(seed: int) -> None:
            received[seed] = [int(minibatch[0]) for minibatch in loader.minibatches(seed)]

        assert loader.workers_state is not None
        pool = loader.workers_state
        with _threads(iterate, [0]):
            while pool._schedule._places:
                time.sleep(0.01)
            with _threads(iterate, [1]):
                while not all(pool._board._awaited):
                    time.sleep(0.01)
                go.touch()
    assert {seed: sorted(indices) for seed, indices in received.items()} == {
        seed: list(range(count)) for seed in range(2)
    }


def test_a_death_while_the_board_is_full_is_made_up_for(tmp_path: Path) -> None:
    """Its rows need more places than it had, and those before and after them are done."""

    def load(index: int) -> int:
        if index == 1 and not (tmp_path / "pid").exists():
            (tmp_path / "writing").write_text(str(os.getpid()))
            (tmp_path / "writing").rename(tmp_path / "pid")
            signal.pause()
        return index

    count = _board.PLACES // 2
    with DataLoader(FromFunction(load, 8 * count), 8, num_workers=2, prefetch=count) as loader:
        assert loader.workers_state is not None
        pool = loader.workers_state
        received: list[int] = []

        def iterate(seed: int) -> None:
            received.extend(int(minibatch[0]) for minibatch in loader.minibatches(None))

        with _threads(iterate, [0]):
            while pool._board._outcomes.tobytes().count(_board._PENDING) > 2:
                time.sleep(0.01)
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert received == list(range(0, 8 * count, 8))


def test_a_sample_that_no_worker_survives_wakes_with_an_error() -> None:
    def load(index: int) -> int:
        if index == 5:
            os._exit(3)
        return index

    with DataLoader(FromFunction(load, 8), 4, num_workers=2) as loader:
        iteration = iter(loader.minibatches(None))
        assert next(iteration).tolist() == [0, 1, 2, 3]
        with pytest.raises(WorkerDiedError, match=r"exited with code 3 .*sample\(s\) \[5\]"):
            next(iteration)


@contextmanager
def _threads(function: Callable[[int], None], seeds: Iterable[int]) -> Iterator[None]:
    """Run a function in threads, one for each seed."""
    threads = [threading.Thread(target=function, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
