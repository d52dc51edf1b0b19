"""Bad arguments: each call, and the exact message that it gives."""

import re
from typing import Any

import fifteen_data_loaders
import jax
import numpy as np
import pytest

from tests.loaders.datasets import Squares

# Without their types, since type checkers refuse most of what is tried here.
DataLoader: Any = fifteen_data_loaders.DataLoader
InMemoryDataLoader: Any = fifteen_data_loaders.InMemoryDataLoader
cycled_minibatches: Any = fifteen_data_loaders.cycled_minibatches

DATA = list(range(10))
ROWS = np.zeros((10, 2))


class _NoLength:
    def __getitem__(self, index: int) -> int:
        return index


class _NoItems:
    def __len__(self) -> int:
        return 3


def _loaders(**kwargs: Any) -> list[Any]:
    return [
        lambda: DataLoader(DATA, **{"minibatch_size": 2, **kwargs}),
        lambda: InMemoryDataLoader(ROWS, **{"minibatch_size": 2, **kwargs}),
    ]


_INTEGERS: list[tuple[Any, type[Exception], str]] = [
    ("3", TypeError, "must be an integer, got '3'"),
    (2.0, TypeError, "must be an integer, got 2.0"),
    (None, TypeError, "must be an integer, got None"),
    (True, TypeError, "must be an integer, got True"),
    (np.array([1]), TypeError, "must be an integer, got array([1])"),
    (-1, ValueError, "must be at least {at_least}, got -1"),
    (np.int64(-5), ValueError, "must be at least {at_least}, got -5"),
]

CALLS: list[tuple[Any, type[Exception], str]] = [
    *(
        (call, error, f"`{name}` {rule.format(at_least=at_least)}")
        for name, at_least in (("minibatch_size", 1), ("shard_count", 1), ("shard_index", 0))
        for value, error, rule in _INTEGERS
        for call in _loaders(**{name: value})
    ),
    *(
        (
            lambda name=name, value=value: DataLoader(DATA, 2, **{name: value}),
            error,
            f"`{name}` {rule.format(at_least=at_least)}",
        )
        for name, at_least in (("num_workers", 0), ("num_threads", 1), ("prefetch", 1))
        for value, error, rule in _INTEGERS
    ),
    *(
        (call, TypeError, f"`drop_last` must be True or False, got {value!r}")
        for value in (1, None, "yes")
        for call in _loaders(drop_last=value)
    ),
    *(
        (call, ValueError, "`minibatch_size` must be at least 1, got 0")
        for call in _loaders(minibatch_size=0)
    ),
    *(
        (call, ValueError, "`shard_index` must be less than `shard_count`=2, got 2")
        for call in _loaders(shard_index=2, shard_count=2)
    ),
    *(
        (
            call,
            ValueError,
            "`minibatch_size` must be divisible by `shard_count`=2, got 3: it counts the samples "
            "of the whole minibatch, of which each shard loads an equal part",
        )
        for call in _loaders(minibatch_size=3, shard_count=2)
    ),
    (
        lambda: DataLoader(DATA, 2, timeout=5),
        ValueError,
        "`timeout` must be None without worker processes, got 5: only a worker can be ended while "
        "it loads a sample",
    ),
    (
        lambda: DataLoader(DATA, 2, 1, timeout="5"),
        TypeError,
        "`timeout` must be a number of seconds or None, got '5'",
    ),
    (
        lambda: DataLoader(DATA, 2, 1, timeout=0),
        ValueError,
        "`timeout` must be positive, got 0",
    ),
    (
        lambda: DataLoader(DATA, 2, 1, timeout=float("nan")),
        ValueError,
        "`timeout` must be positive, got nan",
    ),
    (
        lambda: DataLoader(DATA, 2, collate_fn=None),
        TypeError,
        "`collate_fn` must be callable, got None",
    ),
    (
        lambda: DataLoader([], 2),
        ValueError,
        "`dataset` must have at least one sample, got an empty one",
    ),
    (
        lambda: DataLoader(_NoLength(), 2),
        TypeError,
        "`dataset` must have `__getitem__` and `__len__`, got a _NoLength without `__len__`",
    ),
    (
        lambda: DataLoader(_NoItems(), 2),
        TypeError,
        "`dataset` must have `__getitem__` and `__len__`, got a _NoItems without `__getitem__`",
    ),
    (
        lambda: DataLoader(iter(DATA), 2),
        TypeError,
        "`dataset` must have `__getitem__` and `__len__`, got a list_iterator without "
        "`__getitem__` and `__len__`",
    ),
    (
        lambda: DataLoader({"x": ROWS, "y": ROWS}, 2),
        TypeError,
        "`dataset` must be indexed by the integers from 0, got a dict with the keys ['x', 'y']: "
        "pick one of its datasets, or use InMemoryDataLoader if they are arrays",
    ),
    (
        lambda: DataLoader(Squares, 2),
        TypeError,
        "`dataset` must be an object, got the class Squares itself: call it",
    ),
    (
        lambda: DataLoader(
            list(range(5)), 4, drop_last=False, shard_count=2, collate_fn=lambda samples: samples
        ),
        ValueError,
        "`drop_last` must be True for a custom `collate_fn` here: the last minibatch has 1 samples "
        "for `shard_count`=2 shards, and a `collate_fn` cannot be called without samples",
    ),
    (
        lambda: cycled_minibatches(DATA, 0),
        TypeError,
        "`dataloader` must have `minibatch_size`, `minibatch_count()` and `minibatches()`, got a "
        "list",
    ),
    (
        lambda: cycled_minibatches(DataLoader(DATA, 2).minibatches(0), 0),
        TypeError,
        "`dataloader` must have `minibatch_size`, `minibatch_count()` and `minibatches()`, got a "
        "EpochMinibatches; pass the loader itself",
    ),
    *(
        (
            lambda value=value: cycled_minibatches(DataLoader(DATA, 2), 0, start_step=value),
            error,
            f"`start_step` {rule.format(at_least=0)}",
        )
        for value, error, rule in _INTEGERS
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), CALLS)
def test_bad_arguments_are_named_with_rule_and_value(
    call: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


@pytest.mark.parametrize("seed", ["0", 1.0, True, -1, 2**63, np.array([1]), "key"])
def test_bad_seeds_are_refused_by_everything_that_takes_one(seed: Any) -> None:
    seed = jax.random.key(0) if seed == "key" else seed
    loaders = [DataLoader(DATA, 2), InMemoryDataLoader(ROWS, 2)]
    for loader in loaders:
        for use in (
            loader.minibatches,
            lambda seed, loader=loader: cycled_minibatches(loader, seed),
        ):
            with pytest.raises((TypeError, ValueError), match=re.escape("`shuffle_seed` must be")):
                use(seed)


def test_numpy_scalars_are_arguments() -> None:
    loader = DataLoader(
        DATA, np.int32(4), np.uint8(0), np.bool_(False), shard_index=np.int64(1), shard_count=2
    )
    assert (loader.minibatch_size, loader.drop_last) == (4, False)
    assert type(loader.minibatch_size) is int
    assert loader.minibatches(None)[0].tolist() == [2, 3]
