"""The board: shared memory where the parent posts jobs and workers say how they went. Both sides.

All state that matters lies here, in shared memory, and is read rather than received: an interrupt
or a death between two steps loses nothing. Pipes only carry wake-ups and job numbers.

A job is a run of rows of a minibatch, or a whole minibatch for a custom ``collate_fn``. It lives in
a place on the board; its number is the place plus a multiple of the count of places, so that a
number names one job for ever.

    parent                               worker's thread
    writes the job into its place
    writes its number into the pipe  ->  reads the number straight into its claim
                                         loads the samples into the slot
    sees the outcome, frees the place <- writes the answer, then the outcome; rings the doorbell
                                         if the job is awaited or has failed

The read that takes a number out of the pipe puts it into the thread's claim on the board in the
same system call. So at any moment a job is in the pipe, in a claim, or done, and when a worker has
died its claims say exactly which jobs died with it.
"""

import mmap
import struct
import threading
from typing import NamedTuple

from fifteen_data_loaders._engines._workers._wire._slot import Extent

PLACES = 4096
"""Jobs on the board at once. Their numbers, 8 bytes each, fit into a pipe of 64 kB."""

NUMBER = struct.Struct("=q")
"""A job's number, in the pipe and in claims; aligned reads and writes of it are never torn."""

_PENDING, WRITTEN, SPILLED, FAILED = range(4)
"""Outcomes: not done yet; all in the slot; (in part) in the spill file; an exception there."""


class Job(NamedTuple):
    """What a worker must know to do a job: a few dozen bytes."""

    number: int
    collated: bool
    """Whether the whole minibatch goes through a custom ``collate_fn``."""
    first_row: int
    last_row: int
    """Rows ``[first_row, last_row)`` of the minibatch."""
    row_count: int
    """Of the whole minibatch."""
    layout_id: int
    """Of the layout of the rows; 0 while it is not known."""
    seeded: bool
    shuffle_seed: int
    minibatch: int
    """Number of the minibatch in its epoch."""
    slot: Extent
    layout: Extent
    """Where the layout lies, pickled, for a worker that has not seen ``layout_id`` yet."""


class Answer(NamedTuple):
    """What a worker says of a job that is done."""

    outcome: int
    """`WRITTEN`, `SPILLED` or `FAILED`."""
    nanoseconds: int
    """Time that the job took."""
    spill_start: int
    spill_nbytes: int
    """Where in the worker's spill file the rest of the answer lies."""
    head_nbytes: int
    """Length of the head in the slot, after a custom ``collate_fn``; see `write_collated`."""
    worker: int


_JOB = struct.Struct("=q?qqqq?Qq4q4q")
_PLAIN_FIELDS = 9
"""Fields of a job before the two extents."""
_ANSWER = struct.Struct("=qqqqq")
_PLACE_NBYTES = 192
"""A job and its answer, in whole cache lines: threads of workers write next to each other."""
_CACHE_LINE = 64
_NOTHING = -1
"""In a claim: no job was taken yet."""

# What lies where: for each place the outcome (a byte), whether it is awaited (a byte), the number
# of a job that is cancelled; for each thread its claim and for each worker whether it is ready,
# in a cache line each; for each place the job and its answer.
_AWAITED_START = PLACES
_CANCELLED_START = _AWAITED_START + PLACES
_CLAIMS_START = _CANCELLED_START + NUMBER.size * PLACES


