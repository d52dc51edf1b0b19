"""The same minibatches in this process, in its threads and in worker processes."""

from typing import Any

import cloudpickle
from fifteen_data_loaders import DataLoader

from tests.loaders.datasets import assert_same


def check(loader: DataLoader[Any]) -> None:
    """Compare minibatches of a loader with workers, in shuffled order, with those without.

    The dataset must be fit to be sent afterwards too, when its handles are open in this process.
    """
    dataset, minibatch_size = loader.dataset, loader.minibatch_size
    assert loader.num_workers == 2
    expected = list(DataLoader(dataset, minibatch_size).minibatches(1)[:10])
    with loader, DataLoader(dataset, minibatch_size, num_threads=2) as threads:
        for other in (loader, threads):
            for actual, wanted in zip(other.minibatches(1)[:10], expected, strict=True):
                assert_same(actual, wanted)
    cloudpickle.dumps(dataset)
