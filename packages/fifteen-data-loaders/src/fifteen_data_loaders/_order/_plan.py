"""Which rows of the dataset make up which minibatch, of which epoch, for which shard."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._order._sample_order import SampleOrder, sample_order, shard_rows


class Request(NamedTuple):
    """One minibatch to be loaded."""

    indices: NDArray[np.int64]
    """Of the samples, in their order; shape ``(rows of this shard,)``."""
    loaded_indices: NDArray[np.int64]
    """Of the samples to load: an empty share takes its leaf shapes from a sample of another."""
    minibatch: int
    """Number of the minibatch in its epoch."""
    shuffle_seed: int | None
    shard_index: int


@dataclass(frozen=True)
class Plan:
    """Everything but the shuffle seed that determines the minibatches of an epoch."""

    sample_count: int
    minibatch_size: int
    """Of the whole minibatch, whatever the shard count."""
    drop_last: bool
    shard_index: int
    shard_count: int

    @property
    def minibatch_count(self) -> int:
        """Minibatches per epoch, the same for every shard."""
        if self.drop_last:
            return self.sample_count // self.minibatch_size
        return -(-self.sample_count // self.minibatch_size)

    def warn_if_empty(self) -> None:
        """Warn of a loader whose epochs are over at once; called by its ``__post_init__()``."""
        if self.minibatch_count == 0:
            warnings.warn(
                f"there are no minibatches: `drop_last` is True and the dataset's "
                f"{self.sample_count} sample(s) are fewer than "
                f"`minibatch_size`={self.minibatch_size}",
                # Past __post_init__() and the dataclass's __init__() to the caller.
                stacklevel=4,
            )

    def order(self, shuffle_seed: int | None) -> SampleOrder:
        """Returns the order of all samples in an epoch."""
        return sample_order(self.sample_count, shuffle_seed)

    def request(self, order: SampleOrder, shuffle_seed: int | None, minibatch: int) -> Request:
        """Returns this shard's rows of one minibatch."""
        start = minibatch * self.minibatch_size
        row_count = min(self.minibatch_size, self.sample_count - start)
        first, last = shard_rows(row_count, self.shard_index, self.shard_count)
        indices = order.indices(start + first, start + last)
        loaded = indices if last > first else order.indices(start, start + 1)
        return Request(indices, loaded, minibatch, shuffle_seed, self.shard_index)


class Requests(Protocol):
    """A row of minibatches to be loaded, each a function of its position alone."""

    plan: Plan

    @property
    def count(self) -> int | None:
        """How many there are; ``None`` if they never end."""
        ...

    def at(self, position: int) -> Request:
        """Returns the one at ``position``, counted from 0."""
        ...


class EpochRequests:
    """Some minibatches of one epoch."""

    def __init__(self, plan: Plan, shuffle_seed: int | None, numbers: range) -> None:
        self.plan = plan
        self.count = len(numbers)
        self._shuffle_seed = shuffle_seed
        self._numbers = numbers
        self._order = plan.order(shuffle_seed)

    def at(self, position: int) -> Request:
        """Returns the minibatch at ``position`` of the numbers."""
        return self.plan.request(self._order, self._shuffle_seed, self._numbers[position])


class CycledRequests:
    """The minibatches of epoch after epoch, the shuffle seed counted up for each one."""

    count = None

    def __init__(self, plan: Plan, shuffle_seed: int | None) -> None:
        self.plan = plan
        self._shuffle_seed = shuffle_seed
        self._epoch = -1
        self._order: SampleOrder | None = None

    def at(self, position: int) -> Request:
        """Returns the minibatch of step ``position``."""
        epoch, minibatch = divmod(position, self.plan.minibatch_count)
        seed = None if self._shuffle_seed is None else self._shuffle_seed + epoch
        if self._order is None or epoch != self._epoch:
            self._order, self._epoch = self.plan.order(seed), epoch
        return self.plan.request(self._order, seed, minibatch)
