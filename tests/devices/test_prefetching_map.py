import threading
from typing import Any

import jax
import numpy as np
import pytest
from fifteen_data_devices import prefetching_map
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.devices.stand_ins import Counter, Minibatches

BUFFER_SIZES = [1, 2, 5]


@given(count=st.integers(0, 12), buffer_size=st.integers(1, 15))
def test_the_order_of_the_input_is_kept(count: int, buffer_size: int) -> None:
    assert list(prefetching_map(range(count), buffer_size=buffer_size)) == list(range(count))


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_it_is_sized_and_sliced_as_its_input_is(buffer_size: int) -> None:
    minibatches = prefetching_map(list(range(10)), buffer_size=buffer_size)
    assert len(minibatches) == 10
    assert len(minibatches[3:]) == 7
    assert list(minibatches[3:][::2]) == [3, 5, 7, 9]
    assert minibatches[-1] == 9
    assert not hasattr(prefetching_map({1: 2}.keys()), "__getitem__")
    assert not hasattr(prefetching_map(iter([1])), "__len__")


def test_a_sized_iterator_becomes_a_sized_iterator() -> None:
    class Sized(Counter):
        def __len__(self) -> int:
            return self.stop

    for buffer_size in BUFFER_SIZES:
        minibatches: Any = prefetching_map(Sized(4), buffer_size=buffer_size)
        assert iter(minibatches) is minibatches
        assert len(minibatches) == 4
        assert list(minibatches) == [0, 1, 2, 3]


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_every_iter_of_a_re_iterable_starts_anew(buffer_size: int) -> None:
    minibatches = prefetching_map([0, 1, 2], buffer_size=buffer_size)
    for first in minibatches:
        assert [first, *minibatches] == [first, 0, 1, 2]
        if first == 1:
            break
    assert list(minibatches) == [0, 1, 2]
    assert list(zip(minibatches, minibatches, strict=True)) == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_leaving_a_loop_over_an_iterator_pauses_it(buffer_size: int) -> None:
    train = prefetching_map(Counter(), buffer_size=buffer_size)
    assert iter(train) is train
    epochs = [[minibatch for _, minibatch in zip(range(3), train, strict=False)] for _ in range(4)]
    assert epochs == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    for minibatch in train:
        assert minibatch == 12
        break
    assert next(train) == 13


def test_a_buffer_size_of_one_needs_no_thread() -> None:
    threads = {threading.current_thread()}
    inputs = (threading.current_thread() for _ in range(3))
    assert set(prefetching_map(inputs, buffer_size=1)) == threads


def test_two_maps_over_one_input_do_not_disturb_each_other() -> None:
    inputs = Minibatches(40, 4)
    first, second = prefetching_map(inputs), prefetching_map(inputs, buffer_size=4)
    pairs = zip(first, second, strict=True)
    assert sum(np.array_equal(a["x"], b["x"]) for a, b in pairs) == 10


def test_none_passes_on_the_very_same_objects() -> None:
    minibatches = [{"x": np.ones(3), "name": "a"}, object()]
    assert all(a is b for a, b in zip(prefetching_map(minibatches), minibatches, strict=True))


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_leaves_are_committed_to_the_device(buffer_size: int) -> None:
    device = jax.devices()[2]
    minibatches: list[Any] = [
        {"x": np.full((4, 2), i, np.float32), "y": (i, None)} for i in range(4)
    ]
    for i, minibatch in enumerate(prefetching_map(minibatches, device, buffer_size)):
        assert minibatch["x"].devices() == {device}
        assert minibatch["x"].committed
        assert np.array_equal(minibatch["x"], minibatches[i]["x"])
        assert (int(minibatch["y"][0]), minibatch["y"][1]) == (i, None)
    assert prefetching_map(minibatches, device, buffer_size)[1]["x"].devices() == {device}


def test_any_sharding_will_do_for_a_device() -> None:
    devices = np.array(jax.devices()[:4])
    mesh = Mesh(devices.reshape(2, 2), ("data", "model"))
    for sharding in [
        NamedSharding(mesh, PartitionSpec("data")),
        NamedSharding(mesh, PartitionSpec(None, "model")),
        NamedSharding(mesh, PartitionSpec()),
        jax.sharding.SingleDeviceSharding(devices[1]),
    ]:
        x: Any = np.arange(8.0, dtype=np.float32).reshape(4, 2)
        (placed,) = prefetching_map([x], sharding)
        assert placed.sharding == sharding
        assert np.array_equal(placed, x)


def test_a_leaf_that_is_there_already_is_not_copied() -> None:
    device = jax.devices()[1]
    leaf = jax.device_put(np.ones(1000), device)
    (placed,) = prefetching_map([leaf], device)
    assert placed.unsafe_buffer_pointer() == leaf.unsafe_buffer_pointer()


