"""The parent's side of the engine without processes: a real board and arena, no workers."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import numpy as np
from fifteen_data_loaders._engines._workers._arena import Arena
from fifteen_data_loaders._engines._workers._crew import Crew, Death
from fifteen_data_loaders._engines._workers._flight import Flight
from fifteen_data_loaders._engines._workers._pace import Pace
from fifteen_data_loaders._engines._workers._schedule import Schedule
from fifteen_data_loaders._engines._workers._wire._board import (
    WRITTEN,
    Answer,
    Board,
    Job,
    board_nbytes,
)
from fifteen_data_loaders._order._plan import Request
from fifteen_data_loaders._samples._collate import Collator

SPILL_FD = -1
"""Nothing is spilled here."""


class House:
    """A schedule with all that it writes to and reads from."""

    def __init__(self, worker_count: int, run_length: int, resources: ExitStack) -> None:
        self.run_length = run_length
        self.worker_count = worker_count
        board_fd, arena_fd = os.memfd_create("board"), os.memfd_create("arena")
        self.jobs_out, jobs_in = os.pipe()
        for fd in (board_fd, arena_fd, self.jobs_out, jobs_in):
            resources.callback(os.close, fd)
        os.set_blocking(self.jobs_out, False)
        os.ftruncate(board_fd, board_nbytes(worker_count, 1))
        self.board = Board(board_fd, worker_count, 1)
        resources.callback(self.board.close)
        for worker in range(worker_count):
            self.board.clear(worker)
        self.arena = Arena(arena_fd)
        resources.callback(self.arena.close)
        self.spill_fds = [SPILL_FD] * worker_count
        self.pace = Pace(worker_count, collated=False)
        self.schedule = Schedule(
            self.board,
            cast(Crew, self),
            (self.jobs_out, jobs_in),
            self.pace,
            Collator(),
            collated=False,
        )

    def claims(self) -> dict[int, Any]:
        """Returns who took which jobs last, as a crew does."""
        return {
            number: worker
            for worker in range(self.worker_count)
            for number in self.board.claims(worker)
        }

    def post(self, first_index: int, row_count: int) -> Flight:
        """Begin a flight for consecutive samples."""
        indices = np.arange(first_index, first_index + row_count)
        request = Request(indices, indices, 0, None, 0)
        with self.schedule:
            self.schedule.forget_cancelled()
            slot = self.arena.lend(8 * row_count)
            flight = Flight.of(request, slot, None, self.run_length)
            self.schedule.enter(flight)
        return flight

    def absorb(self, flight: Flight) -> bool:
        """Take note of what is done; returns whether the flight is settled."""
        with self.schedule:
            self.schedule.absorb(flight)
        return flight.is_settled

    def take(self, worker: int = 0) -> Job | None:
        """Have a worker take the next job, as its thread does."""
        try:
            os.readv(self.jobs_out, (self.board.claim(worker, 0),))
        except BlockingIOError:
            return None
        return self.board.read_job(self.board.claims(worker)[0])

    def answer(self, job: Job, worker: int = 0) -> None:
        """Have a worker say that it has done a job, in a nanosecond for each row."""
        self.board.write_answer(job.number, Answer(WRITTEN, len(rows(job)), 0, 0, 0, worker))

    def die(self, worker: int = 0, *, on_purpose: bool = False) -> None:
        """Have a worker die, and be replaced by one that has taken nothing."""
        claims = set(self.board.claims(worker))
        self.board.clear(worker)
        with self.schedule:
            self.schedule.bury([Death(f"worker {worker} died", claims, on_purpose)])


@contextmanager
def house(worker_count: int = 1, run_length: int = 2) -> Iterator[House]:
    """A house that is torn down with the block."""
    with ExitStack() as resources:
        yield House(worker_count, run_length, resources)


def rows(job: Job) -> range:
    """Returns the rows that a job is for."""
    return range(job.first_row, job.last_row)
