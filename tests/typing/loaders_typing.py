"""Checked by mypy and pyright, never run: minibatches have the type of the samples they stack.

A line that must be an error carries `type: ignore`: both checkers report one that is not needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_type

import numpy as np
from fifteen_data_loaders import (
    DataLoader,
    InMemoryDataLoader,
    check_resume,
    cycled_minibatches,
    sample_rng,
)
from fifteen_data_protocols import (
    DataLoaderProtocol,
    IterationStatistics,
    MapDatasetProtocol,
    Minibatches,
    MinibatchIterator,
    SizedIterable,
)
from numpy.typing import NDArray


@dataclass(frozen=True)
class Digit:
    image: NDArray[np.float32]
    label: NDArray[np.int64]


class Digits:
    def __getitem__(self, index: int, /) -> Digit:
        raise NotImplementedError

    def __len__(self) -> int:
        return 0


def to_pair(samples: list[Digit]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return np.stack([sample.image for sample in samples]), np.stack([s.label for s in samples])


def data_loader() -> None:
    loader = DataLoader(Digits(), 32)
    assert_type(loader, DataLoader[Digit])
    assert_type(loader.minibatch_size, int)
    assert_type(loader.num_workers, int)
    assert_type(loader.drop_last, bool)
    assert_type(loader.minibatch_count(), int)
    epoch: Minibatches[Digit] = loader.minibatches(shuffle_seed=0)
    rest: Minibatches[Digit] = loader.minibatches(0)[10:]
    assert_type(loader.minibatches(None)[0], Digit)
    assert_type(loader.minibatches(None)[10:][0], Digit)
    assert_type(len(loader.minibatches(None)), int)
    assert_type(iter(loader.minibatches(None)).statistics(), IterationStatistics)
    for minibatch in loader.minibatches(shuffle_seed=None):
        assert_type(minibatch, Digit)
    for minibatch in (*epoch, *rest):
        assert_type(minibatch, Digit)
    with DataLoader(Digits(), 32, 2, True, num_threads=2, prefetch=4, timeout=1.0) as entered:
        assert_type(entered, DataLoader[Digit])

    DataLoader(Digits())  # type: ignore[call-overload]
    DataLoader(3, 32)  # type: ignore[call-overload]
    loader.minibatch_size = 2  # type: ignore[misc]
    loader.minibatches()  # type: ignore[call-arg]


def the_collate_function_decides() -> None:
    loader = DataLoader(Digits(), 32, collate_fn=to_pair)
    assert_type(loader, DataLoader[tuple[NDArray[np.float32], NDArray[np.int64]]])
    images, labels = next(iter(loader.minibatches(0)))
    assert_type(images, NDArray[np.float32])
    assert_type(labels, NDArray[np.int64])
    assert_type(DataLoader([1, 2], 2, 0, True, sum), DataLoader[int])

    DataLoader([1, 2], 2, collate_fn=to_pair)  # type: ignore[arg-type]


def in_memory_data_loader(dataset: dict[str, NDArray[np.float32]]) -> None:
    loader = InMemoryDataLoader(dataset, 32)
    assert_type(loader, InMemoryDataLoader[dict[str, NDArray[np.float32]]])
    assert_type(loader.sample_count, int)
    epoch: Sequence[dict[str, NDArray[np.float32]]] = loader.minibatches(0)
    assert_type(epoch[-1], dict[str, NDArray[np.float32]])
    assert_type(loader.minibatches(None)[-1], dict[str, NDArray[np.float32]])
    assert_type(loader.minibatches(None)[2:][0], dict[str, NDArray[np.float32]])
    for minibatch in reversed(loader.minibatches(None)):
        assert_type(minibatch, dict[str, NDArray[np.float32]])

    InMemoryDataLoader(dataset)  # type: ignore[call-arg]


def cycled(loader: DataLoader[Digit], in_memory: InMemoryDataLoader[Digit]) -> None:
    train = cycled_minibatches(loader, 0)
    assert_type(train, MinibatchIterator[Digit])
    assert_type(next(train), Digit)
    assert_type(train.statistics(), IterationStatistics)
    assert_type(
        cycled_minibatches(in_memory, shuffle_seed=None, start_step=3), MinibatchIterator[Digit]
    )

    check_resume(lambda: cycled_minibatches(loader, 0), minibatch_count=3)

    check_resume(cycled_minibatches(loader, 0))  # type: ignore[arg-type]
    cycled_minibatches(Digits(), 0)  # type: ignore[arg-type]
    cycled_minibatches(loader)  # type: ignore[call-arg]
    cycled_minibatches(loader, 0, 3)  # type: ignore[call-arg]


def random_numbers() -> None:
    assert_type(sample_rng(), np.random.Generator)
    assert_type(sample_rng(3), np.random.Generator)


def both_are_data_loaders(
    loader: DataLoader[Digit], in_memory: InMemoryDataLoader[Digit]
) -> list[DataLoaderProtocol[Digit]]:
    return [loader, in_memory]


def any_dataset_will_do(dataset: MapDatasetProtocol[Digit]) -> SizedIterable[Digit]:
    return DataLoader(dataset, 32).minibatches(shuffle_seed=0)
