"""How minibatches are cut into runs, and how many are on their way: it depends on the cost."""

import pytest
from fifteen_data_loaders._engines._workers._pace import Pace


def _knowing(sample_nanoseconds: int, thread_count: int = 4, *, collated: bool = False) -> Pace:
    pace = Pace(thread_count, collated=collated)
    pace.note(64 * sample_nanoseconds, 64)
    return pace


@pytest.mark.parametrize(("row_count", "length"), [(1, 1), (4, 1), (5, 2), (64, 16)])
def test_the_first_minibatches_are_shared_out_equally(row_count: int, length: int) -> None:
    assert Pace(4, collated=False).run_length(row_count) == length


def test_costly_samples_come_in_up_to_eight_runs_for_each_thread() -> None:
    """Whichever thread is free takes the next, so a slow sample does not hold the others up."""
    assert _knowing(10_000_000).run_length(64) == 2
    assert _knowing(10_000_000).run_length(16) == 1


def test_cheap_samples_come_in_runs_of_about_a_millisecond() -> None:
    assert _knowing(100_000).run_length(1024) == 32  # An eighth of a share.
    assert _knowing(10_000).run_length(1024) == 100
    assert _knowing(1000).run_length(8000) == 1000


def test_runs_are_shorter_only_where_threads_would_go_without() -> None:
    """Down to a fifth of that time, beyond which passing them on would cost as much."""
    assert _knowing(10_000).run_length(128) == 32
    assert _knowing(1000).run_length(128) == 128


@pytest.mark.parametrize("cost", [10, 10_000, 10_000_000])
def test_a_custom_collate_fn_gets_whole_minibatches(cost: int) -> None:
    pace = _knowing(cost, collated=True)
    assert pace.run_length(64) == 64
    assert pace.window(2, 64) >= 8  # Two for each thread.


def test_a_window_is_what_was_asked_for_where_that_keeps_all_busy() -> None:
    assert Pace(4, collated=False).window(3, 64) == 3
    assert _knowing(10_000_000).window(3, 64) == 3


def test_small_minibatches_make_two_runs_for_each_thread() -> None:
    assert Pace(4, collated=False).window(2, 1) == 8
    assert Pace(4, collated=False).window(2, 3) == 3
    assert Pace(4, collated=False).window(9, 1) == 9


def test_minibatches_that_cost_nothing_lie_ready_but_not_too_many() -> None:
    """A millisecond of work for each thread, in at most sixteen of them."""
    assert _knowing(5000).window(2, 64) == 12
    assert _knowing(100).window(2, 64) == 16


def test_a_small_change_of_cost_changes_nothing() -> None:
    pace = _knowing(10_000)
    before = pace.run_length(1024), pace.window(2, 1024)
    pace.note(64 * 10_400, 64)
    assert (pace.run_length(1024), pace.window(2, 1024)) == before
    for _ in range(9):
        pace.note(64 * 100_000, 64)
    assert pace.run_length(1024) < before[0]
