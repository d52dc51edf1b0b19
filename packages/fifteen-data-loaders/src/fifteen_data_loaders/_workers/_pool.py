"""The pool: where minibatches are asked for and waited for. The parent's side.

A job's way is told in `_board`, a slot's in `_arena`, a worker's in `_crew`, a minibatch's in
`_flight`, and which rows are where in `_books`. Whichever thread waits for a minibatch does the
parent's work: the pool has no thread of its own.
"""

import contextlib
import math
import os
import threading
import time
from typing import Any

import numpy as np

from fifteen_data_loaders._buffers import aligned
from fifteen_data_loaders._collate import Collator
from fifteen_data_loaders._fetch import abbreviated
from fifteen_data_loaders._inline import closed_error
from fifteen_data_loaders._layout import Layout, layout_of
from fifteen_data_loaders._plan import Request
from fifteen_data_loaders._reentry import not_held
from fifteen_data_loaders._workers._arena import Arena
from fifteen_data_loaders._workers._board import Board, board_nbytes
from fifteen_data_loaders._workers._books import Books
from fifteen_data_loaders._workers._crew import Crew
from fifteen_data_loaders._workers._descriptors import open_memory, open_pipe
from fifteen_data_loaders._workers._flight import UNPOSTED, Flight, KnownLayout, Run
from fifteen_data_loaders._workers._pace import Pace
from fifteen_data_loaders._workers._payload import pickle_payload
from fifteen_data_loaders._workers._process import surroundings
from fifteen_data_loaders._workers._shared_classes import dumps

# After how long a thread that waits looks again by itself, at first and at most: an interrupt may
# have come at any moment.
_FIRST_RECHECK_SECONDS = 0.005
_LAST_RECHECK_SECONDS = 1.0


