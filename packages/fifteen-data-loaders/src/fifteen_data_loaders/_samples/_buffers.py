"""Aligned memory that is used again once nobody refers to it."""

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64
"""Bytes. ``jax.device_put`` aliases NumPy memory aligned like this on CPU instead of copying it."""

_SMALLEST_RECYCLED = 1 << 16
"""Below this many bytes malloc has memory at hand, and recycling would cost more than it saves."""

_SPARES_PER_SIZE = 8
"""Arrays of one size that are kept."""

_MOST_SPARES = 8
"""Bytes of all spares, in multiples of the largest size."""


def aligned(nbytes: int) -> int:
    """Round a count of bytes up to the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def size_class(nbytes: int, granule: int) -> int:
    """Round up so that sizes that vary a little share memory: at most an eighth is wasted."""
    step = max(granule, 1 << max(0, nbytes.bit_length() - 4))
    return -(-nbytes // step) * step


class Lease:
    """Memory on loan: given back when the last array over it is gone.

    NumPy makes every view refer to the array that owns the memory rather than to the view that it
    was taken of. So a lease is hung on the owner, below all arrays: `lend` returns an array whose
    base is the lease, and every view of that array, however deep, keeps the two alive.
    """

    __slots__ = ("__array_interface__", "_give_back", "_memory")

    def __init__(
        self, address: int, nbytes: int, memory: Any, give_back: Callable[[Any], object]
    ) -> None:
        self._memory = memory
        self._give_back = give_back
        self.__array_interface__ = {
            "version": 3,
            "shape": (nbytes,),
            "typestr": "|u1",
            "data": (address, False),
        }

    # A default, because modules are emptied before the last objects go at the interpreter's end.
    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        try:
            # An interrupt may have come before there was anything to give back.
            if hasattr(self, "_give_back") and not is_finalizing():
                self._give_back(self._memory)
        except KeyboardInterrupt:
            # Imported late: workers, which nobody interrupts, start the sooner without it.
            from fifteen_data_protocols import interrupt_later

            interrupt_later()


def lend(
    address: int, nbytes: int, memory: Any, give_back: Callable[[Any], object]
) -> NDArray[np.uint8]:
    """Returns an array over ``nbytes`` at ``address``; ``give_back(memory)`` follows its last use.

    ``give_back`` may be called by any thread at any moment, even from within a garbage collection,
    so it must not take a lock.
    """
    return np.asarray(Lease(address, nbytes, memory, give_back))


class Recycler:
    """Hands out arrays in memory that was used before, where it can.

    Page faults make fresh memory about ten times as slow to write as memory in use. Thread-safe.
    """

    def __init__(self) -> None:
        self._spares: dict[int, deque[NDArray[np.uint8]]] = {}

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Like ``np.empty``, aligned; the memory is recycled when no array refers to it."""
        dtype = np.dtype(dtype)
        nbytes = dtype.itemsize
        for length in shape:
            nbytes *= length
        if dtype.hasobject or nbytes == 0:
            return np.empty(shape, dtype)
        if nbytes < _SMALLEST_RECYCLED:
            return np.ndarray(shape, dtype, buffer=_allocate(nbytes))
        size = size_class(nbytes, ALIGNMENT)
        spares = self._spares.setdefault(size, deque(maxlen=_SPARES_PER_SIZE))
        try:
            memory = spares.pop()
        except IndexError:
            self._limit_spares()
            memory = _allocate(size)
        root = lend(memory.ctypes.data, nbytes, memory, spares.append)
        return np.ndarray(shape, dtype, buffer=root)

    def _limit_spares(self) -> None:
        """Let go of the spares where sizes keep changing, or one for each size would stay."""
        spares = list(self._spares.items())
        if sum(size * len(memory) for size, memory in spares) > _MOST_SPARES * max(self._spares):
            for _, memory in spares:
                memory.clear()


def _allocate(nbytes: int) -> NDArray[np.uint8]:
    block = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return block[start : start + nbytes]
