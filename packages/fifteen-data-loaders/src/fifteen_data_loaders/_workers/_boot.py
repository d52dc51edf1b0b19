"""The first thing that a worker runs, before anything heavy is imported. The child's side."""

import fcntl
import os
import select
import signal
import time
from typing import Any

# A start that takes longer than this is not held up by lack of a core alone, and may hang.
_PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.01


def run(boot: dict[str, Any]) -> None:
    """Be a worker until the parent is done with it or gone."""
    # Schedulers send SIGTERM to every process of a job; the parent may still want data for its last
    # checkpoint, and workers end with it.
    # Functions, because SIG_IGN would be inherited by programs that the dataset runs.
    signal.signal(signal.SIGTERM, _ignore)
    signal.signal(signal.SIGINT, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    _die_with(boot["lifeline"])
    _take_turn(boot["board"])
    from fifteen_data_loaders._workers._child import main

    main(boot)


def end_turn(turns: int) -> None:
    """Let another worker start."""
    fcntl.lockf(turns, fcntl.LOCK_UN)


def _ignore(number: int, frame: object) -> None:
    """Do nothing about a signal."""


def _die_with(lifeline: int) -> None:
    """Have the kernel kill this process once the parent's end of the pipe is closed."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    if poll.poll(0):
        os._exit(0)


def _take_turn(turns: int) -> None:
    """Wait, though not for long, while as many workers are starting as there are cores.

    So the first ones are ready the sooner, and can begin while others start. A turn is a lock on a
    byte of a file, which the kernel takes back from those that die.
    """
    count = len(os.sched_getaffinity(0))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for turn in range(count):
            try:
                fcntl.lockf(turns, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, turn)
            except OSError:
                continue
            return
        time.sleep(_POLL_SECONDS)
