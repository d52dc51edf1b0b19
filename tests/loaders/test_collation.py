"""What samples become as a minibatch: the same inline, in threads and in workers."""

from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from fifteen_data_loaders import DataLoader

from tests.loaders.datasets import SAMPLES, FromFunction, Point, assert_same
from tests.loaders.pytrees import PYTREES, Static

KINDS = {**SAMPLES, **PYTREES}

pytestmark = pytest.mark.usefixtures("no_leftovers")


@pytest.fixture(
    params=[
        "threads",
        "workers",
        pytest.param("custom collate in workers", marks=pytest.mark.once),
    ]
)
def other(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Returns a function that makes a loader of another kind than the inline one."""
    kinds: dict[str, dict[str, Any]] = {
        "threads": {"num_threads": 3},
        "workers": {"num_workers": 1},
        "custom collate in workers": {"num_workers": 1, "collate_fn": list},
    }
    options = kinds[request.param]
    made = []

    def make(dataset: Any, minibatch_size: int) -> tuple[Any, Any]:
        inline = {k: v for k, v in options.items() if k == "collate_fn"}
        loader = DataLoader(dataset, minibatch_size, drop_last=False, **options)
        made.append(loader)
        return loader, DataLoader(dataset, minibatch_size, drop_last=False, **inline)

    yield make
    for loader in made:
        loader.close()


@pytest.mark.parametrize("kind", KINDS)
def test_minibatches_do_not_depend_on_what_loads_them(other: Any, kind: str) -> None:
    """Containers, order of keys, dtypes and values are those of inline loading."""
    loader, inline = other(FromFunction(KINDS[kind]), 3)
    for seed in (None, 3):
        for actual, expected in zip(
            loader.minibatches(seed), inline.minibatches(seed), strict=True
        ):
            assert_same(actual, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_are_stacked_as_numpy_does(kind: str) -> None:
    """Every leaf goes through np.asarray, then all through np.stack."""
    samples = [KINDS[kind](index) for index in range(23)]
    is_object = kind == "object"
    expected: Any = (
        np.stack([np.asarray(sample) for sample in samples])
        if is_object
        else jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *samples)
    )
    (minibatch,) = DataLoader(samples, 23).minibatches(None)
    for one, other in zip(
        jax.tree.leaves(minibatch), jax.tree.leaves(expected), strict=not is_object
    ):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    structures: list[Any] = [jax.tree.structure(tree) for tree in (minibatch, expected)]
    assert structures[0] == structures[1]


# Lambdas travel by value: workers need not import this module, and jax with it.
_UNSTACKABLE: dict[str, Callable[[int], Any]] = {
    "shapes": lambda i: {"a": [np.zeros(2 if i < 6 else 3), i]},
    "lists": lambda i: {"tokens": [1] * i},
    "keys": lambda i: {"a": 1} if i < 6 else {"b": 1},
    "containers": lambda i: [np.zeros(2) if i < 6 else (1, 2)],
    "kinds": lambda i: Point(1, (2,) if i < 6 else None),
}
_MISSING: dict[str, Callable[[int], Any]] = {
    "one": lambda i: np.zeros(2) if i < 4 else None,
    "first": lambda i: None if i == 4 else np.zeros(2),
    "all": lambda i: None,
}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "shapes",
            "samples 4 and 6 differ in shape at sample['a'][0]: (2,) against (3,). Stacking needs "
            "equal shapes: pad or crop the samples, or pass a `collate_fn`",
        ),
        (
            "lists",
            "samples 4 and 5 differ in structure at sample['tokens']: a list of length 4 against a "
            "list of length 5. A list is a container, not an array: return np.asarray(...) for a "
            "leaf",
        ),
        (
            "keys",
            "samples 4 and 6 differ in structure at sample: a dict with the keys ['a'] against a "
            "dict with the keys ['b']",
        ),
        (
            "containers",
            "samples 4 and 6 differ in structure at sample[0]: a leaf against a tuple of length 2",
        ),
        (
            "kinds",
            "samples 4 and 6 differ in structure at sample.y: a tuple of length 1 against None",
        ),
    ],
)
@pytest.mark.parametrize("options", [{}, {"num_threads": 2}, {"num_workers": 1}])
def test_samples_that_cannot_be_stacked_are_named(
    kind: str, message: str, options: dict[str, Any]
) -> None:
    with DataLoader(FromFunction(_UNSTACKABLE[kind]), 4, **options) as loader:
        with pytest.raises(ValueError, match=r"^samples 4 and") as raised:
            loader.minibatches(None)[1]
        assert str(raised.value) == message


@pytest.mark.parametrize(
    "statics", [("a", "b"), (np.arange(2), np.arange(2))], ids=["different", "not to be compared"]
)
@pytest.mark.parametrize("options", [{}, {"num_threads": 2}, {"num_workers": 1}])
def test_samples_differ_by_what_is_static(
    statics: tuple[Any, Any], options: dict[str, Any]
) -> None:
    """It is part of the structure, and so is a container of nothing else."""
    samples = [{"x": i, "kind": Static(statics[i // 2])} for i in range(4)]
    with (
        DataLoader(samples, 4, **options) as loader,
        pytest.raises(
            ValueError, match=r"^samples 0 and [12] differ in structure at sample\['kind'\]: "
        ),
    ):
        loader.minibatches(None)[0]


@pytest.mark.parametrize("kind", _MISSING)
@pytest.mark.parametrize("options", [{}, {"num_threads": 2}, {"num_workers": 1}])
def test_a_sample_that_is_none_is_named(kind: str, options: dict[str, Any]) -> None:
    with (
        DataLoader(FromFunction(_MISSING[kind]), 4, **options) as loader,
        pytest.raises(
            ValueError, match=r"^sample 4 is None; a dataset has a sample for every index$"
        ),
    ):
        list(loader.minibatches(None)[1:])


@pytest.mark.parametrize("options", [{}, {"num_threads": 2}, {"num_workers": 1}])
def test_a_mapping_that_is_no_container_is_refused(options: dict[str, Any]) -> None:
    """NumPy would make an array of its keys. Tokenizers return such mappings."""
    dataset = FromFunction(lambda i: [UserDict(a=i)])
    with DataLoader(dataset, 4, **options) as loader:
        for number in range(2):
            with pytest.raises(TypeError) as raised:
                loader.minibatches(None)[number]
            assert str(raised.value) == (
                "a mapping must be a dict or registered with JAX to be stacked, got a UserDict at "
                "sample[0]: return dict(...) of it"
            )


@pytest.mark.parametrize("options", [{}, {"num_threads": 2}, {"num_workers": 1}])
@pytest.mark.parametrize("dtype", ["i8", "i8,f4"])
def test_a_mask_is_not_lost_in_silence(dtype: str, options: dict[str, Any]) -> None:
    """As it would be by np.asarray(). An array that could have a mask and has none is another."""

    def load(index: int) -> Any:
        sample = np.ma.zeros(2, dtype)
        if index == 5:
            sample[1] = np.ma.masked
        return [sample]

    with DataLoader(FromFunction(load), 2, **options) as loader:
        iteration = iter(loader.minibatches(None))
        for number in range(11):
            if number == 2:
                with pytest.raises(TypeError) as raised:
                    next(iteration)
                assert str(raised.value) == (
                    "a masked array cannot be stacked without losing its mask, got one at "
                    "sample[0] of sample 5: return its data and its mask as two leaves, or pass a "
                    "`collate_fn`"
                )
            else:
                assert_same(next(iteration), [np.zeros((2, 2), dtype)])


@pytest.mark.parametrize("options", [{}, {"num_threads": 2}, {"num_workers": 1}])
def test_a_collate_fn_may_return_masks(options: dict[str, Any]) -> None:
    dataset = FromFunction(lambda i: np.ma.masked_equal([1, i], 3))
    with DataLoader(dataset, 4, collate_fn=np.ma.stack, **options) as loader:
        minibatch = loader.minibatches(None)[0]
    assert minibatch.mask.tolist() == [[False, False]] * 3 + [[False, True]]


@pytest.mark.parametrize("options", [{}, {"num_threads": 2}])
def test_what_is_no_array_is_named(options: dict[str, Any]) -> None:
    dataset = [{"key": key} for key in jax.random.split(jax.random.key(0), 4)]
    with DataLoader(dataset, 4, **options) as loader, pytest.raises(TypeError) as raised:
        loader.minibatches(None)[0]
    assert raised.value.__notes__[0] == ("Raised by np.asarray() while stacking sample['key'].")
