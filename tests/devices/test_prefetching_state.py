import copy
import pickle
from typing import Any

import pytest
from fifteen_data_devices import prefetching_map

from tests.devices.stand_ins import Counter, Minibatches

BUFFER_SIZES = [1, 2, 5]


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_the_state_is_that_of_the_minibatch_received(buffer_size: int) -> None:
    inputs = Counter()
    train = prefetching_map(inputs, buffer_size=buffer_size)
    assert train.get_state() == {"step": 0}
    for step in range(1, 10):
        next(train)
        inputs.wait_for(step + buffer_size - 1)
        assert train.get_state() == {"step": step}


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES[1:])
def test_after_an_error_the_state_is_the_one_before_it(buffer_size: int) -> None:
    """So that a state saved while a program fails tries the failed minibatch again."""

    class Failing(Counter):
        def __next__(self) -> int:
            if super().__next__() in (0, 3):
                raise LookupError
            return self.step - 1

    train = prefetching_map(Failing(), buffer_size=buffer_size)
    with pytest.raises(LookupError):
        next(train)
    assert train.get_state() == {"step": 0}
    assert [next(train), next(train)] == [1, 2]
    with pytest.raises(LookupError):
        next(train)
    assert train.get_state() == {"step": 3}


def test_a_state_that_the_input_goes_on_changing_is_kept() -> None:
    class Sloppy(Counter):
        def __init__(self) -> None:
            super().__init__()
            self.state: dict[str, Any] = {"inner": {"step": 0}}

        def __next__(self) -> int:
            self.state["inner"]["step"] += 1
            return super().__next__()

        def get_state(self) -> dict[str, Any]:
            return self.state

    inputs = Sloppy()
    train = prefetching_map(inputs, buffer_size=4)
    next(train)
    inputs.wait_for(4)
    assert train.get_state() == {"inner": {"step": 1}}


def test_a_state_need_not_be_a_dict() -> None:
    class Opaque(Counter):
        def get_state(self) -> Any:
            return str(self.step).encode()

    train: Any = prefetching_map(Opaque())
    next(train)
    assert train.get_state() == b"1"


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_setting_the_state_drops_what_was_read_ahead(buffer_size: int) -> None:
    inputs = Counter(20)
    train = prefetching_map(inputs, buffer_size=buffer_size)
    assert [next(train) for _ in range(5)] == [0, 1, 2, 3, 4]
    train.set_state({"step": 2})
    assert train.get_state() == {"step": 2}
    assert [next(train) for _ in range(3)] == [2, 3, 4]
    train.set_state({"step": 18})
    assert list(train) == [18, 19]
    train.set_state({"step": 19})
    assert list(train) == [19]


def test_a_state_that_is_refused_loses_nothing() -> None:
    class Refusing(Counter):
        def set_state(self, state: dict[str, Any], /) -> None:
            raise ValueError("refused")

    inputs = Refusing(8)
    train = prefetching_map(inputs, buffer_size=4)
    assert next(train) == 0
    inputs.wait_for(4)
    with pytest.raises(ValueError, match=r"^refused$"):
        train.set_state({"step": 3})
    assert list(train) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_an_input_without_a_state_is_named(buffer_size: int) -> None:
    train = prefetching_map(prefetching_map(i for i in range(3)), buffer_size=buffer_size)
    assert next(train) == 0
    for method in (train.get_state, lambda: train.set_state({})):
        with pytest.raises(TypeError, match=r"and a `generator` has no `[gs]et_state\(\)`; map"):
            method()
    assert list(train) == [1, 2]


def test_shards_and_sizes_are_carried() -> None:
    for inputs in (minibatches := Minibatches(64, 8, 1, 4), iter(minibatches)):
        carrying: Any = prefetching_map(inputs)
        assert carrying.shard_index == 1
        assert carrying.shard_count == 4
        assert carrying.minibatch_size == 8
    assert not hasattr(prefetching_map([1]), "shard_index")


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_running_map_is_not_duplicated(buffer_size: int, duplicate: Any) -> None:
    """Two that share what is read ahead would each get a part of the minibatches."""
    with pytest.raises(TypeError) as raised:
        duplicate(prefetching_map(Counter(), buffer_size=buffer_size))
    assert str(raised.value) == (
        "a running map cannot be copied or pickled: begin another one, or save its state"
    )
