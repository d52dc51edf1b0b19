from typing import Any

import jax
import numpy as np
import pytest
from fifteen_data_devices import padding_map
from hypothesis import given
from hypothesis import strategies as st

from tests.devices.stand_ins import Minibatches, MinibatchRun


def test_a_short_minibatch_is_filled_up_with_its_last_row() -> None:
    whole: Any = {"x": np.arange(8.0).reshape(4, 2), "y": (np.arange(4), None), "scale": 3}
    short: Any = {"x": np.arange(4.0).reshape(2, 2), "y": (np.arange(2), None), "scale": 4}
    (first, first_mask), (second, second_mask) = padding_map([whole, short])
    assert first is whole
    assert first_mask.tolist() == [True] * 4
    assert second["x"].tolist() == [[0, 1], [2, 3], [2, 3], [2, 3]]
    assert second["y"][0].tolist() == [0, 1, 1, 1]
    assert (second["y"][1], second["scale"]) == (None, 4)
    assert second_mask.tolist() == [True, True, False, False]
    assert second_mask.dtype == np.bool_
    assert all(second[name].dtype == whole[name].dtype for name in ("x",))


def test_what_is_filled_up_is_used_in_place_by_cpu_devices() -> None:
    for row_count in (1, 7, 1000):
        inputs = {"x": np.ones((row_count, 33), np.float32), "y": np.arange(row_count, dtype="i1")}
        ((minibatch, _),) = padding_map([inputs], row_count + 1)
        for leaf in minibatch.values():
            placed = jax.device_put(leaf, jax.devices()[0])
            assert placed.unsafe_buffer_pointer() == leaf.ctypes.data


def test_what_no_device_takes_is_filled_up_too() -> None:
    words = {
        "name": np.array(["a", "bc"]),
        "object": np.array([None, {}]),
        "empty": np.array(["", ""]),
    }
    ((minibatch, _),) = padding_map([words], 3)
    assert minibatch["name"].tolist() == ["a", "bc", "bc"]
    assert minibatch["object"].tolist() == [None, {}, {}]
    assert minibatch["empty"].tolist() == ["", "", ""]


def test_a_minibatch_without_rows_is_filled_with_zeros() -> None:
    empty: Any = {"x": np.ones((0, 3), np.float16), "y": np.zeros(0, np.int8)}
    ((minibatch, mask),) = padding_map([empty], 2)
    assert minibatch["x"].tolist() == [[0, 0, 0]] * 2
    assert (minibatch["x"].dtype, minibatch["y"].dtype) == (np.float16, np.int8)
    assert mask.tolist() == [False, False]


@given(
    sample_count=st.integers(1, 70),
    minibatch_size=st.integers(1, 24),
    shard_count=st.integers(1, 5),
)
def test_every_sample_counts_once_in_constant_shapes_on_any_shards(
    sample_count: int, minibatch_size: int, shard_count: int
) -> None:
    seen = list[int]()
    shapes = set[Any]()
    for shard in range(shard_count):
        inputs = Minibatches(sample_count, minibatch_size, shard, shard_count)
        padded = padding_map(inputs)
        assert len(list(padded)) == len(padded) == len(inputs)
        for minibatch, mask in padded:
            shapes.add((minibatch["x"].shape, minibatch["y"].shape, mask.shape))
            seen += minibatch["y"][mask].tolist()
    assert sorted(seen) == list(range(sample_count))
    assert len(shapes) == 1


def test_a_function_is_compiled_once() -> None:
    compiled = 0

    @jax.jit
    def total(minibatch: Any, mask: Any) -> Any:
        nonlocal compiled
        compiled += 1
        return (minibatch["y"] * mask).sum()

    batches = padding_map(Minibatches(21, 8))
    assert sum(int(total(*padded)) for padded in batches) == sum(range(21))
    assert compiled == 1


def test_arrays_on_a_device_are_padded_there() -> None:
    device = jax.devices()[2]
    (padded, mask), (empty, _) = padding_map(
        [jax.device_put(np.arange(2), device), jax.device_put(np.arange(0), device)], 3
    )
    assert padded.tolist() == [0, 1, 1]
    assert padded.devices() == empty.devices() == {device}
    assert empty.tolist() == [0, 0, 0]
    assert mask.tolist() == [True, True, False]


def test_the_size_counts_the_rows_of_all_shards() -> None:
    inputs = Minibatches(6, 6, 1, 2)
    assert [mask.tolist() for _, mask in padding_map(inputs)] == [[True] * 3]
    assert [len(mask) for _, mask in padding_map(inputs, 8)] == [4]
    assert [len(mask) for _, mask in padding_map(list(inputs), 8)] == [8]


def test_a_resumed_iteration_keeps_its_shape() -> None:
    padded = padding_map(MinibatchRun(Minibatches(20, 8)))
    assert padded.get_state() == {"step": 0}
    padded.set_state({"step": 2})
    minibatch, mask = next(padded)
    assert minibatch["y"].tolist() == [16, 17, 18, 19, 19, 19, 19, 19]
    assert mask.sum() == 4


def test_it_is_sliced_as_its_input_is() -> None:
    padded: Any = padding_map(Minibatches(20, 8))
    minibatch, mask = padded[-1]
    assert (len(minibatch["y"]), int(mask.sum())) == (8, 4)
    assert [len(mask) for _, mask in padded[1:]] == [8, 8]


@pytest.mark.parametrize(
    ("inputs", "size", "message"),
    [
        (
            [np.ones(3)],
            2,
            "a minibatch has 3 rows, more than the 2 of a whole one; pass the largest count as "
            "`minibatch_size`",
        ),
        (
            [{"x": np.ones(3), "y": [np.ones(2)]}],
            None,
            "the leaves of a minibatch must agree in the count of rows: `minibatch['x']` has 3, "
            "`minibatch['y'][0]` has 2",
        ),
        (
            [{"x": 1, "y": np.float32(2)}],
            None,
            "the leaves of a minibatch are all scalars; there are no rows to pad",
        ),
    ],
)
def test_what_cannot_be_padded_is_named(inputs: Any, size: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        list(padding_map(inputs, size))
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("size", "kind", "message"),
    [
        (0, ValueError, "`minibatch_size` must be at least 1, got 0"),
        (-2, ValueError, "`minibatch_size` must be at least 1, got -2"),
        (True, TypeError, "`minibatch_size` must be an integer, got True"),
        (8.0, TypeError, "`minibatch_size` must be an integer, got 8.0"),
    ],
)
def test_a_wrong_size_is_refused_at_once(size: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as raised:
        padding_map([], size)
    assert str(raised.value) == message
