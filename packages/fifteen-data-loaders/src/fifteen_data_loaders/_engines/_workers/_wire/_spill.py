"""Spill files: where a worker puts answers that have no place in a slot.

Each worker has one, anonymous and in memory. The worker appends; the parent reads, and gives the
pages back to the system.
"""

import mmap
import os
import threading


class SpillWriter:
    """The worker's side. Thread-safe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = os.fstat(fd).st_size
        self._lock = threading.Lock()

    def write(self, answer: bytes) -> int:
        """Returns where in the file the answer lies, which is at a multiple of the page size."""
        with self._lock:
            start = -(-self._end // mmap.PAGESIZE) * mmap.PAGESIZE
            self._end = start + len(answer)
        # One call writes at most 2 GiB.
        written = 0
        while written < len(answer):
            written += os.pwrite(self._fd, memoryview(answer)[written:], start + written)
        return start


def read_spill(fd: int, start: int, nbytes: int) -> bytes:
    """Read an answer, in the parent."""
    with mmap.mmap(fd, nbytes, access=mmap.ACCESS_READ, offset=start) as pages:
        return pages.read()


def remove_spill(fd: int, start: int, nbytes: int) -> None:
    """Give the memory of an answer back, in the parent."""
    with mmap.mmap(fd, nbytes, offset=start) as pages:
        pages.madvise(mmap.MADV_REMOVE)
