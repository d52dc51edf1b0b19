"""Descriptors that are closed along with whatever they were opened for."""

import os
from contextlib import ExitStack


def open_memory(name: str, resources: ExitStack) -> int:
    """Open an anonymous file in memory; children get it only if it is passed to them."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    resources.callback(os.close, fd)
    return fd


def open_pipe(resources: ExitStack) -> tuple[int, int]:
    """Open a pipe: the end to read from, and the end to write to."""
    ends = os.pipe()
    for end in ends:
        resources.callback(os.close, end)
    return ends
