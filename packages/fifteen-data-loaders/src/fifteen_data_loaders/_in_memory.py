"""The data loader for datasets that are arrays in memory."""

import sys
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from fifteen_data_protocols import DataLoaderProtocol, IterationClock
from numpy.typing import NDArray

from fifteen_data_loaders._arguments import check_shard, checked_bool, checked_int
from fifteen_data_loaders._buffers import Recycler
from fifteen_data_loaders._iteration import Iteration
from fifteen_data_loaders._minibatches import EpochMinibatches
from fifteen_data_loaders._order import check_shuffle_seed
from fifteen_data_loaders._plan import Plan, Request, Requests
from fifteen_data_loaders._trees import build, columns, leaf_paths, structure_of

PyTreeType = TypeVar("PyTreeType")


@dataclass(frozen=True, eq=False, repr=False)
class InMemoryDataLoader(Generic[PyTreeType], DataLoaderProtocol[PyTreeType]):  # noqa: PYI059 - as documented.
    """Simple data loader for in-memory datasets, stored as arrays within a PyTree
    structure.

    The first axis of every array should correspond to the total sample count; each
    sample will therefore be indexable via ``jax.tree_map(lambda x: x[i, ...], dataset)``.

    :meth:`minibatches()` can then be used to construct an (optionally shuffled)
    sequence of minibatches.

    Leaves ``(sample_count, ...)`` become ``(minibatch_size, ...)``. NumPy arrays stay NumPy arrays,
    copied into memory that is the caller's own; JAX arrays are gathered on the devices where they
    live.

    Raises:
        TypeError: if an argument is of the wrong kind, or a leaf is no array.
        ValueError: if an argument is out of range, the dataset has no leaves or no samples, a leaf
            is a scalar, or first axes differ.

    Example:
        >>> import numpy as np
        >>> dataset = {"x": np.zeros((10, 3)), "y": np.arange(10)}
        >>> loader = InMemoryDataLoader(dataset, minibatch_size=4, drop_last=False)
        >>> [minibatch["y"].tolist() for minibatch in loader.minibatches(shuffle_seed=None)]
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """  # noqa: D205 - the documented wording, whose first sentence spans lines.

    dataset: PyTreeType
    """A PyTree of arrays with the same first axis."""

    # A property of the protocol for type checkers, so that frozen dataclasses such as this match.
    minibatch_size: int  # pyright: ignore[reportIncompatibleMethodOverride]
    """Samples in a minibatch, over all shards."""

    drop_last: bool = True
    """Drop last minibatch if dataset is not evenly divisible.

    It's usually nice to have minibatches that are the same size: it decreases the
    amount of time (and memory) spent on JIT compilation in JAX and reduces concern of
    noisy gradients from very small batch sizes.
    """

    _: KW_ONLY

    shard_index: int = 0
    """Which part of every minibatch to load, in ``[0, shard_count)``."""

    shard_count: int = 1
    """Into how many equal parts every minibatch is divided, usually one for each host."""

    sample_count: int = field(init=False)
    """Length of the first axis of every array."""

    _plan: Plan = field(init=False)
    _gather: "_Gather" = field(init=False)

    def __post_init__(self) -> None:
        """Check the arguments and count the samples."""
        gather = _Gather(self.dataset)
        checked = {
            "minibatch_size": checked_int("minibatch_size", self.minibatch_size, at_least=1),
            "drop_last": checked_bool("drop_last", self.drop_last),
            "sample_count": gather.sample_count,
        }
        checked["shard_index"], checked["shard_count"] = check_shard(
            self.shard_index, self.shard_count, checked["minibatch_size"]
        )
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        plan = Plan(
            self.sample_count,
            self.minibatch_size,
            self.drop_last,
            self.shard_index,
            self.shard_count,
        )
        plan.warn_if_empty()
        object.__setattr__(self, "_plan", plan)
        object.__setattr__(self, "_gather", gather)

    def minibatch_count(self) -> int:
        """Compute the number of minibatches per epoch."""
        return self._plan.minibatch_count

    def minibatches(self, shuffle_seed: int | None) -> Sequence[PyTreeType]:
        """Returns an iterable over minibatches for our dataset. Optionally shuffled using
        a random seed.

        The order is a function of the seed and the sample count alone. Slices of the sequence are
        sequences too; a minibatch is gathered when it is asked for.

        Args:
            shuffle_seed: in ``[0, 2**63)``, such as the epoch; ``None`` for the dataset's order.

        Raises:
            TypeError: if the seed is not an integer.
            ValueError: if it is out of range.

        Example:
            >>> import numpy as np
            >>> minibatches = InMemoryDataLoader(np.arange(6), 2).minibatches(shuffle_seed=None)
            >>> len(minibatches), minibatches[-1].tolist(), len(minibatches[1:])
            (3, [4, 5], 2)
        """  # noqa: D205 - the documented wording, whose first sentence spans lines.
        return MinibatchSequence(self._plan, self._iterate, check_shuffle_seed(shuffle_seed))

    def __repr__(self) -> str:
        return (
            f"InMemoryDataLoader(dataset=<{self.sample_count} samples>, "
            f"minibatch_size={self.minibatch_size}, drop_last={self.drop_last}, "
            f"shard_index={self.shard_index}, shard_count={self.shard_count})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        shard = self.shard_index, self.shard_count
        return _rebuild, (type(self), self.dataset, self.minibatch_size, self.drop_last, shard)

    def _iterate(
        self, requests: Requests, start: int = 0, clock: IterationClock | None = None
    ) -> Iteration[PyTreeType]:
        return Iteration(self._gather, requests, self, start, clock)


class MinibatchSequence(EpochMinibatches[PyTreeType], Sequence[PyTreeType]):
    """Some minibatches of an epoch as a full sequence: reversible, with slices as sequences."""

    if TYPE_CHECKING:

        def __getitem__(self, index: Any, /) -> Any: ...


class _Gather:
    """The engine of an iteration that takes its samples out of arrays. Thread-safe."""

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

    def __init__(self, engine: _Gather, request: Request) -> None:
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


def _rebuild(
    kind: type[InMemoryDataLoader[Any]],
    dataset: Any,
    minibatch_size: int,
    drop_last: bool,
    shard: tuple[int, int],
) -> InMemoryDataLoader[Any]:
    return kind(dataset, minibatch_size, drop_last, shard_index=shard[0], shard_count=shard[1])
