"""`sample_rng()`: the same numbers wherever a sample is loaded, and others everywhere else."""

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders._sample_rng import MinibatchScope, SampleScope, sample_rng
from hypothesis import given
from hypothesis import strategies as st


def raw(rng: np.random.Generator, count: int = 3) -> list[int]:
    return [int(word) for word in rng.bit_generator.random_raw(count)]


def of_sample(shuffle_seed: int | None, index: int) -> list[int]:
    """The first numbers of a sample that is loaded alone."""
    with SampleScope(shuffle_seed) as scope:
        scope.index = index
        return raw(sample_rng())


def of_minibatch(shuffle_seed: int | None, number: int, shard: int = 0) -> list[int]:
    """The first numbers in a `collate_fn`."""
    with MinibatchScope(shuffle_seed, number, shard):
        return raw(sample_rng())


@pytest.fixture(autouse=True)
def _outside_of_a_loader_in_the_end() -> Iterator[None]:
    yield
    with pytest.raises(RuntimeError):
        sample_rng()


# One sample.


def test_every_call_within_a_sample_returns_the_same_generator() -> None:
    """With and without the index, which continues where it was."""
    with SampleScope(3) as scope:
        scope.index = 5
        rng = sample_rng()
        assert sample_rng() is rng
        assert sample_rng(5) is rng
        assert sample_rng(np.int64(5)) is rng  # type: ignore[arg-type]  # At run time it may be.


def test_the_generator_continues_within_a_sample() -> None:
    """Two draws of two calls are the draws of one."""
    with SampleScope(3) as scope:
        scope.index = 5
        assert raw(sample_rng(), 2) + raw(sample_rng(), 4) == raw(same_stream(3, 5), 6)


def same_stream(shuffle_seed: int | None, index: int) -> np.random.Generator:
    with SampleScope(shuffle_seed):
        return sample_rng(index)


@given(st.permutations(range(8)), st.sampled_from([None, 0, 4]))
def test_numbers_do_not_depend_on_how_samples_are_shared_out(
    indices: list[int], shuffle_seed: int | None
) -> None:
    """In any order, in one run or in several, each sample gets its own numbers."""
    found = {}
    for run in (indices[:3], indices[3:]):
        with SampleScope(shuffle_seed) as scope:
            for index in run:
                scope.index = index
                found[index] = raw(sample_rng())
    assert found == {index: of_sample(shuffle_seed, index) for index in range(8)}


def test_a_sample_that_is_loaded_again_starts_anew() -> None:
    """Even with the same shuffle seed, since it is the same sample."""
    assert of_sample(2, 7) == of_sample(2, 7)


def test_every_epoch_has_its_own_numbers() -> None:
    """A shuffle seed selects the numbers along with the order."""
    assert of_sample(0, 7) != of_sample(1, 7)


def test_no_shuffle_seed_is_not_seed_0() -> None:
    """Without a shuffle seed the numbers are of their own, and repeat every epoch."""
    assert of_sample(None, 7) == of_sample(None, 7)
    assert of_sample(None, 7) != of_sample(0, 7)


def test_a_seed_may_count_up_past_its_range() -> None:
    """Epochs count seeds up, and the greatest has successors too."""
    seeds = (0, 2**63 - 1, 2**63, 2**64 - 1)
    assert len({tuple(of_sample(seed, 0)) for seed in seeds}) == 4
    assert of_sample(2**64 + 1, 0) == of_sample(1, 0)


def test_another_samples_generator_is_not_continued_by_that_sample() -> None:
    """A mixing dataset may ask for its partner's, and neither notices who came first."""
    with SampleScope(3) as scope:
        scope.index = 0
        partner = sample_rng(1)
        assert sample_rng(1) is partner
        assert raw(partner) == of_sample(3, 1)
        scope.index = 1
        assert raw(sample_rng()) == of_sample(3, 1)
        assert raw(sample_rng(0)) == of_sample(3, 0)


# Several samples at once, and none.


def test_each_index_of_a_run_has_a_continuing_generator() -> None:
    """In `__getitems__()`, whose calls may be interleaved."""
    with SampleScope(3):
        first = {index: raw(sample_rng(index)) for index in (4, 2)}
        then = {index: raw(sample_rng(index)) for index in (2, 4)}
    for index in (2, 4):
        assert first[index] == of_sample(3, index)
        assert first[index] + then[index] == raw(same_stream(3, index), 6)


