"""The stream of minibatches is a pure function of dataset, seed, minibatch size and step.

``FIFTEEN_EXAMPLES`` sets how many streams are drawn; see ``hatch run long:same-data``.
"""

import os
from typing import Any

import hypothesis
import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, InMemoryDataLoader, cycled_minibatches, sample_rng
from fifteen_data_loaders._order import sample_order
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("no_leftovers")


class Augmented:
    """Samples with a random part."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, sample_rng().random()

    def __len__(self) -> int:
        return self.count


def _reference(
    count: int, size: int, seed: int | None, drop_last: bool, start: int, steps: int
) -> list[list[int]]:
    minibatches: list[list[int]] = []
    epoch = 0
    while len(minibatches) < start + steps:
        order = sample_order(count, None if seed is None else seed + epoch).indices(0, count)
        stop = count - count % size if drop_last else count
        minibatches += [order[i : i + size].tolist() for i in range(0, stop, size)]
        epoch += 1
    return minibatches[start : start + steps]


@hypothesis.settings(max_examples=int(os.environ.get("FIFTEEN_EXAMPLES", "15")))
@hypothesis.given(data=st.data())
def test_minibatches_depend_on_nothing_else(data: st.DataObject) -> None:
    """Not on workers, threads, prefetching, shards, and the points of stopping and resuming."""
    count = data.draw(st.integers(1, 40), "count")
    shard_count = data.draw(st.sampled_from([1, 2, 3]), "shard_count")
    size = shard_count * data.draw(st.integers(1, 5), "size // shard_count")
    drop_last = data.draw(st.booleans(), "drop_last") and count >= size
    seed = data.draw(st.none() | st.integers(0, 2**63 - 1), "seed")
    start = data.draw(st.integers(0, 60), "start")
    stop = start + data.draw(st.integers(1, 12), "steps")
    expected = _reference(count, size, seed, drop_last, start, stop - start)
    received: list[list[int]] = [[] for _ in expected]
    for shard in range(shard_count):
        step = start
        state: dict[str, Any] | None = None
        while step < stop:
            pause = data.draw(st.integers(step + 1, stop), "pause")
            with DataLoader(
                Augmented(count),
                size,
                data.draw(st.sampled_from([0, 0, 1, 2]), "num_workers"),
                drop_last,
                num_threads=data.draw(st.sampled_from([1, 2]), "num_threads"),
                prefetch=data.draw(st.integers(1, 3), "prefetch"),
                shard_index=shard,
                shard_count=shard_count,
            ) as loader:
                train = cycled_minibatches(loader, seed, start_step=0 if state else start)
                if state:
                    train.set_state(state)
                for row in range(step, pause):
                    indices, numbers = next(train)
                    received[row - start] += indices.tolist()
                    epoch = row // loader.minibatch_count()
                    _check_numbers(indices, numbers, None if seed is None else seed + epoch)
                state = train.get_state()
                train.close()
            step = pause
    assert received == expected


def _check_numbers(indices: Any, numbers: Any, seed: int | None) -> None:
    from fifteen_data_loaders._sample_rng import SampleScope

    for index, number in zip(indices.tolist(), numbers.tolist(), strict=True):
        with SampleScope(seed) as scope:
            scope.index = index
            assert sample_rng().random() == number


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
