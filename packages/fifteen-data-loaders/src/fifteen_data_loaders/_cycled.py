"""Epoch after epoch without end, and its state."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Generic, NoReturn, Self, TypeGuard, TypeVar

from fifteen_data_protocols import (
    DataLoaderProtocol,
    IterationClock,
    IterationStatistics,
    MinibatchIterator,
    checked_int,
)

from fifteen_data_loaders._data_loader import DataLoader
from fifteen_data_loaders._in_memory import InMemoryDataLoader
from fifteen_data_loaders._iteration import Iteration, uncopyable_error
from fifteen_data_loaders._minibatches import EpochMinibatches
from fifteen_data_loaders._order._plan import CycledRequests
from fifteen_data_loaders._order._sample_order import check_shuffle_seed

PyTreeType = TypeVar("PyTreeType")

_LOGGER = logging.getLogger("fifteen_data_loaders")

_STATE_VERSION = 1


def cycled_minibatches(
    dataloader: DataLoaderProtocol[PyTreeType],
    shuffle_seed: int | None,
    *,
    start_step: int = 0,
) -> MinibatchIterator[PyTreeType]:
    """Iterate over items in a dataloader infinitely. Abstracts away the concept of
    'epochs', which are often logical for dataloaders to reason about, but can be a
    misleading metric for training progress, particularly when datasets of different
    sizes or data augmentation is involved.

    Under the hood, shuffling is handled by incrementing the shuffle seed by 1 for each
    (implicit) epoch.

    The next epoch is being loaded before this one ends. ``get_state()`` returns a small dict of
    integers, ``bool`` and ``None``, fit for JSON and Orbax, which says where the iteration stands
    after the last minibatch that was received; ``set_state()`` goes on from there, with any count
    of workers and shards, at no cost for the loaders of this package. Other loaders are skipped
    through from the beginning of the epoch, which is logged as a warning. ``close()`` stops what is
    being loaded ahead.

    Args:
        dataloader: any data loader.
        shuffle_seed: of the first epoch, in ``[0, 2**63)``; ``None`` to leave every epoch in the
            dataset's order. As epochs count it up, runs that should have nothing in common need
            seeds that lie far apart, such as ``run << 32``.
        start_step: how many minibatches to begin after.

    Raises:
        ValueError: if the loader has no minibatches, or an argument is out of range.
        TypeError: if an argument is of the wrong kind.
        RuntimeError: while iterating, if an epoch of somebody else's loader ends too early.
        Exception: while iterating, what :meth:`DataLoader.minibatches` says of it.

    Example:
        >>> import numpy as np
        >>> loader = InMemoryDataLoader(np.arange(4), minibatch_size=2)
        >>> train = cycled_minibatches(loader, shuffle_seed=None)
        >>> [next(train).tolist() for _ in range(3)]
        [[0, 1], [2, 3], [0, 1]]
        >>> train.get_state()["step"]
        3
    """  # noqa: D205 - the documented wording, whose first sentence spans lines.
    given: object = dataloader
    if not isinstance(given, DataLoaderProtocol):
        hint = "; pass the loader itself" if isinstance(given, EpochMinibatches) else ""
        raise TypeError(
            f"`dataloader` must have `minibatch_size`, `minibatch_count()` and `minibatches()`, "
            f"got a {type(given).__name__}{hint}"
        )
    seed = check_shuffle_seed(shuffle_seed)
    step = checked_int("start_step", start_step, at_least=0)
    if dataloader.minibatch_count() == 0:
        raise ValueError(
            f"`dataloader` must have at least one minibatch per epoch, got none: {dataloader!r}"
        )
    if _is_ours(dataloader):
        return CycledMinibatches(dataloader, seed, step)
    return SkippingCycledMinibatches(dataloader, seed, step)


def _is_ours(dataloader: object) -> TypeGuard[DataLoader[Any] | InMemoryDataLoader[Any]]:
    # A subclass with other minibatches of its own is asked for those.
    return getattr(type(dataloader), "minibatches", None) in (
        DataLoader.minibatches,
        InMemoryDataLoader.minibatches,
    )


class _Cycled(ABC, Generic[PyTreeType]):
    """What all endless iterations have in common: a step, and a state that holds it."""

    minibatch_size: int
    """Of the whole minibatch, over all shards."""

    def __init__(self, fingerprint: dict[str, int | bool | None]) -> None:
        self._fingerprint = fingerprint
        self._clock = IterationClock()

    def __iter__(self) -> Self:
        return self

    @abstractmethod
    def __next__(self) -> PyTreeType: ...

    @abstractmethod
    def close(self) -> None:
        """Stop loading ahead; idempotent. The iteration is over then."""

    @abstractmethod
    def statistics(self) -> IterationStatistics:
        """Returns what was done so far, wherever the iteration stood; any thread may ask."""

    @property
    @abstractmethod
    def _step(self) -> int: ...

    @abstractmethod
    def _go_to(self, step: int) -> None: ...

    def __reduce__(self) -> NoReturn:
        raise uncopyable_error()

    def get_state(self) -> dict[str, int | bool | None]:
        """Describe the position after the last minibatch that was received."""
        return {"version": _STATE_VERSION, "step": self._step, **self._fingerprint}

    def set_state(self, state: dict[str, Any], /) -> None:
        """Go on from a position that `get_state` described.

        Raises:
            TypeError: if it is no such state.
            ValueError: if it is of another version, or of another shuffle seed, dataset length,
                minibatch size or ``drop_last`` than this iteration.
        """
        expected = self.get_state()
        # A state of another version may have other keys, and is told by its version.
        if not isinstance(state, Mapping) or (
            state.get("version", _STATE_VERSION) == _STATE_VERSION and set(state) != set(expected)
        ):
            raise TypeError(
                f"`state` must be what get_state() returned, a dict with the keys "
                f"{list(expected)}, got {state!r}"
            )
        for name, value in expected.items():
            if name != "step" and state[name] != value:
                raise ValueError(
                    f"`state` does not belong to this iteration: `{name}` is {state[name]} there "
                    f"and {value} here"
                )
        self._go_to(checked_int("state['step']", state["step"], at_least=0))


class CycledMinibatches(_Cycled[PyTreeType]):
    """The endless iteration over a loader of ours: one that may begin anywhere."""

    def __init__(
        self,
        dataloader: DataLoader[PyTreeType] | InMemoryDataLoader[PyTreeType],
        shuffle_seed: int | None,
        step: int,
    ) -> None:
        plan = dataloader._plan
        super().__init__(
            {
                "shuffle_seed": shuffle_seed,
                "sample_count": plan.sample_count,
                "minibatch_size": plan.minibatch_size,
                "drop_last": plan.drop_last,
            }
        )
        self.minibatch_size = plan.minibatch_size
        self.shard_index = plan.shard_index
        self.shard_count = plan.shard_count
        self._dataloader = dataloader
        self._requests = CycledRequests(plan, shuffle_seed)
        self._iteration = self._begin(step)

    def __next__(self) -> PyTreeType:
        return next(self._iteration)

    def statistics(self) -> IterationStatistics:
        """Returns what was done so far, wherever the iteration stood; any thread may ask."""
        return self._iteration.statistics()

    def close(self) -> None:
        """Stop loading ahead; idempotent. The iteration is over then."""
        self._iteration.close()

    @property
    def _step(self) -> int:
        return self._iteration.position

    def _go_to(self, step: int) -> None:
        self._iteration.close()
        self._iteration = self._begin(step)

    def _begin(self, step: int) -> Iteration[PyTreeType]:
        return self._dataloader._iterate(self._requests, step, self._clock)


class SkippingCycledMinibatches(_Cycled[PyTreeType]):
    """The endless iteration over any other loader, which has to skip to where it begins."""

    def __init__(
        self, dataloader: DataLoaderProtocol[PyTreeType], shuffle_seed: int | None, step: int
    ) -> None:
        self._minibatch_count = dataloader.minibatch_count()
        super().__init__(
            {
                "shuffle_seed": shuffle_seed,
                "minibatch_size": dataloader.minibatch_size,
                "minibatch_count": self._minibatch_count,
            }
        )
        self.minibatch_size = dataloader.minibatch_size
        # The protocol says nothing of shards, but a loader of ours that was changed has them.
        for name in ("shard_index", "shard_count"):
            if hasattr(dataloader, name):
                setattr(self, name, getattr(dataloader, name))
        self._dataloader = dataloader
        self._shuffle_seed = shuffle_seed
        self._epoch: Iterator[PyTreeType] | None = None
        self._has_failed = False
        """Whether the epoch raised an error, after which it may have ended."""
        self._next_step = step
        self._go_to(step)

    def __next__(self) -> PyTreeType:
        return self._clock.receive(self._take)

    def statistics(self) -> IterationStatistics:
        """Returns what was done so far, wherever the iteration stood; any thread may ask."""
        return self._clock.statistics()

    def _take(self) -> PyTreeType:
        if self._closed:
            raise StopIteration
        begun = time.perf_counter()
        if self._epoch is None:
            self._epoch = self._begin()
        try:
            minibatch = next(self._epoch)
        except StopIteration:
            if self._has_failed:
                raise self._missing() from None
            # An epoch may be shorter than its loader said.
            self._next_step += -self._next_step % self._minibatch_count
            self._epoch = self._begin()
            minibatch = next(self._epoch, _NOTHING)
            if minibatch is _NOTHING:
                raise RuntimeError(
                    f"`dataloader` said that it has {self._minibatch_count} minibatches per epoch, "
                    f"but an epoch had none: {self._dataloader!r}"
                ) from None
        except BaseException:
            self._has_failed = True
            raise
        self._next_step += 1
        if self._next_step % self._minibatch_count == 0:
            self._has_failed, self._epoch = False, None
        # The loader may know better, but not all of them can be asked.
        self._clock.loading_seconds += time.perf_counter() - begun
        return minibatch

    def close(self) -> None:
        """End the iteration; idempotent."""
        self._closed = True
        self._epoch = None
        self._clock.stop()

    @property
    def _step(self) -> int:
        return self._next_step

    def _go_to(self, step: int) -> None:
        self._closed = False
        self._has_failed = False
        self._next_step = step
        self._epoch = None

    def _missing(self) -> RuntimeError:
        """Go on to the next epoch, but not in silence."""
        count = self._minibatch_count - self._next_step % self._minibatch_count
        self._next_step += count
        self._has_failed, self._epoch = False, None
        return RuntimeError(
            f"an epoch of `dataloader` ended after an error, without its last {count} "
            f"minibatch(es): a generator cannot go on. The next epoch follows"
        )

    def _begin(self) -> Iterator[PyTreeType]:
        epoch, skipped = divmod(self._next_step, self._minibatch_count)
        seed = None if self._shuffle_seed is None else self._shuffle_seed + epoch
        if skipped:
            _LOGGER.warning(
                "a %s cannot begin inside an epoch: loading and dropping %d minibatches to get to "
                "step %d",
                type(self._dataloader).__name__,
                skipped,
                self._next_step,
            )
        return islice(iter(self._dataloader.minibatches(seed)), skipped, None)


_NOTHING: Any = object()
