"""`cycled_minibatches`: epochs without end, and their state."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, InMemoryDataLoader, cycled_minibatches

from tests.loaders.datasets import Squares

pytestmark = pytest.mark.usefixtures("no_leftovers")


class Strangers:
    """A loader that keeps to the protocol and nothing more."""

    minibatch_size = 2

    def __init__(self, count: int = 3, *, said: int | None = None) -> None:
        self.count = count
        self.said = count if said is None else said
        self.seeds: list[int | None] = []

    def minibatch_count(self) -> int:
        return self.said

    def minibatches(self, shuffle_seed: int | None) -> Sequence[tuple[int | None, int]]:
        self.seeds.append(shuffle_seed)
        return [(shuffle_seed, position) for position in range(self.count)]


def _take(iterator: Any, count: int) -> list[Any]:
    return [next(iterator) for _ in range(count)]


def test_none_stays_unshuffled() -> None:
    train = cycled_minibatches(InMemoryDataLoader(np.arange(4), 2), None)
    assert [m.tolist() for m in _take(train, 5)] == [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1]]


def test_any_loader_is_cycled_and_its_seed_counted_up() -> None:
    train = cycled_minibatches(Strangers(), 5)
    assert _take(train, 7) == [(5, 0), (5, 1), (5, 2), (6, 0), (6, 1), (6, 2), (7, 0)]


def test_any_loader_is_resumed_by_skipping() -> None:
    train = cycled_minibatches(Strangers(), 5)
    for step, expected in enumerate(_take(cycled_minibatches(Strangers(), 5), 8)):
        state = train.get_state()
        assert state["step"] == step
        assert next(train) == expected
        train.set_state(state)
        assert next(train) == expected
        assert next(cycled_minibatches(Strangers(), 5, start_step=step)) == expected


def test_skipping_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Once, when it begins, and not where an epoch begins or the loader can begin anywhere."""
    next(cycled_minibatches(DataLoader(Squares(), 4), 5, start_step=7))
    next(cycled_minibatches(Strangers(), 5, start_step=6))
    assert caplog.messages == []
    _take(cycled_minibatches(Strangers(), 5, start_step=8), 5)
    assert caplog.messages == [
        "a Strangers cannot begin inside an epoch: loading and dropping 2 minibatches to get to "
        "step 8"
    ]
    assert caplog.records[0].levelname == "WARNING"


def test_a_shorter_epoch_than_was_said_is_followed_by_the_next() -> None:
    train = cycled_minibatches(Strangers(2, said=3), 5)
    assert _take(train, 4) == [(5, 0), (5, 1), (6, 0), (6, 1)]


def test_an_epoch_that_ends_after_an_error_is_not_passed_over_in_silence() -> None:
    class Fails(Strangers):
        def minibatches(self, shuffle_seed: int | None) -> Any:
            for number, minibatch in enumerate(super().minibatches(shuffle_seed)):
                if (shuffle_seed, number) == (5, 1):
                    raise OSError("disk")
                yield minibatch

    train = cycled_minibatches(Fails(4), 5)
    assert next(train) == (5, 0)
    with pytest.raises(OSError, match="disk"):
        next(train)
    with pytest.raises(RuntimeError, match=r"without its last 3 minibatch\(es\)"):
        next(train)
    assert train.get_state()["step"] == 4
    assert _take(train, 2) == [(6, 0), (6, 1)]


def test_an_epoch_without_minibatches_is_no_endless_loop() -> None:
    loader = Strangers(0, said=3)
    with pytest.raises(RuntimeError, match="but an epoch had none"):
        next(cycled_minibatches(loader, 5))


@pytest.mark.parametrize("loader", [Strangers(0), InMemoryDataLoader(np.arange(3), 3, True)])
def test_a_loader_without_minibatches_is_refused(loader: Any) -> None:
    if isinstance(loader, InMemoryDataLoader):
        with pytest.warns(UserWarning, match="there are no minibatches"):
            loader = InMemoryDataLoader(np.arange(3), 4)
    with pytest.raises(ValueError, match="`dataloader` must have at least one minibatch per epoch"):
        cycled_minibatches(loader, 0)


def test_a_subclass_with_minibatches_of_its_own_is_asked_for_them() -> None:
    class Reversed(InMemoryDataLoader[Any]):
        def minibatches(self, shuffle_seed: int | None) -> Any:
            return super().minibatches(shuffle_seed)[::-1]

    train = cycled_minibatches(Reversed(np.arange(4), 2), None)
    assert [m.tolist() for m in _take(train, 3)] == [[2, 3], [0, 1], [2, 3]]


