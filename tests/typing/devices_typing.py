"""Checked by mypy and pyright, never run: maps keep the type of minibatches and what can be done.

A line that must be an error carries `type: ignore`: both checkers report one that is not needed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import assert_type

import jax
import numpy as np
from fifteen_data_devices import padding_map, prefetching_map, process_shard, sharding_map
from fifteen_data_protocols import (
    IterationStatistics,
    Minibatches,
    MinibatchIterator,
    SizedIterable,
)
from numpy.typing import NDArray


@dataclass
class Digits:
    image: NDArray[np.float32]
    label: NDArray[np.int32]


@dataclass
class DigitShardings:
    image: jax.sharding.NamedSharding
    label: jax.sharding.NamedSharding


def prefetching(
    minibatches: Minibatches[Digits],
    sized: SizedIterable[Digits],
    iterator: Iterator[Digits],
    train: MinibatchIterator[Digits],
    iterable: Iterable[Digits],
    sharding: jax.sharding.Sharding,
    mesh: jax.sharding.Mesh,
) -> None:
    assert_type(prefetching_map(minibatches), Minibatches[Digits])
    assert_type(prefetching_map(minibatches)[3], Digits)
    assert_type(prefetching_map(minibatches)[3:], Minibatches[Digits])
    assert_type(iter(prefetching_map(minibatches)).statistics(), IterationStatistics)
    assert_type(prefetching_map([Digits(np.ones(1, np.float32), np.ones(1, np.int32))])[0], Digits)
    assert_type(iter(prefetching_map([1, 2])).statistics(), IterationStatistics)
    assert_type(prefetching_map(sized), SizedIterable[Digits])
    assert_type(len(prefetching_map(sized)), int)
    assert_type(prefetching_map(iterator), MinibatchIterator[Digits])
    assert_type(prefetching_map(train), MinibatchIterator[Digits])
    assert_type(prefetching_map(iterable), Iterable[Digits])
    assert_type(prefetching_map(i for i in range(3)), MinibatchIterator[int])
    assert_type(next(prefetching_map(train)), Digits)
    prefetching_map(train).set_state(prefetching_map(train).get_state())
    assert_type(prefetching_map(train).statistics(), IterationStatistics)
    for minibatch in prefetching_map(sized, jax.devices()[0], 3):
        assert_type(minibatch, Digits)
    prefetching_map(sized, sharding, buffer_size=3)

    prefetching_map(sized)[0]  # type: ignore[index]
    len(prefetching_map(iterable))  # type: ignore[arg-type]
    next(prefetching_map(iterable))  # type: ignore[call-overload]
    prefetching_map(sized).get_state()  # type: ignore[attr-defined]
    prefetching_map(3)  # type: ignore[call-overload]
    prefetching_map(sized, 2)  # type: ignore[call-overload]
    prefetching_map(sized, "gpu")  # type: ignore[call-overload]
    prefetching_map(sized, mesh)  # type: ignore[call-overload]
    prefetching_map(sized, None, "2")  # type: ignore[call-overload]


def sharding_over_devices_and_meshes(
    minibatches: Minibatches[Digits],
    sized: SizedIterable[Digits],
    iterator: Iterator[Digits],
    iterable: Iterable[Digits],
    sharding: jax.sharding.NamedSharding,
    mesh: jax.sharding.Mesh,
) -> None:
    assert_type(sharding_map(minibatches, jax.devices()), Minibatches[Digits])
    assert_type(sharding_map([1, 2], jax.devices()), Minibatches[int])
    assert_type(sharding_map(sized, jax.devices()), SizedIterable[Digits])
    assert_type(sharding_map(iterator, jax.devices()), MinibatchIterator[Digits])
    assert_type(sharding_map(iterable, jax.devices()), Iterable[Digits])
    assert_type(sharding_map(sized, sharding), SizedIterable[Digits])
    assert_type(sharding_map(sized, DigitShardings(sharding, sharding)), SizedIterable[Digits])
    sharding_map(sized, {"image": sharding, "label": [sharding, (sharding, None)]})
    sharding_map(sized, sharding, shard=(0, 4))

    sharding_map(sized)  # type: ignore[call-overload]
    sharding_map(sized, 4)  # type: ignore[call-overload]
    sharding_map(sized, mesh)  # type: ignore[call-overload]
    sharding_map(sized, jax.sharding.PartitionSpec("data"))  # type: ignore[call-overload]
    sharding_map(sized, sharding, (0, 4))  # type: ignore[call-overload]
    sharding_map(sized, sharding, shard=4)  # type: ignore[call-overload]


def padding(
    minibatches: Minibatches[Digits],
    sized: SizedIterable[Digits],
    iterator: Iterator[Digits],
    iterable: Iterable[Digits],
) -> None:
    assert_type(padding_map(minibatches), Minibatches[tuple[Digits, NDArray[np.bool_]]])
    assert_type(padding_map([1, 2]), Minibatches[tuple[int, NDArray[np.bool_]]])
    assert_type(padding_map(sized), SizedIterable[tuple[Digits, NDArray[np.bool_]]])
    assert_type(padding_map(iterator), MinibatchIterator[tuple[Digits, NDArray[np.bool_]]])
    assert_type(padding_map(iterable), Iterable[tuple[Digits, NDArray[np.bool_]]])
    for minibatch, mask in prefetching_map(sharding_map(padding_map(sized, 32), jax.devices())):
        assert_type(minibatch, Digits)
        assert_type(mask, NDArray[np.bool_])

    padding_map(sized, "32")  # type: ignore[call-overload]


def load(*, shard_index: int, shard_count: int) -> None: ...


def shards(sharding: jax.sharding.NamedSharding, mesh: jax.sharding.Mesh) -> None:
    assert_type(process_shard(sharding)["shard_index"], int)
    load(**process_shard(sharding))
    load(**process_shard(jax.devices()))

    process_shard(mesh)  # type: ignore[arg-type]
    load(process_shard(sharding))  # type: ignore[call-arg, arg-type]
