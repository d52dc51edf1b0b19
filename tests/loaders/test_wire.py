"""What parent and workers must agree on arrives as it was written."""

import marshal
import os
from collections.abc import Iterator

import numpy as np
import pytest
from fifteen_data_loaders._engines._workers._wire._board import (
    FAILED,
    PLACES,
    SPILLED,
    WRITTEN,
    Answer,
    Board,
    Job,
    board_nbytes,
)
from fifteen_data_loaders._engines._workers._wire._boot_record import BootRecord, Shared
from fifteen_data_loaders._engines._workers._wire._slot import (
    Extent,
    collated_nbytes,
    content_start,
    indices_of,
    read_collated,
    write_collated,
)
from hypothesis import given
from hypothesis import strategies as st

_INTEGERS = st.integers(-(2**63), 2**63 - 1)
_EXTENTS = st.builds(Extent, *[_INTEGERS] * 4)
_JOBS = st.builds(
    Job,
    st.integers(0, 2**62),
    st.booleans(),
    *[_INTEGERS] * 4,
    st.booleans(),
    st.integers(0, 2**64 - 1),
    _INTEGERS,
    _EXTENTS,
    _EXTENTS,
)
_ANSWERS = st.builds(Answer, st.sampled_from([WRITTEN, SPILLED, FAILED]), *[_INTEGERS] * 5)


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    fd = os.memfd_create("board")
    os.ftruncate(fd, board_nbytes(2, 2))
    board = Board(fd, 2, 2)
    yield board
    board.close()
    os.close(fd)


@given(_JOBS, _JOBS, _ANSWERS)
def test_jobs_and_answers_arrive_in_their_places(
    board: Board, job: Job, other: Job, answer: Answer
) -> None:
    neighbour = other._replace(number=job.number + 1)
    board.write_job(job)
    board.write_job(neighbour)
    assert board.answers([job.number, neighbour.number]) == [None, None]
    board.write_answer(job.number, answer)
    assert board.read_job(job.number) == job
    assert board.read_job(neighbour.number) == neighbour
    assert board.answers([neighbour.number, job.number]) == [None, answer]
    assert board.is_done(job.number)
    assert not board.is_done(neighbour.number)


def test_a_job_is_cancelled_and_not_the_next_one_in_its_place(board: Board) -> None:
    board.cancel(5)
    assert board.is_cancelled(5)
    assert not board.is_cancelled(5 + PLACES)


def test_a_boot_record_arrives_and_every_descriptor_is_inherited() -> None:
    shared = Shared(["program", "--option"], 3, 2, 1, *range(10, 16))
    record = BootRecord(["/path", "relative"], shared, 2, *range(16, 19))
    assert BootRecord.load(marshal.loads(record.dump())) == record
    assert sorted(record.descriptors) == list(range(10, 19))


@given(st.binary(max_size=300), st.lists(st.binary(max_size=200), max_size=4), st.integers(1, 40))
def test_a_collated_minibatch_is_in_the_slot_with_its_buffers(
    pickled: bytes, parts: list[bytes], row_count: int
) -> None:
    slot = np.full(content_start(row_count) + collated_nbytes(pickled, parts), 255, np.uint8)
    indices_of(slot, row_count)[:] = np.arange(row_count)
    head_nbytes = write_collated(slot, row_count, pickled, [memoryview(part) for part in parts])
    assert head_nbytes > 0
    read, buffers = read_collated(slot, row_count, head_nbytes)
    assert (read, [bytes(buffer) for buffer in buffers]) == (pickled, parts)
    assert indices_of(slot, row_count).tolist() == list(range(row_count))


def test_a_slot_that_is_too_small_stays_as_it_is() -> None:
    slot = np.zeros(content_start(3) + 100, np.uint8)
    assert write_collated(slot, 3, b"pickled", [memoryview(bytes(200))]) == 0
    assert not slot.any()
