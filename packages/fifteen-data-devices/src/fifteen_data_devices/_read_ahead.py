"""A map as an iterator that reads ahead. The thread that does it is in `_loading_thread`."""

import copy
from collections.abc import Callable, Iterator, Sized
from dataclasses import replace
from typing import Any, NoReturn, TypeVar, cast

from fifteen_data_protocols import IterationStatistics

from fifteen_data_devices._loading_thread import Contexts, LoadingThread
from fifteen_data_devices._map_iterator import MapIterator, close

InputType = TypeVar("InputType")
OutputType = TypeVar("OutputType")


class ReadAhead(MapIterator[InputType, OutputType]):
    """Maps the minibatches of an iterator on a thread, up to ``count`` before they are asked for.

    The thread starts with the first ``next()``, so that a map which is only built, or whose state
    is set first, has taken nothing from its input. It ends with the last minibatch, with an error,
    with :meth:`close`, and when the map is garbage collected.
    """

    def __init__(
        self,
        inputs: Iterator[InputType],
        new_transform: Callable[[], Callable[[InputType], OutputType]],
        *,
        owned: bool,
        count: int,
    ) -> None:
        self._loading = LoadingThread[InputType, OutputType](inputs, count)
        self._state: Any = None
        # A loop over a re-iterable calls `iter()` itself, within its contexts. An iterator is
        # often made long before its loop, so there the first `next()` decides.
        self._contexts = Contexts.capture() if owned else None
        super().__init__(inputs, new_transform, owned=owned)

    def _take(self) -> OutputType:
        loading = self._loading
        while not loading.ready:
            self._wait()
        if loading.ready[0].error is not None:
            self._end()
        # Looked at first and taken last: Ctrl-C may come between any two of these lines.
        arrival = loading.ready[0]
        self._state = arrival.state
        loading.ready.popleft()
        loading.make_room()
        return cast(OutputType, arrival.minibatch)

    def statistics(self) -> IterationStatistics:
        """Returns what was done so far and what it took; any thread may ask at any moment."""
        statistics = super().statistics()
        ahead_count = statistics.ahead_count + len(self._loading.ready)
        return replace(statistics, ahead_count=ahead_count)

    def get_state(self) -> dict[str, Any]:
        """Describe the position after the last minibatch received, in the words of the input."""
        if self._state is None:
            return super().get_state()
        return cast("dict[str, Any]", self._state)

    def set_state(self, state: dict[str, Any], /) -> None:
        """Drop what was read ahead and continue from a position that ``get_state()`` described."""
        self._loading.stop()
        super().set_state(state)
        self._loading.ready.clear()
        self._state = None

    def close(self) -> None:
        """Wait for the minibatch being loaded, drop what was read ahead, close the input."""
        self._loading.stop()
        self._loading.ready.clear()
        super().close()

    def _wait(self) -> None:
        loading = self._loading
        if not loading.is_running():
            if self._state is None:
                self._state = self._first_state()
            contexts = self._contexts or Contexts.capture()
            loading.start(
                self.transform, self.clock, contexts, records_state=self._state is not None
            )
        loading.wait()

    def _first_state(self) -> object:
        try:
            return copy.deepcopy(super().get_state()) if self.has_state() else None
        except NotImplementedError:
            return None

    def _end(self) -> NoReturn:
        ready = self._loading.ready
        self._loading.stop()
        if isinstance(ready[0].error, StopIteration):
            # The end stays in its place, for whoever calls `next()` again.
            if self.owned and self._finalizer.detach():
                close(self.inputs)
            raise StopIteration
        error = cast(BaseException, ready.popleft().error)
        try:
            raise error
        finally:
            # The traceback refers to this frame, which would keep the map alive in a cycle.
            del error

    def _ending(self) -> Callable[[], object]:
        loading, owned = self._loading, self.owned
        return lambda: loading.abandon(close_inputs=owned)


class SizedReadAhead(ReadAhead[InputType, OutputType]):
    """A map that reads ahead in an iterator which knows its length."""

    def __len__(self) -> int:
        return len(cast(Sized, self.inputs))
