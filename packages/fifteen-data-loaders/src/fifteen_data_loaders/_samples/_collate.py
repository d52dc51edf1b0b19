"""Default collation: samples with leaves of one shape become a minibatch, stacked along axis 0."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._errors import add_note
from fifteen_data_loaders._samples._buffers import Recycler
from fifteen_data_loaders._samples._trees import (
    StructureMismatchError,
    build,
    columns,
    describe_difference,
    leaf_paths,
    same_structure,
    structure_of,
)

_SMALL_ROW_NBYTES = 4096
"""Up to this size, what NumPy does for each array costs more than the copying."""

SampleType = TypeVar("SampleType")
MinibatchType = TypeVar("MinibatchType")

CollateFunction: TypeAlias = Callable[[list[SampleType]], MinibatchType]
"""Makes a minibatch of a list of samples."""


def stack_samples(samples: list[SampleType]) -> SampleType:
    """Stack samples along a new first axis: leaf shapes ``(...)`` become ``(len(samples), ...)``.

    The default ``collate_fn`` of :class:`DataLoader`. Every leaf goes through ``np.asarray``, so
    Python integers become ``int64``; types are promoted as ``np.stack`` does. Dicts have the keys
    in the order of the first sample.

    Raises:
        ValueError: if the samples differ in structure or in the shape of a leaf.
        TypeError: if they hold a mapping that is no container to JAX, of which NumPy would take the
            keys and leave the values.

    Example:
        >>> stack_samples([{"x": 1.0, "y": 2}, {"x": 3.0, "y": 4}])
        {'x': array([1., 3.]), 'y': array([2, 4])}
    """
    stacked: SampleType = Collator().stack(samples, range(len(samples)))
    return stacked


class Collator:
    """Stacks samples into recycled memory. Thread-safe."""

    def __init__(self) -> None:
        self._recycler = Recycler()

    def stack(self, samples: Sequence[Any], indices: Sequence[int]) -> Any:
        """Stack ``samples``; ``indices`` are their places in the dataset, for error messages."""
        structure = structure_of(samples[0])
        try:
            if structure.kind is None:
                raise StructureMismatchError
            leaves = columns(structure, samples, key_order=False)
        except StructureMismatchError:
            raise _structure_error(samples, indices) from None
        paths: Iterator[str] = iter(leaf_paths(structure))
        return build(
            structure, iter([self._stack_leaf(leaf, next(paths), indices) for leaf in leaves])
        )

    def copy(self, content: bytes) -> NDArray[np.uint8]:
        """Copy bytes into recycled memory."""
        copied = self._recycler.empty((len(content),), np.uint8)
        copied[:] = np.frombuffer(content, np.uint8)
        return copied

    def _stack_leaf(self, column: list[Any], path: str, indices: Sequence[int]) -> NDArray[Any]:
        if isinstance(column[0], Mapping):
            raise _mapping_error(path, column[0])
        # What is exactly an array, as nearly all leaves are, has no mask.
        if any(issubclass(kind, np.ndarray) for kind in {*map(type, column)} - {np.ndarray}):
            for index, leaf in zip(indices, column, strict=True):
                if is_masked(leaf):
                    raise _mask_error(path, index)
        try:
            arrays = [np.asarray(leaf) for leaf in column]
        except Exception as error:
            add_note(error, f"Raised by np.asarray() while stacking sample{path}.")
            raise
        shape, dtype = arrays[0].shape, arrays[0].dtype
        for row, array in enumerate(arrays):
            if array.shape != shape:
                raise _shape_error(path, indices[0], shape, indices[row], array.shape)
        if not stacks_unchanged(dtype) or any(array.dtype != dtype for array in arrays):
            return np.stack(arrays)
        stacked = self._recycler.empty((len(arrays), *shape), dtype)
        write_rows(stacked, arrays)
        return stacked


def is_masked(leaf: Any) -> bool:
    """Whether a leaf is a masked array, and something in it is masked."""
    if type(leaf) is np.ndarray or not isinstance(leaf, np.ndarray):
        return False
    masked = sys.modules.get("numpy.ma")  # Which NumPy imports when it is first used.
    if masked is None or not isinstance(leaf, masked.MaskedArray):
        return False
    # As bytes, since the mask of a structured array has its fields.
    return bool(np.frombuffer(masked.getmask(leaf).tobytes(), np.uint8).any())


def stacks_unchanged(dtype: np.dtype[Any]) -> bool:
    """Whether ``np.stack`` keeps this dtype as it is, and raw memory can hold it."""
    return dtype.isnative and not dtype.hasobject and dtype.fields is None


def write_rows(rows: NDArray[Any], arrays: Sequence[NDArray[Any]]) -> None:
    """Copy arrays, each of the dtype and shape of a row, into consecutive rows."""
    if len(arrays) == 1:
        rows[0] = arrays[0]
    elif rows.nbytes <= _SMALL_ROW_NBYTES * len(rows) and _join(rows, arrays):
        return
    elif rows.ndim == 1:
        rows[:] = arrays
    else:
        # One call for all rows; the rows of an array are contiguous, so this reshape is a view.
        np.concatenate(arrays, out=rows.reshape(-1, *rows.shape[2:]), casting="no")


def _join(rows: NDArray[Any], arrays: Sequence[Any]) -> bool:
    """Copy as bytes, which is faster for small rows; returns whether that is possible."""
    try:
        rows.reshape(-1).view(np.uint8).data[:] = b"".join(arrays)
    except (BufferError, TypeError, ValueError):
        # Arrays that are not contiguous, or of a dtype that the buffer protocol does not know.
        return False
    return True


def _structure_error(samples: Sequence[Any], indices: Sequence[int]) -> ValueError:
    for index, sample in zip(indices, samples, strict=True):
        if sample is None:
            return ValueError(f"sample {index} is None; a dataset has a sample for every index")
    first = structure_of(samples[0])
    row, other = next(
        (row, structure)
        for row, structure in enumerate(map(structure_of, samples))
        if not same_structure(first, structure)
    )
    path, expected, found = describe_difference(first, other)
    hint = ""
    if expected.startswith("a list") or found.startswith("a list"):
        hint = ". A list is a container, not an array: return np.asarray(...) for a leaf"
    return ValueError(
        f"samples {indices[0]} and {indices[row]} differ in structure at sample{path}: "
        f"{expected} against {found}{hint}"
    )


def _mapping_error(path: str, leaf: object) -> TypeError:
    return TypeError(
        f"a mapping must be a dict or registered with JAX to be stacked, got a "
        f"{type(leaf).__name__} at sample{path}: return dict(...) of it"
    )


def _mask_error(path: str, index: int) -> TypeError:
    return TypeError(
        f"a masked array cannot be stacked without losing its mask, got one at sample{path} of "
        f"sample {index}: return its data and its mask as two leaves, or pass a `collate_fn`"
    )


def _shape_error(
    path: str, first: int, first_shape: tuple[int, ...], index: int, shape: tuple[int, ...]
) -> ValueError:
    return ValueError(
        f"samples {first} and {index} differ in shape at sample{path}: "
        f"{first_shape} against {shape}. Stacking needs equal shapes: pad or crop the samples, or "
        f"pass a `collate_fn`"
    )
