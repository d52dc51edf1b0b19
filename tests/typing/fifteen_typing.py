"""Checked by mypy and pyright, never run: types survive the whole way through `fifteen.data`."""

from typing import assert_type

import fifteen
import jax
import numpy as np
from fifteen.data import (
    DataLoader,
    MinibatchIterator,
    SizedIterable,
    cycled_minibatches,
    prefetching_map,
    sharding_map,
)
from numpy.typing import NDArray

Sample = dict[str, NDArray[np.float32]]


def an_endless_training_loop(loader: DataLoader[Sample]) -> None:
    train = prefetching_map(sharding_map(cycled_minibatches(loader, 0), jax.devices()))
    assert_type(train, MinibatchIterator[Sample])
    assert_type(next(train), Sample)


def an_epoch(loader: DataLoader[Sample]) -> None:
    epoch = prefetching_map(sharding_map(loader.minibatches(0), jax.devices()))
    as_sized: SizedIterable[Sample] = epoch
    assert_type(len(as_sized), int)
    for minibatch in epoch:
        assert_type(minibatch, Sample)


def by_way_of_the_package(dataset: list[int]) -> None:
    assert_type(fifteen.data.DataLoader(dataset, 2), DataLoader[int])
