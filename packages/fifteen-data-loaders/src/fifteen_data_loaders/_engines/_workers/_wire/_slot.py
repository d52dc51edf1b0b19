"""A slot: the memory of one minibatch, and what lies where in it. Both sides.

The parent writes the indices of the samples to its beginning. Workers write behind them, beginning
at `content_start`: the arrays of all leaves, each one aligned, where the layout of a sample is
known; or what a custom ``collate_fn`` made, as a head with its buffers behind it.
"""

import pickle
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._samples._buffers import aligned


class Extent(NamedTuple):
    """Where some bytes lie in the arena's file, which every process maps chunk by chunk."""

    chunk: int
    chunk_nbytes: int
    """Where in the file the chunk begins, and its length."""
    start: int
    nbytes: int
    """Where in the chunk the bytes begin, and their count."""


NOWHERE = Extent(0, 0, 0, 0)


@cache
def content_start(row_count: int) -> int:
    """Returns where in a slot for so many rows the indices end, and what workers write begins."""
    return aligned(8 * row_count)


def indices_of(slot: NDArray[np.uint8], row_count: int) -> NDArray[np.int64]:
    """Returns the indices of the samples as an array over the slot."""
    return np.ndarray((row_count,), np.int64, slot)


def write_collated(
    slot: NDArray[np.uint8], row_count: int, pickled: bytes, buffers: Sequence[memoryview]
) -> int:
    """Write a pickled minibatch and its buffers; returns the length of the head.

    That is 0 if there is no room: then nothing has been written.
    """
    extents, end = [], 0
    for buffer in buffers:
        extents.append((end, buffer.nbytes))
        end += aligned(buffer.nbytes)
    head = pickle.dumps((extents, pickled))
    head_start = content_start(row_count)
    start = head_start + aligned(len(head))
    if start + end > len(slot):
        return 0
    slot[head_start:][: len(head)] = np.frombuffer(head, np.uint8)
    for (offset, nbytes), buffer in zip(extents, buffers, strict=True):
        slot[start + offset :][:nbytes] = np.frombuffer(buffer, np.uint8)
    return len(head)


def read_collated(
    slot: NDArray[np.uint8], row_count: int, head_nbytes: int
) -> tuple[bytes, list[NDArray[np.uint8]]]:
    """Returns a pickled minibatch, and its buffers as arrays over the slot."""
    head_start = content_start(row_count)
    extents, pickled = pickle.loads(slot[head_start:][:head_nbytes].data)
    start = head_start + aligned(head_nbytes)
    return pickled, [slot[start + offset :][:nbytes] for offset, nbytes in extents]


def collated_nbytes(pickled: bytes, buffers: Sequence[bytes]) -> int:
    """Returns how many bytes suffice for what `write_collated` writes."""
    # What the head has beside the pickle are two numbers for each buffer, and what holds them.
    return sum(map(aligned, map(len, buffers))) + aligned(len(pickled) + 64 * (len(buffers) + 1))
