"""The stream of minibatches is a pure function of dataset, seed, minibatch size and step.

``FIFTEEN_EXAMPLES`` sets how many streams are drawn; see ``hatch run long:same-data``.
"""

import json
import os
import struct
from collections.abc import Iterator
from hashlib import shake_128
from typing import Any

import hypothesis
import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, InMemoryDataLoader, cycled_minibatches
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.loaders.datasets import Augmented

pytestmark = pytest.mark.usefixtures("no_leftovers")


def reference_order(count: int, seed: int | None) -> NDArray[np.int64]:
    """Samples sorted by a random number each, equal ones by their index."""
    if seed is None:
        return np.arange(count)
    arguments = struct.pack("<QQ", count, seed % 2**64)
    numbers = shake_128(b"fifteen sample order" + arguments).digest(8 * count)
    return np.argsort(np.frombuffer(numbers, "<u8") >> count.bit_length(), kind="stable")


def reference_minibatches(
    count: int, size: int, seed: int | None, drop_last: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Minibatches of indices and random numbers, epoch after epoch."""
    stop = count - count % size if drop_last else count
    while True:
        order = reference_order(count, seed)
        for indices in np.split(order[:stop], range(size, stop, size)):
            yield indices, np.array([reference_number(seed, int(index)) for index in indices])
        seed = None if seed is None else seed + 1


def reference_number(seed: int | None, index: int) -> float:
    """The first random number of a sample."""
    arguments = struct.pack("<IIQQQ", 0, seed is not None, (seed or 0) % 2**64, index, 0)
    return np.random.Generator(np.random.PCG64(np.frombuffer(arguments, "<u4"))).random()


@hypothesis.given(count=st.integers(0, 300), seed=st.none() | st.integers(0, 2**64 - 1))
def test_the_reference_has_each_sample_once_per_epoch(count: int, seed: int | None) -> None:
    np.testing.assert_array_equal(np.sort(reference_order(count, seed)), np.arange(count))


@hypothesis.settings(max_examples=int(os.environ.get("FIFTEEN_EXAMPLES", "15")))
@hypothesis.given(data=st.data())
def test_minibatches_depend_on_nothing_else(data: st.DataObject) -> None:
    """Not on workers, threads, prefetching, hosts, and the points of stopping and resuming."""
    draw = data.draw
    count = draw(st.integers(1, 40), "count")
    size = draw(st.integers(1, 12), "size")
    drop_last = draw(st.booleans(), "drop_last") and count >= size
    seed = draw(st.none() | st.integers(0, 2**63 - 1), "seed")
    step = draw(st.integers(0, 60), "start")
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=3), "steps between resumptions")

    reference = reference_minibatches(count, size, seed, drop_last)
    _take(reference, step)
    saved = None
    for length in lengths:
        shard_count = draw(st.sampled_from([k for k in (1, 2, 3) if size % k == 0]), "hosts")
        shards = []
        states = []
        for shard_index in range(shard_count):
            with DataLoader(
                Augmented(count),
                size,
                draw(st.sampled_from([0, 0, 1, 2]), "num_workers"),
                drop_last,
                num_threads=draw(st.sampled_from([1, 2]), "num_threads"),
                prefetch=draw(st.integers(1, 3), "prefetch"),
                shard_index=shard_index,
                shard_count=shard_count,
            ) as loader:
                train = cycled_minibatches(loader, seed, start_step=0 if saved else step)
                if saved:
                    _take(train, draw(st.integers(0, 2), "steps before set_state"))
                    train.set_state(json.loads(saved))
                shards.append(_take(train, length))
                states.append(json.dumps(train.get_state()))
                train.close()
        for parts in zip(*shards, strict=True):
            for received, expected in zip(zip(*parts, strict=True), next(reference), strict=True):
                np.testing.assert_array_equal(np.concatenate(received), expected)
        (saved,) = set(states)


def _take(iterator: Iterator[Any], count: int) -> list[Any]:
    return [next(iterator) for _ in range(count)]


@hypothesis.given(
    count=st.integers(1, 300),
    size=st.integers(1, 50),
    seed=st.none() | st.integers(0, 2**63 - 1),
    drop_last=st.booleans(),
)
def test_both_loaders_have_one_order(
    count: int, size: int, seed: int | None, drop_last: bool
) -> None:
    drop_last = drop_last and count >= size
    rows = np.arange(count)
    for one, other in zip(
        DataLoader(rows, size, drop_last=drop_last).minibatches(seed),
        InMemoryDataLoader(rows, size, drop_last=drop_last).minibatches(seed),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
