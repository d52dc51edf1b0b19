"""Which rows are loaded where, without any process: each once, whatever comes in between."""

from collections import Counter

import pytest
from fifteen_data_loaders import WorkerDiedError
from fifteen_data_loaders._engines._workers._flight import Flight
from fifteen_data_loaders._engines._workers._wire._board import PLACES, Job
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loaders.scheduling import House, house, rows


def _take_all(home: House, worker: int = 0) -> list[Job]:
    taken = []
    while (job := home.take(worker)) is not None:
        taken.append(job)
    return taken


def _interrupt(home: House) -> None:
    with pytest.raises(KeyboardInterrupt), home.schedule:
        raise KeyboardInterrupt


def test_runs_are_posted_in_order_and_hold_every_row_once() -> None:
    with house(run_length=3) as home:
        home.post(100, 8)
        jobs = _take_all(home)
    assert [list(rows(job)) for job in jobs] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert len({job.number for job in jobs}) == 3
    assert {job.row_count for job in jobs} == {8}


def test_answers_in_any_order_settle_a_flight_and_free_the_board() -> None:
    with house(run_length=1) as home:
        flight = home.post(0, 3)
        for job in reversed(_take_all(home)):
            assert not home.absorb(flight)
            home.answer(job)
        assert home.absorb(flight)
        assert len(home.schedule._places) == PLACES
        assert flight.nanoseconds == 3
        # What a sample costs is known from now on, and a run is as long as it can be.
        assert home.pace.run_length(8) == 8


def test_an_interrupt_has_everything_posted_again_that_nobody_has() -> None:
    """Neither what a worker is loading, nor what is done."""
    with house(worker_count=2, run_length=1) as home:
        flight = home.post(0, 4)
        done, claimed = home.take(0), home.take(1)
        assert done is not None
        assert claimed is not None
        home.answer(done)
        _interrupt(home)
        assert not home.absorb(flight)
        again = _take_all(home)
        assert [list(rows(job)) for job in again] == [[2], [3]]
        for job in (claimed, *again):
            home.answer(job)
        assert home.absorb(flight)


