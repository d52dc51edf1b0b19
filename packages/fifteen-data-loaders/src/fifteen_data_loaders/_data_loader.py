"""The data loader for datasets that are loaded sample by sample."""

import os
import reprlib
import sys
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from fifteen_data_protocols import (
    DataLoaderProtocol,
    IterationClock,
    MapDatasetProtocol,
    Minibatches,
    checked_int,
)

from fifteen_data_loaders._arguments import (
    check_shard,
    checked_bool,
    checked_timeout,
)
from fifteen_data_loaders._engines._engine import Engine
from fifteen_data_loaders._engines._inline import InlineEngine
from fifteen_data_loaders._engines._threads import ThreadsEngine
from fifteen_data_loaders._engines._workers._wire._boot_record import STARTING
from fifteen_data_loaders._engines._workers._wire._unpickling import is_unpickling
from fifteen_data_loaders._iteration import Iteration
from fifteen_data_loaders._minibatches import EpochMinibatches
from fifteen_data_loaders._order._plan import Plan, Requests
from fifteen_data_loaders._order._sample_order import check_shuffle_seed
from fifteen_data_loaders._samples._collate import CollateFunction, stack_samples

if TYPE_CHECKING:
    from fifteen_data_loaders._engines._workers._pool import WorkerPool

PyTreeType = TypeVar("PyTreeType")
SampleType = TypeVar("SampleType")


