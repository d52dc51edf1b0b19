import contextvars
import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from fifteen_data_protocols import IterationClock, MinibatchIterator, thread_until_exit

from fifteen_data_devices._jax_contexts import JaxContexts
from fifteen_data_devices._map_iterator import close, load
from fifteen_data_devices._tracing import traced

InputType = TypeVar("InputType")
OutputType = TypeVar("OutputType")

_DROP_SECONDS = 1.0
"""How long dropping a map waits for the minibatch that is being loaded."""


@dataclass(frozen=True, slots=True)
class Arrival(Generic[OutputType]):
    """A minibatch, or the error in its place, and the input's state after it."""

    minibatch: OutputType | None = None
    error: BaseException | None = None
    state: Any = None


@dataclass(frozen=True, slots=True)
class Contexts:
    """What the code around a loop has set for it, and another thread would not see."""

    variables: contextvars.Context
    jax: JaxContexts

    @classmethod
    def capture(cls) -> "Contexts":
        return cls(contextvars.copy_context(), JaxContexts.capture())


class LoadingThread(Generic[InputType, OutputType]):
    """A thread that loads and maps minibatches while fewer than ``count`` are ready.

    It is what a map shares with its thread, and does not refer to the map: that would never be
    garbage collected. Only the thread appends to ``ready``; only the map takes from it.

    The two queues are doorbells. A condition would not do: its wait loses a notification from a
    finalizer that the garbage collector runs on the waiting thread just before it waits.
    """

    def __init__(self, inputs: Iterator[InputType], count: int) -> None:
        self.ready = deque[Arrival[OutputType]]()
        self._inputs = inputs
        self._count = count
        self._room = SimpleQueue[None]()
        self._arrived = SimpleQueue[None]()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._abandoned = False
        self._close_inputs = False

    def is_running(self) -> bool:
        """Whether a thread is loading, and has not been told to stop."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping

    def start(
        self,
        transform: Callable[[InputType], OutputType],
        clock: IterationClock,
        contexts: Contexts,
        *,
        records_state: bool,
    ) -> None:
        """Start a thread, after the last one has ended."""
        self.stop()
        self._stopping = False

        def run() -> None:
            try:
                with contexts.jax.entered():
                    self._run(transform, clock, records_state=records_state)
            except StopIteration:
                # A new one, since it stays ready and its traceback would refer to this thread.
                self._deliver(Arrival(error=StopIteration()))
            except BaseException as error:
                self._deliver(Arrival(error=error))
            finally:
                self._let_go_if_abandoned()

        self._thread = thread_until_exit(
            partial(contexts.variables.copy().run, run),
            self.tell_to_stop,
            name="fifteen-prefetching-map",
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until something is ready; may return too early."""
        # A Ctrl-C may have come after a minibatch was taken and before this bell was rung.
        _ring(self._room)
        with traced("wait for data"):
            self._arrived.get()

    def make_room(self) -> None:
        """Let the thread know that a minibatch was taken."""
        _ring(self._room)

    def stop(self) -> None:
        """End the thread. The minibatch that it is loading still becomes ready."""
        self.tell_to_stop()
        self.join(seconds=None)

    def abandon(self, *, close_inputs: bool) -> None:
        """End the thread at once if it can, else let it end by itself."""
        self._abandoned = True
        self._close_inputs = close_inputs
        self.tell_to_stop()
        if self.join(_DROP_SECONDS):
            self._let_go_if_abandoned()

    def tell_to_stop(self) -> None:
        self._stopping = True
        _ring(self._room)

    def join(self, seconds: float | None) -> bool:
        """Wait for the end of the thread; returns whether it has ended."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return thread is None
        if thread.ident is not None:
            thread.join(seconds)
        return not thread.is_alive()

    def _run(
        self,
        transform: Callable[[InputType], OutputType],
        clock: IterationClock,
        *,
        records_state: bool,
    ) -> None:
        while self._has_room():
            self._deliver(self._load(transform, clock, records_state=records_state))

    def _has_room(self) -> bool:
        while len(self.ready) >= self._count and not self._stopping:
            self._room.get()
        # A Ctrl-C in the middle of `Thread.start()` makes the map start another thread.
        return not self._stopping and self._thread is threading.current_thread()

    def _load(
        self,
        transform: Callable[[InputType], OutputType],
        clock: IterationClock,
        *,
        records_state: bool,
    ) -> Arrival[OutputType]:
        with traced("load"):
            minibatch = load(self._inputs, clock)
        state = None
        if records_state:
            # A copy, because an iterator may hand out what it goes on changing.
            state = copy.deepcopy(cast(MinibatchIterator[InputType], self._inputs).get_state())
        return Arrival(transform(minibatch), state=state)

    def _deliver(self, arrival: Arrival[OutputType]) -> None:
        self.ready.append(arrival)
        _ring(self._arrived)

    def _let_go_if_abandoned(self) -> None:
        if self._abandoned:
            # The traceback of an error refers to this thread: a cycle, until nobody wants it.
            self.ready.clear()
        if self._close_inputs:
            self._close_inputs = False
            close(self._inputs)


def _ring(bell: "SimpleQueue[None]") -> None:
    # Two rings are as good as one; this keeps the queue from growing.
    if bell.empty():
        bell.put(None)
