"""Data loaders for JAX training loops: in worker processes, in threads and in memory."""

from fifteen_data_loaders.__about__ import __version__
from fifteen_data_loaders._collate import CollateFunction, stack_samples
from fifteen_data_loaders._cycled import cycled_minibatches
from fifteen_data_loaders._data_loader import DataLoader
from fifteen_data_loaders._errors import WorkerDiedError, WorkerError
from fifteen_data_loaders._in_memory import InMemoryDataLoader
from fifteen_data_loaders._sample_rng import sample_rng

__all__ = [
    "CollateFunction",
    "DataLoader",
    "InMemoryDataLoader",
    "WorkerDiedError",
    "WorkerError",
    "__version__",
    "cycled_minibatches",
    "sample_rng",
    "stack_samples",
]
