"""Descriptors that are closed along with whatever they were opened for. In the parent.

All are above those of the standard streams: where a stream is closed its number is free, and would
mean the stream in a child that inherits it.
"""

import fcntl
import os
from contextlib import ExitStack

_LOWEST = 3


def keep_open(fd: int, resources: ExitStack) -> int:
    """Returns the descriptor, or one like it; children get it only if it is passed to them."""
    if fd < _LOWEST:
        low, fd = fd, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
        os.close(low)
    resources.callback(os.close, fd)
    return fd


def open_memory(name: str, resources: ExitStack) -> int:
    """Open an anonymous file in memory."""
    return keep_open(os.memfd_create(name, os.MFD_CLOEXEC), resources)


def open_pipe(resources: ExitStack) -> tuple[int, int]:
    """Open a pipe: the end to read from, and the end to write to."""
    reader, writer = os.pipe()
    return keep_open(reader, resources), keep_open(writer, resources)
