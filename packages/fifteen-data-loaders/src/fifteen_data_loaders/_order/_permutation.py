"""Permutations of samples: functions that compute rows ``[start, stop)`` of one."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_BLOCK_ROWS = 2**15
"""Rows that are computed together, which take 256 kB.

Fewer are slower because of the cost of calling NumPy, and more because of page faults.
"""

_KEY_COUNT = 6
"""One key for each round. Measured over hundreds of orders, 4 rounds leave differences of
neighbours uneven at these sample counts; 6 rounds do so only at far smaller ones, such as 300."""


def dataset_rows(start: int, stop: int) -> NDArray[np.int64]:
    """Returns the rows of the dataset's own order."""
    return np.arange(start, stop, dtype=np.int64)


def sorted_rows(sample_count: int, shuffle_seed: int) -> Callable[[int, int], NDArray[np.int64]]:
    """Returns what computes the rows of all samples sorted by a random number each.

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
        scratch = np.empty((6, min(len(rows), MAX_BLOCK_ROWS)), np.uint32)
        for offset in range(0, len(rows), MAX_BLOCK_ROWS):
            part = rows[offset : offset + MAX_BLOCK_ROWS]
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


def feistel_rows(sample_count: int, shuffle_seed: int) -> Callable[[int, int], NDArray[np.int64]]:
    """Returns what computes rows of any number of samples, each for itself."""
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
