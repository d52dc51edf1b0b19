"""Any indexable dataset in, minibatches on the right devices out.

Every name is the very object of the distribution that holds it. Importing this module does not
import jax.
"""

from fifteen_data_devices import padding_map, prefetching_map, process_shard, sharding_map
from fifteen_data_loaders import (
    DataLoader,
    InMemoryDataLoader,
    WorkerDiedError,
    WorkerError,
    cycled_minibatches,
    sample_rng,
)
from fifteen_data_protocols import (
    BatchedMapDatasetProtocol,
    DataLoaderProtocol,
    MapDatasetProtocol,
    Minibatches,
    MinibatchIterator,
    SizedIterable,
)

__all__ = [
    "BatchedMapDatasetProtocol",
    "DataLoader",
    "DataLoaderProtocol",
    "InMemoryDataLoader",
    "MapDatasetProtocol",
    "MinibatchIterator",
    "Minibatches",
    "SizedIterable",
    "WorkerDiedError",
    "WorkerError",
    "cycled_minibatches",
    "padding_map",
    "prefetching_map",
    "process_shard",
    "sample_rng",
    "sharding_map",
]
