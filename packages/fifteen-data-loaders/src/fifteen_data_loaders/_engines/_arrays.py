"""Loading out of arrays in memory, NumPy's or JAX's, where they live. In the parent."""

import sys
import time
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._order._plan import Request
from fifteen_data_loaders._samples._buffers import Recycler
from fifteen_data_loaders._samples._collate import is_masked
from fifteen_data_loaders._samples._trees import build, columns, leaf_paths, structure_of


class ArraysEngine:
    """Gathers the rows of a minibatch out of all arrays when it is asked for. Thread-safe."""

    def __init__(self, dataset: Any) -> None:
        self._structure = structure_of(dataset)
        paths = leaf_paths(self._structure)
        if not paths:
            raise ValueError(f"`dataset` must have at least one array as a leaf, got {dataset!r}")
        self._leaves = [
            _checked_leaf(path, leaf)
            for path, (leaf,) in zip(
                paths, columns(self._structure, [dataset], key_order=False), strict=True
            )
        ]
        self.sample_count: int = self._leaves[0].shape[0]
        for path, leaf in zip(paths, self._leaves, strict=True):
            if leaf.shape[0] != self.sample_count:
                raise ValueError(
                    f"all arrays of `dataset` must have the same first axis, got "
                    f"{self.sample_count} at dataset{paths[0]} and {leaf.shape[0]} at dataset{path}"
                )
        if self.sample_count == 0:
            raise ValueError("`dataset` must have at least one sample, got an empty one")
        self._recycler = Recycler()

    def window(self, row_count: int) -> int:
        """Returns 0: there is nothing to be loaded ahead."""
        return 0

    def start(self, request: Request) -> "_Gathering":
        """Returns a promise that is kept when it is asked for."""
        return _Gathering(self, request)

    def check_usable(self) -> None:
        """Arrays are always usable."""

    def close(self) -> None:
        """There is nothing to end."""

    def gather(self, request: Request) -> Any:
        """Copy the rows of a minibatch out of all arrays."""
        leaves = [
            self._take(leaf, request) if isinstance(leaf, np.ndarray) else _take_jax(leaf, request)
            for leaf in self._leaves
        ]
        return build(self._structure, iter(leaves))

    def _take(self, leaf: NDArray[Any], request: Request) -> NDArray[Any]:
        count = len(request.indices)
        taken = self._recycler.empty((count, *leaf.shape[1:]), leaf.dtype)
        if request.shuffle_seed is None and count:
            first = request.indices[0]
            taken[:] = leaf[first : first + count]
        elif leaf.flags.c_contiguous and leaf.flags.aligned:
            # Several times as fast as leaf[indices]; the indices are in range.
            np.take(leaf, request.indices, axis=0, out=taken, mode="clip")
        else:
            # Of any other leaf, such as some columns of an array, np.take() would copy the whole.
            taken[:] = leaf[request.indices]
        return taken


class _Gathering:
    finished = True
    nanoseconds = 0

    def __init__(self, engine: ArraysEngine, request: Request) -> None:
        self._engine = engine
        self._request = request

    def result(self) -> Any:
        started = time.perf_counter_ns()
        minibatch = self._engine.gather(self._request)
        self.nanoseconds = time.perf_counter_ns() - started
        return minibatch

    def cancel(self) -> None:
        """Nothing has begun."""


def _checked_leaf(path: str, leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray):
        jax = sys.modules.get("jax")
        if jax is None or not isinstance(leaf, jax.Array):
            if isinstance(leaf, int | float | complex | np.generic):
                raise _scalar_error(path, leaf)
            raise TypeError(
                f"every leaf of `dataset` must be a NumPy or JAX array, got a "
                f"{type(leaf).__name__} at dataset{path}"
            )
    if leaf.ndim == 0:
        raise _scalar_error(path, leaf)
    if is_masked(leaf):
        raise TypeError(
            f"every leaf of `dataset` must be a NumPy or JAX array without a mask, got a masked "
            f"array at dataset{path}: pass its data and its mask as two leaves"
        )
    return leaf


def _scalar_error(path: str, leaf: Any) -> ValueError:
    hint = ""
    if path.endswith("[0]"):
        hint = ". Lists and tuples are containers: np.asarray those that are arrays"
    return ValueError(
        f"every leaf of `dataset` must have a first axis that counts the samples, got the scalar "
        f"{leaf!r} at dataset{path}{hint}"
    )


def _take_jax(leaf: Any, request: Request) -> Any:
    """Gather rows on the devices of the array; the minibatch is laid out over them as it is."""
    return _jitted_take()(leaf, request.indices)


@cache
def _jitted_take() -> Any:
    import jax

    def take(leaf: Any, indices: Any) -> Any:
        laid_out: dict[str, Any] = {}
        # Of its layout, the type of an array tells the explicit axes of the mesh, and they want to
        # be told. A minibatch need not be divisible by the mesh, so its first axis is whole
        # everywhere; the others stay as they are.
        typed = jax.typeof(leaf).sharding
        if jax.sharding.AxisType.Explicit in typed.mesh.axis_types:
            laid_out["out_sharding"] = jax.sharding.NamedSharding(
                typed.mesh, jax.sharding.PartitionSpec(None, *typed.spec[1:])
            )
        return leaf.at[indices].get(mode="clip", **laid_out)

    return jax.jit(take)
