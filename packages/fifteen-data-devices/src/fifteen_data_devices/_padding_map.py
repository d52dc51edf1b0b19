import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import numpy as np
from fifteen_data_protocols import Minibatches, MinibatchIterator, SizedIterable, checked_int

from fifteen_data_devices._inputs import carried, check_inputs
from fifteen_data_devices._leaves import named_leaves
from fifteen_data_devices._mapped import MinibatchMap, map_minibatches

if TYPE_CHECKING:
    from numpy.typing import NDArray

PyTreeType = TypeVar("PyTreeType")

_ALIGNMENT = 64
"""Bytes; JAX copies memory that starts elsewhere."""


@overload
def padding_map(
    inputs: Minibatches[PyTreeType] | Sequence[PyTreeType], minibatch_size: int | None = None
) -> "Minibatches[tuple[PyTreeType, NDArray[np.bool_]]]": ...
@overload
def padding_map(
    inputs: SizedIterable[PyTreeType], minibatch_size: int | None = None
) -> "SizedIterable[tuple[PyTreeType, NDArray[np.bool_]]]": ...
@overload
def padding_map(
    inputs: Iterator[PyTreeType], minibatch_size: int | None = None
) -> "MinibatchIterator[tuple[PyTreeType, NDArray[np.bool_]]]": ...
@overload
def padding_map(
    inputs: Iterable[PyTreeType], minibatch_size: int | None = None
) -> "Iterable[tuple[PyTreeType, NDArray[np.bool_]]]": ...
def padding_map(
    inputs: Iterable[PyTreeType], minibatch_size: int | None = None
) -> "Iterable[tuple[PyTreeType, NDArray[np.bool_]]]":
    """Maps iterables over PyTrees to iterables over pairs ``(minibatch, mask)`` of constant shape.

    Leaves of a short minibatch, such as the last one with ``drop_last=False``, go from
    ``(n, ...)`` to ``(N, ...)`` by repeating the last row; zeros could make NaNs in a loss. A
    minibatch without any rows, the share that many processes may get of a short one, is filled with
    zeros. Scalars are left alone. ``mask`` is a boolean array ``(N,)``, true for the rows that came
    from the input. A function that is compiled for the first minibatch takes them all, and weighing
    rows by the mask counts every sample exactly once. Every process gets as many minibatches as
    before.

    Put it before the other maps: it pads in host memory, or on the one device where a leaf lives.
    Whole minibatches are passed through uncopied.

    Args:
        inputs: an iterable over minibatches, for example of a data loader.
        minibatch_size: rows of a whole minibatch, counted over all shards as data loaders do. By
            default what ``inputs`` says of itself, as ours do, and else the rows of the first
            minibatch that the map sees; pass it if that may be a short one.

    Raises:
        TypeError: if ``inputs`` is no iterable over minibatches, ``minibatch_size`` no integer, or,
            during an iteration, a leaf neither an array nor a scalar.
        ValueError: if ``minibatch_size`` is less than 1, or, during an iteration, a minibatch has
            more rows or its leaves differ in the count of rows.

    Example:
        >>> import numpy as np
        >>> for minibatch, mask in padding_map([np.array([1, 2]), np.array([3])]):
        ...     print(minibatch, mask)
        [1 2] [ True  True]
        [3 3] [ True False]
    """
    check_inputs(inputs)
    return map_minibatches(inputs, _Padding[PyTreeType](_whole_row_count(inputs, minibatch_size)))


class _Padding(MinibatchMap[PyTreeType, "tuple[PyTreeType, NDArray[np.bool_]]"]):
    def __init__(self, row_count: int | None) -> None:
        self._row_count = row_count

    def new_transform(self) -> "Callable[[PyTreeType], tuple[PyTreeType, NDArray[np.bool_]]]":
        return self._pad

    def _pad(self, minibatch: PyTreeType) -> "tuple[PyTreeType, NDArray[np.bool_]]":
        present = _count_rows(minibatch)
        if self._row_count is None:
            self._row_count = present
        if present > self._row_count:
            raise ValueError(
                f"a minibatch has {present} rows, more than the {self._row_count} of a whole one; "
                "pass the largest count as `minibatch_size`"
            )
        mask = np.arange(self._row_count) < present
        if present == self._row_count:
            return minibatch, mask
        return _filled_up(minibatch, self._row_count - present), mask


def _whole_row_count(inputs: object, minibatch_size: Any) -> int | None:
    """Returns the rows of a whole minibatch of one shard, as far as is known beforehand."""
    if minibatch_size is None:
        size = carried(inputs, "minibatch_size")
    else:
        size = checked_int("minibatch_size", minibatch_size, at_least=1)
    return None if size is None else -(-size // (carried(inputs, "shard_count") or 1))


def _count_rows(minibatch: Any) -> int:
    counted: dict[int, str] = {}
    for name, leaf in named_leaves(minibatch):
        if np.ndim(leaf):
            counted.setdefault(len(leaf), name)
    if len(counted) == 1:
        return next(iter(counted))
    if not counted:
        raise ValueError("the leaves of a minibatch are all scalars; there are no rows to pad")
    words = ", ".join(f"`{name}` has {count}" for count, name in counted.items())
    raise ValueError(f"the leaves of a minibatch must agree in the count of rows: {words}")


def _filled_up(minibatch: PyTreeType, missing: int) -> PyTreeType:
    import jax

    def fill_up(leaf: Any) -> Any:
        if not np.ndim(leaf):
            return leaf
        # Works on an array where it lives, be that the host or a device.
        if isinstance(leaf, jax.Array):
            return jax.numpy.concatenate([leaf, _filling(leaf, missing, jax.numpy)])
        leaf = np.asarray(leaf)
        filled = _aligned((len(leaf) + missing, *leaf.shape[1:]), leaf.dtype)
        return np.concatenate([leaf, _filling(leaf, missing, np)], out=filled)

    return cast(PyTreeType, jax.tree.map(fill_up, minibatch))


def _filling(leaf: Any, row_count: int, library: Any) -> Any:
    shape = (row_count, *leaf.shape[1:])
    return library.broadcast_to(leaf[-1:], shape) if len(leaf) else library.zeros(shape, leaf.dtype)


def _aligned(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> "NDArray[Any]":
    """Returns an array that CPU devices use in place, so that what is copied here is no more."""
    if dtype.hasobject:
        return np.empty(shape, dtype)
    memory = np.empty(math.prod(shape) * dtype.itemsize + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return np.ndarray(shape, dtype, memory.data, start)
