"""A running iteration over minibatches, whatever loads them."""

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Generic, NamedTuple, NoReturn, Self, TypeVar

from fifteen_data_protocols import IterationClock, IterationStatistics, interrupt_later

from fifteen_data_loaders._engines._engine import Engine, Loading
from fifteen_data_loaders._interrupts import not_held
from fifteen_data_loaders._order._plan import Request, Requests
from fifteen_data_loaders._samples._trees import map_leaves

MinibatchType = TypeVar("MinibatchType")


class _Ahead(NamedTuple):
    position: int
    request: Request
    loading: Loading


class Iteration(Generic[MinibatchType]):
    """An iterator over minibatches that keeps some on their way ahead of the one in use.

    An error comes at its minibatch's place, and the next call goes on with the next minibatch.
    After a ``TimeoutError`` or a ``KeyboardInterrupt`` the next call waits for the same one again:
    nothing here depends on being finished once it was begun.
    """

    def __init__(
        self,
        engine: Engine,
        requests: Requests,
        owner: object,
        start: int = 0,
        clock: IterationClock | None = None,
    ) -> None:
        self._engine = engine
        # The loader, which ends its workers when nobody refers to it any more.
        self._owner = owner
        self._requests = requests
        self._position = start
        self._row_count = max(1, requests.plan.minibatch_size // requests.plan.shard_count)
        self._closed = False
        self._ahead: deque[_Ahead] = deque()
        self._lock = threading.RLock()
        # Resuming begins another iteration, which goes on with the clock of the one before.
        self._clock = clock or IterationClock()
        self.minibatch_size = requests.plan.minibatch_size
        """Of the whole minibatch, over all shards."""
        self.shard_index = requests.plan.shard_index
        self.shard_count = requests.plan.shard_count

    @property
    def position(self) -> int:
        """Of the minibatch that comes next."""
        return self._position

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> MinibatchType:
        if not self._closed:
            self._engine.check_usable()
        with not_held(self._lock):
            position, minibatch = self._clock.receive(self._take)
            # An interrupt up to here has the same minibatch received again. After these two
            # statements, which call nothing, it is gone.
            self._position = position + 1
            try:  # noqa: SIM105 - Its calls could be interrupted.
                del self._ahead[0]
            except IndexError:
                pass  # Another thread may close the iteration at any moment.
            return minibatch

    def statistics(self) -> IterationStatistics:
        """Returns what was done so far and what it took; any thread may ask at any moment."""
        return replace(self._clock.statistics(), ahead_count=len(self._ahead))

    def close(self) -> None:
        """Stop loading ahead; idempotent. The iteration is over then."""
        if not self._closed:
            self._clock.stop()
        self._closed = True
        with suppress(IndexError):
            while True:
                self._ahead.popleft().loading.cancel()

    def __reduce__(self) -> NoReturn:
        raise uncopyable_error()

    # A default, because modules are emptied before the last objects go at the interpreter's end.
    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        try:
            # An interrupt may have come before there was anything to close.
            if hasattr(self, "_clock") and not is_finalizing():
                self.close()
        except KeyboardInterrupt:
            self.close()
            interrupt_later()

    def _take(self) -> tuple[int, MinibatchType]:
        """Returns the next minibatch, and its position."""
        while self._ahead and self._ahead[0].position < self._position:
            self._ahead.popleft()
        if not self._ahead:
            self._load_ahead(max(1, self._engine.window(self._row_count)))
        if not self._ahead:
            raise StopIteration
        position, request, loading = self._ahead[0]
        try:
            minibatch = loading.result()
        except KeyboardInterrupt:
            raise
        except BaseException:
            if self._closed:
                raise StopIteration from None
            if loading.finished:
                self._position = position + 1
                loading.cancel()
            raise
        if self._closed:
            # By another thread, and what is cancelled has no outcome.
            raise StopIteration
        # While the minibatch can still be asked for again, whatever comes in between.
        self._load_ahead(1 + self._engine.window(self._row_count))
        self._clock.loading_seconds += loading.nanoseconds / 1e9
        if len(request.indices) == 0:
            minibatch = map_leaves(lambda leaf: leaf[:0], minibatch)
        return position, minibatch

    def _load_ahead(self, minibatch_count: int) -> None:
        count = self._requests.count
        while len(self._ahead) < minibatch_count and not self._closed:
            position = self._ahead[-1].position + 1 if self._ahead else self._position
            if count is not None and position >= count:
                return
            request = self._requests.at(position)
            self._ahead.append(_Ahead(position, request, self._engine.start(request)))


def uncopyable_error() -> TypeError:
    """Returns the error of a second iteration that would share the minibatches of a first."""
    return TypeError(
        "a running iteration cannot be copied or pickled: begin another one, or save the state of "
        "`cycled_minibatches(...)`"
    )
