"""The schedule: which rows of which minibatch are loaded where. In the parent, under its lock.

Everything here can be made anew from the flights and the board, and is made anew when a worker has
died, or when an exception such as ``KeyboardInterrupt`` came in between.
"""

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType

from fifteen_data_loaders._engines._engine import closed_error
from fifteen_data_loaders._engines._workers._crew import Crew, Death
from fifteen_data_loaders._engines._workers._flight import UNPOSTED, Flight, Run
from fifteen_data_loaders._engines._workers._pace import Pace
from fifteen_data_loaders._engines._workers._wire._board import (
    FAILED,
    NUMBER,
    PLACES,
    WRITTEN,
    Answer,
    Board,
    Job,
)
from fifteen_data_loaders._engines._workers._wire._exceptions import load_exception
from fifteen_data_loaders._engines._workers._wire._slot import NOWHERE
from fifteen_data_loaders._engines._workers._wire._spill import read_spill, remove_spill
from fifteen_data_loaders._errors import WorkerDiedError, WorkerError
from fifteen_data_loaders._samples._buffers import size_class
from fifteen_data_loaders._samples._collate import Collator
from fifteen_data_loaders._samples._fetch import abbreviated

_DEATHS_PER_SAMPLE = 3


class Schedule:
    """Posts runs on the board, takes note of what came of them, and posts those of the dead again.

    It is changed within a ``with`` statement. If an exception, such as an interrupt, has left one
    before its end, the schedule is made anew at the beginning of the next.

    A worker that dies may have been loading rows of several runs, and only one of them is the
    cause. So runs that were caught in a death are posted one after another: no other one can be
    caught in the next two.
    """

    def __init__(
        self,
        board: Board,
        crew: Crew,
        jobs: tuple[int, int],
        pace: Pace,
        collator: Collator,
        *,
        collated: bool,
    ) -> None:
        self._board = board
        self._crew = crew
        self._jobs_drain, self._jobs_in = jobs
        self._pace = pace
        self._collator = collator
        self._collated = collated
        self._flights: dict[int, Flight] = {}
        """Those with pending runs, wanted or not, in the order of posting."""
        self._places = list(range(PLACES))
        """Free places on the board."""
        self._generation = 0
        self._is_changing = False
        self.closed: bool = False
        self.collated_nbytes: int = 0
        """Of slots that have room for what the ``collate_fn`` returns."""

    def __enter__(self) -> None:
        if self.closed:
            raise closed_error()
        if self._is_changing:
            self.repost()
        self._is_changing = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._is_changing = False

    def enter(self, flight: Flight) -> None:
        """Take a new flight in, and put its runs on the board."""
        self._flights[id(flight)] = flight
        self._post(flight)

    def clear(self) -> None:
        """Forget all flights."""
        self._flights.clear()

    def forget_cancelled(self) -> None:
        """Take note of the runs that are done of flights that nobody wants."""
        for flight in [flight for flight in self._flights.values() if flight.cancelled]:
            self.absorb(flight)

    def absorb(self, flight: Flight) -> None:
        """Take note of the runs of a flight that are done."""
        flight.drop_unwanted()
        posted = flight.posted
        answers = self._board.answers([run.number for run in posted])
        for run, answer in zip(posted, answers, strict=True):
            if answer is None:
                continue
            flight.nanoseconds += answer.nanoseconds
            if not flight.cancelled:
                self._note_answer(flight, run, answer)
            # In this order an interrupt anywhere in between loses nothing but a few pages.
            flight.pending.remove(run)
            self._places.append(run.number % PLACES)
            if answer.spill_nbytes:
                fd = self._crew.spill_fds[answer.worker]
                remove_spill(fd, answer.spill_start, answer.spill_nbytes)
        if not flight.pending and self._flights.pop(id(flight), False) and not flight.cancelled:
            self._pace.note(flight.nanoseconds, len(flight.indices))

    def ring_for(self, flight: Flight) -> bool:
        """Have the last run of a flight that is not done ring; returns False if all are done."""
        if flight.has_unposted:
            self._make_room()
        if flight.has_unposted:
            # Any run that ends frees a place.
            posted = [run for each in self._flights.values() for run in each.posted]
            for run in posted:
                self._board.await_job(run.number)
            return not any(map(self.is_done, posted))
        for run in flight.pending:
            if self._is_on_its_way(run):
                flight.awaited = run
                self._board.await_job(run.number)
                return self._is_on_its_way(run)
        return False

    def bury(self, deaths: list[Death]) -> None:
        """Take note of workers that have died, and post again what died with them."""
        for death in deaths:
            self._count_death(death)
        self.repost()

    def repost(self) -> None:
        """Make it anew: every run that is not done and that no live worker has is posted."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._jobs_drain, 1 << 16):
                pass
        claims = self._crew.claims()
        kept = set()
        for _, run in self._pending():
            if run.number in claims or self.is_done(run):
                kept.add(run.number % PLACES)
            else:
                run.number = UNPOSTED
        self._places = [place for place in range(PLACES) if place not in kept]
        self._make_room()

    def is_done(self, run: Run) -> bool:
        """Whether a worker has said how a run went."""
        return run.number != UNPOSTED and self._board.is_done(run.number)

    def _is_on_its_way(self, run: Run) -> bool:
        return run.number != UNPOSTED and not self._board.is_done(run.number)

    def _pending(self) -> Iterator[tuple[Flight, Run]]:
        for flight in self._flights.values():
            for run in flight.pending:
                yield flight, run

    def _post(self, flight: Flight) -> None:
        """Put the runs of a flight that are not on the board there, as far as there is room."""
        request, known = flight.request, flight.layout
        layout_id, layout = (known.number, known.extent) if known else (0, NOWHERE)
        numbers = []
        for run in reversed(flight.pending):
            if run.number != UNPOSTED:
                continue
            if not self._places:
                break
            if run.deaths and self._has_suspect_on_its_way():
                continue
            self._generation += PLACES
            number = self._generation + self._places.pop()
            self._board.write_job(
                Job(
                    number,
                    self._collated,
                    run.first,
                    run.last,
                    len(flight.indices),
                    layout_id,
                    request.shuffle_seed is not None,
                    request.shuffle_seed or 0,
                    request.minibatch,
                    flight.slot.extent,
                    layout,
                )
            )
            # Not before: until then the place has the answer to an earlier job.
            run.number = number
            if run is flight.awaited:
                self._board.await_job(number)
            numbers.append(NUMBER.pack(number))
        os.write(self._jobs_in, b"".join(numbers))

    def _has_suspect_on_its_way(self) -> bool:
        return any(run.deaths and self._is_on_its_way(run) for _, run in self._pending())

    def _make_room(self) -> None:
        """Take what is done off the board, and put on it what had no room."""
        for flight in list(self._flights.values()):
            self.absorb(flight)
            if flight.has_unposted and self._places:
                self._post(flight)

    def _note_answer(self, flight: Flight, run: Run, answer: Answer) -> None:
        try:
            self._take_over(flight, run, answer)
        except Exception as error:
            indices = abbreviated(flight.indices[run.first : run.last].tolist())
            message = (
                f"what came of sample(s) {indices} was pickled in a worker process, but cannot be "
                f"unpickled: {type(error).__name__}: {error}"
            )
            self._fail(flight, run.first, partial(WorkerError, message))

    def _take_over(self, flight: Flight, run: Run, answer: Answer) -> None:
        if answer.outcome == WRITTEN:
            if self._collated and answer.head_nbytes:
                flight.load_collated(answer.head_nbytes)
            return
        fd = self._crew.spill_fds[answer.worker]
        spilled = read_spill(fd, answer.spill_start, answer.spill_nbytes)
        if answer.outcome == FAILED:
            self._fail(flight, run.first, partial(load_exception, spilled))
        elif self._collated:
            nbytes = flight.load_spilled(spilled, self._collator)
            self.collated_nbytes = max(self.collated_nbytes, size_class(nbytes, 1))
        else:
            flight.leftovers.update(pickle.loads(spilled))

    def _fail(self, flight: Flight, row: int, new_error: Callable[[], BaseException]) -> None:
        flight.fail(row, new_error)
        for run in flight.pending:
            if run.first > row and run.number != UNPOSTED:
                self._board.cancel(run.number)

    def _count_death(self, death: Death) -> None:
        """Hold a death against the rows that were being loaded, and only these."""
        for flight, run in list(self._pending()):
            if run.number not in death.claims or self.is_done(run):
                continue
            run.number = UNPOSTED
            run.deaths += not death.on_purpose
            if run.deaths < _DEATHS_PER_SAMPLE:
                if not self._collated:
                    flight.split(run)
                continue
            flight.pending.remove(run)
            indices = abbreviated(flight.indices[run.first : run.last].tolist())
            message = (
                f"{death.description} while it loaded sample(s) {indices} of the dataset, as "
                f"did {_DEATHS_PER_SAMPLE - 1} workers before it"
            )
            self._fail(flight, run.first, partial(WorkerDiedError, message))
