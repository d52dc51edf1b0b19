"""The same minibatches for a dataset in this process, in its threads and in worker processes."""

from typing import Any

from fifteen_data_loaders import DataLoader

from tests.loaders.datasets import assert_same

_MINIBATCH_SIZE = 4


def check(dataset: Any) -> None:
    """Compare an epoch in shuffled order; handles are open here before the workers get theirs."""
    expected = list(DataLoader(dataset, _MINIBATCH_SIZE).minibatches(1)[:10])
    for options in ({"num_threads": 2}, {"num_workers": 2}):
        with DataLoader(dataset, _MINIBATCH_SIZE, **options) as loader:
            for actual, wanted in zip(loader.minibatches(1)[:10], expected, strict=True):
                assert_same(actual, wanted)
