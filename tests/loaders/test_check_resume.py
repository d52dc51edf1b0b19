"""The check of resuming passes what resumes exactly and says what does not."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from fifteen_data_devices import prefetching_map
from fifteen_data_loaders import (
    DataLoader,
    InMemoryDataLoader,
    check_resume,
    cycled_minibatches,
    sample_rng,
)
from fifteen_data_protocols import MinibatchIterator

from tests.loaders.datasets import VARIANTS, FromFunction


def _iterate(load: Callable[[int], Any]) -> MinibatchIterator[Any]:
    return cycled_minibatches(DataLoader(FromFunction(load, 20), 4), 3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_loader_passes(variant: str) -> None:
    """Over several epochs, through a map that reads ahead."""
    loader = VARIANTS[variant](4)
    check_resume(lambda: prefetching_map(cycled_minibatches(loader, 8)), 12)
    if hasattr(loader, "close"):
        loader.close()


@pytest.mark.parametrize(
    "value", [np.nan, -0.0, "text", b"\0", np.datetime64("NaT", "s"), 2**80, (None, {"x": 1j})]
)
def test_values_are_compared_as_they_are(value: Any) -> None:
    check_resume(lambda: _iterate(lambda index: {"index": index, "value": value}), 3)


def test_numbers_of_the_sample_pass() -> None:
    check_resume(lambda: _iterate(lambda index: sample_rng().random()))


def test_jax_keys_are_compared_by_what_they_hold() -> None:
    keys = jax.random.split(jax.random.key(0), 8)
    check_resume(lambda: cycled_minibatches(InMemoryDataLoader(keys, 2), 5), 6)
    load = _changing([1, 2])
    loader = DataLoader(
        FromFunction(load, 20), 1, collate_fn=lambda samples: jax.random.key(samples[0])
    )
    with pytest.raises(AssertionError, match=r"`minibatch` has other values$"):
        check_resume(lambda: cycled_minibatches(loader, None), 1)


def _changing(samples: list[Any]) -> Callable[[int], Any]:
    """Returns the samples one after the other, and then the last."""
    waiting = iter(samples)
    return lambda index: next(waiting, samples[-1])


@pytest.mark.parametrize(
    ("samples", "what"),
    [
        ([1, 2], r"`minibatch` has other values"),
        ([0.0, -0.0], r"`minibatch` has other values"),
        ([{"x": (1, 2)}, {"x": (1, 3)}], r"`minibatch\['x'\]\[1\]` has other values"),
        ([1, 1.0], r"`minibatch` was int64 of shape \(1,\), and is float64 of shape \(1,\) now"),
        (
            [{"x": [1, 2]}, {"x": [1, 2, 3]}],
            r"`minibatch\['x'\]` was a list of length 2, and is a list of length 3 now",
        ),
    ],
)
def test_a_dataset_that_changes_is_found_out(samples: list[Any], what: str) -> None:
    load = _changing(samples)
    with pytest.raises(
        AssertionError,
        match=rf"^minibatch 0 is not the same again when the state before minibatch 0 is "
        rf"resumed: {what}$",
    ):
        check_resume(lambda: cycled_minibatches(DataLoader(FromFunction(load, 1), 1), None), 1)


class _Forgetful:
    """Resumes one minibatch too late."""

    def __init__(self, minibatches: MinibatchIterator[Any]) -> None:
        self._minibatches = minibatches
        self.is_closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._minibatches, name)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self._minibatches)

    def set_state(self, state: dict[str, Any]) -> None:
        self._minibatches.set_state({**state, "step": state["step"] + (state["step"] > 1)})

    def close(self) -> None:
        self._minibatches.close()
        self.is_closed = True


def test_an_iteration_that_resumes_elsewhere_is_found_out_and_closed() -> None:
    made: list[_Forgetful] = []

    def new_iteration() -> Any:
        made.append(_Forgetful(_iterate(lambda index: index)))
        return made[-1]

    with pytest.raises(AssertionError, match=r"^minibatch 2 .* before minibatch 2 is resumed"):
        check_resume(new_iteration)
    assert len(made) == 4
    assert all(iteration.is_closed for iteration in made)


class _Finite:
    def __init__(self, length: int) -> None:
        self.position: Any = 0
        self.length = length

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> int:
        if self.position == self.length:
            raise StopIteration
        self.position += 1
        return self.position

    def get_state(self) -> dict[str, Any]:
        return {"position": self.position}

    def set_state(self, state: dict[str, Any]) -> None:
        self.position = state["position"]

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("lengths", "error"),
    [
        ([2, 2, 2, 2], None),
        ([2, 2, 1, 2], "minibatch 1 .* minibatch 1 .*: the iteration went on there, and ended now"),
        ([2, 2, 2, 3], "minibatch 2 .* minibatch 2 .*: the iteration ended there, and went on now"),
    ],
)
def test_the_end_comes_at_the_same_place(lengths: list[int], error: str | None) -> None:
    remaining = iter(lengths)

    def new_iteration() -> Any:
        return _Finite(next(remaining))

    if error is None:
        check_resume(new_iteration)
        assert list(remaining) == []
    else:
        with pytest.raises(AssertionError, match=f"^{error}$"):
            check_resume(new_iteration)


def test_states_travel_as_json() -> None:
    def new_iteration() -> Any:
        iteration = _Finite(2)
        iteration.position = np.int64(0)
        return iteration

    with pytest.raises(TypeError, match="not JSON serializable"):
        check_resume(new_iteration)


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^`minibatch_count` must be at least 1, got 0$"):
        check_resume(lambda: _iterate(json.dumps), 0)