def test_an_interrupt_before_a_job_is_written_loses_no_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its place still has the answer to the job that was there before."""

    def interrupt(job: Job) -> None:
        raise KeyboardInterrupt

    with house(run_length=1) as home:
        earlier = home.post(0, 1)
        (job,) = _take_all(home)
        home.answer(job)
        assert home.absorb(earlier)
        with monkeypatch.context() as interrupted:
            interrupted.setattr(home.board, "write_job", interrupt)
            with pytest.raises(KeyboardInterrupt):
                home.post(10, 1)
        (flight,) = home.schedule._flights.values()
        assert not home.absorb(flight)
        (job,) = _take_all(home)
        home.answer(job)
        assert home.absorb(flight)


def test_what_finds_no_place_is_posted_when_there_is_one() -> None:
    with house(run_length=1) as home:
        first, second = home.post(0, PLACES - 1), home.post(PLACES, 3)
        assert second.has_unposted
        jobs = _take_all(home)
        assert len(jobs) == PLACES
        for job in jobs:
            home.answer(job)
        assert home.absorb(first)
        with home.schedule:
            assert home.schedule.ring_for(second)
        rest = _take_all(home)
        assert [list(rows(job)) for job in rest] == [[1], [2]]
        for job in rest:
            home.answer(job)
        assert home.absorb(second)


def test_a_full_board_has_every_run_ring() -> None:
    """Any one that ends frees a place."""
    with house(run_length=1) as home:
        home.post(0, PLACES)
        late = home.post(PLACES, 1)
        with home.schedule:
            assert home.schedule.ring_for(late)
        assert all(home.board.is_awaited(job.number) for job in _take_all(home))


def test_the_last_run_rings_that_is_not_done() -> None:
    with house(run_length=1) as home:
        flight = home.post(0, 3)
        first, second, third = _take_all(home)
        home.answer(third)
        with home.schedule:
            home.schedule.absorb(flight)
            assert home.schedule.ring_for(flight)
        assert home.board.is_awaited(second.number)
        assert not home.board.is_awaited(first.number)
        home.answer(second)
        home.answer(first)
        with home.schedule:
            assert not home.schedule.ring_for(flight)


def test_what_died_is_loaded_again_row_by_row_and_nothing_else() -> None:
    with house(worker_count=2, run_length=2) as home:
        flight = home.post(0, 6)
        lost, kept = home.take(0), home.take(1)
        assert lost is not None
        assert kept is not None
        home.die(0)
        # Suspects are posted one after another: what kills is never in the company of another.
        assert sorted(row for job in _take_all(home, 0) for row in rows(job)) == [0, 4, 5]
        home.answer(home.board.read_job(home.board.claims(0)[0]))
        assert not flight.is_settled
        assert kept.number in home.claims()


@pytest.mark.parametrize("on_purpose", [False, True])
def test_the_third_death_over_a_sample_is_an_error(on_purpose: bool) -> None:
    """Unless it was the parent that ended the worker."""
    with house(run_length=1) as home:
        flight = home.post(40, 2)
        for _ in range(3):
            assert flight.failure is None
            job = home.take()
            assert job is not None
            while list(rows(job)) != [0]:
                home.answer(job)
                job = home.take()
                assert job is not None
            home.die(on_purpose=on_purpose)
        assert (flight.failure is None) == on_purpose
        if flight.failure is not None:
            error = flight.failure.new_error()
            assert isinstance(error, WorkerDiedError)
            assert str(error) == (
                "worker 0 died while it loaded sample(s) [40] of the dataset, as did 2 workers "
                "before it"
            )


def test_a_cancelled_flight_frees_its_places_when_it_is_done() -> None:
    with house(run_length=1) as home:
        flight = home.post(0, 2)
        flight.cancelled = True
        for job in _take_all(home):
            home.answer(job)
        other = home.post(10, 1)
        assert len(home.schedule._places) == PLACES - 1
        assert not flight.pending
        assert other.pending


def test_a_schedule_that_is_closed_refuses() -> None:
    with house() as home:
        home.schedule.closed = True
        with pytest.raises(RuntimeError, match=r"^this DataLoader is closed: "), home.schedule:
            pass


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["post", "take", "answer", "die", "end", "interrupt", "cancel", "absorb"]),
        st.integers(0, 2),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(_STEPS)
def test_every_row_is_loaded_once_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Each one that is taken note of adds a nanosecond to its flight."""
    with house(worker_count=3, run_length=2) as home:
        flights: list[Flight] = []
        at_work: dict[int, Job] = {}
        for step, worker in steps:
            _play(home, step, worker, flights, at_work)
            pending = [run.number for flight in flights for run in flight.pending]
            posted = Counter(number % PLACES for number in pending if number >= 0)
            assert not posted or max(posted.values()) == 1
            assert not set(posted) & set(home.schedule._places)
        for _ in range(200):
            for worker in range(3):
                _play(home, "answer", worker, flights, at_work)
                _play(home, "take", worker, flights, at_work)
            for flight in flights:
                with home.schedule:
                    home.schedule.absorb(flight)
                    home.schedule.ring_for(flight)
        for flight in flights:
            assert flight.is_settled
            if not flight.cancelled and flight.failure is None:
                assert flight.nanoseconds == len(flight.indices)
        assert not at_work


def _play(
    home: House, step: str, worker: int, flights: list[Flight], at_work: dict[int, Job]
) -> None:
    if step == "post":
        flights.append(home.post(100 * len(flights), 1 + 2 * worker))
    elif step == "take" and worker not in at_work:
        if (job := home.take(worker)) is not None:
            at_work[worker] = job
    elif step == "answer" and worker in at_work:
        home.answer(at_work.pop(worker), worker)
    elif step in ("die", "end"):
        at_work.pop(worker, None)
        home.die(worker, on_purpose=step == "end")
    elif step == "interrupt":
        _interrupt(home)
    elif step == "cancel" and worker < len(flights):
        flights[worker].cancelled = True
    elif step == "absorb" and worker < len(flights):
        home.absorb(flights[worker])
