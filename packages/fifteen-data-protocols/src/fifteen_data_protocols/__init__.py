"""Typing protocols of ``fifteen.data``: datasets, data loaders and what they yield."""

from fifteen_data_protocols.__about__ import __version__
from fifteen_data_protocols._checked_int import checked_int
from fifteen_data_protocols._data_loader import DataLoaderProtocol
from fifteen_data_protocols._datasets import BatchedMapDatasetProtocol, MapDatasetProtocol
from fifteen_data_protocols._interrupts import interrupt_later
from fifteen_data_protocols._iteration_clock import IterationClock
from fifteen_data_protocols._iteration_statistics import IterationStatistics
from fifteen_data_protocols._minibatches import MeasuredIterator, Minibatches, MinibatchIterator
from fifteen_data_protocols._sharded import Sharded
from fifteen_data_protocols._sized_iterable import SizedIterable
from fifteen_data_protocols._threads_at_exit import thread_until_exit

__all__ = [
    "BatchedMapDatasetProtocol",
    "DataLoaderProtocol",
    "IterationClock",
    "IterationStatistics",
    "MapDatasetProtocol",
    "MeasuredIterator",
    "MinibatchIterator",
    "Minibatches",
    "Sharded",
    "SizedIterable",
    "__version__",
    "checked_int",
    "interrupt_later",
    "thread_until_exit",
]
