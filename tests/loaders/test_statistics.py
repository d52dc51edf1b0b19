"""What iterations over loaders say of themselves, while they run, pause and end."""

import threading
import time
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, cycled_minibatches
from fifteen_data_protocols import IterationStatistics, MeasuredIterator, SizedIterable

from tests.loaders.datasets import SAMPLE_COUNT, VARIANTS, FromFunction, Variant

pytestmark = pytest.mark.usefixtures("no_leftovers")

_NOTHING = IterationStatistics(0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(params=VARIANTS)
def make_loader(request: pytest.FixtureRequest) -> Variant:
    return VARIANTS[request.param]


def _close(loader: Any) -> None:
    getattr(loader, "close", lambda: None)()


def test_an_epoch_counts_what_it_hands_out(make_loader: Variant) -> None:
    loader = make_loader(4)
    epoch: Any = iter(loader.minibatches(shuffle_seed=0))
    assert isinstance(epoch, MeasuredIterator)
    assert epoch.statistics() == _NOTHING
    for count, _ in enumerate(epoch, start=1):
        statistics = epoch.statistics()
        assert statistics.minibatch_count == count
        assert 0 < statistics.waiting_seconds < statistics.elapsed_seconds
        assert statistics.loading_seconds > 0
        assert statistics.transfer_seconds == 0
    ended = epoch.statistics()
    assert ended.minibatch_count == SAMPLE_COUNT // 4
    assert epoch.statistics() == ended
    _close(loader)


def test_a_closed_iteration_s_time_stands_still(make_loader: Variant) -> None:
    loader = make_loader(4)
    train = cycled_minibatches(loader, shuffle_seed=0)
    next(train)
    train.close()
    closed = train.statistics()
    assert closed.minibatch_count == 1
    assert train.statistics() == closed
    _close(loader)


def test_setting_the_state_adds_to_the_statistics(make_loader: Variant) -> None:
    """They tell of the work that was done, wherever the iteration stood."""
    loader = make_loader(4)
    train = cycled_minibatches(loader, shuffle_seed=0, start_step=3)
    assert train.statistics() == _NOTHING
    state = train.get_state()
    for _ in range(2):
        next(train)
    before = train.statistics()
    train.set_state(state)
    next(train)
    added = train.statistics() - before
    assert train.statistics().minibatch_count == 3
    assert added.minibatch_count == 1
    assert 0 < added.waiting_seconds < added.elapsed_seconds
    _close(loader)


@pytest.mark.parametrize(
    ("settings", "ahead_count"),
    [({}, 0), ({"num_threads": 2}, 3), ({"num_workers": 1, "collate_fn": tuple}, 3)],
    ids=["inline", "threads", "workers"],
)
def test_minibatches_on_their_way_are_counted(settings: Any, ahead_count: int) -> None:
    with DataLoader(FromFunction(_slowly, count=1000), 4, prefetch=3, **settings) as loader:
        train = cycled_minibatches(loader, shuffle_seed=0)
        assert train.statistics().ahead_count == 0
        next(train)
        assert train.statistics().ahead_count == ahead_count
        train.close()
        assert train.statistics().ahead_count == 0


def _slowly(index: int) -> int:
    """Quick minibatches would be loaded further ahead."""
    time.sleep(0.002)
    return index


def test_each_iteration_has_statistics_of_its_own(make_loader: Variant) -> None:
    loader = make_loader(4)
    minibatches = loader.minibatches(shuffle_seed=0)
    first: Any = iter(minibatches)
    second: Any = iter(minibatches)
    next(first)
    assert second.statistics() == _NOTHING
    _close(loader)


def test_loading_in_parallel_is_summed_over_threads() -> None:
    """The time of four threads that are in the dataset at once counts four times."""
    everyone = threading.Barrier(4, timeout=60)
    inside: list[float] = []

    def load(index: int) -> int:
        everyone.wait()
        begun = time.perf_counter()
        everyone.wait()
        inside.append(time.perf_counter() - begun)
        return index

    with DataLoader(FromFunction(load, count=4), 4, num_threads=4) as loader:
        epoch: Any = iter(loader.minibatches(shuffle_seed=None))
        next(epoch)
        statistics = epoch.statistics()
    assert len(inside) == 4
    assert statistics.loading_seconds >= sum(inside)


def test_a_thread_sees_a_wait_that_goes_on() -> None:
    """Which is how a watchdog tells a loop that waits for data from one that computes."""
    asked, go_on = threading.Event(), threading.Event()

    def load(index: int) -> int:
        asked.set()
        assert go_on.wait(60)
        return index

    epoch: Any = iter(DataLoader(FromFunction(load, count=1), 1).minibatches(shuffle_seed=None))
    loop = threading.Thread(target=next, args=(epoch,))
    loop.start()
    assert asked.wait(60)
    earlier = epoch.statistics()
    while epoch.statistics().waiting_seconds < earlier.waiting_seconds + 0.01:
        assert loop.is_alive()
    assert epoch.statistics().minibatch_count == 0
    go_on.set()
    loop.join()
    assert epoch.statistics().minibatch_count == 1


def test_an_error_of_the_dataset_hands_nothing_out() -> None:
    def load(index: int) -> int:
        if index == 1:
            raise ValueError("sample 1 is broken")
        return index

    epoch: Any = iter(DataLoader(FromFunction(load, count=3), 1).minibatches(shuffle_seed=None))
    next(epoch)
    with pytest.raises(ValueError, match="sample 1 is broken"):
        next(epoch)
    assert epoch.statistics().minibatch_count == 1
    next(epoch)
    assert epoch.statistics().minibatch_count == 2


class OfOthers:
    """A loader that knows nothing of statistics."""

    minibatch_size = 2

    def minibatch_count(self) -> int:
        return 2

    def minibatches(self, shuffle_seed: int | None) -> SizedIterable[np.ndarray[Any, Any]]:
        return [np.arange(2), np.arange(2, 4)]


def test_the_endless_iteration_over_a_loader_of_others_has_them_too() -> None:
    train = cycled_minibatches(OfOthers(), shuffle_seed=0)
    state = train.get_state()
    for _ in range(3):
        next(train)
    train.set_state(state)
    next(train)
    statistics = train.statistics()
    assert statistics.minibatch_count == 4
    assert 0 < statistics.loading_seconds <= statistics.waiting_seconds
    train.close()
    assert train.statistics() == train.statistics()