class Board:
    """The board as the parent and each worker map it."""

    def __init__(self, fd: int, worker_count: int, thread_count: int) -> None:
        self._thread_count = thread_count
        self._lock = threading.RLock()
        self._map = mmap.mmap(fd, board_nbytes(worker_count, thread_count))
        self._ready_start = _CLAIMS_START + _CACHE_LINE * worker_count * thread_count
        self._jobs_start = self._ready_start + _CACHE_LINE * worker_count
        self._outcomes = memoryview(self._map)[:PLACES]
        self._awaited = memoryview(self._map)[_AWAITED_START:_CANCELLED_START]

    def close(self) -> None:
        """Unmap the board."""
        self._outcomes.release()
        self._awaited.release()
        self._map.close()

    def write_job(self, job: Job) -> None:
        """Put a job into its place, which must be free."""
        place = job.number % PLACES
        start = self._jobs_start + place * _PLACE_NBYTES
        _JOB.pack_into(self._map, start, *job[:_PLAIN_FIELDS], *job.slot, *job.layout)
        self._awaited[place] = False
        self._outcomes[place] = _PENDING

    def read_job(self, number: int) -> Job:
        """Returns the job at the place of ``number``."""
        start = self._jobs_start + number % PLACES * _PLACE_NBYTES
        fields = _JOB.unpack_from(self._map, start)
        slot, layout = fields[_PLAIN_FIELDS:-4], fields[-4:]
        return Job._make((*fields[:_PLAIN_FIELDS], Extent._make(slot), Extent._make(layout)))

    def write_answer(self, number: int, answer: Answer) -> None:
        """Say how a job went: the outcome, which the parent looks at, after all else."""
        place = number % PLACES
        start = self._jobs_start + place * _PLACE_NBYTES + _JOB.size
        _ANSWER.pack_into(self._map, start, *answer[1:])
        self._fence()
        self._outcomes[place] = answer.outcome
        self._fence()

    def is_done(self, number: int) -> bool:
        """Whether a job has an answer."""
        return self._outcomes[number % PLACES] != _PENDING

    def answers(self, numbers: list[int]) -> list[Answer | None]:
        """Returns the answers to jobs, ``None`` if pending; rows are to be read after it only."""
        outcomes = [self._outcomes[number % PLACES] for number in numbers]
        self._fence()
        answers: list[Answer | None] = []
        for number, outcome in zip(numbers, outcomes, strict=True):
            if outcome == _PENDING:
                answers.append(None)
                continue
            start = self._jobs_start + number % PLACES * _PLACE_NBYTES + _JOB.size
            answers.append(Answer(outcome, *_ANSWER.unpack_from(self._map, start)))
        return answers

    def await_job(self, number: int) -> None:
        """Ask to be rung for once a job is done, unless its outcome is there after this call."""
        self._awaited[number % PLACES] = True
        self._fence()

    def is_awaited(self, number: int) -> bool:
        """Whether the parent asked to be rung for."""
        return bool(self._awaited[number % PLACES])

    def cancel(self, number: int) -> None:
        """Tell whoever takes the job that nobody wants it; safe at any time, from any thread."""
        NUMBER.pack_into(self._map, _cancelled_at(number), number)

    def is_cancelled(self, number: int) -> bool:
        """Whether nobody wants the job."""
        cancelled: int = NUMBER.unpack_from(self._map, _cancelled_at(number))[0]
        return cancelled == number

    def claim(self, worker: int, thread: int) -> memoryview:
        """Returns the 8 bytes for the number of the job that a thread took last."""
        start = _CLAIMS_START + _CACHE_LINE * (worker * self._thread_count + thread)
        return memoryview(self._map)[start : start + NUMBER.size]

    def claims(self, worker: int) -> list[int]:
        """Returns the numbers of the jobs that the threads of a worker took last, done or not."""
        claims = [
            NUMBER.unpack(self.claim(worker, thread))[0] for thread in range(self._thread_count)
        ]
        return [number for number in claims if number != _NOTHING]

    def clear(self, worker: int) -> None:
        """Forget the claims and the readiness of a worker that is no more."""
        for thread in range(self._thread_count):
            self.claim(worker, thread)[:] = NUMBER.pack(_NOTHING)
        self._map[self._ready_start + _CACHE_LINE * worker] = 0

    def set_ready(self, worker: int) -> None:
        """Say that a worker has loaded the dataset and takes jobs."""
        self._map[self._ready_start + _CACHE_LINE * worker] = 1

    def is_ready(self, worker: int) -> bool:
        """Whether a worker has come as far as taking jobs."""
        return self._map[self._ready_start + _CACHE_LINE * worker] == 1

    def _fence(self) -> None:
        """Keep the processor from moving what comes before past what comes after.

        Every processor moves a read up past a write, and those other than x86 move anything. But
        nothing moves up past the taking of a lock or down past its release, and so nothing at all
        past a release with a taking after it.
        """
        with self._lock:
            pass
        with self._lock:
            pass


def board_nbytes(worker_count: int, thread_count: int) -> int:
    """Bytes of a board, rounded up to whole pages."""
    line_count = worker_count * thread_count + worker_count
    nbytes = _CLAIMS_START + _CACHE_LINE * line_count + _PLACE_NBYTES * PLACES
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _cancelled_at(number: int) -> int:
    return _CANCELLED_START + number % PLACES * NUMBER.size