def test_integers_of_64_bits_become_32_bit_ones_where_they_fit() -> None:
    device = jax.devices()[0]
    limits = np.iinfo(np.int32)
    minibatch = {
        "signed": np.array([limits.min, limits.max], np.int64),
        "unsigned": np.array([2**32 - 1], np.uint64),
        "empty": np.zeros(0, np.int64),
    }
    (placed,) = prefetching_map([minibatch], device)
    assert (placed["signed"].dtype, placed["unsigned"].dtype) == (np.int32, np.uint32)
    assert np.array_equal(placed["signed"], minibatch["signed"])
    assert np.array_equal(placed["unsigned"], minibatch["unsigned"])


@pytest.mark.parametrize(
    ("leaf", "least"), [(np.array([1, 2**40]), "1"), (np.int64(2**40), "1099511627776")]
)
def test_an_integer_that_does_not_fit_is_never_wrapped_around(leaf: Any, least: str) -> None:
    minibatches = [{"id": [leaf]}]
    with pytest.raises(OverflowError) as raised:
        list(prefetching_map(minibatches, jax.devices()[0]))
    assert str(raised.value) == (
        f"`minibatch['id'][0]` holds int64 values from {least} to 1099511627776, which do not fit "
        "in the int32 that JAX would store; call "
        '`jax.config.update("jax_enable_x64", True)` or convert the values yourself'
    )
    with jax.enable_x64(True):
        (placed,) = prefetching_map(minibatches, jax.devices()[0])
        assert np.array_equal(placed["id"][0], leaf)


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        ("cat", "type `str`"),
        (np.array(["cat"]), "dtype <U3"),
        (np.array([None]), "dtype object"),
        (object(), "type `object`"),
    ],
)
def test_a_leaf_without_a_jax_type_is_named(leaf: object, words: str) -> None:
    minibatch = {"x": np.ones(2), "label": (0, leaf)}
    with pytest.raises(TypeError) as raised:
        list(prefetching_map([minibatch], jax.devices()[0]))
    assert str(raised.value) == (
        f"`minibatch['label'][1]` cannot be put on a device, as JAX has no arrays of {words}; "
        "take it out of the minibatch or encode it as numbers"
    )


def test_a_leaf_that_does_not_divide_is_named() -> None:
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    with pytest.raises(ValueError, match=r"^`minibatch\['y'\]` has shape \(6,\), whose axis 0 of"):
        list(prefetching_map([{"y": np.ones(6)}], NamedSharding(mesh, PartitionSpec("data"))))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            ([], 2),
            TypeError,
            "`device` must be a device or a sharding, got 2; did you mean `buffer_size=2`?",
        ),
        (
            ([], "gpu"),
            TypeError,
            "`device` must be a device or a sharding, got `str` 'gpu'; pick one of "
            "`jax.local_devices()`",
        ),
        (
            ([], jax.devices),
            TypeError,
            "`device` must be a device or a sharding, got `function`",
        ),
        (
            ([], [None]),
            TypeError,
            "`device` must be a device or a sharding, got `list`; for several devices use "
            "`sharding_map(inputs, devices)`",
        ),
        (([], True), TypeError, "`device` must be a device or a sharding, got True"),
        (([], None, True), TypeError, "`buffer_size` must be an integer, got True"),
        (([], None, 2.0), TypeError, "`buffer_size` must be an integer, got 2.0"),
        (
            ([], None, 0),
            ValueError,
            "`buffer_size` must be at least 1, which reads nothing ahead, got 0",
        ),
        (
            ([], None, -1),
            ValueError,
            "`buffer_size` must be at least 1, which reads nothing ahead, got -1",
        ),
        ((3,), TypeError, "`inputs` must be an iterable over minibatches, got `int`"),
        (
            ({"x": np.ones(3)},),
            TypeError,
            "`inputs` must be an iterable over minibatches, got one `dict`; to map a single "
            "minibatch, wrap it in a list",
        ),
        (
            ("minibatches",),
            TypeError,
            "`inputs` must be an iterable over minibatches, got one `str`; to map a single "
            "minibatch, wrap it in a list",
        ),
    ],
)
def test_a_slip_is_answered_in_its_own_words(
    arguments: tuple[Any, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as raised:
        prefetching_map(*arguments)
    assert str(raised.value) == message


def test_a_loader_in_place_of_its_minibatches_gets_a_hint() -> None:
    class Loader:
        def minibatches(self, shuffle_seed: int | None) -> list[int]:
            return []

    slip: Any = Loader()
    with pytest.raises(TypeError) as raised:
        prefetching_map(slip)
    assert str(raised.value) == (
        "`inputs` must be an iterable over minibatches, got `Loader`; did you mean "
        "`loader.minibatches(shuffle_seed)`?"
    )


def test_a_mesh_in_place_of_a_sharding_gets_a_hint() -> None:
    slip: Any = Mesh(np.array(jax.devices()), ("data",))
    with pytest.raises(TypeError) as raised:
        prefetching_map([], slip)
    assert str(raised.value) == (
        "`device` must be a device or a sharding, got `Mesh`; wrap it: "
        "`NamedSharding(mesh, P(...))`"
    )
