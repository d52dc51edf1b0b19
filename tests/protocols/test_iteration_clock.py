"""What the clock of an iteration says, on a time of the tests' own."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from fifteen_data_protocols import IterationClock, IterationStatistics, _iteration_clock


class Time:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def take(self, seconds: float, items: Iterator[int]) -> Callable[[], int]:
        """Returns a function that takes so long to give the next item."""

        def take() -> int:
            self.now += seconds
            return next(items)

        return take


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(_iteration_clock, "perf_counter", time)
    return time


def _figures(clock: IterationClock) -> tuple[int, float, float]:
    statistics = clock.statistics()
    return statistics.minibatch_count, statistics.elapsed_seconds, statistics.waiting_seconds


def test_nothing_has_happened_before_the_first_minibatch_is_asked_for(time: Time) -> None:
    clock = IterationClock()
    time.now += 5
    assert clock.statistics() == IterationStatistics(0, 0.0, 0.0, 0.0, 0.0)
    assert clock.statistics().waiting_fraction == 0


def test_waits_are_part_of_the_time_since_the_first_one(time: Time) -> None:
    clock, items = IterationClock(), iter(range(9))
    for _ in range(3):
        assert clock.receive(time.take(2, items)) in range(3)
        time.now += 8
    assert _figures(clock) == (3, 30, 6)
    assert clock.statistics().waiting_fraction == 0.2


def test_a_wait_that_goes_on_is_counted_so_far(time: Time) -> None:
    clock = IterationClock()

    def take() -> None:
        time.now += 4
        assert _figures(clock) == (0, 4, 4)
        time.now += 1

    clock.receive(take)
    assert _figures(clock) == (1, 5, 5)


def test_time_stands_still_once_the_iteration_is_over(time: Time) -> None:
    clock, items = IterationClock(), iter(range(1))
    clock.receive(time.take(1, items))
    time.now += 2
    with pytest.raises(StopIteration):
        clock.receive(time.take(3, items))
    time.now += 100
    assert _figures(clock) == (1, 6, 4)


def test_a_stopped_clock_goes_on_with_the_next_minibatch(time: Time) -> None:
    clock, items = IterationClock(), iter(range(9))
    clock.receive(time.take(1, items))
    clock.stop()
    clock.stop()
    time.now += 100
    assert _figures(clock) == (1, 1, 1)
    clock.receive(time.take(1, items))
    time.now += 2
    assert _figures(clock) == (2, 4, 2)


def test_an_error_is_a_wait_without_a_minibatch(time: Time) -> None:
    clock = IterationClock()

    def fail() -> None:
        time.now += 1
        raise ValueError("the dataset's own")

    with pytest.raises(ValueError, match="the dataset's own"):
        clock.receive(fail)
    time.now += 2
    assert _figures(clock) == (0, 3, 1)


def test_a_thread_that_still_waits_has_not_waited_longer_than_the_iteration_took(
    time: Time,
) -> None:
    clock = IterationClock()

    def take() -> None:
        time.now += 1
        clock.stop()
        time.now += 5
        assert _figures(clock) == (0, 1, 1)

    clock.receive(take)


def test_differences_are_of_a_stretch(time: Time) -> None:
    clock, items = IterationClock(), iter(range(9))
    clock.receive(time.take(10, items))
    clock.loading_seconds += 7
    time.now += 100
    earlier = clock.statistics()
    clock.receive(time.take(1, items))
    clock.loading_seconds += 3
    clock.transfer_seconds += 2
    time.now += 3
    assert clock.statistics() - earlier == IterationStatistics(1, 4.0, 1.0, 3.0, 2.0)


def test_another_thread_never_sees_half_of_a_change() -> None:
    clock, seen = IterationClock(), list[IterationStatistics]()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.append(clock.statistics())

    watcher = threading.Thread(target=watch)
    watcher.start()
    items = iter(range(20_000))
    for _ in items:
        clock.receive(lambda: None)
    over.set()
    watcher.join()
    assert seen
    for earlier, later in itertools.pairwise(seen):
        assert later.minibatch_count >= earlier.minibatch_count
        assert 0 <= later.waiting_seconds <= later.elapsed_seconds
        assert later.waiting_seconds >= earlier.waiting_seconds


@pytest.mark.parametrize("ends", [False, True])
def test_what_was_told_is_not_taken_back(
    time: Time, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """A thread may lose its turn after it has looked at the time, and before it has noted it."""
    clock, told = IterationClock(), list[tuple[int, float, float]]()

    def look_and_lose_the_turn() -> float:
        monkeypatch.setattr(_iteration_clock, "perf_counter", time)
        seen = time.now
        time.now += 5
        told.append(_figures(clock))
        return seen

    def take() -> int:
        time.now += 1
        monkeypatch.setattr(_iteration_clock, "perf_counter", look_and_lose_the_turn)
        if ends:
            raise StopIteration
        return 0

    with suppress(StopIteration):
        clock.receive(take)
    told.append(_figures(clock))
    assert told == [(0, 6.0, 6.0), (0 if ends else 1, 6.0, 6.0)]
