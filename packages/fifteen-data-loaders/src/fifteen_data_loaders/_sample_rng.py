"""Random numbers keyed by seed and sample, and what is being loaded in this thread."""

import reprlib
import struct
import threading
from abc import ABC, abstractmethod
from typing import Self

import numpy as np


# In this module, annotations with `np.random` are strings: NumPy imports it when it is first used,
# which takes 14 ms that a worker process without random samples need not spend.
def sample_rng(index: int | None = None) -> "np.random.Generator":
    """Returns the random number generator of a sample, for random augmentation in a dataset.

    Its numbers depend on the shuffle seed of the epoch and on the index of the sample alone: they
    are the same for any count of workers, threads and hosts, and others in the next epoch. Without
    a shuffle seed they are the same in every epoch, as they are outside of a data loader.

    While a sample is being loaded, every call for the same index returns the same generator, which
    continues where it was. Loading the sample again starts it anew, as does every call outside of a
    data loader.

    In a ``collate_fn`` the generator without an index is that of the minibatch. It depends on the
    shuffle seed, the minibatch's place in the epoch and the shard, so that its numbers change with
    the count of shards.

    Args:
        index: of the sample; by default the one that is being loaded in this thread. Required in
            ``__getitems__()``, which loads several, and outside of a data loader.

    Raises:
        RuntimeError: without an index where no single sample is being loaded.

    Example:
        >>> class Flipped:
        ...     def __init__(self, images: np.ndarray) -> None:
        ...         self.images = images
        ...
        ...     def __getitem__(self, index: int) -> np.ndarray:
        ...         image = self.images[index]
        ...         return image[:, ::-1] if sample_rng().random() < 0.5 else image
        ...
        ...     def __len__(self) -> int:
        ...         return len(self.images)
    """
    if index is not None:
        index = _checked_index(index)
    scope = _thread.scope
    if scope is not None:
        return scope.rng(index)
    if index is None:
        raise RuntimeError(
            "`sample_rng()` needs an index outside of a data loader, where no sample is being "
            "loaded; pass the index of the sample: sample_rng(index)"
        )
    return _sample_rng(None, index)


class _Scope(ABC):
    """What `sample_rng()` returns in this thread while the scope is entered.

    Scopes nest, since `__getitem__()` may iterate over a loader of its own. Each is entered once,
    and left by the same thread before anything is handed to the loop: never held across a `yield`.
    """

    __slots__ = ("_outer", "_rngs", "_shuffle_seed")

    def __init__(self, shuffle_seed: int | None) -> None:
        self._shuffle_seed = shuffle_seed
        self._rngs: dict[int | None, np.random.Generator] = {}
        self._outer: _Scope | None = None

    def __enter__(self) -> Self:
        self._outer = _thread.scope
        _thread.scope = self
        return self

    def __exit__(self, *exception: object) -> None:
        _thread.scope = self._outer

    def rng(self, index: int | None) -> "np.random.Generator":
        rng = self._rngs.get(index)
        if rng is None:
            rng = self._own_rng() if index is None else _sample_rng(self._shuffle_seed, index)
            self._rngs[index] = rng
        return rng

    @abstractmethod
    def _own_rng(self) -> "np.random.Generator":
        """Returns the new generator of a call without an index."""


class SampleScope(_Scope):
    """The scope in which a thread loads samples, one after the other or several at once.

    Setting ``index`` before each is all that it costs to load a sample that draws no numbers::

        with SampleScope(shuffle_seed) as scope:
            for index in indices:
                scope.index = index
                samples.append(dataset[index])

    An index must not come twice in one scope: generators start anew when the index changes.
    """

    __slots__ = ("_rngs_index", "index")

    index: int | None
    """Of the sample that is being loaded; stays ``None`` around ``__getitems__()``."""

    def __init__(self, shuffle_seed: int | None) -> None:
        super().__init__(shuffle_seed)
        self.index = None
        self._rngs_index: int | None = None

    def rng(self, index: int | None) -> "np.random.Generator":
        # A sample that asks for the generator of another must not continue what that one left, or
        # numbers would depend on how samples are shared out among workers.
        if self._rngs_index != self.index:
            self._rngs_index = self.index
            self._rngs.clear()
        return super().rng(self.index if index is None else index)

    def _own_rng(self) -> "np.random.Generator":
        raise RuntimeError(
            "`sample_rng()` needs an index in `__getitems__()`, where several samples are being "
            "loaded; pass the index of each: sample_rng(index)"
        )


class MinibatchScope(_Scope):
    """The scope in which a thread collates the samples of one minibatch, or of its shard of one."""

    __slots__ = ("_minibatch_number", "_shard_index")

    def __init__(
        self, shuffle_seed: int | None, minibatch_number: int, shard_index: int = 0
    ) -> None:
        super().__init__(shuffle_seed)
        self._minibatch_number = minibatch_number
        self._shard_index = shard_index

    def _own_rng(self) -> "np.random.Generator":
        return _new_rng(_MINIBATCHES, self._shuffle_seed, self._minibatch_number, self._shard_index)


class _Thread(threading.local):
    scope: _Scope | None = None


_thread = _Thread()

_SAMPLES, _MINIBATCHES = range(2)
"""What the numbers are for, so that minibatch 3 and sample 3 have nothing in common."""


def _sample_rng(shuffle_seed: int | None, index: int) -> "np.random.Generator":
    return _new_rng(_SAMPLES, shuffle_seed, index, 0)


def _new_rng(
    purpose: int, shuffle_seed: int | None, number: int, shard_index: int
) -> "np.random.Generator":
    """Returns a generator whose numbers have nothing in common with those for other arguments.

    The arguments are hashed by NumPy's ``SeedSequence``, after O'Neill, "Developing a seed_seq
    alternative" (2015). NumPy promises that neither its words nor the bits of ``PCG64`` change.
    """
    # No seed is not seed 0. Words of 32 bits are what `SeedSequence` works with: a list of integers
    # would take it 2 us more.
    has_seed = shuffle_seed is not None
    seed = (shuffle_seed or 0) % 2**64
    words = struct.pack("<IIQQQ", purpose, has_seed, seed, number, shard_index)
    entropy = np.random.SeedSequence(np.frombuffer(words, "<u4"))
    return np.random.Generator(np.random.PCG64(entropy))


def _checked_index(index: object) -> int:
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise TypeError(
            f"`index` must be an integer, got {reprlib.repr(index)} of type {type(index).__name__}"
        )
    if not 0 <= index < 2**63:
        raise ValueError(f"`index` must be in [0, 2**63), got {index}")
    return int(index)
