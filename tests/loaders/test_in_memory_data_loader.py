"""`InMemoryDataLoader`: sequences of minibatches out of arrays, NumPy's and JAX's."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest
from fifteen_data_loaders import InMemoryDataLoader
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.loaders.pytrees import Static


class EndlessSequence:
    """A dataset that np.asarray() would read for ever."""

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 3


pytestmark = pytest.mark.usefixtures("no_leftovers")


def test_minibatches_are_a_full_sequence() -> None:
    minibatches = InMemoryDataLoader(np.arange(7), 3, drop_last=False).minibatches(None)
    assert isinstance(minibatches, Sequence)
    assert len(minibatches) == 3
    assert [m.tolist() for m in minibatches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [m.tolist() for m in reversed(minibatches)] == [[6], [3, 4, 5], [0, 1, 2]]
    assert minibatches[-1].tolist() == [6]
    assert isinstance(minibatches[1:], Sequence)
    assert [m.tolist() for m in minibatches[1:]] == [[3, 4, 5], [6]]
    with pytest.raises(IndexError) as raised:
        minibatches[3]
    assert str(raised.value) == "minibatch index must be in [-3, 3), got 3"


def test_the_documented_attributes() -> None:
    dataset = {"x": np.zeros((10, 3)), "y": np.zeros(10)}
    loader = InMemoryDataLoader(dataset, 4)
    assert loader.dataset is dataset
    assert loader.minibatch_size == 4
    assert loader.drop_last is True
    assert loader.sample_count == 10
    assert loader.minibatch_count() == 2
    assert InMemoryDataLoader(dataset, 4, False).minibatch_count() == 3


@pytest.mark.parametrize("seed", [None, 5])
def test_rows_of_all_leaves_stay_together(seed: int | None) -> None:
    rows = np.arange(1000)
    dataset: Any = {"a": rows, "b": (np.stack([rows] * 3, axis=1), [rows.astype("<U4")]), "c": None}
    for minibatch in InMemoryDataLoader(dataset, 64).minibatches(seed):
        a, (b, (c,)) = minibatch["a"], minibatch["b"]
        np.testing.assert_array_equal(b, np.stack([a] * 3, axis=1))
        np.testing.assert_array_equal(c, a.astype("<U4"))
        assert minibatch["c"] is None


def test_an_unshuffled_minibatch_is_a_copy_too() -> None:
    dataset = np.arange(4)
    minibatch = InMemoryDataLoader(dataset, 2).minibatches(None)[0]
    minibatch[:] = -1
    assert dataset.tolist() == [0, 1, 2, 3]


def test_leaves_of_any_order_of_axes_and_dtype() -> None:
    """Strided and Fortran-ordered arrays, objects, and arrays that others may not write."""
    content = np.arange(60).reshape(10, 6)
    frozen = content.copy()
    frozen.flags.writeable = False
    for leaf in (
        np.asfortranarray(content),
        content[:, ::-2],
        content.astype(object),
        content.astype(">i2"),
        frozen,
    ):
        for seed in (None, 3):
            minibatches = list(InMemoryDataLoader(leaf, 5).minibatches(seed))
            assert {minibatch.dtype for minibatch in minibatches} == {leaf.dtype}
            assert all(minibatch.flags.writeable for minibatch in minibatches)
            first = np.concatenate(minibatches)[:, 0]
            np.testing.assert_array_equal(np.sort(first), np.sort(leaf[:, 0]))


def test_only_the_rows_of_a_minibatch_are_copied() -> None:
    """Of a view, too, which here shows more rows than any memory could hold a copy of."""
    leaf = np.broadcast_to(np.arange(3), (2**45, 3))
    minibatches = InMemoryDataLoader(leaf, 2).minibatches(3)
    assert minibatches[-1].tolist() == [[0, 1, 2], [0, 1, 2]]


def test_a_mask_is_refused_unless_nothing_is_masked() -> None:
    (minibatch,) = InMemoryDataLoader({"x": np.ma.arange(4)}, 4).minibatches(None)
    assert minibatch["x"].tolist() == [0, 1, 2, 3]
    with pytest.raises(TypeError) as raised:
        InMemoryDataLoader({"x": np.ma.masked_equal(np.arange(4), 2)}, 4)
    assert str(raised.value) == (
        "every leaf of `dataset` must be a NumPy or JAX array without a mask, got a masked array "
        "at dataset['x']: pass its data and its mask as two leaves"
    )


def test_containers_without_arrays_are_part_of_the_structure() -> None:
    dataset: Any = {"x": np.arange(4), "kind": Static("constant"), "more": OrderedDict()}
    for minibatch in InMemoryDataLoader(dataset, 2).minibatches(None):
        assert (minibatch["kind"], minibatch["more"]) == (Static("constant"), OrderedDict())


def test_jax_leaves_are_gathered_where_they_are() -> None:
    device = jax.devices()[2]
    dataset = {"jax": jax.device_put(np.arange(12), device), "numpy": np.arange(12)}
    for seed in (None, 3):
        for minibatch in InMemoryDataLoader(dataset, 5, drop_last=False).minibatches(seed):
            assert isinstance(minibatch["jax"], jax.Array)
            assert minibatch["jax"].devices() == {device}
            np.testing.assert_array_equal(minibatch["jax"], minibatch["numpy"])


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(
    "spec", [PartitionSpec("data"), PartitionSpec(None, "data"), PartitionSpec()]
)
def test_sharded_jax_leaves_stay_on_their_mesh(axis_type: AxisType, spec: Any) -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
    content = np.arange(12 * 8).reshape(12, 8)
    leaf = jax.device_put(content, NamedSharding(mesh, spec))
    for seed in (None, 3):
        order = [m[:, 0] // 8 for m in InMemoryDataLoader(content, 4).minibatches(seed)]
        for rows, minibatch in zip(
            order, InMemoryDataLoader(leaf, 4).minibatches(seed), strict=True
        ):
            assert minibatch.sharding.device_set == set(mesh.devices.flat)
            np.testing.assert_array_equal(minibatch, content[rows])


@pytest.mark.parametrize(
    "spec",
    [PartitionSpec("explicit", "auto"), PartitionSpec("auto", "explicit"), PartitionSpec("auto")],
)
def test_a_mesh_may_have_axes_of_both_types(spec: Any) -> None:
    axis_types = (AxisType.Explicit, AxisType.Auto)
    mesh = jax.make_mesh((2, 2), ("explicit", "auto"), axis_types=axis_types)
    content = np.arange(8 * 4).reshape(8, 4)
    leaf = jax.device_put(content, NamedSharding(mesh, spec))
    for seed in (None, 3):
        expected = InMemoryDataLoader(content, 4).minibatches(seed)
        for minibatch, rows in zip(
            InMemoryDataLoader(leaf, 4).minibatches(seed), expected, strict=True
        ):
            assert minibatch.sharding.device_set == set(mesh.devices.flat)
            np.testing.assert_array_equal(minibatch, rows)


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ({}, ValueError, "`dataset` must have at least one array as a leaf, got {}"),
        (
            {"x": np.zeros(3), "y": np.float32(1)},
            ValueError,
            "every leaf of `dataset` must have a first axis that counts the samples, got the "
            "scalar np.float32(1.0) at dataset['y']",
        ),
        (
            {"x": np.zeros(3), "y": (5,)},
            ValueError,
            "every leaf of `dataset` must have a first axis that counts the samples, got the "
            "scalar 5 at dataset['y'][0]. Lists and tuples are containers: np.asarray those that "
            "are arrays",
        ),
        (
            {"x": np.zeros(3), "y": EndlessSequence()},
            TypeError,
            "every leaf of `dataset` must be a NumPy or JAX array, got a EndlessSequence at "
            "dataset['y']",
        ),
        (
            {"x": np.zeros(3), "y": [np.zeros(4)]},
            ValueError,
            "all arrays of `dataset` must have the same first axis, got 3 at dataset['x'] and 4 "
            "at dataset['y'][0]",
        ),
        (np.zeros((0, 3)), ValueError, "`dataset` must have at least one sample, got an empty one"),
        (
            np.array(1.5),
            ValueError,
            "every leaf of `dataset` must have a first axis that counts the samples, got the "
            "scalar array(1.5) at dataset",
        ),
    ],
)
def test_datasets_that_are_no_arrays_of_samples(
    dataset: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        InMemoryDataLoader(dataset, 2)
    assert str(raised.value) == message
