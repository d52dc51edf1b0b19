"""The first thing that a worker runs, before anything heavy is imported. The child's side."""

import fcntl
import os
import select
import signal
from typing import Any

from fifteen_data_loaders._workers._turns import take_turn


def run(boot: dict[str, Any]) -> None:
    """Be a worker until the parent is done with it or gone."""
    # Schedulers send SIGTERM to every process of a job; the parent may still want data for its last
    # checkpoint, and workers end with it.
    # Functions, because SIG_IGN would be inherited by programs that the dataset runs.
    signal.signal(signal.SIGTERM, _ignore)
    signal.signal(signal.SIGINT, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    _die_with(boot["lifeline"])
    take_turn(boot["board"])
    from fifteen_data_loaders._workers._child import main

    main(boot)


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
