"""The minibatches of an epoch: a recipe, of which each iteration is independent."""

import operator
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from fifteen_data_loaders._iteration import Iteration
from fifteen_data_loaders._order._plan import EpochRequests, Plan, Requests

MinibatchType = TypeVar("MinibatchType")


class EpochMinibatches(Generic[MinibatchType]):
    """Some minibatches of an epoch, in order; what :meth:`DataLoader.minibatches` returns."""

    def __init__(
        self,
        plan: Plan,
        iterate: Callable[[Requests], Iteration[MinibatchType]],
        shuffle_seed: int | None,
        numbers: range | None = None,
    ) -> None:
        self._plan = plan
        self._iterate = iterate
        self._shuffle_seed = shuffle_seed
        self._numbers = range(plan.minibatch_count) if numbers is None else numbers
        self.minibatch_size = plan.minibatch_size
        """Of the whole minibatch, over all shards."""
        self.shard_index = plan.shard_index
        self.shard_count = plan.shard_count

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iteration[MinibatchType]:
        return self._iterate(EpochRequests(self._plan, self._shuffle_seed, self._numbers))

    @overload
    def __getitem__(self, index: int, /) -> MinibatchType: ...
    @overload
    def __getitem__(self, index: slice, /) -> "EpochMinibatches[MinibatchType]": ...
    def __getitem__(
        self, index: int | slice, /
    ) -> "MinibatchType | EpochMinibatches[MinibatchType]":
        """Load one minibatch, or select some.

        Raises:
            IndexError: if an integer is outside of ``[-len(self), len(self))``.
        """
        if isinstance(index, slice):
            numbers = self._numbers[index]
            return type(self)(self._plan, self._iterate, self._shuffle_seed, numbers)
        number = checked_position(len(self._numbers), index)
        return next(iter(self[number : number + 1]))

    def __repr__(self) -> str:
        return f"<{len(self)} minibatches of {self.minibatch_size} samples>"


def checked_position(count: int, index: Any) -> int:
    """Returns ``index``, counted from the end if negative, as a position in ``range(count)``."""
    try:
        return range(count)[operator.index(index)]
    except IndexError:
        raise IndexError(f"minibatch index must be in [-{count}, {count}), got {index}") from None
    except TypeError:
        raise TypeError(f"minibatch index must be an integer or a slice, got {index!r}") from None
