"""The pool: the engine that loads in worker processes. In the parent.

Minibatches are asked for and waited for here. A job's way is told in `_board`, a slot's in
`_arena`, a worker's in `_crew`, a minibatch's in `_flight`, and which rows are where in
`_schedule`.

Whichever thread waits for a minibatch does the parent's work: the pool has no thread of its own.
All of it is done under the pool's lock, except for what finalisers and signal handlers may do at
any moment: cancel a flight, and give a slot back.
"""

import contextlib
import math
import os
import threading
import time
from typing import Any

import numpy as np

from fifteen_data_loaders._engines._engine import closed_error
from fifteen_data_loaders._engines._workers._arena import Arena
from fifteen_data_loaders._engines._workers._crew import Crew
from fifteen_data_loaders._engines._workers._descriptors import open_memory, open_pipe
from fifteen_data_loaders._engines._workers._flight import UNPOSTED, Flight, KnownLayout
from fifteen_data_loaders._engines._workers._pace import Pace
from fifteen_data_loaders._engines._workers._schedule import Schedule
from fifteen_data_loaders._engines._workers._wire._board import Board, board_nbytes
from fifteen_data_loaders._engines._workers._wire._payload import pickle_payload
from fifteen_data_loaders._engines._workers._wire._shared_classes import dumps
from fifteen_data_loaders._engines._workers._wire._slot import content_start
from fifteen_data_loaders._interrupts import not_held
from fifteen_data_loaders._order._plan import Request
from fifteen_data_loaders._samples._collate import Collator
from fifteen_data_loaders._samples._fetch import abbreviated
from fifteen_data_loaders._samples._layout import Layout, layout_of

_FIRST_RECHECK_SECONDS = 0.005
_LAST_RECHECK_SECONDS = 1.0
"""After how long a thread that waits looks again by itself, at first and at most: an interrupt may
have come at any moment."""


