import reprlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Up to this many samples, an order is sorted whole: every permutation is equally likely, at the
# price of well under a millisecond.
_MAX_SORTED_COUNT = 2**13

# Rows that are computed together, and that a sequential reader computes ahead, which take 256 kB.
# Fewer are slower because of the cost of calling NumPy, and more because of page faults.
_MAX_BLOCK_ROWS = 2**15

# Computing this many rows costs as much as calling NumPy, so a reader that skips fewer, as one
# shard of several does, still counts as sequential.
_MAX_SKIPPED_ROWS = 2**13

_BLOCK_GROWTH = 4

# One key for each round. Measured over hundreds of orders, 4 rounds leave differences of neighbours
# uneven at these sample counts; 6 rounds do so only at far smaller ones, such as 300.
_KEY_COUNT = 6


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
        return SampleOrder(sample_count, _dataset_rows)
    if sample_count <= _MAX_SORTED_COUNT:
        return SampleOrder(sample_count, _sorted_rows(sample_count, shuffle_seed))
    return SampleOrder(sample_count, _feistel_rows(sample_count, shuffle_seed))


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
            if stop - start >= _MAX_BLOCK_ROWS:
                return self._compute_rows(start, stop)
            block = self._block = self._block_after(block, start, stop)
        return block.rows[start - block.start : stop - block.start].copy()

    def _block_after(self, last: "_Block", start: int, stop: int) -> "_Block":
        if last.start <= start <= last.stop + _MAX_SKIPPED_ROWS:
            row_count = min(_BLOCK_GROWTH * (last.stop - last.start), _MAX_BLOCK_ROWS)
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


def _dataset_rows(start: int, stop: int) -> NDArray[np.int64]:
    return np.arange(start, stop, dtype=np.int64)


def _sorted_rows(sample_count: int, shuffle_seed: int) -> Callable[[int, int], NDArray[np.int64]]:
    """Sorts the samples by a random number each.

    A number has at least 50 random bits, so that the chance of any two being equal is below
    ``2**-24``. Its other bits are the index of its sample: no two keys are equal, and the result
    does not depend on how NumPy sorts.
    """
    index_bits = sample_count.bit_length()
    random_bytes = _random_bytes(sample_count, shuffle_seed, 8 * sample_count)
    keys = np.frombuffer(random_bytes, "<u8").astype(np.uint64)
    keys >>= index_bits
    keys <<= index_bits
    keys |= np.arange(sample_count, dtype=np.uint64)
    keys.sort()
    keys &= 2**index_bits - 1
    order = keys.astype(np.int64)
    return lambda start, stop: order[start:stop].copy()


@dataclass(frozen=True)
class _FeistelRows:
    """Rows of a keyed permutation, each computed for itself.

    A Feistel network (Luby and Rackoff, "How to construct pseudorandom permutations from
    pseudorandom functions", 1988) permutes pairs of a left half in ``range(left_count)`` and a
    right half in ``range(2**right_bits)``. As in Black and Rogaway, "Ciphers with arbitrary finite
    domains" (2002), the left half is added to rather than flipped, so that there are hardly more
    pairs than samples, and rows that land outside of the samples are sent through again until
    they land inside. Mitchell et al., "Bandwidth-optimal random shuffling for GPUs" (2021), measure
    how well such networks shuffle.

    Both halves have at most 32 bits: NumPy computes them twice as fast as 64.
    """

    sample_count: int
    left_count: int
    right_bits: int
    keys: tuple[int, ...]

    def __call__(self, start: int, stop: int) -> NDArray[np.int64]:
        rows = np.arange(start, stop, dtype=np.int64)
        scratch = np.empty((6, min(len(rows), _MAX_BLOCK_ROWS)), np.uint32)
        for offset in range(0, len(rows), _MAX_BLOCK_ROWS):
            part = rows[offset : offset + _MAX_BLOCK_ROWS]
            self._permute(part, scratch)
            outside = np.flatnonzero(part >= self.sample_count)
            while len(outside):
                again = part[outside]
                self._permute(again, scratch)
                part[outside] = again
                outside = outside[again >= self.sample_count]
        return rows

    def _permute(self, pairs: NDArray[np.int64], scratch: NDArray[np.uint32]) -> None:
        """Permute in place, in scratch memory: fresh memory would cost as much as the work."""
        left, right, hashed, spare = scratch[:4, : len(pairs)]
        wide = scratch[4:].reshape(-1).view(np.uint64)[: len(pairs)]
        left[:] = pairs >> self.right_bits
        right[:] = pairs & (2**self.right_bits - 1)
        for left_key, right_key in zip(self.keys[::2], self.keys[1::2], strict=True):
            # The high word of the product is uniform in range(left_count).
            _hash(right, left_key, hashed, spare)
            wide[:] = hashed
            wide *= self.left_count
            wide >>= 32
            hashed[:] = wide
            left += hashed
            # Modulo `left_count`: the difference wraps around to a large number where it is
            # negative.
            np.subtract(left, self.left_count, out=hashed)
            np.minimum(left, hashed, out=left)

            _hash(left, right_key, hashed, spare)
            hashed >>= 32 - self.right_bits
            right ^= hashed
        pairs[:] = left
        pairs <<= self.right_bits
        pairs |= right


def _feistel_rows(sample_count: int, shuffle_seed: int) -> _FeistelRows:
    right_bits = ((sample_count - 1).bit_length() + 1) // 2
    left_count = -(-sample_count >> right_bits)
    keys = _random_bytes(sample_count, shuffle_seed, 4 * _KEY_COUNT)
    return _FeistelRows(
        sample_count, left_count, right_bits, struct.unpack(f"<{_KEY_COUNT}I", keys)
    )


def _hash(
    half: NDArray[np.uint32], key: int, out: NDArray[np.uint32], spare: NDArray[np.uint32]
) -> None:
    """Hashes 32-bit words, well mixed in their leading bits.

    Multiplications and shift are those of "lowbias32" (Wellons, "Prospecting for hash functions",
    2018), without the steps that only serve the trailing bits.
    """
    np.bitwise_xor(half, key, out=out)
    out *= 0x7FEB352D
    np.right_shift(out, 15, out=spare)
    out ^= spare
    out *= 0x846CA68B


def _random_bytes(sample_count: int, shuffle_seed: int, byte_count: int) -> bytes:
    """Random bytes that are a function of an order's arguments: SHAKE128 (FIPS 202) of them."""
    # Imported late: it loads OpenSSL, which takes 4 ms, and a worker process never needs an order.
    from hashlib import shake_128

    arguments = struct.pack("<QQ", sample_count, shuffle_seed % 2**64)
    return shake_128(b"fifteen sample order" + arguments).digest(byte_count)
