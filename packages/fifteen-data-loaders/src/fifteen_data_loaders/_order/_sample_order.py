"""The order of the samples of an epoch, a function of their count and the shuffle seed."""

import reprlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._order._permutation import (
    MAX_BLOCK_ROWS,
    dataset_rows,
    feistel_rows,
    sorted_rows,
)

_MAX_SORTED_COUNT = 2**13
"""Up to this many samples, an order is sorted whole: every permutation is equally likely, at the
price of well under a millisecond."""

_MAX_SKIPPED_ROWS = 2**13
"""Computing this many rows costs as much as calling NumPy, so a reader that skips fewer, as one
shard of several does, still counts as sequential."""

_BLOCK_GROWTH = 4
"""By which factor a sequential reader computes further ahead, up to `MAX_BLOCK_ROWS`."""


def sample_order(sample_count: int, shuffle_seed: int | None) -> "SampleOrder":
    """Returns the order of an epoch: a bijection of ``range(sample_count)``.

    It depends on nothing but the two arguments: not on the platform, nor on the release of Python,
    NumPy or this library. Orders of different seeds or counts are unrelated.

    Args:
        sample_count: of any size; neither time nor memory grow with it.
        shuffle_seed: the dataset's own order for ``None``. Taken modulo ``2**64``, so that a seed
            that counts up with the epochs never ends.
    """
    if shuffle_seed is None:
        return SampleOrder(sample_count, dataset_rows)
    if sample_count <= _MAX_SORTED_COUNT:
        return SampleOrder(sample_count, sorted_rows(sample_count, shuffle_seed))
    return SampleOrder(sample_count, feistel_rows(sample_count, shuffle_seed))


class SampleOrder:
    """The sample indices of an epoch, computed where they are asked for.

    The first rows that are asked for, and any far from the last ones, are computed alone. Rows
    that follow upon the last ones are computed in growing blocks, of which the last is kept.

    Thread-safe; several readers that are far apart from each other are faster with an order each.
    """

    def __init__(
        self, sample_count: int, compute_rows: Callable[[int, int], NDArray[np.int64]]
    ) -> None:
        self._sample_count = sample_count
        self._compute_rows = compute_rows
        self._block = _Block(0, 0, np.empty(0, np.int64))

    def indices(self, start: int, stop: int) -> NDArray[np.int64]:
        """Returns rows ``[start, stop)`` of the order in an array that is the caller's own.

        Raises:
            IndexError: if the rows are not within the order.
        """
        # Read once, because another thread may replace it.
        block = self._block
        if not block.start <= start <= stop <= block.stop:
            if not 0 <= start <= stop <= self._sample_count:
                raise IndexError(
                    f"rows [{start}, {stop}) are not all within [0, {self._sample_count})"
                )
            if stop - start >= MAX_BLOCK_ROWS:
                return self._compute_rows(start, stop)
            block = self._block = self._block_after(block, start, stop)
        return block.rows[start - block.start : stop - block.start].copy()

    def _block_after(self, last: "_Block", start: int, stop: int) -> "_Block":
        if last.start <= start <= last.stop + _MAX_SKIPPED_ROWS:
            row_count = min(_BLOCK_GROWTH * (last.stop - last.start), MAX_BLOCK_ROWS)
            stop = min(max(stop, start + row_count), self._sample_count)
        return _Block(start, stop, self._compute_rows(start, stop))


def shard_rows(row_count: int, shard_index: int, shard_count: int) -> tuple[int, int]:
    """Returns the start and the stop of one shard's rows within a minibatch.

    The shards are contiguous, in order, and differ by at most one row. Some are empty if there are
    more shards than rows.
    """
    start = shard_index * row_count // shard_count
    stop = (shard_index + 1) * row_count // shard_count
    return start, stop


def check_shuffle_seed(shuffle_seed: object) -> int | None:
    """Returns the seed as a plain ``int``, or ``None`` if it is.

    Raises:
        TypeError: if it is neither ``None`` nor a Python or NumPy integer.
        ValueError: if it is not in ``[0, 2**63)``.
    """
    if shuffle_seed is None:
        return None
    if isinstance(shuffle_seed, bool) or not isinstance(shuffle_seed, int | np.integer):
        raise TypeError(
            f"`shuffle_seed` must be an integer or None, got {_described(shuffle_seed)}; "
            "pass an int, such as the epoch"
        )
    seed = int(shuffle_seed)
    if not 0 <= seed < 2**63:
        raise ValueError(
            f"`shuffle_seed` must be in [0, 2**63), got {seed}; pass an int, such as the epoch"
        )
    return seed


def _described(value: Any) -> str:
    if isinstance(value, np.generic) or not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return f"{reprlib.repr(value)} of type {type(value).__name__}"
    # Told by their looks, because jax may not have been imported. New keys have a dtype of their
    # own, such as key<fry>; old ones are two words.
    dtype = str(value.dtype)
    is_jax = type(value).__module__.partition(".")[0] in ("jax", "jaxlib")
    if is_jax and (dtype.startswith("key<") or (dtype == "uint32" and value.shape == (2,))):
        return "a JAX random key"
    return f"an array of shape {value.shape} and dtype {dtype}"


class _Block(NamedTuple):
    start: int
    stop: int
    rows: NDArray[np.int64]
