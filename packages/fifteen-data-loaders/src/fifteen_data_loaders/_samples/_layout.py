"""Where the rows of a minibatch lie in a block of memory that several processes fill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._samples._buffers import aligned
from fifteen_data_loaders._samples._collate import is_masked, stacks_unchanged, write_rows
from fifteen_data_loaders._samples._trees import (
    LEAF,
    SCALAR_TYPES,
    Structure,
    StructureMismatchError,
    build,
    columns,
    structure_of,
)


@dataclass(frozen=True)
class LeafLayout:
    """What a leaf must be to be copied into its row: nothing is cast, cut or broadcast."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    leaf_type: type | None
    """A class beyond NumPy's and Python's own that ``np.asarray`` turns into such an array."""


@dataclass(frozen=True)
class Layout:
    """The structure of a sample with the dtype and shape of each leaf.

    A minibatch of ``count`` rows occupies `nbytes` bytes: one array ``(count, ...)`` for each leaf,
    each one aligned.
    """

    structure: Structure
    leaves: tuple[LeafLayout, ...]

    @cached_property
    def row_nbytes(self) -> int:
        """Bytes of one sample."""
        return sum(_leaf_nbytes(leaf, 1) for leaf in self.leaves)

    def nbytes(self, count: int) -> int:
        """Bytes of a minibatch of ``count`` samples."""
        return self._offsets(count)[-1]

    def arrays(self, memory: NDArray[np.uint8], start: int, count: int) -> list[NDArray[Any]]:
        """Returns the arrays ``(count, ...)`` of a minibatch that begins at byte ``start``."""
        return [
            np.ndarray((count, *leaf.shape), leaf.dtype, memory, start + offset)
            for leaf, offset in zip(self.leaves, self._offsets(count), strict=False)
        ]

    def minibatch(self, arrays: Sequence[NDArray[Any]]) -> Any:
        """Put the arrays of a minibatch into the containers of a sample."""
        return build(self.structure, iter(arrays))

    def write(
        self, arrays: Sequence[NDArray[Any]], start: int, samples: Sequence[Any], first: bool
    ) -> None:
        """Copy samples into the rows from ``start`` on.

        Args:
            arrays: of the whole minibatch.
            start: the row of the first sample.
            samples: at least one.
            first: whether the first sample is the minibatch's, which sets the order of dict keys.

        Raises:
            StructureMismatchError: if a sample does not fit exactly; rows may have been written.
        """
        stop = start + len(samples)
        # Leaves need no check: a container in the place of one is told below, by its type.
        leaves = columns(self.structure, samples, key_order=first, check_leaves=False)
        for leaf, array, column in zip(self.leaves, arrays, leaves, strict=True):
            _write_leaf(leaf, array[start:stop], column)

    def _offsets(self, count: int) -> list[int]:
        """Where in a minibatch of ``count`` samples each array begins, and where the last ends."""
        offsets = self._known_offsets.get(count)
        if offsets is None:
            lengths = [aligned(_leaf_nbytes(leaf, count)) for leaf in self.leaves]
            offsets = self._known_offsets[count] = [0, *accumulate(lengths)]
        return offsets

    @cached_property
    def _known_offsets(self) -> dict[int, list[int]]:
        return {}


def layout_of(sample: Any) -> Layout | None:
    """Returns the layout for such samples, or ``None`` if raw memory cannot hold them."""
    structure = structure_of(sample)
    if not structure.portable:
        return None
    leaves = []
    for (leaf,), leaf_type in zip(
        columns(structure, [sample], key_order=False), _leaf_types(structure), strict=True
    ):
        array = np.asarray(leaf)
        if not stacks_unchanged(array.dtype) or isinstance(leaf, Mapping):
            return None
        leaves.append(LeafLayout(array.dtype, array.shape, leaf_type))
    return Layout(structure, tuple(leaves))


def _leaf_types(structure: Structure) -> list[type | None]:
    if structure.kind is LEAF:
        return [structure.leaf_type]
    return [leaf_type for child in structure.children for leaf_type in _leaf_types(child)]


def _leaf_nbytes(leaf: LeafLayout, count: int) -> int:
    nbytes = leaf.dtype.itemsize * count
    for length in leaf.shape:
        nbytes *= length
    return nbytes


_shape = attrgetter("shape")
_dtype = attrgetter("dtype")


@cache
def _are_numbers(kind: type, dtype: np.dtype[Any]) -> bool:
    """Whether NumPy makes this dtype of such scalars, be it of one or of a list of them."""
    if kind not in (bool, int, float) and not issubclass(kind, np.generic):
        return False
    # Strings and times come in lengths and units that their class does not tell.
    return dtype.kind in "biufc" and np.dtype(kind) == dtype


def _write_leaf(leaf: LeafLayout, rows: NDArray[Any], column: list[Any]) -> None:
    types = set(map(type, column))
    if types == {np.ndarray}:
        arrays = column
    elif len(types) == 1 and _are_numbers(*types, leaf.dtype) and not leaf.shape:
        try:
            rows[:] = column
        except OverflowError:
            raise StructureMismatchError from None
        return
    elif all(
        kind in SCALAR_TYPES
        or kind is leaf.leaf_type
        or kind is np.ndarray
        or issubclass(kind, np.generic)
        for kind in types
    ):
        if leaf.leaf_type is not None and any(map(is_masked, column)):
            raise StructureMismatchError  # The parent refuses it.
        arrays = [np.asarray(value) for value in column]
    else:
        raise StructureMismatchError
    if set(map(_shape, arrays)) != {leaf.shape} or set(map(_dtype, arrays)) != {leaf.dtype}:
        raise StructureMismatchError
    write_rows(rows, arrays)
