"""How workers start: in turns, and never outliving their parent."""

import fcntl
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from fifteen_data_loaders import DataLoader

from tests.loaders import scripts

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
