"""The first thing that a worker runs, before anything heavy is imported. In the child."""

import fcntl
import os
import select
import signal
from typing import Any

from fifteen_data_loaders._engines._workers._child._start_limit import take_turn
from fifteen_data_loaders._engines._workers._wire._boot_record import STARTING, BootRecord


def run(fields: tuple[Any, ...]) -> None:
    """Be a worker until the parent is done with it or gone."""
    record = BootRecord.load(fields)
    # Nor is it for programs that the dataset runs.
    os.environ.pop(STARTING, None)
    # Schedulers send SIGTERM to every process of a job; the parent may still want data for its last
    # checkpoint, and workers end with it.
    # Functions, because SIG_IGN would be inherited by programs that the dataset runs.
    signal.signal(signal.SIGTERM, _ignore)
    signal.signal(signal.SIGINT, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    _die_with(record.lifeline)
    take_turn(record.shared.board)
    # Only now: this imports numpy.
    from fifteen_data_loaders._engines._workers._child._worker import main

    main(record)


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
