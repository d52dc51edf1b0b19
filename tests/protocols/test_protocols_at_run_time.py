"""What ``isinstance()`` says, and that the protocols cost nothing to import."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from fifteen_data_protocols import (
    BatchedMapDatasetProtocol,
    DataLoaderProtocol,
    IterationClock,
    IterationStatistics,
    MapDatasetProtocol,
    MeasuredIterator,
    Minibatches,
    MinibatchIterator,
    SizedIterable,
)


class Plain:
    def __getitem__(self, index: int, /) -> int:
        return index

    def __len__(self) -> int:
        return 3


@dataclass(frozen=True)
class Frozen:
    count: int = 3

    def __getitem__(self, index: int, /) -> int:
        return index

    def __len__(self) -> int:
        return self.count


class Batched(Plain):
    def __getitems__(self, indices: list[int], /) -> list[int]:
        return indices


class Inheriting(MapDatasetProtocol[int]):
    def __getitem__(self, index: int, /) -> int:
        return index

    def __len__(self) -> int:
        return 3


class TorchLike:
    """`torch.utils.data.Dataset` has no `__len__`; datasets that can be indexed add one."""

    def __getitem__(self, index: int) -> int:
        raise NotImplementedError


class TorchLikeSized(TorchLike):
    def __len__(self) -> int:
        return 3


@dataclass(frozen=True)
class FrozenLoader:
    minibatch_size: int = 2

    def minibatch_count(self) -> int:
        return 1

    def minibatches(self, shuffle_seed: int | None) -> Sequence[int]:
        return [0]


@dataclass(frozen=True)
class InheritingLoader(DataLoaderProtocol[int]):
    minibatch_size: int = 2

    def minibatch_count(self) -> int:
        return 1

    def minibatches(self, shuffle_seed: int | None) -> Sequence[int]:
        return [0]


class Endless:
    def __iter__(self) -> Iterator[int]:
        return iter([])


class Measured:
    def __iter__(self) -> "Measured":
        return self

    def __next__(self) -> int:
        return 0

    def statistics(self) -> IterationStatistics:
        return IterationClock().statistics()


class Resumable(Measured):
    def get_state(self) -> dict[str, int]:
        return {}

    def set_state(self, state: dict[str, int], /) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "dataset",
    [Plain(), Frozen(), Batched(), Inheriting(), TorchLikeSized(), [1, 2], (1, 2), np.arange(3)],
    ids=lambda dataset: type(dataset).__name__,
)
def test_anything_with_items_and_a_length_is_a_map_dataset(dataset: object) -> None:
    assert isinstance(dataset, MapDatasetProtocol)


def test_a_dict_passes_as_a_map_dataset() -> None:
    """``isinstance()`` sees the methods; that the keys must be integers is for type checkers."""
    assert isinstance({"image": 0}, MapDatasetProtocol)


@pytest.mark.parametrize("value", [TorchLike(), {1, 2}, iter([1]), 3, None])
def test_what_lacks_items_or_a_length_is_no_map_dataset(value: object) -> None:
    assert not isinstance(value, MapDatasetProtocol)


def test_only_a_dataset_with_getitems_is_batched() -> None:
    assert isinstance(Batched(), BatchedMapDatasetProtocol)
    assert not isinstance(Plain(), BatchedMapDatasetProtocol)
    assert not isinstance([1, 2], BatchedMapDatasetProtocol)


@pytest.mark.parametrize("loader", [FrozenLoader(), InheritingLoader()])
def test_a_loader_of_ones_own_is_a_data_loader(loader: object) -> None:
    assert isinstance(loader, DataLoaderProtocol)


def test_a_frozen_loader_may_inherit_from_the_protocol() -> None:
    """A property in the protocol would leave the dataclass without a way to set its field."""
    assert InheritingLoader(minibatch_size=5).minibatch_size == 5
    assert DataLoaderProtocol in InheritingLoader.__mro__


def test_a_dataset_is_no_data_loader() -> None:
    assert not isinstance(Plain(), DataLoaderProtocol)


@pytest.mark.parametrize("value", [[1], (1,), {1}, {"a": 1}, "text", range(3), np.arange(3)])
def test_what_has_a_length_and_an_iterator_is_a_sized_iterable(value: object) -> None:
    assert isinstance(value, SizedIterable)


@pytest.mark.parametrize("value", [Endless(), iter([1]), 3])
def test_what_has_no_length_is_no_sized_iterable(value: object) -> None:
    assert not isinstance(value, SizedIterable)


def test_minibatches_can_also_be_indexed() -> None:
    assert isinstance([1, 2], Minibatches)
    assert not isinstance({1, 2}, Minibatches)


def test_a_minibatch_iterator_can_be_saved_and_closed() -> None:
    assert isinstance(Resumable(), MinibatchIterator)
    assert not isinstance(Measured(), MinibatchIterator)


def test_an_iterator_with_statistics_is_measured() -> None:
    assert isinstance(Measured(), MeasuredIterator)
    assert isinstance(Resumable(), MeasuredIterator)
    assert not isinstance(iter([1]), MeasuredIterator)


def test_importing_the_protocols_imports_nothing_of_others() -> None:
    """Worker processes import them with every dataset module that names one."""
    code = """
import sys
before = set(sys.modules)
import fifteen_data_protocols
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - sys.stdlib_module_names))
"""
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output == "['fifteen_data_protocols']\n"