def test_a_run_of_several_samples_needs_an_index() -> None:
    """The message says what to pass."""
    with SampleScope(3), pytest.raises(RuntimeError) as caught:
        sample_rng()
    assert str(caught.value) == (
        "`sample_rng()` needs an index in `__getitems__()`, where several samples are being "
        "loaded; pass the index of each: sample_rng(index)"
    )


def test_outside_of_a_loader_an_index_is_needed() -> None:
    """The message says what to pass."""
    with pytest.raises(RuntimeError) as caught:
        sample_rng()
    assert str(caught.value) == (
        "`sample_rng()` needs an index outside of a data loader, where no sample is being "
        "loaded; pass the index of the sample: sample_rng(index)"
    )


def test_outside_of_a_loader_numbers_are_those_of_no_shuffle_seed() -> None:
    """So that a dataset can be tried by hand; every call starts anew."""
    assert raw(sample_rng(7)) == of_sample(None, 7)
    assert raw(sample_rng(7)) == of_sample(None, 7)


# A minibatch.


def test_a_minibatch_has_a_continuing_generator() -> None:
    """In a `collate_fn`."""
    with MinibatchScope(3, 2, 0):
        assert sample_rng() is sample_rng()
        assert raw(sample_rng(), 3) == of_minibatch(3, 2)


def test_minibatches_differ_by_seed_number_and_shard() -> None:
    """Each of the three selects the numbers, and none stands for another."""
    keys = [(seed, number, shard) for seed in (None, 0, 1) for number in (0, 1) for shard in (0, 1)]
    assert len({tuple(of_minibatch(*key)) for key in keys}) == len(keys)
    assert of_minibatch(1, 0) == of_minibatch(1, 0)


@pytest.mark.parametrize("shuffle_seed", [None, 0, 3])
def test_minibatches_and_samples_have_nothing_in_common(shuffle_seed: int | None) -> None:
    """Minibatch 3 does not repeat the numbers of sample 3."""
    samples = {of_sample(shuffle_seed, index)[0] for index in range(50)}
    minibatches = {of_minibatch(shuffle_seed, number)[0] for number in range(50)}
    assert len(samples | minibatches) == 100


def test_a_minibatch_can_ask_for_the_generator_of_a_sample() -> None:
    """It is the sample's for this shuffle seed, apart from the minibatch's."""
    with MinibatchScope(3, 2, 0):
        assert raw(sample_rng(5)) == of_sample(3, 5)
        assert sample_rng(5) is sample_rng(5)
        assert sample_rng(2) is not sample_rng()


# Nested, and in threads.


def test_a_sample_may_load_samples_of_its_own() -> None:
    """Within the inner loader's samples its seed and index count; then the outer's continue."""
    with SampleScope(3) as outer:
        outer.index = 5
        rng = sample_rng()
        with SampleScope(None) as inner:
            inner.index = 8
            assert raw(sample_rng()) == of_sample(None, 8)
            with MinibatchScope(4, 0):
                assert raw(sample_rng()) == of_minibatch(4, 0)
            assert sample_rng() is not rng
        assert sample_rng() is rng


def test_an_exception_leaves_the_scope() -> None:
    """The outer sample's generator is current again after the inner loader failed."""
    with SampleScope(3) as outer:
        outer.index = 5
        rng = sample_rng()
        with pytest.raises(KeyError), SampleScope(3):
            raise KeyError
        assert sample_rng() is rng


