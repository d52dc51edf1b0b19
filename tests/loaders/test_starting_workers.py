"""How workers start: in turns, and never outliving their parent."""

import fcntl
import math
import os
import signal
import subprocess
import sys
import threading
import time
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from fifteen_data_loaders import DataLoader, WorkerDiedError

from tests.loaders import scripts
from tests.loaders.datasets import FromFunction

pytestmark = pytest.mark.usefixtures("no_leftovers")


def test_a_worker_that_is_stopped_while_it_starts_ends_with_its_parent(tmp_path: Path) -> None:
    source = """
    import os, signal, sys
    from fifteen_data_loaders import DataLoader

    class Stops:
        def __getitem__(self, index):
            return index
        def __len__(self):
            return 8
        def __setstate__(self, state):
            print(os.getpid(), flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        def __getstate__(self):
            return 1

    loader = DataLoader(Stops(), 4, num_workers=1)
    sys.stdin.read()
    """
    process = scripts.start(tmp_path, source, stdin=subprocess.PIPE)
    assert process.stdout is not None
    worker = psutil.Process(int(process.stdout.readline()))
    process.kill()
    scripts.finish(process)
    assert psutil.wait_procs([worker], timeout=10)[1] == []


_STARTING = """
import sys
from fifteen_data_loaders._engines._workers._child import _start_limit

_start_limit._PATIENCE_SECONDS = {patience}
_start_limit.take_turn({turns})
print("started", flush=True)
sys.stdin.read()
"""


def _starting(turns: int, patience: float) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", _STARTING.format(turns=turns, patience=f"float('{patience}')")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[turns],
    )


def _wait_until_started(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_no_more_workers_start_at_once_than_there_are_cores(ending: signal.Signals) -> None:
    turns = os.memfd_create("turns")
    count = len(os.sched_getaffinity(0))
    processes = [_starting(turns, math.inf) for _ in range(count)]
    for process in processes:
        _wait_until_started(process)
    late = _starting(turns, math.inf)
    for turn in range(count):
        with pytest.raises(BlockingIOError):
            fcntl.lockf(turns, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, turn)
    # The turn of one that dies is not lost.
    processes[0].send_signal(ending)
    _wait_until_started(late)
    for process in [*processes, late]:
        process.communicate()
    os.close(turns)


def test_starting_workers_do_not_wait_for_ever_for_others() -> None:
    turns = os.memfd_create("turns")
    fcntl.lockf(turns, fcntl.LOCK_EX)
    process = _starting(turns, 0.1)
    _wait_until_started(process)
    process.communicate()
    os.close(turns)


def test_many_more_workers_than_cores_all_start() -> None:
    with DataLoader(list(range(64)), 4, num_workers=12) as loader:
        assert loader.workers_state is not None
        crew = loader.workers_state._crew
        while len(crew.ready) < 12:
            assert len(list(loader.minibatches(0))) == 16


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
        iteration: Any = iter(loader.minibatches(None))
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


class _NoThreads(FromFunction):
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        threading.Thread.start = start  # type: ignore[method-assign]


def test_workers_that_cannot_have_their_threads_are_not_started_for_ever() -> None:
    with (
        DataLoader(_NoThreads(int), 4, num_workers=1, num_threads=2) as loader,
        pytest.raises(WorkerDiedError, match=r"before it was ready(.|\n)*can't start new thread"),
    ):
        next(iter(loader.minibatches(None)))


def test_loaders_constructed_at_once_do_not_disturb_each_other() -> None:
    """What is pickled by value is known to the whole process."""
    module = types.ModuleType("module_of_a_notebook")
    exec("class Number(int): pass", module.__dict__)
    sys.modules[module.__name__] = module
    failures: list[BaseException] = []
    waiting, proceed = threading.Event(), threading.Event()

    class Waits:
        def __reduce__(self) -> Any:
            waiting.set()
            proceed.wait()
            return int, ()

    def construct(*parts: Any) -> None:
        try:
            with DataLoader([parts], 1, num_workers=1, collate_fn=len) as loader:
                assert loader.minibatches(None)[0] == 1
        except BaseException as error:
            failures.append(error)

    first = threading.Thread(target=construct, args=(module.Number, Waits(), module.Number(1)))
    second = threading.Thread(target=construct, args=(module.Number,))
    first.start()
    waiting.wait()
    second.start()
    second.join(0.2)  # Where it need not wait, it is done by now and has forgotten the module.
    proceed.set()
    first.join()
    second.join()
    del sys.modules[module.__name__]
    assert failures == []
