"""The arena: a growing file of anonymous shared memory, lent out in slots. In the parent."""

import mmap
import os
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._engines._workers._wire._slot import Extent
from fifteen_data_loaders._samples._buffers import lend, size_class

_FIRST_CHUNK_NBYTES = 16 << 20
_SLOTS_PER_CHUNK = 8
"""A chunk has room for at least so many of the slots that it is made for."""

_SPARE_NBYTES = 256 << 20
"""Returned slots keep their pages up to so many bytes in all."""

_SPARES_AT_LEAST = 4
"""So many slots keep their pages, however large they are."""


class Chunk(NamedTuple):
    """A stretch of the arena's file, mapped as one: every mapping has a descriptor."""

    start: int
    """Where in the file it begins."""
    memory: mmap.mmap
    address: int


class _Block(NamedTuple):
    chunk: Chunk
    start: int
    """Where in the chunk it begins."""
    nbytes: int


class Slot(NamedTuple):
    """Memory for one minibatch, free again when no array over ``memory`` is left."""

    extent: Extent
    memory: NDArray[np.uint8]


class Arena:
    """Lends slots of a file that workers map too. Under the pool's lock.

    A slot's way: lent (its pages are touched for the first time, or still warm from before), filled
    by workers, handed out as arrays, and back when the last of them is gone. Returned slots
    are lent again, the warmest first; surplus pages go back to the system.
    """

    def __init__(self, fd: int) -> None:
        self._pid = os.getpid()
        self.fd = fd
        self._nbytes = 0
        self._chunk: Chunk | None = None
        self._chunk_used = 0
        # Filled by whichever thread drops the last array, so nothing but append and popleft here.
        self._returned: deque[_Block] = deque()
        self._spares: dict[int, list[_Block]] = {}
        self._cold: dict[int, list[_Block]] = {}
        self._spare_nbytes = 0
        self._closed = False

    def lend(self, nbytes: int) -> Slot:
        """Lend at least ``nbytes``, aligned to a page."""
        self._sort_returned()
        nbytes = size_class(max(nbytes, 1), mmap.PAGESIZE)
        # The size in use moves to the end of the dict; surplus is taken from its beginning.
        spares = self._spares[nbytes] = self._spares.pop(nbytes, [])
        if spares:
            block = spares.pop()
            self._spare_nbytes -= nbytes
        elif self._cold.get(nbytes):
            block = self._cold[nbytes].pop()
        else:
            block = self._carve(nbytes)
        chunk, start, nbytes = block
        memory = lend(chunk.address + start, nbytes, block, self._give_back)
        return Slot(Extent(chunk.start, len(chunk.memory), start, nbytes), memory)

    def close(self) -> None:
        """Give all pages back except for those that are on loan, and these when they return."""
        self._closed = True
        self._chunk = None
        self._sort_returned()
        for spares in self._spares.values():
            for block in spares:
                _remove_pages(block)
        self._spares.clear()
        self._cold.clear()

    def _give_back(self, block: _Block) -> None:
        if os.getpid() != self._pid:
            return  # A forked child has a copy of the array, but the memory is the parent's.
        # A loop that lets go of many minibatches at once may not ask for another for long.
        if self._closed or block.nbytes * len(self._returned) > _SPARE_NBYTES:
            _remove_pages(block)
        # Once closed, nothing may keep the mapping that the block is of.
        if not self._closed:
            self._returned.append(block)

    def _sort_returned(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self._spares.setdefault(block.nbytes, []).append(block)
            self._spare_nbytes += block.nbytes
            self._trim(max(_SPARE_NBYTES, _SPARES_AT_LEAST * block.nbytes))

    def _trim(self, limit: int) -> None:
        for nbytes, spares in self._spares.items():
            while spares and self._spare_nbytes > limit:
                # The first is the one that was least recently in use.
                block = spares.pop(0)
                _remove_pages(block)
                self._spare_nbytes -= nbytes
                self._cold.setdefault(nbytes, []).append(block)

    def _carve(self, nbytes: int) -> _Block:
        if self._chunk is None or self._chunk_used + nbytes > len(self._chunk.memory):
            # Chunks double the arena, so that there are few of them however much is held.
            self._chunk = self._grow(
                max(_FIRST_CHUNK_NBYTES, _SLOTS_PER_CHUNK * nbytes, self._nbytes)
            )
            self._chunk_used = 0
        start = self._chunk_used
        self._chunk_used += nbytes
        return _Block(self._chunk, start, nbytes)

    def _grow(self, nbytes: int) -> Chunk:
        start = self._nbytes
        os.ftruncate(self.fd, start + nbytes)
        memory = mmap.mmap(self.fd, nbytes, offset=start)
        self._nbytes += nbytes
        return Chunk(start, memory, address_of(memory))


def address_of(memory: Any) -> int:
    """Returns the address where a writable buffer begins."""
    address: int = np.frombuffer(memory, np.uint8).ctypes.data
    return address


def _remove_pages(block: _Block) -> None:
    block.chunk.memory.madvise(mmap.MADV_REMOVE, block.start, block.nbytes)
