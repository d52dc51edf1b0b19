"""What maps say of their iterations: their own work, and that of what lies below."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import pytest
from fifteen_data_devices import padding_map, prefetching_map, sharding_map
from fifteen_data_loaders import DataLoader, cycled_minibatches
from fifteen_data_protocols import IterationStatistics, MeasuredIterator

pytestmark = pytest.mark.usefixtures("no_leftovers")

_MAPS: dict[str, Callable[[Any], Any]] = {
    "prefetching": lambda inputs: prefetching_map(inputs, jax.devices()[0]),
    "prefetching nothing": lambda inputs: prefetching_map(inputs, jax.devices()[0], buffer_size=1),
    "sharding": lambda inputs: sharding_map(inputs, jax.devices()),
    "padding": padding_map,
    "composed": lambda inputs: prefetching_map(sharding_map(inputs, jax.devices()), buffer_size=3),
}


@pytest.fixture(params=_MAPS)
def mapped(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return _MAPS[request.param]


def _loader() -> DataLoader[Any]:
    return DataLoader(np.arange(24, dtype=np.float32), minibatch_size=4)


def test_a_map_tells_of_loading_and_of_its_own_work(mapped: Callable[[Any], Any]) -> None:
    epoch = iter(mapped(_loader().minibatches(shuffle_seed=0)))
    assert isinstance(epoch, MeasuredIterator)
    assert epoch.statistics() == IterationStatistics(0, 0.0, 0.0, 0.0, 0.0)
    for count, _ in enumerate(epoch, start=1):
        statistics = epoch.statistics()
        assert statistics.minibatch_count == count
        assert 0 < statistics.waiting_seconds < statistics.elapsed_seconds
        assert statistics.loading_seconds > 0
        assert statistics.transfer_seconds > 0
    assert epoch.statistics().minibatch_count == 6
    assert epoch.statistics() == epoch.statistics()


def test_a_map_on_an_iterator_has_the_loading_time_of_that(mapped: Callable[[Any], Any]) -> None:
    train = cycled_minibatches(_loader(), shuffle_seed=0)
    mapped_train = mapped(train)
    next(mapped_train)
    mapped_train.close()
    assert mapped_train.statistics() == mapped_train.statistics()
    assert mapped_train.statistics().loading_seconds == train.statistics().loading_seconds
    assert mapped_train.statistics().minibatch_count == 1


def test_setting_the_state_adds_to_the_statistics(mapped: Callable[[Any], Any]) -> None:
    train = mapped(cycled_minibatches(_loader(), shuffle_seed=0))
    state = train.get_state()
    for _ in range(2):
        next(train)
    before = train.statistics()
    train.set_state(state)
    next(train)
    added = train.statistics() - before
    assert train.statistics().minibatch_count == 3
    assert added.minibatch_count == 1
    assert added.transfer_seconds > 0
    train.close()


def test_an_iterable_of_others_is_measured_from_outside(mapped: Callable[[Any], Any]) -> None:
    inputs: Iterable[Any] = [np.ones((4, 2), np.float32)] * 3
    epoch = iter(mapped(inputs))
    for _ in epoch:
        pass
    assert epoch.statistics().minibatch_count == 3
    assert epoch.statistics().loading_seconds > 0


def test_what_is_read_ahead_is_counted() -> None:
    with DataLoader(np.arange(24.0), minibatch_size=4, num_threads=2, prefetch=2) as loader:
        train = prefetching_map(cycled_minibatches(loader, shuffle_seed=0), buffer_size=4)
        next(train)
        # The thread reads on by itself.
        while train.statistics().ahead_count != 2 + 3:
            pass
        train.close()
        assert train.statistics().ahead_count == 0


def test_maps_on_maps_add_up_their_work() -> None:
    sharded: Any = sharding_map(cycled_minibatches(_loader(), shuffle_seed=0), jax.devices())
    unchanged = prefetching_map(sharded, buffer_size=1)
    next(unchanged)
    assert unchanged.statistics().transfer_seconds > sharded.statistics().transfer_seconds > 0
