"""Checked by mypy and pyright, never run: what matches the protocols and what does not.

A line that must be an error carries `type: ignore`: both checkers report one that is not needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_type

import numpy as np
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
from numpy.typing import NDArray

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Sample = dict[str, NDArray[np.float32]]


def sample_of(dataset: MapDatasetProtocol[T]) -> T:
    return dataset[0]


def samples_of(dataset: BatchedMapDatasetProtocol[T]) -> Sequence[T]:
    return dataset.__getitems__([0, 1])


def minibatch_of(loader: DataLoaderProtocol[T]) -> T:
    return next(iter(loader.minibatches(shuffle_seed=None)))


# Datasets.


class Plain:
    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True)
class Frozen:
    images: NDArray[np.float32]

    def __getitem__(self, index: int, /) -> Sample:
        return {"image": self.images[index]}

    def __len__(self) -> int:
        return len(self.images)


class Inheriting(MapDatasetProtocol[Sample]):
    def __getitem__(self, index: int, /) -> Sample:
        raise NotImplementedError

    def __len__(self) -> int:
        return 0


class TorchDataset(Generic[T_co]):
    """The signatures of `torch.utils.data.Dataset`, which defines no length."""

    def __getitem__(self, index: int) -> T_co:
        raise NotImplementedError


class TorchMapDataset(TorchDataset[Sample]):
    def __len__(self) -> int:
        return 0


class Batched(Plain):
    def __getitems__(self, indices: list[int]) -> list[Sample]:
        return [self[index] for index in indices]


def datasets(frozen: Frozen, array: NDArray[np.float32], torch: TorchDataset[Sample]) -> None:
    assert_type(sample_of(Plain()), Sample)
    assert_type(sample_of(frozen), Sample)
    assert_type(sample_of(Inheriting()), Sample)
    assert_type(sample_of(TorchMapDataset()), Sample)
    assert_type(sample_of(Batched()), Sample)
    assert_type(samples_of(Batched()), Sequence[Sample])
    assert_type(sample_of([1, 2]), int)
    assert_type(sample_of(range(3)), int)
    assert_type(sample_of("text"), str)
    assert_type(sample_of(array), Any)
    # Whatever the keys are, an integer one is asked for.
    assert_type(sample_of({0: "zero"}), str)

    sample_of(torch)  # type: ignore[arg-type]
    sample_of({"image": 0})  # type: ignore[dict-item]
    sample_of(iter([1, 2]))  # type: ignore[arg-type]
    sample_of({1, 2})  # type: ignore[arg-type]
    samples_of(Plain())  # type: ignore[arg-type]


def samples_are_covariant(dataset: MapDatasetProtocol[bool]) -> MapDatasetProtocol[int]:
    return dataset


def samples_are_not_contravariant(dataset: MapDatasetProtocol[int]) -> MapDatasetProtocol[bool]:
    return dataset  # type: ignore[return-value]


# Loaders.


class PlainLoader:
    minibatch_size: int = 1

    def minibatch_count(self) -> int:
        return 0

    def minibatches(self, shuffle_seed: int | None) -> list[Sample]:
        return []


@dataclass(frozen=True)
class FrozenLoader:
    minibatch_size: int

    def minibatch_count(self) -> int:
        return 0

    def minibatches(self, shuffle_seed: int | None) -> SizedIterable[Sample]:
        return []


@dataclass(frozen=True)
class InheritingLoader(DataLoaderProtocol[Sample]):
    """Allowed, though a loader need not inherit; pyright would rather see a property here."""

    minibatch_size: int  # pyright: ignore[reportIncompatibleMethodOverride]

    def minibatch_count(self) -> int:
        return 0

    def minibatches(self, shuffle_seed: int | None) -> SizedIterable[Sample]:
        return []


class PropertyLoader:
    @property
    def minibatch_size(self) -> int:
        return 1

    def minibatch_count(self) -> int:
        return 0

    def minibatches(self, shuffle_seed: int | None) -> tuple[Sample, ...]:
        return ()


class SizelessLoader:
    def minibatch_count(self) -> int:
        return 0

    def minibatches(self, shuffle_seed: int | None) -> list[Sample]:
        return []


class UnsizedLoader:
    minibatch_size: int = 1

    def minibatch_count(self) -> int:
        return 0

    def minibatches(self, shuffle_seed: int | None) -> Iterator[Sample]:
        return iter([])


class SeedlessLoader:
    minibatch_size: int = 1

    def minibatch_count(self) -> int:
        return 0

    def minibatches(self, shuffle_seed: int) -> list[Sample]:
        return []


def loaders(frozen: FrozenLoader) -> None:
    assert_type(minibatch_of(PlainLoader()), Sample)
    assert_type(minibatch_of(frozen), Sample)
    assert_type(minibatch_of(InheritingLoader(minibatch_size=1)), Sample)
    assert_type(minibatch_of(PropertyLoader()), Sample)

    minibatch_of(SizelessLoader())  # type: ignore[arg-type]
    minibatch_of(UnsizedLoader())  # type: ignore[arg-type]
    minibatch_of(SeedlessLoader())  # type: ignore[arg-type]
    minibatch_of(Plain())  # type: ignore[arg-type]


def minibatch_size_is_read_only(loader: DataLoaderProtocol[Sample]) -> None:
    assert_type(loader.minibatch_size, int)
    loader.minibatch_size = 2  # type: ignore[misc]


# Minibatches.


def minibatches(epoch: Minibatches[Sample]) -> None:
    assert_type(epoch[0], Sample)
    assert_type(epoch[1:], Minibatches[Sample])
    assert_type(epoch[1:][0], Sample)
    assert_type(len(epoch), int)
    assert_type(list(epoch), list[Sample])
    assert_type(next(iter(epoch)), Sample)
    assert_type(iter(epoch), MeasuredIterator[Sample])

    epoch["image"]  # type: ignore[call-overload]
    next(epoch)  # type: ignore[call-overload]


def an_iteration_over_a_sequence_has_no_statistics(epoch: Sequence[Sample]) -> Minibatches[Sample]:
    return epoch  # type: ignore[return-value]


def minibatches_are_a_sized_iterable(epoch: Minibatches[Sample]) -> SizedIterable[Sample]:
    return epoch


def an_iterator_is_not_sized(iterator: Iterator[Sample]) -> SizedIterable[Sample]:
    return iterator  # type: ignore[return-value]


def statistics(iteration: MeasuredIterator[Sample], train: MinibatchIterator[Sample]) -> None:
    assert_type(iteration.statistics().minibatch_count, int)
    assert_type(iteration.statistics().waiting_fraction, float)
    assert_type(iteration.statistics() - iteration.statistics(), IterationStatistics)
    measured: MeasuredIterator[Sample] = train
    iterator: Iterator[Sample] = measured
    next(iterator)

    iteration.statistics().minibatch_count = 0  # type: ignore[misc]
    iteration.statistics() - 1  # type: ignore[operator]


def minibatch_iterator(train: MinibatchIterator[Sample]) -> Iterator[Sample]:
    assert_type(next(train), Sample)
    assert_type(iter(train), MinibatchIterator[Sample])
    assert_type(train.statistics(), IterationStatistics)
    train.set_state(train.get_state())
    train.close()

    len(train)  # type: ignore[arg-type]
    return train
