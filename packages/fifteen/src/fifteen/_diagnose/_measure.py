"""Measuring a loader, its parts and its variations."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from fifteen_data_devices import prefetching_map
from fifteen_data_loaders import DataLoader, InMemoryDataLoader, cycled_minibatches
from fifteen_data_protocols import MapDatasetProtocol

from fifteen._diagnose._diagnosis import Diagnosis
from fifteen._diagnose._findings import MeasuredSetting

Loader = DataLoader[Any] | InMemoryDataLoader[Any]
Progress = Callable[[str, int, int], object]

ItemType = TypeVar("ItemType")

_PARTS_SHARE, _SETTINGS_SHARE, _LOOP_SHARE = 0.25, 0.5, 0.25
"""How the time is divided: among the parts of a minibatch, the settings, and the loop's step."""

_MOST_OVERHEAD_SECONDS = 0.002
"""Python, this package and JAX never take longer over a minibatch, however few its samples. If it
is ready sooner, that may be most of it, and a larger one is measured to find out."""

_LARGER = 16
_MOST_LARGER_NBYTES = 256 << 20
"""By which factor that one is larger, if it does not have more than so many bytes."""

_FEWEST_MINIBATCHES = 3


def diagnose(
    loader: DataLoader[Any] | InMemoryDataLoader[Any],
    *,
    step: Callable[[Any], object] | float | None = None,
    seconds: float = 20.0,
    device: Any = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> Diagnosis:
    """Measure what a minibatch costs and where, and how other settings do on this machine.

    The dataset is read in shuffled order, in this process and in workers. The loader is left as it
    is; other settings are tried with loaders like it.

    Args:
        loader: the loader to examine.
        step: what the loop does: a function of a minibatch on the device, or how many seconds it
            takes. Without one, only loading is looked at.
        seconds: how long to measure, about. At least three minibatches are loaded with each setting
            that is tried. What there is no time for is left out, and so are workers if the dataset
            cannot be pickled.
        device: where minibatches go, as for :func:`prefetching_map`; JAX's first by default.
        progress: called with what is measured next, how many measurements are done, and how many
            there are.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if one is out of range, or the loader has no minibatches.
        Exception: what the dataset, ``collate_fn`` or step raises.

    Example:
        >>> from fifteen_data_loaders import DataLoader
        >>> loader = DataLoader(range(1000), minibatch_size=100)
        >>> diagnosis = diagnose(loader, step=0.05, seconds=1)
        >>> diagnosis.bottleneck
        'step'
    """
    _check(loader, step, seconds)
    import jax

    target = jax.local_devices()[0] if device is None else device
    return _Examination(loader, step, seconds, target, progress or _ignore).diagnosis()


def _check(loader: Any, step: Any, seconds: Any) -> None:
    if not isinstance(loader, DataLoader | InMemoryDataLoader):
        raise TypeError(
            f"`loader` must be a DataLoader or an InMemoryDataLoader, got a "
            f"{type(loader).__name__}: for a dataset, pass DataLoader(dataset, minibatch_size)"
        )
    if loader.minibatch_count() == 0:
        raise ValueError(f"`loader` must have at least one minibatch per epoch, got {loader!r}")
    for name, value in (("step", step), ("seconds", seconds)):
        if name == "step" and (value is None or callable(value)):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            kind = "a function or seconds" if name == "step" else "a number"
            raise TypeError(f"`{name}` must be {kind}, got {value!r}")
        if not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be positive and finite, got {value}")


class _Parts(NamedTuple):
    """Seconds that a minibatch of some size costs, without workers and threads."""

    samples: float
    collation: float
    rest: float
    """Of the time in ``next()``."""
    transfer: float | None

    @property
    def total(self) -> float:
        return self.samples + self.collation + self.rest + (self.transfer or 0.0)


class _Examination:
    """One run of `diagnose`: what is given, and the time that it may take."""

    def __init__(
        self,
        loader: Loader,
        step: Callable[[Any], object] | float | None,
        seconds: float,
        device: Any,
        progress: Progress,
    ) -> None:
        self._loader = loader
        self._step = step
        self._seconds = seconds
        self._device = device
        self._progress = progress
        self._settings = _settings_to_try(loader)
        self._measurement_count = 1 + len(self._settings) + (step is not None)
        self._done = 0

    def diagnosis(self) -> Diagnosis:
        loader = self._loader
        self._announce("samples, collation, transfer")
        row_count = loader.minibatch_size // loader.shard_count
        parts, minibatch = self._measure_parts(loader, _PARTS_SHARE * self._seconds / 2)
        nbytes = _nbytes(minibatch)
        parts, overhead = self._separate_overhead(parts, nbytes)

        deadline = time.monotonic() + _SETTINGS_SHARE * self._seconds
        measured: dict[tuple[int, int], MeasuredSetting] = {}
        transport = None
        # The given one first, since there may be no time for all.
        given = _setting_of(loader)
        for setting in sorted(self._settings, key=lambda each: each != given):
            remaining = deadline - time.monotonic()
            if remaining <= 0 and measured:
                self._done += 1
                continue
            self._announce(f"num_workers={setting[0]}, num_threads={setting[1]}")
            share = max(0.0, remaining) / (len(self._settings) - len(measured))
            try:
                measured[setting], added = self._try(setting, share, nbytes)
            except _NotForWorkersError:
                continue
            if setting == (1, 1):
                transport = added
        step_seconds = waiting_fraction = None
        if self._step is not None:
            self._announce("the loop")
            step_seconds, waiting_fraction = self._measure_loop(minibatch)
        self._progress("", self._measurement_count, self._measurement_count)
        return Diagnosis(
            row_count,
            nbytes,
            parts.samples,
            parts.collation,
            overhead,
            transport,
            parts.transfer,
            step_seconds,
            1 / step_seconds if step_seconds else None,
            waiting_fraction,
            measured[given],
            tuple(measured[each] for each in self._settings if each in measured),
        )

    def _announce(self, what: str) -> None:
        self._progress(what, self._done, self._measurement_count)
        self._done += 1

    def _measure_parts(self, loader: Loader, seconds: float) -> tuple[_Parts, Any]:
        """Returns what a minibatch costs, and one of them."""
        timed = _TimedSamples(loader.dataset)
        if isinstance(loader, DataLoader):
            dataset = _TimedBatches(loader.dataset) if _is_batched(loader.dataset) else timed
            timed = dataset
            loader = replace(_with_setting(loader, (0, 1)), dataset=dataset)
        samples, collation, rest = list[float](), list[float](), list[float]()
        with closing(cycled_minibatches(loader, shuffle_seed=0)) as train:
            minibatch = next(train)
            before, before_samples = train.statistics(), timed.seconds
            for _ in _for_a_while(train, seconds):
                added = train.statistics() - before
                in_samples = timed.seconds - before_samples
                samples.append(in_samples)
                collation.append(added.loading_seconds - in_samples)
                rest.append(added.waiting_seconds - added.loading_seconds)
                before, before_samples = train.statistics(), timed.seconds
        transfer = self._measure_transfer(minibatch, seconds)
        return _Parts(_median(samples), _median(collation), _median(rest), transfer), minibatch

    def _measure_transfer(self, minibatch: Any, seconds: float) -> float | None:
        import jax

        found = []
        copies = _for_a_while(_repeat(minibatch), seconds)
        # What it raises is about the device; what it raises below is about the leaves.
        placed = prefetching_map(copies, self._device, buffer_size=1)
        try:
            begun = time.perf_counter()
            for each in placed:
                jax.block_until_ready(each)
                found.append(time.perf_counter() - begun)
                begun = time.perf_counter()
        except (TypeError, OverflowError):
            return None
        return _median(found[1:])

    def _separate_overhead(self, parts: _Parts, nbytes: int) -> tuple[_Parts, float]:
        """Returns what depends on the count of samples, and apart from it what does not."""
        overhead = max(0.0, parts.rest)
        most = _MOST_LARGER_NBYTES // max(1, nbytes)
        whole = self._loader.minibatch_count() - (not self._loader.drop_last)
        times = min(_LARGER, whole, most)
        if parts.total > _MOST_OVERHEAD_SECONDS or times < 2:
            return parts, overhead
        alone = _with_setting(self._loader, (0, 1))
        larger = replace(alone, minibatch_size=times * alone.minibatch_size)
        together, _ = self._measure_parts(larger, _PARTS_SHARE * self._seconds / 8)
        overhead = max(0.0, (parts.total - together.total / times) * times / (times - 1))
        transfer = None if together.transfer is None else together.transfer / times
        parts = _Parts(together.samples / times, together.collation / times, 0.0, transfer)
        return parts, overhead

    def _try(
        self, setting: tuple[int, int], seconds: float, nbytes: int
    ) -> tuple[MeasuredSetting, float]:
        """Returns how a setting does, and what a minibatch takes beyond being loaded."""
        begun = time.perf_counter()
        loader = _with_setting(self._loader, setting)
        owner = loader if isinstance(loader, DataLoader) else nullcontext()
        with owner, closing(cycled_minibatches(loader, shuffle_seed=0)) as train:
            next(train)
            first_minibatch_seconds = time.perf_counter() - begun
            remaining = seconds - first_minibatch_seconds
            if setting[0]:
                # Not all workers have started yet, and what a sample costs must be learnt.
                for _ in _for_a_while(train, remaining / 2):
                    pass
                remaining /= 2
            before = train.statistics()
            for _ in _for_a_while(train, remaining):
                pass
            added = train.statistics() - before
        measured = MeasuredSetting(
            *setting,
            added.minibatch_count / added.elapsed_seconds,
            first_minibatch_seconds,
            (added.ahead_count + 1) * nbytes,
        )
        beyond = (added.elapsed_seconds - added.loading_seconds) / added.minibatch_count
        return measured, max(0.0, beyond)

    def _measure_loop(self, minibatch: Any) -> tuple[float, float]:
        """Returns the seconds of a step, and the part of a loop's time that it waits."""
        import jax

        step, seconds = self._step, _LOOP_SHARE * self._seconds / 2
        device: Any = self._device
        try:
            cached: Any = next(iter(prefetching_map([minibatch], device, buffer_size=1)))
        except (TypeError, OverflowError):
            cached, device = minibatch, None

        def run(minibatch: Any) -> None:
            if callable(step):
                jax.block_until_ready(step(minibatch))
            elif step is not None:
                time.sleep(step)

        run(cached)  # JAX compiles it.
        found = []
        for each in _for_a_while(_repeat(cached), seconds):
            begun = time.perf_counter()
            run(each)
            found.append(time.perf_counter() - begun)
        train = prefetching_map(cycled_minibatches(self._loader, shuffle_seed=0), device)
        with closing(train):
            run(next(train))
            before = train.statistics()
            for each in _for_a_while(train, seconds):
                run(each)
            return _median(found), (train.statistics() - before).waiting_fraction


class _NotForWorkersError(Exception):
    """The dataset cannot be pickled, which nobody asked for."""


class _TimedSamples:
    """A dataset that takes the time."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int, /) -> Any:
        begun = time.perf_counter()
        sample = self._dataset[index]
        self.seconds += time.perf_counter() - begun
        return sample


class _TimedBatches(_TimedSamples):
    def __getitems__(self, indices: list[int], /) -> Sequence[Any]:
        begun = time.perf_counter()
        samples: Sequence[Any] = self._dataset.__getitems__(indices)
        self.seconds += time.perf_counter() - begun
        return samples


def _is_batched(dataset: MapDatasetProtocol[Any]) -> bool:
    return hasattr(type(dataset), "__getitems__")


def _setting_of(loader: Loader) -> tuple[int, int]:
    if isinstance(loader, DataLoader):
        return loader.num_workers, loader.num_threads
    return 0, 1


def _settings_to_try(loader: Loader) -> list[tuple[int, int]]:
    """Returns counts of workers and threads, those that cost least first."""
    if not isinstance(loader, DataLoader):
        return [(0, 1)]
    most = max(4, os.cpu_count() or 1)
    counts = [1 << power for power in range(most.bit_length())]
    threads = {(0, count) for count in counts}
    workers = {(count, 1) for count in counts} if sys.platform == "linux" else set()
    return sorted(threads | workers | {_setting_of(loader)})


def _with_setting(loader: Loader, setting: tuple[int, int]) -> Loader:
    """Returns a loader like the one that is given."""
    if not isinstance(loader, DataLoader):
        return loader
    num_workers, num_threads = setting
    timeout = loader.timeout if num_workers else None
    try:
        return replace(loader, num_workers=num_workers, num_threads=num_threads, timeout=timeout)
    except TypeError as error:
        raise _NotForWorkersError from error


def _for_a_while(items: Iterator[ItemType], seconds: float) -> Iterator[ItemType]:
    """Yield items until the time is over, and a few at least."""
    deadline = time.monotonic() + seconds
    for count, item in enumerate(items, start=1):
        yield item
        if count >= _FEWEST_MINIBATCHES and time.monotonic() > deadline:
            return


def _repeat(item: ItemType) -> Iterator[ItemType]:
    while True:
        yield item


def _median(values: list[float]) -> float:
    return float(np.median(values))


def _nbytes(minibatch: Any) -> int:
    import jax

    return sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(minibatch))


def _ignore(what: str, done: int, total: int) -> None:
    pass
