"""What a data loader is."""

from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from fifteen_data_protocols._sized_iterable import SizedIterable

ContainedType = TypeVar("ContainedType", covariant=True)


@runtime_checkable
class DataLoaderProtocol(Protocol[ContainedType]):
    """Protocol for dataloaders, which are used to generate minibatches that can be
    iterated over.

    Anyone may implement it. ``isinstance()`` looks for the three members, not for their types.

    Example:
        >>> from collections.abc import Sequence
        >>> class Countdown:
        ...     minibatch_size = 1
        ...
        ...     def minibatch_count(self) -> int:
        ...         return 3
        ...
        ...     def minibatches(self, shuffle_seed: int | None) -> Sequence[int]:
        ...         return [3, 2, 1]
        >>> isinstance(Countdown(), DataLoaderProtocol)
        True
    """  # noqa: D205 - the documented wording, whose first sentence spans lines.

    if TYPE_CHECKING:
        # Read-only for type checkers, so that frozen dataclasses match. At run time it stays a
        # plain annotation: a property here would have no setter for loaders that inherit from us.
        @property
        def minibatch_size(self) -> int:
            """Count of samples in a full minibatch."""
            ...

    else:
        minibatch_size: int
        """Count of samples in a full minibatch."""

    def minibatch_count(self) -> int:
        """Compute the number of minibatches per epoch."""
        ...

    def minibatches(self, shuffle_seed: int | None) -> SizedIterable[ContainedType]:
        """Returns an iterable over the minibatches of one epoch.

        Args:
            shuffle_seed: selects the order of the samples; ``None`` for the dataset's own.
        """
        ...
