"""The data loader for datasets that are arrays in memory."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fifteen_data_protocols import DataLoaderProtocol, IterationClock, checked_int

from fifteen_data_loaders._arguments import check_shard, checked_bool
from fifteen_data_loaders._engines._arrays import ArraysEngine
from fifteen_data_loaders._iteration import Iteration
from fifteen_data_loaders._minibatches import EpochMinibatches
from fifteen_data_loaders._order._plan import Plan, Requests
from fifteen_data_loaders._order._sample_order import check_shuffle_seed

PyTreeType = TypeVar("PyTreeType")


@dataclass(frozen=True, eq=False, repr=False)
class InMemoryDataLoader(Generic[PyTreeType], DataLoaderProtocol[PyTreeType]):  # noqa: PYI059 - as documented.
    """Simple data loader for in-memory datasets, stored as arrays within a PyTree
    structure.

    The first axis of every array should correspond to the total sample count; each
    sample will therefore be indexable via ``jax.tree_map(lambda x: x[i, ...], dataset)``.

    :meth:`minibatches()` can then be used to construct an (optionally shuffled)
    sequence of minibatches.

    Leaves ``(sample_count, ...)`` become ``(minibatch_size / shard_count, ...)``, with fewer rows
    in a short last minibatch. NumPy arrays stay NumPy arrays, copied into memory that is the
    caller's own; JAX arrays are gathered on the devices where they live.

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
    _engine: ArraysEngine = field(init=False)

    def __post_init__(self) -> None:
        """Check the arguments and count the samples."""
        engine = ArraysEngine(self.dataset)
        checked = {
            "minibatch_size": checked_int("minibatch_size", self.minibatch_size, at_least=1),
            "drop_last": checked_bool("drop_last", self.drop_last),
            "sample_count": engine.sample_count,
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
        object.__setattr__(self, "_engine", engine)

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
        return Iteration(self._engine, requests, self, start, clock)


class MinibatchSequence(EpochMinibatches[PyTreeType], Sequence[PyTreeType]):
    """Some minibatches of an epoch as a full sequence: reversible, with slices as sequences."""

    if TYPE_CHECKING:

        def __getitem__(self, index: Any, /) -> Any: ...


def _rebuild(
    kind: type[InMemoryDataLoader[Any]],
    dataset: Any,
    minibatch_size: int,
    drop_last: bool,
    shard: tuple[int, int],
) -> InMemoryDataLoader[Any]:
    return kind(dataset, minibatch_size, drop_last, shard_index=shard[0], shard_count=shard[1])
