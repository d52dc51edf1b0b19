"""Loaders with a bottleneck so gross that no load on the machine can hide it."""

import time
from typing import Any

import jax
import numpy as np
from fifteen.data import DataLoader, InMemoryDataLoader


class Samples:
    """Small arrays, at no cost but what is asked for."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __getitem__(self, index: int, /) -> Any:
        time.sleep(self.seconds)
        return np.full(8, index, np.float32)

    def __len__(self) -> int:
        return 1000


def slow_samples() -> DataLoader[Any]:
    return DataLoader(Samples(0.02), minibatch_size=4)


def slow_batches() -> DataLoader[Any]:
    class Batched(Samples):
        def __getitems__(self, indices: list[int], /) -> list[Any]:
            time.sleep(0.1)
            return [np.zeros(8, np.float32)] * len(indices)

    return DataLoader(Batched(), minibatch_size=4)


def slow_collate() -> DataLoader[Any]:
    def collate(samples: list[Any]) -> Any:
        time.sleep(0.1)
        return np.stack(samples)

    return DataLoader(Samples(), minibatch_size=4, collate_fn=collate)


def tiny_minibatches() -> DataLoader[Any]:
    return DataLoader(np.arange(1000, dtype=np.float32), minibatch_size=1)


def tiny_minibatches_in_memory() -> InMemoryDataLoader[Any]:
    return InMemoryDataLoader(np.arange(1000, dtype=np.float32), minibatch_size=1)


def quick() -> DataLoader[Any]:
    return DataLoader(Samples(), minibatch_size=64)


def slow_step(minibatch: jax.Array) -> jax.Array:
    assert isinstance(minibatch, jax.Array)
    time.sleep(0.1)
    return minibatch + 1
