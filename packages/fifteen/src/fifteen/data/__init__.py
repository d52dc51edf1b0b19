"""Any indexable dataset in, minibatches on the right devices out.

Every name but those of `diagnose` is the very object of the distribution that holds it. Importing
this module does not import jax. ``python -m fifteen.data diagnose`` finds bottlenecks.
"""

from fifteen_data_devices import padding_map, prefetching_map, process_shard, sharding_map
from fifteen_data_loaders import (
    DataLoader,
    InMemoryDataLoader,
    WorkerDiedError,
    WorkerError,
    check_resume,
    cycled_minibatches,
    sample_rng,
)
from fifteen_data_protocols import (
    BatchedMapDatasetProtocol,
    DataLoaderProtocol,
    IterationStatistics,
    MapDatasetProtocol,
    MeasuredIterator,
    Minibatches,
    MinibatchIterator,
    SizedIterable,
)

from fifteen._diagnose import Diagnosis, MeasuredSetting, diagnose

__all__ = [
    "BatchedMapDatasetProtocol",
    "DataLoader",
    "DataLoaderProtocol",
    "Diagnosis",
    "InMemoryDataLoader",
    "IterationStatistics",
    "MapDatasetProtocol",
    "MeasuredIterator",
    "MeasuredSetting",
    "MinibatchIterator",
    "Minibatches",
    "SizedIterable",
    "WorkerDiedError",
    "WorkerError",
    "check_resume",
    "cycled_minibatches",
    "diagnose",
    "padding_map",
    "prefetching_map",
    "process_shard",
    "sample_rng",
    "sharding_map",
]
