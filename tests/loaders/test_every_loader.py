"""One contract, held against every kind of loader."""

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, InMemoryDataLoader, cycled_minibatches
from fifteen_data_protocols import DataLoaderProtocol, Minibatches, MinibatchIterator, SizedIterable

from tests.loaders.datasets import SAMPLE_COUNT, VARIANTS, Squares, assert_same

pytestmark = pytest.mark.usefixtures("no_leftovers")


class _Makes:
    """Makes loaders of one kind and closes them."""

    def __init__(self, variant: str) -> None:
        self._variant = variant
        self._made: list[Any] = []

    def __call__(self, minibatch_size: int = 4, **kwargs: Any) -> Any:
        loader = VARIANTS[self._variant](minibatch_size, **kwargs)
        self._made.append(loader)
        return loader

    def close(self) -> None:
        for loader in self._made:
            if isinstance(loader, DataLoader):
                loader.close()


_ONCE = {"batched in workers", "threads in workers"}


@pytest.fixture(
    params=[
        pytest.param(variant, marks=pytest.mark.once if variant in _ONCE else ())
        for variant in VARIANTS
    ]
)
def make(request: pytest.FixtureRequest, no_leftovers: None) -> Iterator[_Makes]:
    """Returns a function that makes a loader of the 23 `Squares`."""
    makes = _Makes(request.param)
    yield makes
    makes.close()


def indices(minibatch: Any) -> list[int]:
    """Returns which samples a minibatch consists of."""
    return np.sqrt(minibatch["y"]).astype(int).tolist()


def test_satisfies_the_protocols(make: _Makes) -> None:
    loader = make()
    assert isinstance(loader, DataLoaderProtocol)
    assert isinstance(loader.minibatches(None), SizedIterable)
    assert isinstance(loader.minibatches(None), Minibatches)
    assert isinstance(cycled_minibatches(loader, None), MinibatchIterator)


@pytest.mark.parametrize("drop_last", [True, False])
def test_without_a_seed_samples_come_in_order(make: _Makes, drop_last: bool) -> None:
    loader = make(drop_last=drop_last)
    expected = [list(range(i, i + 4)) for i in range(0, 20, 4)]
    if not drop_last:
        expected.append([20, 21, 22])
    assert [indices(minibatch) for minibatch in loader.minibatches(None)] == expected
    assert loader.minibatch_count() == len(loader.minibatches(None)) == len(expected)


@pytest.mark.parametrize("drop_last", [True, False])
def test_shuffled_minibatches_are_those_of_the_reference(make: _Makes, drop_last: bool) -> None:
    reference = DataLoader(Squares(), 4, drop_last=drop_last)
    loader = make(drop_last=drop_last)
    for seed in (0, 1, 2**63 - 1):
        for actual, expected in zip(
            loader.minibatches(seed), reference.minibatches(seed), strict=True
        ):
            assert_same(actual, expected)


def test_every_sample_comes_once_per_epoch(make: _Makes) -> None:
    loader = make(drop_last=False)
    for seed in (None, 0, 7):
        samples = [index for minibatch in loader.minibatches(seed) for index in indices(minibatch)]
        assert sorted(samples) == list(range(SAMPLE_COUNT))


def test_seeds_give_orders_of_their_own_and_the_same_again(make: _Makes) -> None:
    loader = make()
    orders = [[indices(m) for m in loader.minibatches(seed)] for seed in (None, 0, 1, 0)]
    assert orders[1] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_numpy_integers_are_seeds(make: _Makes) -> None:
    loader = make()
    assert indices(loader.minibatches(np.uint32(5))[0]) == indices(loader.minibatches(5)[0])


def test_minibatches_can_be_indexed_and_sliced(make: _Makes) -> None:
    loader = make(drop_last=False)
    minibatches = loader.minibatches(3)
    whole = [indices(minibatch) for minibatch in minibatches]
    assert [indices(minibatches[i]) for i in range(-6, 6)] == whole + whole
    for where in (slice(2, None), slice(None, -1), slice(1, 5, 2), slice(None, None, -1)):
        part = minibatches[where]
        assert len(part) == len(whole[where])
        assert [indices(minibatch) for minibatch in part] == whole[where]
        assert [indices(minibatch) for minibatch in part[1:]] == whole[where][1:]