def test_threads_have_scopes_of_their_own() -> None:
    """Two threads that load samples at the same time do not see each other's."""
    barrier = threading.Barrier(2)
    found = {}

    def load(index: int) -> None:
        with SampleScope(3) as scope:
            scope.index = index
            barrier.wait()
            found[index] = raw(sample_rng())
            barrier.wait()

    with SampleScope(9):
        threads = [threading.Thread(target=load, args=(index,)) for index in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {index: of_sample(3, index) for index in (0, 1)}


# The numbers.


@pytest.mark.parametrize(
    ("shuffle_seed", "index", "expected"),
    [
        (None, 0, [5030876841530782718, 56120888064754936, 12116294038583488764]),
        (None, 12345, [9876979937998465262, 14265099856115892515, 3185619309843309329]),
        (0, 0, [14733549498008689982, 14454845563125845095, 17330449545267331006]),
        (0, 10**12, [16378850979130043928, 12795120970341451928, 1873287762323804711]),
        (1, 0, [2816153555411962490, 11155907077983407503, 4963492304061295600]),
        (2**63 - 1, 0, [1290018510049280542, 14804389892654673847, 15077656214839509998]),
        (2**63 - 1, 10**12, [8317242979797869208, 16435688361152912704, 4006834954226082727]),
    ],
)
def test_numbers_of_samples_never_change(
    shuffle_seed: int | None, index: int, expected: list[int]
) -> None:
    """Results of this release, which every platform and later release must repeat."""
    assert of_sample(shuffle_seed, index) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((None, 0, 0), [15516063688185609516, 16090909787055204704, 17781167145714843372]),
        ((0, 0, 0), [13914952847049839281, 531678169939675416, 7483082886252911525]),
        ((0, 1, 0), [5561173131462543380, 5283405046561362789, 12399572927040004576]),
        ((0, 0, 1), [4664919551487748158, 13152199591824787210, 15176826562349505878]),
        ((7, 3, 2), [12368719011565429105, 10205978109398892131, 11017367815566787358]),
    ],
)
def test_numbers_of_minibatches_never_change(key: Any, expected: list[int]) -> None:
    """Results of this release, which every platform and later release must repeat."""
    assert of_minibatch(*key) == expected


def test_neighbouring_streams_are_unrelated() -> None:
    """First numbers of 64 seeds times 64 indices look like one stream of random numbers."""
    first = np.array(
        [[of_sample(seed, index)[:1] for index in range(64)] for seed in range(64)], np.uint64
    ).reshape(64, 64)
    assert len(np.unique(first)) == first.size
    # A bit of one number equals that of a neighbour, by index or by seed, as often as not: the
    # count of 64 bits that differ has mean 32 and standard deviation 4.
    for axis in (0, 1):
        differing = first ^ np.roll(first, 1, axis)
        bits = np.unpackbits(differing.view(np.uint8)).reshape(first.size, 64)
        assert abs(bits.sum(1).mean() - 32) < 4.5 * 4 / first.size**0.5
        assert 3.8 < bits.sum(1).std() < 4.2
        # No bit in particular is the same or differs.
        assert np.abs(bits.mean(0) - 0.5).max() < 4.5 * 0.5 / first.size**0.5
    # Chi-squared with 255 degrees of freedom is within these bounds but for 2e-5.
    for byte in np.moveaxis(first.view(np.uint8).reshape(-1, 8), 1, 0):
        counts = np.bincount(byte, minlength=256)
        assert 169.9 < ((counts - 16) ** 2 / 16).sum() < 363.0


def test_streams_do_not_overlap_soon() -> None:
    """Longer stretches of neighbouring streams have no number in common."""
    words = np.concatenate(
        [
            same_stream(seed, index).bit_generator.random_raw(1000)
            for seed in range(10)
            for index in range(10)
        ]
    )
    assert len(np.unique(words)) == 100_000


def test_generators_can_be_copied_pickled_and_spawned() -> None:
    """They are plain NumPy generators, children included: those are the same every time."""
    rng = sample_rng(3)
    assert raw(copy.deepcopy(rng)) == raw(pickle.loads(pickle.dumps(rng))) == raw(sample_rng(3))
    children = [[raw(child) for child in sample_rng(3).spawn(2)] for _ in range(2)]
    assert children[0] == children[1]
    assert children[0][0] != children[0][1]


# Its argument.


@pytest.mark.parametrize(
    ("index", "described"),
    [
        (True, "True of type bool"),
        (1.0, "1.0 of type float"),
        ("1", "'1' of type str"),
        ([3, 4], "[3, 4] of type list"),
        (np.array([3]), "array([3]) of type ndarray"),
    ],
)
def test_an_index_must_be_an_integer(index: Any, described: str) -> None:
    """The message names what came."""
    with pytest.raises(TypeError) as caught:
        sample_rng(index)
    assert str(caught.value) == f"`index` must be an integer, got {described}"


@pytest.mark.parametrize("index", [-1, 2**63, np.int64(-5)])
def test_an_index_must_be_that_of_a_sample(index: Any) -> None:
    """The message names the value."""
    with pytest.raises(ValueError, match="index") as caught:
        sample_rng(index)
    assert str(caught.value) == f"`index` must be in [0, 2**63), got {index}"
