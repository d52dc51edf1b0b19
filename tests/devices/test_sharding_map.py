from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from fifteen_data_devices import padding_map, prefetching_map, process_shard, sharding_map
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tests.devices.stand_ins import Counter, Minibatches, MinibatchRun

P = PartitionSpec


def mesh_of(*shape: int, kind: AxisType = AxisType.Auto) -> Mesh:
    names = ("data", "model")[: len(shape)]
    devices = np.array(jax.devices()[:4]).reshape(shape)
    return Mesh(devices, names, axis_types=(kind,) * len(shape))


def aligned(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Memory that starts on 64 bytes, as JAX wants it for using it in place."""
    size = int(np.prod(shape)) * 4
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)


def addresses(array: jax.Array) -> list[int]:
    return [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_rows_are_divided_among_devices_in_order(count: int) -> None:
    devices = jax.devices()[:count][::-1]
    x = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    (minibatch,) = sharding_map([{"x": x, "y": x[:, 0]}], devices)
    assert minibatch["x"].shape == (count, 8 // count, 3)
    assert minibatch["y"].shape == (count, 8 // count)
    for i, device in enumerate(devices):
        shards = {shard.device: shard for shard in minibatch["x"].addressable_shards}
        assert shards[device].index[0] == slice(i, i + 1, None) or count == 1
        assert np.array_equal(shards[device].data[0], x.reshape(count, 8 // count, 3)[i])


def test_what_is_divided_feeds_jit_and_pmap_and_shard_map() -> None:
    x = np.arange(8, dtype=np.float32)
    placed: Any
    (placed,) = sharding_map([x], jax.devices()[:4])
    expected = x.reshape(4, 2) * 2
    assert np.array_equal(jax.jit(lambda rows: rows * 2)(placed), expected)
    assert np.array_equal(jax.pmap(lambda rows: rows * 2)(placed), expected)
    double = jax.shard_map(
        lambda rows: rows * 2,
        mesh=placed.sharding.mesh,
        in_specs=placed.sharding.spec,
        out_specs=placed.sharding.spec,
    )
    assert np.array_equal(double(placed), expected)
    assert jax.typeof(placed).sharding.mesh.axis_types in [(AxisType.Auto,), ()]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("data"), P("data", "model"), P(("data", "model")), P()])
def test_a_named_sharding_gives_global_arrays(kind: AxisType, spec: PartitionSpec) -> None:
    sharding = NamedSharding(mesh_of(2, 2, kind=kind), spec)
    x = np.arange(16.0, dtype=np.float32).reshape(8, 2)
    minibatch: Any
    (minibatch,) = sharding_map([{"x": x}], sharding)
    assert minibatch["x"].sharding == sharding
    assert np.array_equal(minibatch["x"], x)


def test_a_prefix_of_shardings_places_leaves_of_different_rank() -> None:
    mesh = mesh_of(2, 2)
    rows, both, nowhere = (
        NamedSharding(mesh, spec) for spec in (P("data"), P("data", "model"), P())
    )
    minibatch = {
        "tokens": np.zeros((4, 6), np.int32),
        "labels": (np.zeros(4), None, {"weights": np.zeros((4, 2))}),
        "scale": 2.0,
    }
    placed: Any
    (placed,) = sharding_map([minibatch], {"tokens": both, "labels": rows, "scale": nowhere})
    assert placed["tokens"].sharding == both
    assert placed["labels"][0].sharding == rows
    assert placed["labels"][2]["weights"].sharding == rows
    assert placed["scale"].sharding == nowhere


def test_aligned_host_memory_is_used_in_place() -> None:
    x = aligned(64, 32)
    start, row = x.ctypes.data, 32 * 4
    (by_device,) = sharding_map([x], jax.devices()[:4])
    assert addresses(by_device) == [start + 16 * row * i for i in range(4)]
    (by_mesh,) = sharding_map([x], NamedSharding(mesh_of(2, 2), P("data")))
    assert addresses(by_mesh) == [start, start, start + 32 * row, start + 32 * row]
    (replicated,) = sharding_map([x], NamedSharding(mesh_of(4), P()))
    assert addresses(replicated) == [start] * 4
    (prefetched,) = prefetching_map(sharding_map([x], jax.devices()[:4]))
    assert addresses(prefetched) == addresses(by_device)


def test_one_transfer_is_made_for_each_minibatch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[Any]()
    device_put = jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda *args: calls.append(args) or device_put(*args))
    inputs = Minibatches(32, 8)
    list(sharding_map(inputs, jax.devices()[:4]))
    list(sharding_map(inputs, NamedSharding(mesh_of(4), P("data"))))
    list(prefetching_map(inputs, jax.devices()[0]))
    assert len(calls) == 12


def test_arrays_that_are_on_a_device_can_be_divided() -> None:
    x = jax.device_put(np.arange(8, dtype=np.float32), jax.devices()[1])
    (placed,) = sharding_map([x], jax.devices()[:4])
    assert np.array_equal(placed, np.arange(8).reshape(4, 2))
    keys = jax.random.split(jax.random.key(0), 4)
    (placed,) = sharding_map([keys], jax.devices()[:4])
    assert placed.shape == (4, 1)


def test_an_array_of_devices_is_a_sequence_of_them() -> None:
    devices: Any = np.array(jax.devices()[:2])
    placed: Any
    (placed,) = sharding_map([np.arange(4)], devices)
    assert placed.tolist() == [[0, 1], [2, 3]]
    assert process_shard(devices) == {"shard_index": 0, "shard_count": 1}
    with pytest.raises(ValueError, match=r"^`devices` must hold at least one device"):
        sharding_map([np.arange(4)], devices[:0])
    with pytest.raises(TypeError, match=r"or devices, got `ndarray`$"):
        sharding_map([np.arange(4)], devices[None])


def test_it_is_sized_and_sliced_and_started_anew_as_its_input_is() -> None:
    minibatches: Any = sharding_map(Minibatches(32, 8), jax.devices()[:2])
    assert (len(minibatches), len(minibatches[1:])) == (4, 3)
    assert minibatches[-1]["y"].tolist() == [[24, 25, 26, 27], [28, 29, 30, 31]]
    first = [minibatch["y"].tolist() for minibatch in minibatches]
    assert first == [minibatch["y"].tolist() for minibatch in minibatches]
    assert first[1:] == [minibatch["y"].tolist() for minibatch in minibatches[1:]]


def test_given_an_iterator_it_is_one_with_the_state_of_its_input() -> None:
    inputs: Iterator[Any] = (minibatch for minibatch in Minibatches(32, 8))
    assert iter(mapped := sharding_map(inputs, jax.devices()[:2])) is mapped
    run = MinibatchRun(Minibatches(32, 8))
    mapped = sharding_map(run, jax.devices()[:2])
    next(mapped)
    assert mapped.get_state() == {"step": 1}
    mapped.set_state({"step": 3})
    assert next(mapped)["y"].ravel().tolist() == list(range(24, 32))
    assert run.closed == 0
    mapped.close()
    assert run.closed == 1


def test_the_maps_can_be_put_in_any_order() -> None:
    device = jax.devices()[:2]
    inputs = Minibatches(30, 8)
    one = prefetching_map(sharding_map(padding_map(inputs), device))
    two = sharding_map(prefetching_map(padding_map(inputs)), device)
    three = sharding_map(padding_map(prefetching_map(inputs)), device)
    for (a, mask), *others in zip(one, two, three, strict=True):
        assert a["x"].shape == (2, 4, 4)
        assert mask.shape == (2, 4)
        for b, other_mask in others:
            assert np.array_equal(a["x"], b["x"])
            assert np.array_equal(mask, other_mask)
    carrying: Any = one
    assert (carrying.shard_index, carrying.shard_count, carrying.minibatch_size) == (0, 1, 8)


def test_the_state_goes_through_all_maps() -> None:
    run = MinibatchRun(Minibatches(64, 8))
    train = prefetching_map(sharding_map(padding_map(run), jax.devices()[:2]), buffer_size=3)
    for step in range(1, 5):
        next(train)
        assert train.get_state() == {"step": step}
    train.set_state({"step": 6})
    assert next(train)[0]["y"].ravel().tolist() == list(range(48, 56))


def test_dropping_an_iteration_closes_what_was_made_for_it() -> None:
    inputs = Minibatches(32, 8)
    for _ in sharding_map(inputs, jax.devices()[:2]):
        break
    assert [run.closed for run in inputs.started] == [1]
    counter = Counter()
    iter(sharding_map(counter, jax.devices()[:2]))
    assert counter.closed == 0


@pytest.mark.parametrize(
    ("minibatch", "kind", "message"),
    [
        (
            {"x": np.ones((8, 2)), "y": [np.ones(6)]},
            ValueError,
            "`minibatch['y'][0]` has shape (6,), whose 6 rows cannot be divided among 4 devices; "
            "choose a multiple as the minibatch size, drop or pad (`padding_map`) a short last "
            "minibatch, or use fewer devices",
        ),
        (
            {"x": np.ones((8, 2)), "y": np.float32(1)},
            ValueError,
            "`minibatch['y']` is a scalar; it has no rows to divide among 4 devices",
        ),
        (
            {"x": np.ones((8, 2)), "y": 3},
            ValueError,
            "`minibatch['y']` is a scalar; it has no rows to divide among 4 devices",
        ),
        (
            {"x": np.ones((8, 2)), "y": "cat"},
            TypeError,
            "`minibatch['y']` cannot be put on a device, as JAX has no arrays of type `str`; take "
            "it out of the minibatch or encode it as numbers",
        ),
        (
            np.array(["cat"] * 4),
            TypeError,
            "`minibatch` cannot be put on a device, as JAX has no arrays of dtype <U3; take it "
            "out of the minibatch or encode it as numbers",
        ),
    ],
)
def test_a_leaf_that_cannot_be_divided_among_devices_is_named(
    minibatch: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as raised:
        list(sharding_map([minibatch], jax.devices()[:4]))
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("minibatch", "message"),
    [
        (
            {"x": np.ones((6, 4))},
            "`minibatch['x']` has shape (6, 4), whose axis 0 of size 6 cannot be divided by 4, the "
            "size of mesh axis ('data', 'model')",
        ),
        (
            {"x": np.float32(3)},
            "`minibatch['x']` has shape (), but its sharding places 1 axes: P(('data', 'model'),); "
            "pass a PyTree of shardings that has a shorter one for this leaf",
        ),
        (
            {"y": np.ones((8, 4))},
            "the shardings must be a PyTree prefix of the minibatches, got PyTreeDef({'x': *}) "
            "for PyTreeDef({'y': *})",
        ),
    ],
)
def test_a_leaf_that_does_not_fit_its_sharding_is_named(minibatch: Any, message: str) -> None:
    sharding = NamedSharding(mesh_of(2, 2), P(("data", "model")))
    with pytest.raises(ValueError, match=r".") as raised:
        list(sharding_map([minibatch], {"x": sharding}))
    assert str(raised.value).replace("PartitionSpec", "P") == message


@pytest.mark.parametrize(
    ("devices", "kind", "message"),
    [
        (list, ValueError, "`devices` must hold at least one device, got an empty sequence"),
        (
            lambda: jax.devices()[:1] * 2,
            ValueError,
            "`devices` must hold every device once, got [CpuDevice(id=0), CpuDevice(id=0)]",
        ),
        (
            lambda: ["cpu:0"],
            TypeError,
            "`devices` must be a sequence of `jax.Device`s, such as `jax.devices()`, or a "
            "`NamedSharding`; it holds 'cpu:0'",
        ),
        (
            lambda: "cpu",
            TypeError,
            "`devices` must be a sequence of devices or a `NamedSharding`, got 'cpu'; for one "
            "device use `prefetching_map(inputs, device)`",
        ),
        (
            lambda: jax.devices()[0],
            TypeError,
            "`devices` must be a sequence of devices or a `NamedSharding`, got CpuDevice(id=0); "
            "for one device use `prefetching_map(inputs, device)`",
        ),
        (
            lambda: mesh_of(4),
            TypeError,
            "`devices` must be a `NamedSharding`, or devices, got `Mesh`; wrap it: "
            "`NamedSharding(mesh, P('data'))`",
        ),
        (
            lambda: {"x": mesh_of(4)},
            TypeError,
            "`devices['x']` must be a `NamedSharding`, or devices, got `Mesh`; wrap it: "
            "`NamedSharding(mesh, P('data'))`",
        ),
        (
            lambda: None,
            TypeError,
            "`devices` must be a `NamedSharding`, or devices, got `NoneType`",
        ),
    ],
)
def test_a_slip_in_the_devices_gets_its_own_words(
    devices: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as raised:
        sharding_map([], devices())
    assert str(raised.value) == message


def test_a_loader_in_place_of_its_minibatches_is_refused() -> None:
    slip: Any = type("Loader", (), {"minibatches": None})()
    with pytest.raises(TypeError) as raised:
        sharding_map(slip, jax.devices())
    assert str(raised.value) == (
        "`inputs` must be an iterable over minibatches, got `Loader`; did you mean "
        "`loader.minibatches(shuffle_seed)`?"
    )


@pytest.mark.parametrize(
    ("shard", "kind", "message"),
    [
        (3, TypeError, "`shard` must be two integers `(index, count)`, got 3"),
        ((0, True), TypeError, "`shard[1]` must be an integer, got True"),
        (
            (2, 2),
            ValueError,
            "`shard` must be `(index, count)` with 0 <= index < count, got (2, 2)",
        ),
    ],
)
def test_a_shard_that_is_none_is_refused(shard: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as raised:
        sharding_map([], jax.devices(), shard=shard)
    assert str(raised.value) == message
