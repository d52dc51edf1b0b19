"""The minibatches of an epoch, and running iterations over them."""

from typing import Any, Protocol, TypeVar, overload, runtime_checkable

from fifteen_data_protocols._iteration_statistics import IterationStatistics
from fifteen_data_protocols._sized_iterable import SizedIterable

ContainedType = TypeVar("ContainedType", covariant=True)


@runtime_checkable
class MeasuredIterator(Protocol[ContainedType]):
    """Protocol for a running iteration that says how its loop fares.

    Every iteration over minibatches of data loaders and maps is one.

    Example:
        >>> def report(iteration: MeasuredIterator[int]) -> str:
        ...     statistics = iteration.statistics()
        ...     return (
        ...         f"{statistics.minibatch_count} minibatches, "
        ...         f"{statistics.waiting_fraction:.0%} of the time spent waiting for them"
        ...     )
    """

    def __iter__(self) -> "MeasuredIterator[ContainedType]":
        """Returns the iterator itself."""
        ...

    def __next__(self) -> ContainedType:
        """Load the next minibatch."""
        ...

    def statistics(self) -> IterationStatistics:
        """Returns what was done so far and what it took; any thread may ask at any moment."""
        ...


@runtime_checkable
class Minibatches(SizedIterable[ContainedType], Protocol[ContainedType]):
    """Protocol for the minibatches of an epoch, or of a slice of one, in their order.

    Data loaders implement it; nothing is loaded before it is iterated over or indexed. It is not a
    ``collections.abc.Sequence``, whose ``in`` and ``index()`` compare items with ``==``: that has
    no truth value for arrays. Every ``iter()`` is an iteration of its own.

    Example:
        >>> def halves(minibatches: Minibatches[int]) -> tuple[list[int], list[int]]:
        ...     middle = len(minibatches) // 2
        ...     return list(minibatches[:middle]), list(minibatches[middle:])
    """

    @overload
    def __getitem__(self, index: int, /) -> ContainedType: ...
    @overload
    def __getitem__(self, index: slice, /) -> "Minibatches[ContainedType]": ...
    def __getitem__(self, index: int | slice, /) -> "ContainedType | Minibatches[ContainedType]":
        """Load one minibatch, or select some without loading them, at a cost independent of where.

        Raises:
            IndexError: if an integer is outside of ``[-len(self), len(self))``.
        """
        ...

    def __iter__(self) -> MeasuredIterator[ContainedType]:
        """Begin an iteration."""
        ...


@runtime_checkable
class MinibatchIterator(MeasuredIterator[ContainedType], Protocol[ContainedType]):
    """Protocol for a running iteration over minibatches, which can be saved, resumed and closed.

    ``cycled_minibatches()`` and the maps given an iterator return one. An implementation need not
    be thread-safe, but for ``statistics()``.

    Example:
        >>> import json
        >>> def checkpoint(train: MinibatchIterator[int]) -> str:
        ...     return json.dumps(train.get_state())
    """

    def __iter__(self) -> "MinibatchIterator[ContainedType]":
        """Returns the iterator itself."""
        ...

    def __next__(self) -> ContainedType:
        """Load the next minibatch."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Describe the position after the last minibatch received, as plain JSON values."""
        ...

    def set_state(self, state: dict[str, Any], /) -> None:
        """Continue from a position that ``get_state()`` described.

        Raises:
            ValueError: if the state does not fit this iteration.
        """
        ...

    def close(self) -> None:
        """Stop loading ahead and let go of what was loaded; idempotent."""
        ...