@pytest.mark.parametrize("index", [6, -7, 10**30])
def test_an_index_out_of_range_is_refused(make: _Makes, index: int) -> None:
    with pytest.raises(IndexError) as raised:
        make(drop_last=False).minibatches(None)[index]
    assert str(raised.value) == f"minibatch index must be in [-6, 6), got {index}"


def test_an_index_that_is_no_integer_is_refused(make: _Makes) -> None:
    with pytest.raises(TypeError) as raised:
        make().minibatches(None)["a"]
    assert str(raised.value) == "minibatch index must be an integer or a slice, got 'a'"


def test_every_iteration_starts_anew_after_an_early_break(make: _Makes) -> None:
    loader = make()
    minibatches = loader.minibatches(1)
    whole = [indices(minibatch) for minibatch in minibatches]
    for stop in range(4):
        for position, minibatch in enumerate(minibatches):
            assert indices(minibatch) == whole[position]
            if position == stop:
                break
        assert [indices(minibatch) for minibatch in loader.minibatches(1)] == whole


def test_nested_and_interleaved_iterations_do_not_mix(make: _Makes) -> None:
    loader = make()
    whole = {seed: [indices(m) for m in loader.minibatches(seed)] for seed in range(3)}
    for position, minibatch in enumerate(loader.minibatches(0)):
        assert indices(minibatch) == whole[0][position]
        assert [indices(m) for m in loader.minibatches(1)] == whole[1]
    interleaved = zip(loader.minibatches(1), loader.minibatches(2), strict=True)
    assert [(indices(a), indices(b)) for a, b in interleaved] == list(
        zip(whole[1], whole[2], strict=True)
    )


def test_minibatches_are_the_callers_own(make: _Makes) -> None:
    """Every minibatch of three epochs is held, and changing one changes no other."""
    loader = make()
    held = [minibatch for seed in (0, 1, 2) for minibatch in loader.minibatches(seed)]
    expected = copy.deepcopy(held)
    for minibatch, wanted in zip(held, expected, strict=True):
        assert_same(minibatch, wanted)
        minibatch["x"][:] = -1
    again = [minibatch for seed in (0, 1, 2) for minibatch in loader.minibatches(seed)]
    for minibatch, wanted in zip(again, expected, strict=True):
        assert_same(minibatch, wanted)


def test_minibatches_start_on_the_alignment_that_jax_aliases(make: _Makes) -> None:
    for minibatch in make().minibatches(0):
        for leaf in minibatch.values():
            assert leaf.ctypes.data % 64 == 0


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("shard_count", [1, 2, 4])
def test_shards_put_together_are_the_whole(make: _Makes, shard_count: int, drop_last: bool) -> None:
    """Also where the short last minibatch leaves a shard nothing but the shape of its leaves."""
    shards = [
        make(drop_last=drop_last, shard_index=index, shard_count=shard_count).minibatches(5)
        for index in range(shard_count)
    ]
    for whole, *parts in zip(make(drop_last=drop_last).minibatches(5), *shards, strict=True):
        for name, leaf in whole.items():
            together = np.concatenate([part[name] for part in parts])
            assert all(part[name].dtype == leaf.dtype for part in parts)
            np.testing.assert_array_equal(together, leaf)


def test_pickled_and_copied_loaders_give_the_same(make: _Makes) -> None:
    loader = make()
    for other in (pickle.loads(pickle.dumps(loader)), copy.deepcopy(loader)):
        for actual, expected in zip(other.minibatches(3), loader.minibatches(3), strict=True):
            assert_same(actual, expected)
        if isinstance(other, DataLoader):
            other.close()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_iteration_is_not_duplicated(make: _Makes, duplicate: Callable[[Any], Any]) -> None:
    """Two that share what is loaded ahead would each get a part of the minibatches."""
    loader = make()
    for iteration in (iter(loader.minibatches(None)), cycled_minibatches(loader, None)):
        with pytest.raises(TypeError) as raised:
            duplicate(iteration)
        assert str(raised.value) == (
            "a running iteration cannot be copied or pickled: begin another one, or save the state "
            "of `cycled_minibatches(...)`"
        )


