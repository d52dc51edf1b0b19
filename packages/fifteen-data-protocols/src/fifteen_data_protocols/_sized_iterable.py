"""What can be iterated over and has a length."""

from collections.abc import Iterable, Sized
from typing import Protocol, TypeVar, runtime_checkable

ContainedType = TypeVar("ContainedType", covariant=True)


@runtime_checkable
class SizedIterable(Iterable[ContainedType], Sized, Protocol[ContainedType]):
    """Protocol for objects that define both ``__iter__()`` and ``__len__()`` methods.

    This is particularly useful for managing minibatches, which can be iterated over but
    only in order due to multiprocessing/prefetching optimizations, and for which length
    evaluation is useful for tools like ``tqdm``.

    Anyone may implement it; a ``list`` does. ``isinstance()`` looks for the two methods, not
    for the type of the items.

    Example:
        >>> def progress(items: SizedIterable[int]) -> str:
        ...     return " ".join(f"{item}/{len(items)}" for item in items)
        >>> progress([1, 2])
        '1/2 2/2'
    """
