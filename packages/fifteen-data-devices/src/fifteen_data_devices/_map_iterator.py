"""A map as an iterator, on the thread that asks for minibatches."""

import weakref
from collections.abc import Callable, Iterator, Sized
from dataclasses import replace
from time import perf_counter
from typing import Any, Generic, NoReturn, TypeVar, cast

from fifteen_data_protocols import (
    IterationClock,
    IterationStatistics,
    MeasuredIterator,
    interrupt_later,
)

from fifteen_data_devices._inputs import carry_shard

InputType = TypeVar("InputType")
OutputType = TypeVar("OutputType")


class MapIterator(Generic[InputType, OutputType]):
    """Maps the minibatches of an iterator one at a time, on the thread that asks for them.

    Dropping it closes the input only if the map made it (``owned``): whoever passed in an iterator
    may want to go on with it. An explicit :meth:`close` says otherwise, and is passed on.
    """

    def __init__(
        self,
        inputs: Iterator[InputType],
        new_transform: Callable[[], Callable[[InputType], OutputType]],
        *,
        owned: bool,
    ) -> None:
        self.inputs = inputs
        self.owned = owned
        self.new_transform = new_transform
        self.clock = IterationClock()
        self.transform = self._timed(new_transform())
        self._closed = False
        self._finalizer = weakref.finalize(self, _finalize, self._ending())
        # The interpreter's end is no time to close what others may still be using.
        self._finalizer.atexit = False
        carry_shard(inputs, onto=self)

    def __iter__(self) -> "MapIterator[InputType, OutputType]":
        return self

    def __next__(self) -> OutputType:
        self._check_open()
        return self.clock.receive(self._take)

    def __reduce__(self) -> NoReturn:
        # Two would share the minibatches.
        raise TypeError(
            "a running map cannot be copied or pickled: begin another one, or save its state"
        )

    def statistics(self) -> IterationStatistics:
        """Returns what was done so far and what it took; any thread may ask at any moment."""
        statistics = self.clock.statistics()
        if not isinstance(self.inputs, MeasuredIterator):
            return statistics
        below = self.inputs.statistics()
        return replace(
            statistics,
            loading_seconds=below.loading_seconds,
            transfer_seconds=statistics.transfer_seconds + below.transfer_seconds,
            ahead_count=below.ahead_count,
        )

    def get_state(self) -> dict[str, Any]:
        """Describe the position after the last minibatch received, in the words of the input."""
        return cast("dict[str, Any]", _method_of(self.inputs, "get_state")())

    def set_state(self, state: dict[str, Any], /) -> None:
        """Continue from a position that ``get_state()`` described."""
        self._check_open()
        _method_of(self.inputs, "set_state")(state)
        self.transform = self._timed(self.new_transform())

    def close(self) -> None:
        """Close the input, if it can be closed; idempotent."""
        self._closed = True
        self.clock.stop()
        self._finalizer.detach()
        close(self.inputs)

    def has_state(self) -> bool:
        """Whether the input under all maps can tell its position."""
        if isinstance(self.inputs, MapIterator):
            return self.inputs.has_state()
        return hasattr(self.inputs, "get_state")

    def _take(self) -> OutputType:
        return self.transform(load(self.inputs, self.clock))

    def _timed(
        self, transform: Callable[[InputType], OutputType]
    ) -> Callable[[InputType], OutputType]:
        clock = self.clock  # Threads call this, and must not refer to the map.

        def timed(minibatch: InputType) -> OutputType:
            begun = perf_counter()
            mapped = transform(minibatch)
            clock.transfer_seconds += perf_counter() - begun
            return mapped

        return timed

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(
                "this iteration over minibatches was closed and cannot go on; start another"
            )

    def _ending(self) -> Callable[[], object]:
        """Returns what is called when the map is gone; it must not refer to the map."""
        inputs = self.inputs
        return (lambda: close(inputs)) if self.owned else _nothing


class SizedMapIterator(MapIterator[InputType, OutputType]):
    """A map over an iterator that knows its length."""

    def __len__(self) -> int:
        return len(cast(Sized, self.inputs))


def load(inputs: Iterator[InputType], clock: IterationClock) -> InputType:
    """Take a minibatch from an iterator, and the time."""
    begun = perf_counter()
    minibatch = next(inputs)
    clock.loading_seconds += perf_counter() - begun
    return minibatch


def close(inputs: object) -> None:
    """Close an iterator if it has a way to."""
    method = getattr(inputs, "close", None)
    if method is not None:
        method()


def _finalize(ending: Callable[[], object]) -> None:
    try:
        ending()
    except KeyboardInterrupt:
        interrupt_later()


def _nothing() -> None:
    pass


def _method_of(inputs: object, name: str) -> Callable[..., Any]:
    method: Callable[..., Any] | None = getattr(inputs, name, None)
    if method is None:
        raise TypeError(
            f"`{name}()` asks the input of the map, and a `{type(inputs).__name__}` has no "
            f"`{name}()`; map an iterator that has one, such as `cycled_minibatches(...)`"
        )
    return method
