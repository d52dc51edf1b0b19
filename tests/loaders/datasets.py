"""Datasets of many kinds, and the loaders that every promise is held against.

Worker processes import this module, so it must not import jax.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from fifteen_data_loaders import DataLoader, InMemoryDataLoader, sample_rng

SAMPLE_COUNT = 23


class Squares:
    """A dict of an array and a scalar for each sample."""

    def __init__(self, count: int = SAMPLE_COUNT) -> None:
        self.count = count

    def __getitem__(self, index: int) -> dict[str, Any]:
        assert type(index) is int
        return {"x": np.full((3,), index, np.float32), "y": index**2}

    def __len__(self) -> int:
        return self.count


class BatchedSquares(Squares):
    """The same, several samples at a time."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise AssertionError("__getitems__ is preferred")

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        assert type(indices) is list
        return [Squares.__getitem__(self, index) for index in indices]


class Augmented:
    """Samples with a random part."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, sample_rng().random()

    def __len__(self) -> int:
        return self.count


class Drawing:
    """The index and three random numbers, two of the sample and one of the next sample."""

    def __init__(self, count: int = SAMPLE_COUNT) -> None:
        self.count = count

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return (
            index,
            sample_rng().random(),
            sample_rng(index).random(),
            sample_rng(index + 1).random(),
        )

    def __len__(self) -> int:
        return self.count


class BatchedDrawing(Drawing):
    """The same, several samples at a time."""

    def __getitems__(self, indices: list[int]) -> list[tuple[int, float, float, float]]:
        firsts = [sample_rng(index).random() for index in indices]
        seconds = [sample_rng(index).random() for index in indices]
        return [
            (i, first, second, 0.0)
            for i, first, second in zip(indices, firsts, seconds, strict=True)
        ]


def collate_drawing(samples: list[Any]) -> Any:
    """Returns the indices, and two random numbers of the minibatch."""
    return np.array([sample[0] for sample in samples]), sample_rng().random(), sample_rng().random()


class Telling:
    """Indices, each written into a named pipe as a line of its own when it is asked for."""

    def __init__(self, path: str, count: int) -> None:
        self.path = path
        self.count = count

    def __getitem__(self, index: int) -> int:
        # Open for reading too, so that nobody waits for a reader that has left.
        with open(self.path, "r+b", buffering=0) as pipe:
            pipe.write(b"%d\n" % index)
        return index

    def __len__(self) -> int:
        return self.count


def squares_in_memory() -> dict[str, Any]:
    """Returns the arrays whose rows are the samples of `Squares`."""
    indices = np.arange(SAMPLE_COUNT)
    return {"x": np.repeat(indices[:, None], 3, axis=1).astype(np.float32), "y": indices**2}


Variant = Callable[..., Any]


def _variant(dataset: Callable[[], Any], **options: Any) -> Variant:
    new: Any = DataLoader
    return lambda *args, **kwargs: new(dataset(), *args, **options, **kwargs)


# Each one takes `minibatch_size` and what all loaders take by keyword.
VARIANTS: dict[str, Variant] = {
    "inline": _variant(Squares),
    "batched": _variant(BatchedSquares),
    "threads": _variant(Squares, num_threads=3),
    "workers": _variant(Squares, num_workers=2),
    "threads in workers": _variant(Squares, num_workers=1, num_threads=3),
    "batched in workers": _variant(BatchedSquares, num_workers=1),
    "in memory": lambda *args, **kwargs: InMemoryDataLoader(squares_in_memory(), *args, **kwargs),
}


class Point(NamedTuple):
    x: Any
    y: Any


class FromFunction:
    """Whatever a function makes of the index."""

    def __init__(self, function: Callable[[int], Any], count: int = SAMPLE_COUNT) -> None:
        self.function = function
        self.count = count

    def __getitem__(self, index: int) -> Any:
        return self.function(index)

    def __len__(self) -> int:
        return self.count


def _array(index: int) -> Any:
    return np.arange(6, dtype=np.int16).reshape(2, 3) * index


# What each sample may look like; collation must give the same with and without workers.
SAMPLES: dict[str, Callable[[int], Any]] = {
    "array": _array,
    "int": lambda i: i,
    "float": lambda i: i / 2,
    "bool": lambda i: i % 3 == 0,
    "complex": lambda i: complex(i, 1),
    "big int": lambda i: 2**62 + i,
    "int beyond int64 once": lambda i: 2**63 + 5 if i == 7 else i,
    "numpy scalar": np.int16,
    "str": lambda i: "x" * (i % 5),
    "bytes": lambda i: b"ab\0" * (i % 5),
    "object": lambda i: {1, i},
    "scalar array": lambda i: np.array(i, np.uint8),
    "empty array": lambda i: np.zeros((0, 2)),
    "dict": lambda i: {"b": _array(i), "a": i},
    "dict in another order": lambda i: {"b": i, "a": 1} if i % 2 else {"a": 1, "b": i},
    "list": lambda i: [_array(i), i],
    "tuple": lambda i: (_array(i), i),
    "named tuple": lambda i: Point(_array(i), {"deep": [i]}),
    "none": lambda i: {"nothing": None, "x": i},
    "empty containers": lambda i: {"x": (), "y": [], "z": {}, "i": i},
    "ordered dict": lambda i: OrderedDict(b=i, a=2),
    "text beside float": lambda i: "1.5" if i == 7 else i / 2,
    "int beside float": lambda i: i if i % 2 else i / 2,
    "int16, uint16, float32": lambda i: (np.int16, np.uint16, np.float32)[i % 3](i),
    "big endian": lambda i: np.full(3, i, ">i4"),
    "structured": lambda i: np.array((i, i / 2), [("a", "i2"), ("b", "f8")]),
    "datetime": lambda i: np.datetime64("2020-01-01") + np.timedelta64(i, "D"),
    "fortran order": lambda i: np.asfortranarray(_array(i)),
    "strided": lambda i: _array(i)[:, ::-1],
    "memoryview": lambda i: {"x": memoryview(bytes([i, 0]))},
    "record": lambda i: np.zeros(99, "i4,f8").view(np.recarray)[i],
    "read only": lambda i: np.frombuffer(bytes([i] * 4), np.uint8),
    "with nothing masked": lambda i: np.ma.masked_array([1, i], [False, False]),
    "dtype changes": lambda i: np.full(2, i, np.int32 if i < 9 else np.float64),
}


def assert_same(actual: Any, expected: Any) -> None:
    """Compare two minibatches bit for bit: containers, types, order of keys, dtypes and values."""
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key, value in expected.items():
            assert_same(actual[key], value)
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            assert_same(getattr(actual, field.name), getattr(expected, field.name))
    elif isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        assert actual.flags.writeable == expected.flags.writeable
        if expected.dtype == object:
            for one, other in zip(actual.flat, expected.flat, strict=True):
                assert_same(one, other)
        else:
            np.testing.assert_array_equal(actual, expected)
    elif hasattr(expected, "__array__"):
        assert_same(np.asarray(actual), np.asarray(expected))
    else:
        assert actual == expected
