"""How minibatches are cut into runs, and how many are on their way: from what samples cost."""

import pytest
from fifteen_data_loaders._engines._workers._pace import Pace
from hypothesis import given
from hypothesis import strategies as st

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000

RUNS_PER_THREAD = 8
MOST_QUICK_MINIBATCHES = 16

_THREADS = st.integers(1, 64)
_ROWS = st.integers(1, 5000)
_COSTS = st.integers(0, 10 * SECOND)


def pace_of(thread_count: int, cost: int | None = None, *, collated: bool = False) -> Pace:
    """Returns a pace that knows what a sample costs, if that is known."""
    pace = Pace(thread_count, collated=collated)
    if cost is not None:
        pace.note(cost * 10, 10)
    return pace


def run_count(pace: Pace, row_count: int) -> int:
    return -(-row_count // pace.run_length(row_count))


@pytest.mark.parametrize(
    ("thread_count", "row_count", "expected"),
    [(1, 10, 10), (2, 10, 5), (3, 10, 4), (4, 256, 64), (8, 3, 1), (8, 1, 1)],
)
def test_the_first_minibatch_is_shared_out_equally(
    thread_count: int, row_count: int, expected: int
) -> None:
    assert pace_of(thread_count).run_length(row_count) == expected


@given(_THREADS, _ROWS, st.none() | _COSTS, st.booleans())
def test_a_run_has_a_row_at_least_and_the_whole_minibatch_at_most(
    thread_count: int, row_count: int, cost: int | None, collated: bool
) -> None:
    pace = pace_of(thread_count, cost, collated=collated)
    assert 1 <= pace.run_length(row_count) <= row_count


@pytest.mark.parametrize("thread_count", [1, 2, 7])
def test_costly_samples_give_eight_runs_for_each_thread(thread_count: int) -> None:
    row_count = thread_count * RUNS_PER_THREAD * 5
    pace = pace_of(thread_count, SECOND)
    assert run_count(pace, row_count) == thread_count * RUNS_PER_THREAD


def test_costly_samples_of_a_small_minibatch_go_one_by_one() -> None:
    assert pace_of(4, SECOND).run_length(32) == 1
    assert pace_of(4, SECOND).run_length(3) == 1


@given(_THREADS, _ROWS, _COSTS)
def test_there_are_at_most_eight_runs_for_each_thread(
    thread_count: int, row_count: int, cost: int
) -> None:
    assert run_count(pace_of(thread_count, cost), row_count) <= RUNS_PER_THREAD * thread_count


def test_runs_take_a_millisecond_where_there_are_rows_enough() -> None:
    assert pace_of(2, 100 * MICROSECOND).run_length(100) == 10
    assert pace_of(2, 50 * MICROSECOND).run_length(100) == 20


def test_no_thread_goes_without_a_run_for_the_sake_of_a_longer_one() -> None:
    """Equal shares of 16 rows take less than a millisecond, but not much less."""
    assert pace_of(4, 40 * MICROSECOND).run_length(64) == 16


def test_cheap_samples_give_longer_runs_up_to_the_whole_minibatch() -> None:
    assert pace_of(4, 5 * MICROSECOND).run_length(64) == 40
    assert pace_of(4, 1).run_length(64) == 64


@given(_THREADS, _ROWS, st.lists(_COSTS, min_size=2, max_size=2).map(sorted))
def test_cheaper_samples_never_give_shorter_runs(
    thread_count: int, row_count: int, costs: list[int]
) -> None:
    cheap, costly = (pace_of(thread_count, max(cost, 1)) for cost in costs)
    assert cheap.run_length(row_count) >= costly.run_length(row_count)


@given(_THREADS, _ROWS, st.none() | _COSTS)
def test_a_custom_collate_fn_gets_whole_minibatches(
    thread_count: int, row_count: int, cost: int | None
) -> None:
    assert pace_of(thread_count, cost, collated=True).run_length(row_count) == row_count


@given(_THREADS, st.integers(1, 100), _ROWS, st.none() | _COSTS, st.booleans())
def test_a_window_is_the_prefetch_at_least(
    thread_count: int, prefetch: int, row_count: int, cost: int | None, collated: bool
) -> None:
    pace = pace_of(thread_count, cost, collated=collated)
    assert pace.window(prefetch, row_count) >= prefetch


@given(_THREADS, _ROWS, st.none() | _COSTS, st.booleans())
def test_every_thread_finds_a_run_in_the_window(
    thread_count: int, row_count: int, cost: int | None, collated: bool
) -> None:
    """And two, where minibatches have fewer runs than there are threads."""
    pace = pace_of(thread_count, cost, collated=collated)
    runs_per_minibatch = run_count(pace, row_count)
    runs = pace.window(1, row_count) * runs_per_minibatch
    few = collated or runs_per_minibatch < thread_count
    assert runs >= (2 if few else 1) * thread_count


@pytest.mark.parametrize("cost", [None, SECOND])
def test_small_minibatches_give_two_runs_for_each_thread(cost: int | None) -> None:
    assert pace_of(8, cost).window(1, row_count=1) == 16
    assert pace_of(8, cost).window(1, row_count=3) == 6
    assert pace_of(8, cost).window(2, row_count=8) == 2


def test_a_custom_collate_fn_keeps_two_minibatches_for_each_thread_on_their_way() -> None:
    assert pace_of(3, SECOND, collated=True).window(2, row_count=100) == 6


def test_quick_minibatches_lie_ready_for_a_millisecond() -> None:
    """Two threads load eight minibatches of 250 microseconds in one."""
    assert pace_of(2, 2_500).window(1, row_count=100) == 8


def test_at_most_sixteen_quick_minibatches_are_on_their_way() -> None:
    assert pace_of(2, 1).window(1, row_count=10) == MOST_QUICK_MINIBATCHES
    assert pace_of(2, 1).window(20, row_count=10) == 20


@pytest.mark.parametrize("change", [0.92, 1.08])
def test_a_small_change_of_cost_changes_nothing(change: float) -> None:
    """However often it is seen: what counts is the distance to what was assumed."""
    pace = pace_of(2, 100 * MICROSECOND)
    before = pace.run_length(100), pace.window(2, 100)
    for _ in range(100):
        pace.note(int(change * 100 * 100 * MICROSECOND), 100)
        assert (pace.run_length(100), pace.window(2, 100)) == before
        # What was not asked for before is decided by what was assumed, too.
        assert pace.run_length(1000) == 63


def test_a_large_change_of_cost_is_followed() -> None:
    pace = pace_of(2, 100 * MICROSECOND)
    assert pace.run_length(100) == 10
    for _ in range(100):
        pace.note(100 * MILLISECOND, 100)
    assert pace.run_length(100) == 7
    for _ in range(100):
        pace.note(100, 100)
    assert pace.run_length(100) == 100
    assert pace.window(1, 100) == MOST_QUICK_MINIBATCHES


def test_one_slow_minibatch_does_not_count_for_all() -> None:
    pace = pace_of(2, 10 * MICROSECOND)
    assert pace.run_length(400) == 100
    pace.note(400 * 10 * MICROSECOND * 3, 400)
    assert 100 > pace.run_length(400) > 100 // 2


def test_samples_that_cost_nothing_measurable_are_shared_out_equally() -> None:
    pace = pace_of(4, 0)
    assert pace.run_length(100) == 25
    assert pace.window(2, 100) == 2