@dataclass(frozen=True, eq=False, repr=False)
class DataLoader(Generic[PyTreeType], DataLoaderProtocol[PyTreeType]):  # noqa: PYI059 - as documented.
    """Multiprocessed data loader, targeted at datasets that are too large to fit into
    memory. Similar to PyTorch's data loader, but stateless.

    Expects an arbitrary indexable dataset, which should implement ``__getitem__()`` and
    ``__len__()``, and map integer indices to items as arrays or PyTrees.
    :meth:`minibatches()` can then be used to construct an (optionally shuffled)
    iterable over minibatches of stacked items.

    Leaves ``(...)`` of a sample become ``(minibatch_size / shard_count, ...)``, with fewer rows in
    a short last minibatch.

    Minibatches are the same, bit for bit, for any ``num_workers``, ``num_threads`` and
    ``prefetch``. They are the caller's own: they may be kept and changed, also after :meth:`close`.

    Worker processes start at construction, in the background, and serve all iterations of the
    loader, of which there may be any number at once, in any threads. They are fresh interpreters
    that get a snapshot of the dataset: changing it later has no effect, no ``__main__`` guard is
    needed, and lambdas and classes of a notebook work. They end with :meth:`close`, with the
    ``with`` block, or when the loader is no longer referred to.

    Raises:
        TypeError: if an argument is of the wrong kind, or the dataset cannot be pickled for
            workers.
        ValueError: if an argument is out of range, or the dataset is empty.

    Example:
        >>> import numpy as np
        >>> dataset = [{"x": np.full(2, i), "y": i} for i in range(10)]
        >>> loader = DataLoader(dataset, minibatch_size=4)
        >>> [minibatch["y"].tolist() for minibatch in loader.minibatches(shuffle_seed=None)]
        [[0, 1, 2, 3], [4, 5, 6, 7]]
    """  # noqa: D205 - the documented wording, whose first sentence spans lines.

    dataset: MapDatasetProtocol[Any]
    """What is indexed, with plain Python integers; ``__getitems__(indices)`` is preferred to
    ``__getitem__(index)`` if there is one."""

    # A property of the protocol for type checkers, so that frozen dataclasses such as this match.
    minibatch_size: int  # pyright: ignore[reportIncompatibleMethodOverride]
    """Samples in a minibatch, over all shards."""

    num_workers: int = 0
    """Set to 0 to disable multiprocessing."""

    drop_last: bool = True
    """Drop last minibatch if dataset is not evenly divisible.

    It's usually nice to have minibatches that are the same size: it decreases the
    amount of time (and memory) spent on JIT compilation in JAX and reduces concern of
    noisy gradients from very small batch sizes.
    """

    collate_fn: CollateFunction[Any, PyTreeType] = stack_samples
    """Collate function. By default, we simply stack along ``axis=0``.

    Every leaf goes through ``np.asarray``, and types are promoted as ``np.stack`` does.
    """

    _: KW_ONLY

    num_threads: int = 1
    """Threads that load samples in each worker, or in this process without workers."""

    prefetch: int = 2
    """Minibatches that an iteration loads ahead, in total.

    More are on their way where workers would have to wait otherwise:

    - up to two for each thread of each worker, if minibatches are too small to be shared out among
      all threads, or go through a custom ``collate_fn``, which gets a whole one in one worker;
    - up to sixteen in all, if one is loaded in about a millisecond or less.

    Without workers and with one thread nothing is loaded ahead.
    """

    shard_index: int = 0
    """Which part of every minibatch to load, in ``[0, shard_count)``."""

    shard_count: int = 1
    """Into how many equal parts every minibatch is divided, usually one for each host."""

    timeout: float | None = None
    """Seconds to wait for a minibatch before ``TimeoutError``; only for worker processes."""

    workers_state: "WorkerPool | None" = field(init=False, default=None)
    """The worker processes; ``None`` without any."""

    _plan: Plan = field(init=False)
    _engine: Engine = field(init=False)

    if TYPE_CHECKING:

        @overload
        def __init__(
            self,
            dataset: MapDatasetProtocol[PyTreeType],
            minibatch_size: int,
            num_workers: int = 0,
            drop_last: bool = True,
            *,
            num_threads: int = 1,
            prefetch: int = 2,
            shard_index: int = 0,
            shard_count: int = 1,
            timeout: float | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self,
            dataset: MapDatasetProtocol[SampleType],
            minibatch_size: int,
            num_workers: int = 0,
            drop_last: bool = True,
            *,
            collate_fn: Callable[[list[SampleType]], PyTreeType],
            num_threads: int = 1,
            prefetch: int = 2,
            shard_index: int = 0,
            shard_count: int = 1,
            timeout: float | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self,
            dataset: MapDatasetProtocol[SampleType],
            minibatch_size: int,
            num_workers: int,
            drop_last: bool,
            collate_fn: Callable[[list[SampleType]], PyTreeType],
            *,
            num_threads: int = 1,
            prefetch: int = 2,
            shard_index: int = 0,
            shard_count: int = 1,
            timeout: float | None = None,
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __post_init__(self) -> None:
        """Check the arguments and start the workers."""
        sample_count = _checked_dataset(self.dataset)
        checked = {
            "minibatch_size": checked_int("minibatch_size", self.minibatch_size, at_least=1),
            "num_workers": checked_int("num_workers", self.num_workers, at_least=0),
            "drop_last": checked_bool("drop_last", self.drop_last),
            "num_threads": checked_int("num_threads", self.num_threads, at_least=1),
            "prefetch": checked_int("prefetch", self.prefetch, at_least=1),
            "timeout": checked_timeout(self.timeout, self.num_workers),
        }
        checked["shard_index"], checked["shard_count"] = check_shard(
            self.shard_index, self.shard_count, self.minibatch_size
        )
        if not callable(self.collate_fn):
            raise TypeError(f"`collate_fn` must be callable, got {self.collate_fn!r}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        plan = Plan(
            sample_count,
            self.minibatch_size,
            self.drop_last,
            self.shard_index,
            self.shard_count,
        )
        self._check_shares(plan)
        plan.warn_if_empty()
        collate_fn = None if self.collate_fn is stack_samples else self.collate_fn
        pool = self._start_workers(collate_fn)
        engine = pool or self._engine_without_workers(collate_fn)
        object.__setattr__(self, "_plan", plan)
        object.__setattr__(self, "workers_state", pool)
        object.__setattr__(self, "_engine", engine)
        close = weakref.finalize(self, engine.close)
        if pool is not None:
            try:
                _warn_of_random_states(pool.random_states)
            except Warning:  # Someone has made it an error.
                close()
                raise

    def minibatch_count(self) -> int:
        """Compute the number of minibatches per epoch."""
        return self._plan.minibatch_count

    def minibatches(self, shuffle_seed: int | None) -> Minibatches[PyTreeType]:
        """Returns an iterable over minibatches for our dataset. Optionally shuffled using
        a random seed.

        The order is a function of the seed and the count of samples alone. Slices of the result are
        such iterables too, and start at no cost; nothing is loaded before it is iterated over.

        Args:
            shuffle_seed: in ``[0, 2**63)``, such as the epoch; ``None`` for the dataset's order.

        Raises:
            TypeError: if the seed is not an integer; while iterating, if a sample cannot be
                stacked or cannot leave its worker.
            ValueError: if it is out of range; while iterating, if the samples of a minibatch differ
                in structure or shape.
            RuntimeError: while iterating, if the loader is closed or belongs to another process.
            WorkerDiedError: while iterating, if workers keep dying.
            TimeoutError: while iterating, if a minibatch takes longer than ``timeout``.
            Exception: while iterating, what the dataset or the ``collate_fn`` raised, at its place.

        Example:
            >>> loader = DataLoader(list(range(6)), minibatch_size=2)
            >>> minibatches = loader.minibatches(shuffle_seed=None)
            >>> len(minibatches), minibatches[-1].tolist(), len(minibatches[1:])
            (3, [4, 5], 2)
        """  # noqa: D205 - the documented wording, whose first sentence spans lines.
        return EpochMinibatches(self._plan, self._iterate, check_shuffle_seed(shuffle_seed))

    def close(self) -> None:
        """End the workers and threads at once; idempotent.

        Minibatches that were handed out stay as they are. Iterating afterwards is an error.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        shown = [f"dataset=<{type(self.dataset).__name__} of {self._plan.sample_count} samples>"]
        for each in fields(self):
            value = getattr(self, each.name, None)
            if each.init and each.name != "dataset" and value is not each.default:
                shown.append(f"{each.name}={value!r}")
        return f"DataLoader({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        return _rebuild, (type(self), arguments)

    def _iterate(
        self, requests: Requests, start: int = 0, clock: IterationClock | None = None
    ) -> Iteration[PyTreeType]:
        self._engine.check_usable()
        return Iteration(self._engine, requests, self, start, clock)

    def _engine_without_workers(self, collate_fn: Any) -> Engine:
        inline = InlineEngine(self.dataset, collate_fn)
        if self.num_threads == 1:
            return inline
        return ThreadsEngine(inline, self.num_threads, self.prefetch)

    def _start_workers(self, collate_fn: Any) -> "WorkerPool | None":
        if not self.num_workers or is_unpickling():
            return None
        if sys.platform != "linux":
            raise ValueError(
                f"`num_workers` must be 0 on {sys.platform}, got {self.num_workers}: worker "
                f"processes need Linux; `num_threads` works everywhere"
            )
        _check_interpreter(self.num_workers)
        from fifteen_data_loaders._engines._workers._pool import WorkerPool

        return WorkerPool(
            self.dataset,
            collate_fn,
            worker_count=self.num_workers,
            thread_count=self.num_threads,
            prefetch=self.prefetch,
            timeout=self.timeout,
            shard_index=self.shard_index,
        )

    def _check_shares(self, plan: Plan) -> None:
        """Refuse what a custom ``collate_fn`` cannot do: make a minibatch of no samples."""
        last = plan.sample_count % plan.minibatch_size
        if self.drop_last or self.collate_fn is stack_samples or not 0 < last < self.shard_count:
            return
        raise ValueError(
            f"`drop_last` must be True for a custom `collate_fn` here: the last minibatch has "
            f"{last} samples for `shard_count`={self.shard_count} shards, and a `collate_fn` "
            f"cannot be called without samples"
        )


def _checked_dataset(dataset: Any) -> int:
    if isinstance(dataset, type):
        raise TypeError(
            f"`dataset` must be an object, got the class {dataset.__name__} itself: call it"
        )
    missing = [name for name in ("__getitem__", "__len__") if not hasattr(type(dataset), name)]
    if missing:
        raise TypeError(
            f"`dataset` must have `__getitem__` and `__len__`, got a {type(dataset).__name__} "
            f"without `{'` and `'.join(missing)}`"
        )
    count = len(dataset)
    if count == 0:
        raise ValueError("`dataset` must have at least one sample, got an empty one")
    if isinstance(dataset, Mapping) and 0 not in dataset:
        raise TypeError(
            f"`dataset` must be indexed by the integers from 0, got a {type(dataset).__name__} "
            f"with the keys {reprlib.repr(list(dataset))}: pick one of its datasets, or use "
            f"InMemoryDataLoader if they are arrays"
        )
    return count


def _check_interpreter(num_workers: int) -> None:
    """Refuse to start workers where that would start the whole program again, without end."""
    if getattr(sys, "frozen", False) or not sys.executable:
        raise ValueError(
            f"`num_workers` must be 0 in a frozen or embedded program, got {num_workers}: a worker "
            f"is a Python interpreter, and `sys.executable` is {sys.executable!r} here; "
            f"`num_threads` works everywhere"
        )
    if STARTING in os.environ:
        raise RuntimeError(
            f"`num_workers` must be 0 here, got {num_workers}: this program was started in the "
            f"place of a worker process, since `sys.executable` ({sys.executable}) is this program "
            f"and no Python interpreter; `num_threads` works everywhere"
        )


def _warn_of_random_states(random_states: list[str]) -> None:
    if random_states:
        warnings.warn(
            f"`dataset` holds a random number generator ({random_states[0]}), and every worker "
            f"process would draw the same numbers from its copy: use sample_rng() instead",
            # Past __post_init__() and the dataclass's __init__() to the caller.
            stacklevel=4,
        )


def _rebuild(kind: type[DataLoader[Any]], arguments: dict[str, Any]) -> DataLoader[Any]:
    return kind(**arguments)