class WorkerPool:
    """Loads minibatches ahead in worker processes, which start when it is constructed. Thread-safe.

    They start while the dataset is being pickled, and serve any number of iterations at once.

    Raises:
        TypeError: if the dataset or the ``collate_fn`` cannot be pickled.
    """

    def __init__(
        self,
        dataset: Any,
        collate_fn: Any,
        *,
        worker_count: int,
        thread_count: int,
        prefetch: int,
        timeout: float | None,
        shard_index: int,
    ) -> None:
        self._pid = os.getpid()
        # The condition shares this lock, but `with` statements take the lock itself: the methods of
        # a condition are Python, and can be interrupted half-way.
        self._lock = threading.RLock()
        self._answered = threading.Condition(self._lock)
        """Notified when the doorbell was answered."""
        self._listener: int | None = None
        """The thread that waits for the doorbell; others wait until it has been answered."""
        self._rings = 0
        """How often the doorbell was answered."""
        self._prefetch = prefetch
        self._timeout = timeout
        self._collated = collate_fn is not None
        self._collator = Collator()
        self._pace = Pace(worker_count * thread_count, collated=self._collated)
        self._layouts_made = 0
        self._layout: KnownLayout | None = None
        self._released = False
        """Whether everything was closed to the end."""
        self._classes: list[type] = []
        """Those that were sent by value, for as long as workers may send them back."""

        with contextlib.ExitStack() as resources:
            payload_fd = open_memory("fifteen-payload", resources)
            board_fd = open_memory("fifteen-board", resources)
            os.ftruncate(board_fd, board_nbytes(worker_count, thread_count))
            self._board = Board(board_fd, worker_count, thread_count)
            resources.callback(self._board.close)
            self._arena = Arena(open_memory("fifteen-arena", resources))
            resources.callback(self._arena.close)
            jobs_out, jobs_in = open_pipe(resources)
            # The workers' end of the pipe must block and this one must not: two descriptions.
            drain = os.open(f"/proc/self/fd/{jobs_out}", os.O_RDONLY | os.O_NONBLOCK)
            resources.callback(os.close, drain)
            self._crew = Crew(
                self._board,
                worker_count=worker_count,
                thread_count=thread_count,
                shard_index=shard_index,
                payload_fd=payload_fd,
                board_fd=board_fd,
                arena_fd=self._arena.fd,
                jobs_fd=jobs_out,
            )
            resources.callback(self._crew.close)
            self._schedule = Schedule(
                self._board,
                self._crew,
                (drain, jobs_in),
                self._pace,
                self._collator,
                collated=self._collated,
            )
            self._crew.start_missing()
            self._resources = resources.pop_all()
        try:
            self._send(payload_fd, dataset, collate_fn)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return self._crew.pids

    def window(self, row_count: int) -> int:
        """Returns how many minibatches to have on their way."""
        return self._pace.window(self._prefetch, row_count)

    def start(self, request: Request) -> "_InWorkers":
        """Put a minibatch on the board, to be loaded as soon as a worker is free."""
        with not_held(self._lock), self._schedule:
            self._schedule.forget_cancelled()
            row_count = len(request.loaded_indices)
            slot = self._arena.lend(content_start(row_count) + self._content_nbytes(row_count))
            length = self._pace.run_length(row_count)
            flight = Flight.of(request, slot, self._layout, length)
            self._schedule.enter(flight)
            return _InWorkers(self, flight)

    def wait(self, flight: Flight) -> None:
        """Wait until a flight is complete.

        Raises:
            TimeoutError: after ``timeout`` seconds; the flight goes on and can be waited for again.
            WorkerDiedError: if a worker cannot be started; likewise.
        """
        deadline = math.inf if self._timeout is None else time.monotonic() + self._timeout
        patience = _FIRST_RECHECK_SECONDS
        while True:
            rings, awaited = self._rings, flight.awaited
            if self._is_complete(flight):
                return
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise self._time_out(flight)
            if flight.awaited is not awaited:
                patience = _FIRST_RECHECK_SECONDS
            self._answer_doorbell(min(remaining, patience), rings)
            patience = min(2 * patience, _LAST_RECHECK_SECONDS)

    def minibatch(self, flight: Flight) -> Any:
        """Returns the minibatch of a flight that is complete.

        Raises:
            WorkerDiedError: if workers died over it.
            Exception: what the dataset or the ``collate_fn`` raised.
        """
        if flight.failure is not None:
            raise flight.failure.new_error()
        if self._collated:
            return flight.collated
        minibatch = flight.collate(self._collator)
        if flight.leftovers:
            self._learn_layout(flight)
        return minibatch

    def cancel(self, flight: Flight) -> None:
        """Say that nobody wants a flight any more; takes no lock, for finalisers call it."""
        if os.getpid() != self._pid:
            return  # What a forked child does not want, the parent does.
        flight.cancelled = True
        # On a board that is closed, or that another thread closes now, there is nothing to cancel.
        with contextlib.suppress(TypeError, ValueError):
            for run in list(flight.pending):
                if run.number != UNPOSTED:
                    self._board.cancel(run.number)

    def check_usable(self) -> None:
        """Refuse a pool that is closed, or that a forked child inherited.

        Raises:
            RuntimeError: in these cases.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this DataLoader's workers belong to the process that forked: construct a loader "
                "of its own in the child"
            )
        if self._schedule.closed:
            raise closed_error()

    def close(self) -> None:
        """End all workers and release everything but the memory of minibatches; idempotent."""
        if self._released or os.getpid() != self._pid:
            return
        with not_held(self._lock):
            self._schedule.closed = True
            # Threads that wait find out at once; their descriptors stay until they have.
            while self._listener not in (None, threading.get_ident()):
                self._crew.ring()
                if not self._answered.wait(_LAST_RECHECK_SECONDS):
                    break  # An interrupt kept it from saying that it is gone.
            self._schedule.clear()
            self._layout = None
            self._resources.close()
            self._released = True

    def _send(self, payload_fd: int, dataset: Any, collate_fn: Any) -> None:
        """Hand out the dataset, while the workers start."""
        pickled = pickle_payload(payload_fd, dataset, collate_fn)
        self._classes = pickled.classes
        self.random_states: list[str] = pickled.random_states
        """Classes of random number generators that the dataset holds."""
        self._crew.open_gate()

    def _is_complete(self, flight: Flight) -> bool:
        """Whether the outcome of a flight is settled; if not, see to it that it rings."""
        with not_held(self._lock):
            if self._crew.unready:
                self._tend_crew()
            with self._schedule:
                self._schedule.absorb(flight)
                settled = flight.is_settled
                while not settled and not self._schedule.ring_for(flight):
                    self._schedule.absorb(flight)
                    settled = flight.is_settled
                if settled and flight.pending:
                    self.cancel(flight)  # Rows after one that failed.
            return settled

    def _tend_crew(self) -> None:
        self.check_usable()
        if self._crew.start_error is not None:
            error, self._crew.start_error = self._crew.start_error, None
            raise error
        self._crew.start_missing()
        self._crew.let_go_of_starts()

    def _answer_doorbell(self, timeout: float, rings: int) -> None:
        """Wait until a worker has something to say, unless one had since ``rings`` was read."""
        may_have_died = False
        try:
            with self._lock:
                if self._schedule.closed or self._rings != rings:
                    return
                if self._listener not in (None, threading.get_ident()):
                    if not self._answered.wait(timeout) and timeout == _LAST_RECHECK_SECONDS:
                        self._listener = None  # An interrupt kept it from saying so.
                    return
                self._listener = threading.get_ident()
            may_have_died = self._crew.listen(timeout)
        except (OSError, ValueError):
            self.check_usable()  # A signal handler may have closed it.
            raise
        finally:
            with self._lock:
                if self._listener == threading.get_ident():
                    self._listener = None
                    self._rings += 1
                    self._answered.notify_all()
        if may_have_died:
            with not_held(self._lock), self._schedule:
                self._schedule.bury(self._crew.bury())
                # Others must await the runs that have taken the place of those that died.
                self._rings += 1
                self._answered.notify_all()

    def _content_nbytes(self, row_count: int) -> int:
        if self._collated:
            return self._schedule.collated_nbytes
        return self._layout.layout.nbytes(row_count) if self._layout else 0

    def _learn_layout(self, flight: Flight) -> None:
        """Remember what samples look like now, so that they need not come back as they are."""
        if flight.layout is not self._layout or len(flight.leftovers) < len(flight.indices):
            return
        layout = layout_of(flight.leftovers[0])
        if layout is None:
            return
        with not_held(self._lock), self._schedule:
            if self._layout is None or self._layout.layout != layout:
                self._layout = self._publish(layout)

    def _publish(self, layout: Layout) -> KnownLayout:
        pickled = dumps(layout)
        slot = self._arena.lend(len(pickled))
        slot.memory[: len(pickled)] = np.frombuffer(pickled, np.uint8)
        self._layouts_made += 1
        extent = slot.extent._replace(nbytes=len(pickled))
        return KnownLayout(self._layouts_made, layout, slot, extent)

    def _time_out(self, flight: Flight) -> TimeoutError:
        """Kill the workers that hold a flight up."""
        with not_held(self._lock), self._schedule:
            claims = self._crew.claims()
            stuck = [
                run
                for run in flight.pending
                if run.number in claims and not self._schedule.is_done(run)
            ]
            if stuck:
                pids = self._crew.kill({claims[run.number] for run in stuck})
                indices = [
                    i for run in stuck for i in flight.indices[run.first : run.last].tolist()
                ]
                doing = f"while loading sample(s) {abbreviated(sorted(indices))} of the dataset"
            else:
                pids = self._crew.kill(self._crew.ready)
                doing = "before they took up its samples"
        if not pids:
            return TimeoutError(
                f"no minibatch within `timeout`={self._timeout} s: the worker processes are still "
                f"starting, and go on with that"
            )
        return TimeoutError(
            f"no minibatch within `timeout`={self._timeout} s: killed worker process(es) "
            f"{', '.join(map(str, pids))} {doing}. The next attempt is made by new ones"
        )


class _InWorkers:
    """A minibatch on its way through the pool."""

    finished: bool = False
    nanoseconds: int = 0

    def __init__(self, pool: WorkerPool, flight: Flight) -> None:
        self._pool = pool
        self._flight = flight

    def result(self) -> Any:
        """Wait for the minibatch."""
        self._pool.wait(self._flight)
        self.finished = True
        started = time.perf_counter_ns()
        minibatch = self._pool.minibatch(self._flight)
        self.nanoseconds = self._flight.nanoseconds + time.perf_counter_ns() - started
        return minibatch

    def cancel(self) -> None:
        """Say that nobody wants it."""
        self._pool.cancel(self._flight)
