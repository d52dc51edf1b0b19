"""Threads that load without workers: how they are let go of, and how they end with Python."""

import threading
from pathlib import Path

import pytest
from fifteen_data_loaders import DataLoader

from tests.loaders import scripts
from tests.loaders.datasets import FromFunction

pytestmark = pytest.mark.usefixtures("no_leftovers")


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


def test_python_ends_without_what_threads_were_handed(tmp_path: Path) -> None:
    """Samples that cannot be loaded before the main thread is gone would hold it up."""
    source = """
    import atexit, threading, time
    from fifteen_data_loaders import DataLoader

    class Patient:
        def __getitem__(self, index):
            while index >= 4 and threading.main_thread().is_alive():
                time.sleep(0.001)
            return index

        def __len__(self):
            return 10**9

    minibatches = iter(DataLoader(Patient(), 4, num_threads=2).minibatches(None))

    def consume():
        try:
            for _ in minibatches:
                pass
        except RuntimeError as error:
            print(error)

    consumer = threading.Thread(target=consume, daemon=True)
    # Called last. Other packages may wait at exit for a thread that waits for a minibatch.
    atexit.register(consumer.join)
    print(next(minibatches))
    consumer.start()
    """
    closed = "this DataLoader is closed: construct another one to iterate again"
    assert scripts.run(tmp_path, source) == (0, f"[0 1 2 3]\n{closed}\n", "")
