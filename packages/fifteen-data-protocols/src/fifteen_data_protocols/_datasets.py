"""What a dataset is."""

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

ContainedType = TypeVar("ContainedType", covariant=True)


@runtime_checkable
class MapDatasetProtocol(Protocol[ContainedType]):
    """Protocol for defining PyTorch-style "map" datasets, which implement two methods:
    ``__getitem__()`` for loading single samples and ``__len__()`` for counting the total
    number of samples.

    This is similar to collections.abc.Mapping, but does not require implementations of
    ``__contains__()``.

    Anyone may implement it: a class of your own, a ``list``, a NumPy array, a ``torch`` dataset.
    Data loaders call ``__getitem__()`` with plain Python integers in ``[0, len(dataset))``, from
    worker processes and threads if they have any, and treat what it returns as theirs to read but
    not to change. The dataset must not change it either, such as a buffer that it fills again for
    the next sample: several samples are loaded before they are stacked.

    Example:
        >>> class Squares:
        ...     def __getitem__(self, index: int, /) -> int:
        ...         return index**2
        ...
        ...     def __len__(self) -> int:
        ...         return 10
        >>> isinstance(Squares(), MapDatasetProtocol)
        True
    """  # noqa: D205 - the documented wording, whose first sentence spans lines.

    def __getitem__(self, index: int, /) -> ContainedType:
        """Load the sample at ``index``; a PyTree of arrays and scalars for default collation."""
        ...

    def __len__(self) -> int:
        """Count the samples."""
        ...


@runtime_checkable
class BatchedMapDatasetProtocol(MapDatasetProtocol[ContainedType], Protocol[ContainedType]):
    """Protocol for map datasets that also load several samples in one call.

    The method has the name and the meaning that PyTorch and Hugging Face ``datasets`` gave it. Data
    loaders prefer it to ``__getitem__()`` where the class has it, and ask for runs of any length,
    from one sample to a minibatch.

    Example:
        >>> class Squares:
        ...     def __getitem__(self, index: int, /) -> int:
        ...         return index**2
        ...
        ...     def __getitems__(self, indices: list[int], /) -> list[int]:
        ...         return [index**2 for index in indices]
        ...
        ...     def __len__(self) -> int:
        ...         return 10
        >>> isinstance(Squares(), BatchedMapDatasetProtocol)
        True
    """

    def __getitems__(self, indices: list[int], /) -> Sequence[ContainedType]:
        """Load the samples at ``indices``, one for each index and in their order."""
        ...
