"""The five faults of the first `fifteen.data`, whose API this is."""

from typing import Any

import jax
import numpy as np
import pytest
from fifteen.data import (
    DataLoader,
    InMemoryDataLoader,
    cycled_minibatches,
    prefetching_map,
    sharding_map,
)

pytestmark = pytest.mark.usefixtures("no_leftovers")


class _Fails:
    """Fails at sample 5."""

    def __getitem__(self, index: int) -> int:
        if index == 5:
            raise ValueError("bad sample")
        return index

    def __len__(self) -> int:
        return 12


def test_prefetching_keeps_the_order() -> None:
    """It yielded 1..7, 0."""
    assert list(prefetching_map(range(8))) == list(range(8))


def test_sharding_works_on_todays_jax() -> None:
    """It called a function that jax has removed."""
    devices = jax.devices()
    minibatch: Any
    (minibatch,) = sharding_map([np.arange(8)], devices)
    assert minibatch.shape == (4, 2)
    for index, device in enumerate(devices):
        (shard,) = [s for s in minibatch.addressable_shards if s.device == device]
        np.testing.assert_array_equal(shard.data, [[2 * index, 2 * index + 1]])


def test_an_exception_in_a_worker_is_raised() -> None:
    """It hung the loop for ever."""
    with DataLoader(_Fails(), 4, num_workers=2) as loader:
        iteration: Any = iter(loader.minibatches(None))
        assert next(iteration).tolist() == [0, 1, 2, 3]
        with pytest.raises(ValueError, match="bad sample"):
            next(iteration)


def test_an_epoch_after_a_break_begins_with_its_own_minibatches() -> None:
    """Stale ones of the epoch before arrived."""
    with DataLoader(np.arange(64), 4, num_workers=2) as loader:
        for seed in range(5):
            expected = DataLoader(np.arange(64), 4).minibatches(seed)
            for minibatch, wanted in zip(loader.minibatches(seed), expected, strict=True):
                np.testing.assert_array_equal(minibatch, wanted)
            next(iter(loader.minibatches(99)))


def test_cycling_over_no_minibatches_is_refused() -> None:
    """It spun for ever."""
    with pytest.warns(UserWarning, match="there are no minibatches"):
        loader = InMemoryDataLoader(np.arange(3), 4)
    with pytest.raises(ValueError, match="`dataloader` must have at least one minibatch"):
        cycled_minibatches(loader, 0)
