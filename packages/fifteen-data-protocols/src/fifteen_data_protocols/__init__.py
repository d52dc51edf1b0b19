"""Typing protocols of ``fifteen.data``: datasets, data loaders and what they yield."""

from fifteen_data_protocols.__about__ import __version__
from fifteen_data_protocols._data_loader import DataLoaderProtocol
from fifteen_data_protocols._datasets import BatchedMapDatasetProtocol, MapDatasetProtocol
from fifteen_data_protocols._iteration_clock import IterationClock
from fifteen_data_protocols._iteration_statistics import IterationStatistics
from fifteen_data_protocols._minibatches import MeasuredIterator, Minibatches, MinibatchIterator
from fifteen_data_protocols._sized_iterable import SizedIterable

__all__ = [
    "BatchedMapDatasetProtocol",
    "DataLoaderProtocol",
    "IterationClock",
    "IterationStatistics",
    "MapDatasetProtocol",
    "MeasuredIterator",
    "MinibatchIterator",
    "Minibatches",
    "SizedIterable",
    "__version__",
]