def test_a_loader_is_compared_by_identity(make: _Makes) -> None:
    loader = make()
    assert loader == loader
    assert loader != make()
    assert len({loader, make()}) == 2


def test_a_loader_is_frozen(make: _Makes) -> None:
    with pytest.raises(AttributeError, match="cannot assign to field 'minibatch_size'"):
        make().minibatch_size = 3


def test_too_few_samples_for_a_minibatch_are_warned_of(make: _Makes) -> None:
    with pytest.warns(UserWarning, match="there are no minibatches") as warned:
        loader = make(24)
    (warning,) = warned
    assert str(warning.message) == (
        "there are no minibatches: `drop_last` is True and the dataset's 23 sample(s) are fewer "
        "than `minibatch_size`=24"
    )
    assert warning.filename.endswith("datasets.py")
    assert len(loader.minibatches(None)) == loader.minibatch_count() == 0
    assert list(loader.minibatches(None)) == []
    with pytest.raises(ValueError, match="`dataloader` must have at least one minibatch"):
        cycled_minibatches(loader, 0)


def test_a_minibatch_may_be_larger_than_the_dataset(make: _Makes) -> None:
    (minibatch,) = make(24, drop_last=False).minibatches(None)
    assert indices(minibatch) == list(range(SAMPLE_COUNT))


def test_cycled_minibatches_count_the_seed_up(make: _Makes) -> None:
    loader = make()
    expected = [indices(m) for seed in (8, 9, 10) for m in loader.minibatches(seed)]
    train = cycled_minibatches(loader, 8)
    assert [indices(next(train)) for _ in expected] == expected
    train.close()


def test_cycled_minibatches_resume_anywhere(make: _Makes) -> None:
    loader = make()
    train = cycled_minibatches(loader, 8)
    steps = [(train.get_state(), indices(next(train))) for _ in range(12)]
    for step, (state, expected) in enumerate(steps):
        assert state["step"] == step
        train.set_state(state)
        assert indices(next(train)) == expected
        other = cycled_minibatches(loader, 8, start_step=step)
        assert indices(next(other)) == expected
        other.close()
    train.close()


def test_a_million_steps_are_no_way(make: _Makes) -> None:
    loader = make()
    train = cycled_minibatches(loader, 8, start_step=1_000_003)
    epoch, position = divmod(1_000_003, 5)
    assert indices(next(train)) == indices(loader.minibatches(8 + epoch)[position])
    train.close()


def test_closing_an_iteration_ends_it_in_whichever_thread_it_is(make: _Makes) -> None:
    """The other thread gets what is right, and then no more."""
    loader = make()
    whole = [indices(m) for seed in range(3) for m in loader.minibatches(seed)]
    for _ in range(5):
        train = cycled_minibatches(loader, 0)
        received: list[list[int]] = []
        begun = threading.Event()

        def consume(train: Any = train, received: Any = received, begun: Any = begun) -> None:
            for minibatch in train:
                received.append(indices(minibatch))
                begun.set()

        thread = threading.Thread(target=consume)
        thread.start()
        begun.wait()
        train.close()
        thread.join()
        assert received[: len(whole)] == whole[: len(received)]


def test_an_iteration_that_was_begun_goes_on_when_its_loader_is_dropped(make: _Makes) -> None:
    expected = [indices(m) for m in make().minibatches(4)]
    variant = VARIANTS[make._variant]
    iteration = iter(variant(4).minibatches(4))
    assert [indices(m) for m in iteration] == expected


def test_repr_leaves_the_content_out() -> None:
    loader = DataLoader(Squares(), 4, drop_last=False, num_threads=2)
    assert repr(loader) == (
        "DataLoader(dataset=<Squares of 23 samples>, minibatch_size=4, drop_last=False, "
        "num_threads=2)"
    )
    assert repr(InMemoryDataLoader(np.zeros((5, 2)), 2)) == (
        "InMemoryDataLoader(dataset=<5 samples>, minibatch_size=2, drop_last=True, "
        "shard_index=0, shard_count=1)"
    )
    loader.close()