class WorkerPool:
    """Worker processes that load minibatches of one dataset, once they have it. Thread-safe."""

    def __init__(
        self,
        worker_count: int,
        thread_count: int,
        *,
        collated: bool,
        shard_index: int,
    ) -> None:
        self._pid = os.getpid()
        # Never taken through the condition, whose methods are Python and can be interrupted.
        self._lock = threading.RLock()
        self._answered = threading.Condition(self._lock)
        """Notified when the doorbell was answered."""
        self._collated = collated
        self._collator = Collator()
        self.pace: Pace = Pace(worker_count * thread_count, collated=collated)
        self._layouts_made = 0
        self._layout: KnownLayout | None = None
        self._listener: int | None = None
        """The thread that waits for the doorbell; others wait until it has been answered."""
        self._rings = 0
        """How often the doorbell was answered."""
        self._closed = False
        self._released = False
        """Whether everything was closed to the end."""
        self._classes: list[type] = []
        """Those that were sent by value, for as long as workers may send them back."""

        with contextlib.ExitStack() as resources:
            self._payload_fd = open_memory("fifteen-payload", resources)
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
            boot = {
                "payload": self._payload_fd,
                "board": board_fd,
                "arena": self._arena.fd,
                "jobs": jobs_out,
                "workers": worker_count,
                "threads": thread_count,
                "shard": shard_index,
            }
            inherited = (self._payload_fd, board_fd, self._arena.fd, jobs_out)
            self.crew: Crew = Crew(self._board, surroundings(boot), inherited, worker_count)
            resources.callback(self.crew.close)
            self._books = Books(
                self._board,
                self.crew,
                (drain, jobs_in),
                self.pace,
                self._collator,
                collated=collated,
            )
            self.crew.start_missing()
            self._resources = resources.pop_all()

    def send(self, dataset: Any, collate_fn: Any) -> list[str]:
        """Hand out the dataset, while the workers start; called once.

        Returns:
            The classes of random number generators that the dataset holds.

        Raises:
            TypeError: if it cannot be pickled.
        """
        pickled = pickle_payload(self._payload_fd, dataset, collate_fn)
        self._classes = pickled.classes
        self.crew.open_gate()
        return pickled.random_states

    def post(self, request: Request) -> Flight:
        """Put a minibatch on the board, to be loaded as soon as a worker is free."""
        with not_held(self._lock):
            self._open_books()
            self._books.forget_cancelled()
            indices = request.loaded_indices
            row_count = len(indices)
            slot = self._arena.lend(aligned(8 * row_count) + self._slot_nbytes(row_count))
            length = self.pace.run_length(row_count)
            runs = [
                Run(first, min(first + length, row_count)) for first in range(0, row_count, length)
            ]
            flight = Flight(request, indices, slot, self._layout, runs[::-1])
            flight.write_indices()
            self._books.enter(flight, runs)
            self._books.shut()
            return flight

    def wait(self, flight: Flight, timeout: float | None) -> None:
        """Wait until a flight is complete.

        Raises:
            TimeoutError: after ``timeout`` seconds; the flight goes on and can be waited for again.
            WorkerDiedError: if a worker cannot be started; likewise.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        patience = _FIRST_RECHECK_SECONDS
        while True:
            rings, awaited = self._rings, flight.awaited
            if self._is_complete(flight):
                return
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise self._time_out(flight, timeout)
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

    def close(self) -> None:
        """End all workers and release everything but the memory of minibatches; idempotent."""
        if self._released or os.getpid() != self._pid:
            return
        with not_held(self._lock):
            self._closed = True
            # Threads that wait find out at once; their descriptors stay until they have.
            while self._listener not in (None, threading.get_ident()):
                self.crew.ring()
                if not self._answered.wait(_LAST_RECHECK_SECONDS):
                    break  # An interrupt kept it from saying that it is gone.
            self._books.clear()
            self._layout = None
            self._resources.close()
            self._released = True

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
        if self._closed:
            raise closed_error()

    def _open_books(self) -> None:
        self.check_usable()
        self._books.open()

    def _is_complete(self, flight: Flight) -> bool:
        """Whether the outcome of a flight is settled; if not, see to it that it rings."""
        with not_held(self._lock):
            self._open_books()
            if not self.crew.is_complete:
                self._tend_crew()
            self._books.absorb(flight)
            while not flight.is_settled and not self._books.ring_for(flight):
                self._books.absorb(flight)
            if flight.is_settled and flight.pending:
                self.cancel(flight)  # Rows after one that failed.
            self._books.shut()
            return flight.is_settled

    def _tend_crew(self) -> None:
        if self.crew.start_error is not None:
            error, self.crew.start_error = self.crew.start_error, None
            raise error
        self.crew.start_missing()
        self.crew.let_go_of_starts()

    def _answer_doorbell(self, timeout: float, rings: int) -> None:
        """Wait until a worker has something to say, unless one had since ``rings`` was read."""
        may_have_died = False
        try:
            with self._lock:
                if self._closed or self._rings != rings:
                    return
                if self._listener not in (None, threading.get_ident()):
                    if not self._answered.wait(timeout) and timeout == _LAST_RECHECK_SECONDS:
                        self._listener = None  # An interrupt kept it from saying so.
                    return
                self._listener = threading.get_ident()
            may_have_died = self.crew.listen(timeout)
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
            with not_held(self._lock):
                self._open_books()
                self._books.bury(self.crew.bury())
                # Others must await the runs that have taken the place of those that died.
                self._rings += 1
                self._answered.notify_all()
                self._books.shut()

    def _slot_nbytes(self, row_count: int) -> int:
        if self._collated:
            return self._books.collated_nbytes
        return self._layout.layout.nbytes(row_count) if self._layout else 0

    def _learn_layout(self, flight: Flight) -> None:
        """Remember what samples look like now, so that they need not come back as they are."""
        if flight.layout is not self._layout or len(flight.leftovers) < len(flight.indices):
            return
        layout = layout_of(flight.leftovers[0])
        if layout is None:
            return
        with not_held(self._lock):
            self._open_books()
            if self._layout is None or self._layout.layout != layout:
                self._layout = self._publish(layout)
            self._books.shut()

    def _publish(self, layout: Layout) -> KnownLayout:
        pickled = dumps(layout)
        slot = self._arena.lend(len(pickled))
        slot.memory[: len(pickled)] = np.frombuffer(pickled, np.uint8)
        self._layouts_made += 1
        return KnownLayout(self._layouts_made, layout, slot, len(pickled))

    def _time_out(self, flight: Flight, timeout: float | None) -> TimeoutError:
        """Kill the workers that hold a flight up."""
        with not_held(self._lock):
            self._open_books()
            claims = self.crew.claims()
            stuck = [
                run
                for run in flight.pending
                if run.number in claims and not self._books.is_done(run)
            ]
            if stuck:
                pids = self.crew.kill({claims[run.number] for run in stuck})
                indices = [
                    i for run in stuck for i in flight.indices[run.first : run.last].tolist()
                ]
                doing = f"while loading sample(s) {abbreviated(sorted(indices))} of the dataset"
            else:
                pids = self.crew.kill(self.crew.ready)
                doing = "before they took up its samples"
            self._books.shut()
        if not pids:
            return TimeoutError(
                f"no minibatch within `timeout`={timeout} s: the worker processes are still "
                f"starting, and go on with that"
            )
        return TimeoutError(
            f"no minibatch within `timeout`={timeout} s: killed worker process(es) "
            f"{', '.join(map(str, pids))} {doing}. The next attempt is made by new ones"
        )
