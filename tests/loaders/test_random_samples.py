"""`sample_rng()` in datasets and in `collate_fn`s, wherever loaders call them."""

from typing import Any

import pytest
from fifteen_data_loaders import DataLoader, sample_rng
from fifteen_data_loaders._sample_rng import MinibatchScope, SampleScope

from tests.loaders.datasets import BatchedDrawing, Drawing, collate_drawing

pytestmark = pytest.mark.usefixtures("no_leftovers")

PLACES = pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="inline"),
        pytest.param({"num_threads": 3}, id="threads"),
        pytest.param({"num_workers": 2}, id="workers"),
        pytest.param({"num_workers": 1, "num_threads": 3}, id="threads in workers"),
    ],
)


def draws(shuffle_seed: int | None, index: int) -> list[float]:
    """The first numbers of a sample that is loaded alone."""
    with SampleScope(shuffle_seed):
        return [sample_rng(index).random() for _ in range(2)]


def collated(shuffle_seed: int | None, minibatch: int, shard: int) -> list[float]:
    """The first numbers of a minibatch that is collated alone."""
    with MinibatchScope(shuffle_seed, minibatch, shard):
        return [sample_rng().random() for _ in range(2)]


@PLACES
def test_samples_draw_the_same_numbers_anywhere(options: dict[str, Any]) -> None:
    """A second call goes on; another sample's numbers are those that it has itself."""
    with DataLoader(Drawing(), 4, **options) as loader:
        for seed in (None, 0, 0, 1):
            for minibatch in loader.minibatches(seed):
                for index, first, second, other in zip(*minibatch, strict=True):
                    assert [first, second] == draws(seed, int(index))
                    assert other == draws(seed, int(index) + 1)[0]


@PLACES
def test_samples_that_come_together_draw_the_same_numbers(options: dict[str, Any]) -> None:
    with DataLoader(BatchedDrawing(), 4, **options) as loader:
        for minibatch in loader.minibatches(5):
            for index, first, second, _ in zip(*minibatch, strict=True):
                assert [first, second] == draws(5, int(index))


@PLACES
@pytest.mark.parametrize("shard_count", [1, 2])
def test_a_collate_fn_draws_by_minibatch_and_shard(
    options: dict[str, Any], shard_count: int
) -> None:
    shard = shard_count - 1
    with DataLoader(
        Drawing(),
        4,
        collate_fn=collate_drawing,
        shard_index=shard,
        shard_count=shard_count,
        **options,
    ) as loader:
        for seed in (None, 7):
            for number, (_, *drawn) in enumerate(loader.minibatches(seed)):
                assert drawn == collated(seed, number, shard)


def test_numbers_of_different_samples_seeds_and_minibatches_differ() -> None:
    """So that the tests above compare something."""
    samples = [tuple(draws(seed, index)) for seed in (None, 0, 1) for index in range(24)]
    minibatches = [
        tuple(collated(seed, n, k)) for seed in (None, 7) for n in (0, 1) for k in (0, 1)
    ]
    assert len({number for pair in samples + minibatches for number in pair}) == 2 * (72 + 8)