def test_maps_learn_of_the_shards_of_a_subclass() -> None:
    class Changed(InMemoryDataLoader[Any]):
        def minibatches(self, shuffle_seed: int | None) -> Any:
            return super().minibatches(shuffle_seed)

    train: Any = cycled_minibatches(Changed(np.arange(8), 4, shard_index=1, shard_count=2), None)
    assert (train.shard_index, train.shard_count, train.minibatch_size) == (1, 2, 4)
    # Without shards, it is not for us to say which rows a loader loads.
    assert not hasattr(cycled_minibatches(Strangers(2), None), "shard_index")


def test_the_state_is_small_and_fit_for_json() -> None:
    train = cycled_minibatches(DataLoader(Squares(), 4), 2**63 - 1)
    next(train)
    state = train.get_state()
    assert state == {
        "version": 1,
        "step": 1,
        "shuffle_seed": 2**63 - 1,
        "sample_count": 23,
        "minibatch_size": 4,
        "drop_last": True,
    }
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 1000


def test_a_state_fits_any_count_of_workers_and_shards() -> None:
    train = cycled_minibatches(DataLoader(Squares(), 4), 3)
    _take(train, 7)
    state = train.get_state()
    expected = next(train)["y"]
    with DataLoader(Squares(), 4, num_workers=1, shard_index=1, shard_count=2) as loader:
        other = cycled_minibatches(loader, 3)
        other.set_state(state)
        np.testing.assert_array_equal(next(other)["y"], expected[2:])
        other.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shuffle_seed": 4}, "`shuffle_seed` is 4 there and 3 here"),
        ({"shuffle_seed": None}, "`shuffle_seed` is None there and 3 here"),
        ({"sample_count": 24}, "`sample_count` is 24 there and 23 here"),
        ({"minibatch_size": 8}, "`minibatch_size` is 8 there and 4 here"),
        ({"drop_last": False}, "`drop_last` is False there and True here"),
        ({"version": 2}, "`version` is 2 there and 1 here"),
    ],
)
def test_a_state_of_other_data_is_refused(change: dict[str, Any], message: str) -> None:
    train = cycled_minibatches(DataLoader(Squares(), 4), 3)
    with pytest.raises(ValueError, match="`state` does not belong") as raised:
        train.set_state({**train.get_state(), **change})
    assert str(raised.value) == f"`state` does not belong to this iteration: {message}"


def test_a_state_of_another_version_may_look_otherwise() -> None:
    """A later release may keep other things in it; the message is of the version all the same."""
    train = cycled_minibatches(DataLoader(Squares(), 4), 3)
    with pytest.raises(ValueError, match="`version` is 2 there and 1 here"):
        train.set_state({"version": 2, "position": [3, 4]})


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ("3", TypeError, "`state['step']` must be an integer, got '3'"),
        (None, TypeError, "`state['step']` must be an integer, got None"),
        (2.0, TypeError, "`state['step']` must be an integer, got 2.0"),
        (-1, ValueError, "`state['step']` must be at least 0, got -1"),
    ],
)
def test_a_step_that_is_none_is_refused_and_nothing_moves(
    step: Any, error: type[Exception], message: str
) -> None:
    train = cycled_minibatches(DataLoader(Squares(), 4), 3)
    next(train)
    before = train.get_state()
    with pytest.raises(error) as raised:
        train.set_state({**before, "step": step})
    assert str(raised.value) == message
    assert train.get_state() == before


@pytest.mark.parametrize(
    "state", [None, 5, "state", {}, {"step": 3}, [("step", 3)], {"version": 1, "step": 3}]
)
def test_what_is_no_state_is_refused(state: Any) -> None:
    train = cycled_minibatches(DataLoader(Squares(), 4), 3)
    with pytest.raises(TypeError) as raised:
        train.set_state(state)
    assert str(raised.value) == (
        "`state` must be what get_state() returned, a dict with the keys ['version', 'step', "
        f"'shuffle_seed', 'sample_count', 'minibatch_size', 'drop_last'], got {state!r}"
    )


@pytest.mark.parametrize("make", [Strangers, lambda: DataLoader(Squares(), 4)])
def test_a_closed_iteration_is_over(make: Any) -> None:
    train = cycled_minibatches(make(), 0)
    next(train)
    train.close()
    train.close()
    with pytest.raises(StopIteration):
        next(train)
