"""The order of samples: a bijection, a good shuffle, the same everywhere, cheap at any size.

The bounds of chi-squared and Poisson variables below are exceeded with probability 1e-5 on either
side. Nothing is drawn anew: a test that passes once passes always.
"""

import hashlib
import itertools
import threading
import tracemalloc
from typing import Any

import jax
import numpy as np
import pytest
from fifteen_data_loaders._order._sample_order import check_shuffle_seed, sample_order, shard_rows
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

# The largest count whose orders are sorted whole; all above are computed row by row.
LAST_SORTED = 8192

COUNTS_AROUND_POWERS_OF_TWO = [2**power + offset for power in range(2, 18) for offset in (-1, 0, 1)]

SEEDS = range(20)


def whole(sample_count: int, shuffle_seed: int | None) -> NDArray[np.int64]:
    return sample_order(sample_count, shuffle_seed).indices(0, sample_count)


def is_bijection(order: NDArray[np.int64]) -> bool:
    return np.array_equal(np.sort(order), np.arange(len(order)))


def digest(order: NDArray[np.int64]) -> str:
    return hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16]


def chi_squared(observed: NDArray[Any], expected: NDArray[Any] | float) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


def independence(rows: NDArray[np.int64], columns: NDArray[np.int64], row_count: int) -> float:
    """Chi-squared, with 225 degrees of freedom, of how two orders fall into 16 times 16 parts."""
    rows, columns = rows * 16 // row_count, columns * 16 // row_count
    table = np.bincount(rows * 16 + columns, minlength=256).reshape(16, 16)
    return chi_squared(table, table.sum(0) * table.sum(1)[:, None] / table.sum())


# What an order is.


@given(st.integers(0, 5000), st.integers(0, 2**63 - 1))
def test_an_order_is_a_bijection(sample_count: int, shuffle_seed: int) -> None:
    """Every sample comes exactly once."""
    assert is_bijection(whole(sample_count, shuffle_seed))


@given(st.integers(LAST_SORTED - 5, LAST_SORTED + 300), st.integers(0, 2**63 - 1))
def test_an_order_is_a_bijection_around_the_change_of_algorithm(
    sample_count: int, shuffle_seed: int
) -> None:
    """Every sample comes exactly once, on both sides of the largest order that is sorted whole."""
    assert is_bijection(whole(sample_count, shuffle_seed))


@pytest.mark.parametrize("sample_count", [0, 1, *COUNTS_AROUND_POWERS_OF_TWO, 300_007])
def test_an_order_is_a_bijection_at_awkward_counts(sample_count: int) -> None:
    """Every sample comes exactly once where halves of the network change their sizes."""
    assert is_bijection(whole(sample_count, 4))


def test_an_order_of_very_many_samples_stays_in_range_without_repeats() -> None:
    """Rows from all over an order of the greatest length that Python allows are distinct."""
    sample_count = 2**63 - 1
    order = sample_order(sample_count, 2)
    starts = [0, 2**31 - 500, 2**32 - 500, 2**62 - 500, sample_count - 1000]
    rows = np.concatenate([order.indices(start, start + 1000) for start in starts])
    assert len(np.unique(rows)) == 5000
    assert rows.min() >= 0
    assert rows.max() < sample_count


@pytest.mark.parametrize("sample_count", [0, 1, 10, LAST_SORTED + 1, 100_000])
def test_no_seed_is_the_order_of_the_dataset(sample_count: int) -> None:
    """Without a seed nothing is shuffled."""
    np.testing.assert_array_equal(whole(sample_count, None), np.arange(sample_count))


@pytest.mark.parametrize("sample_count", [10, 10**6])
@pytest.mark.parametrize("shuffle_seed", [None, 0])
def test_indices_are_int64(sample_count: int, shuffle_seed: int | None) -> None:
    """The type does not depend on how large the indices are."""
    assert sample_order(sample_count, shuffle_seed).indices(2, 7).dtype == np.int64


def test_a_seed_may_count_up_past_its_range() -> None:
    """Epochs count seeds up, and the greatest has successors too, with orders of their own."""
    orders = [whole(1000, seed) for seed in range(2**63 - 2, 2**63 + 2)]
    orders += [whole(1000, seed) for seed in range(2**64 - 2, 2**64)]
    assert all(map(is_bijection, orders))
    assert len({digest(order) for order in orders}) == 6
    np.testing.assert_array_equal(whole(1000, 2**64), whole(1000, 0))


@pytest.mark.parametrize(
    ("sample_count", "shuffle_seed", "expected"),
    [
        (0, 0, []),
        (1, 0, [0]),
        (2, 0, [0, 1]),
        (5, 0, [4, 0, 3, 1, 2]),
        (10, 0, [9, 2, 0, 4, 5, 8, 1, 3, 7, 6]),
        (10, 1, [2, 0, 6, 4, 7, 5, 1, 3, 9, 8]),
        (10, 2**63 - 1, [1, 8, 2, 6, 7, 5, 0, 3, 9, 4]),
    ],
)
def test_short_orders_never_change(
    sample_count: int, shuffle_seed: int, expected: list[int]
) -> None:
    """Results of this release, which every platform and later release must repeat."""
    assert whole(sample_count, shuffle_seed).tolist() == expected


@pytest.mark.parametrize(
    ("sample_count", "shuffle_seed", "expected"),
    [
        (8192, 0, "2438ebb80a64c1c3"),
        (8192, 7, "1cbef9e276968a8a"),
        (8193, 0, "96e8878b87f4432b"),
        (8193, 7, "d8edc88bb4d4571a"),
        (65536, 1, "a3e37a23a0a8afd6"),
        (65537, 1, "de2a66ecc99d3a46"),
        (10**6, 3, "0a53c7918352355d"),
        (10**6, 2**63 - 1, "259aa46f0258d0b9"),
    ],
)
def test_long_orders_never_change(sample_count: int, shuffle_seed: int, expected: str) -> None:
    """Results of this release, which every platform and later release must repeat."""
    assert digest(whole(sample_count, shuffle_seed)) == expected


@pytest.mark.parametrize(
    ("sample_count", "shuffle_seed", "start", "expected"),
    [
        (8193, 0, 0, [2312, 444, 5844, 3342]),
        (10**6, 3, 0, [753872, 406655, 104491, 66629]),
        (10**6, 3, 999990, [605604, 294677, 125564, 285234]),
        (10**12, 0, 0, [230393246536, 224944557923, 825159820504, 161721792885]),
        (10**12, 0, 10**12 - 5, [681548582961, 535579505217, 785019566355, 743652512684]),
        (2**40 + 1, 9, 2**40 - 3, [441952576513, 451426599326, 321091470091, 315301994270]),
        (
            *(2**63 - 1, 1, 2**62),
            [9110712405221419237, 6812495866326281997, 6485110004030199640, 8688866731774406861],
        ),
    ],
)
def test_rows_of_long_orders_never_change(
    sample_count: int, shuffle_seed: int, start: int, expected: list[int]
) -> None:
    """Results of this release, which every platform and later release must repeat."""
    rows = sample_order(sample_count, shuffle_seed).indices(start, start + 4)
    assert rows.tolist() == expected


# How well it shuffles.


@pytest.mark.parametrize(
    ("sample_count", "least", "most"), [(3, 0.0, 30.9), (4, 4.5, 64.0), (5, 64.3, 196.6)]
)
def test_every_order_of_few_samples_is_equally_likely(
    sample_count: int, least: float, most: float
) -> None:
    """All permutations come up, evenly, as the seed counts up."""
    permutations = list(itertools.permutations(range(sample_count)))
    counts = dict.fromkeys(permutations, 0)
    for seed in range(100 * len(permutations)):
        counts[tuple(whole(sample_count, seed).tolist())] += 1
    assert least < chi_squared(np.array(list(counts.values())), 100.0) < most


@pytest.mark.parametrize("sample_count", [LAST_SORTED, LAST_SORTED + 1, 65536, 65537, 300_000])
class TestShuffle:
    def test_samples_come_anywhere(self, sample_count: int) -> None:
        """Which part of the dataset a sample is in says nothing of when it comes."""
        rows = np.arange(sample_count)
        total = sum(independence(whole(sample_count, seed), rows, sample_count) for seed in SEEDS)
        assert 4106.8 < total < 4916.1

    def test_trailing_bits_come_anywhere(self, sample_count: int) -> None:
        """Nor do the trailing bits of an index, of which networks of halves are made."""
        rows = np.arange(sample_count)
        total = sum(independence(whole(sample_count, seed) % 16, rows % 16, 16) for seed in SEEDS)
        assert 4106.8 < total < 4916.1

    def test_consecutive_seeds_are_unrelated(self, sample_count: int) -> None:
        """An epoch's order says nothing of the next one's."""
        orders = [whole(sample_count, seed) for seed in range(21)]
        pairs = list(itertools.pairwise(orders))
        assert 4106.8 < sum(independence(a, b, sample_count) for a, b in pairs) < 4916.1
        assert 4 <= sum(int((a == b).sum()) for a, b in pairs) <= 42

    def test_few_samples_stay_where_they_are(self, sample_count: int) -> None:
        """An order has one fixed point on average."""
        rows = np.arange(sample_count)
        assert 4 <= sum(int((whole(sample_count, seed) == rows).sum()) for seed in SEEDS) <= 42

    @pytest.mark.parametrize("distance", [1, 2, 64, 256])
    def test_differences_of_neighbours_are_even(self, sample_count: int, distance: int) -> None:
        """A sample says nothing of the one that comes shortly after it."""
        total = 0.0
        for seed in SEEDS:
            order = whole(sample_count, seed)
            differences = (order[distance:] - order[:-distance]) % sample_count
            counts = np.bincount(differences * 64 // sample_count, minlength=64)
            total += chi_squared(counts, len(differences) / 64)
        assert 1057.3 < total < 1485.7

    def test_neighbours_are_uncorrelated(self, sample_count: int) -> None:
        """Serial correlations are those of chance, which falls with the root of the count."""
        for seed in SEEDS:
            order = whole(sample_count, seed)
            assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 4.5 / sample_count**0.5

    def test_samples_move_by_a_third_of_the_dataset(self, sample_count: int) -> None:
        """The mean distance between a sample and its row is that of a uniform permutation."""
        rows = np.arange(sample_count)
        moved = [np.abs(whole(sample_count, seed) - rows).mean() for seed in SEEDS]
        # The variance of one order's mean distance is 2 n / 45.
        deviation = (2 * sample_count / 45 / len(moved)) ** 0.5
        assert abs(np.mean(moved) - sample_count / 3) < 4.5 * deviation


def repeated_flips(order: NDArray[np.int64], distance: int) -> int:
    """Count pairs of neighbouring rows whose samples differ in the same bits."""
    counts = np.bincount(order[distance:] ^ order[:-distance])
    return int((counts * (counts - 1) // 2).sum())


@pytest.mark.parametrize("distance", [1, 2, 256, 512])
def test_neighbours_differ_as_those_of_sorted_random_numbers_do(distance: int) -> None:
    """Halves that mix too little show here first: four rounds instead of eight fail by far."""
    sample_count = 20_000
    ours = [repeated_flips(whole(sample_count, seed), distance) for seed in range(50)]
    bits = np.random.PCG64(0)
    theirs = [
        repeated_flips(np.argsort(bits.random_raw(sample_count), kind="stable"), distance)
        for _ in range(50)
    ]
    deviation = (np.var(ours) / len(ours) + np.var(theirs) / len(theirs)) ** 0.5
    assert abs(np.mean(ours) - np.mean(theirs)) < 4.5 * deviation


def test_the_first_rows_of_very_many_samples_are_uniform() -> None:
    """So are rows of which one half of the network is always the same."""
    sample_count = 10**12
    counts = np.zeros(1024, np.int64)
    for seed in SEEDS:
        rows = sample_order(sample_count, seed).indices(0, 10_000)
        counts += np.bincount(rows * 1024 // sample_count, minlength=1024)
    assert 841.4 < chi_squared(counts, counts.mean()) < 1227.5


def test_the_tests_of_shuffling_can_fail() -> None:
    """An order that is merely rotated is told from a shuffled one."""
    rows = np.arange(10_000)
    assert independence((rows + 3000) % 10_000, rows, 10_000) > 10 * 363.0


# How it may be read.


def test_minibatches_are_consecutive_rows() -> None:
    """Reading an epoch in minibatches of any size gives the same order."""
    sample_count = 150_000
    expected = whole(sample_count, 8)
    for size in (7, 256, 20_000, 32_768, 40_000, 149_999):
        order = sample_order(sample_count, 8)
        starts = range(0, sample_count, size)
        minibatches = [order.indices(start, min(start + size, sample_count)) for start in starts]
        np.testing.assert_array_equal(np.concatenate(minibatches), expected)


@pytest.mark.parametrize("sample_count", [1000, 100_000])
@pytest.mark.parametrize("shard_count", [3, 8, 64])
def test_shards_of_minibatches_make_up_the_order(sample_count: int, shard_count: int) -> None:
    """Each host reads its own part of every minibatch, whatever it skips between them."""
    expected = whole(sample_count, 1)
    found = np.full(sample_count, -1)
    for shard_index in range(shard_count):
        order = sample_order(sample_count, 1)
        for start in range(0, sample_count, 192):
            first, last = shard_rows(min(192, sample_count - start), shard_index, shard_count)
            rows = slice(start + first, start + last)
            found[rows] = order.indices(rows.start, rows.stop)
    np.testing.assert_array_equal(found, expected)


@given(
    st.sampled_from([100, LAST_SORTED, 20_000, 150_000, 10**12]),
    st.sampled_from([None, 0, 11]),
    st.lists(
        st.tuples(st.integers(-5000, 45_000), st.sampled_from([0, 1, 32, 1000, 33_000, 70_000])),
        max_size=12,
    ),
)
def test_rows_do_not_depend_on_what_was_read_before(
    sample_count: int, shuffle_seed: int | None, steps: list[tuple[int, int]]
) -> None:
    """Forwards, backwards, with gaps and overlaps: a row is always the same."""
    order = sample_order(sample_count, shuffle_seed)
    start = 0
    for skipped, row_count in steps:
        start = (start + skipped) % sample_count
        stop = min(start + row_count, sample_count)
        rows = order.indices(start, stop)
        alone = sample_order(sample_count, shuffle_seed).indices(start, stop)
        np.testing.assert_array_equal(rows, alone)
        assert len(rows) == stop - start
        start = stop


def test_several_threads_may_read_one_order() -> None:
    """Threads that read in step, ahead or behind each other all see the same rows."""
    sample_count = 200_000
    expected = whole(sample_count, 5)
    order = sample_order(sample_count, 5)
    wrong: list[int] = []
    barrier = threading.Barrier(4)

    def read(offset: int) -> None:
        barrier.wait()
        for start in range(offset, sample_count - 500, 499):
            if not np.array_equal(order.indices(start, start + 500), expected[start : start + 500]):
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(offset,)) for offset in (0, 10, 3000, 90_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("sample_count", [100, 50_000])
@pytest.mark.parametrize("shuffle_seed", [None, 0])
def test_indices_are_the_callers_own(sample_count: int, shuffle_seed: int | None) -> None:
    """Changing what was returned changes nothing that is returned later."""
    order = sample_order(sample_count, shuffle_seed)
    for start, stop in ((0, 10), (10, 20), (0, sample_count)):
        order.indices(start, stop)[:] = -1
    np.testing.assert_array_equal(order.indices(0, sample_count), whole(sample_count, shuffle_seed))


@pytest.mark.parametrize("sample_count", [10**6, 10**12])
def test_memory_does_not_grow_with_the_sample_count(sample_count: int) -> None:
    """The first minibatches of an epoch, and some far from them, fit into five megabytes."""
    whole(10, 0)
    tracemalloc.start()
    try:
        order = sample_order(sample_count, 0)
        for start in (*range(0, 200_000, 1024), sample_count - 1024):
            order.indices(start, start + 1024)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("rows", [(-1, 3), (9_998, 10_001), (5, 4), (10_001, 10_001)])
@pytest.mark.parametrize("shuffle_seed", [None, 0])
@pytest.mark.parametrize("read_before", [0, 9_990])
def test_rows_outside_of_the_order_are_refused(
    rows: tuple[int, int], shuffle_seed: int | None, read_before: int
) -> None:
    """Rather than answered with samples that come elsewhere in the order too."""
    order = sample_order(10_000, shuffle_seed)
    for start in range(0, read_before, 5):
        order.indices(start, start + 5)
    with pytest.raises(IndexError) as caught:
        order.indices(*rows)
    assert str(caught.value) == f"rows [{rows[0]}, {rows[1]}) are not all within [0, 10000)"


@given(st.integers(0, 1000), st.integers(1, 100))
def test_shards_share_out_all_rows(row_count: int, shard_count: int) -> None:
    """Shards follow upon each other without gaps and differ by at most one row."""
    shards = [shard_rows(row_count, index, shard_count) for index in range(shard_count)]
    assert shards[0][0] == 0
    assert shards[-1][1] == row_count
    assert all(a[1] == b[0] for a, b in itertools.pairwise(shards))
    lengths = [stop - start for start, stop in shards]
    assert max(lengths) - min(lengths) <= 1


# Which seeds it takes.


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1, np.int8(7), np.uint64(2**63 - 1), np.int64(0)])
def test_python_and_numpy_integers_are_seeds(seed: Any) -> None:
    """What comes back is a plain integer of the same value."""
    checked = check_shuffle_seed(seed)
    assert checked == seed
    assert type(checked) is int


def test_no_seed_is_a_seed() -> None:
    """`None` stays what it is."""
    assert check_shuffle_seed(None) is None


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, np.int64(-3), np.uint64(2**63)])
def test_integers_out_of_range_are_refused(seed: Any) -> None:
    """The message names the value and suggests what is a good seed."""
    with pytest.raises(ValueError, match="shuffle_seed") as caught:
        check_shuffle_seed(seed)
    assert str(caught.value) == (
        f"`shuffle_seed` must be in [0, 2**63), got {seed}; pass an int, such as the epoch"
    )


@pytest.mark.parametrize(
    ("make_seed", "described"),
    [
        (lambda: True, "True of type bool"),
        (lambda: np.bool_(True), "np.True_ of type bool"),
        (lambda: 1.5, "1.5 of type float"),
        (lambda: np.float32(2), "np.float32(2.0) of type float32"),
        (lambda: "1", "'1' of type str"),
        (lambda: list(range(100)), "[0, 1, 2, 3, 4, 5, ...] of type list"),
        (lambda: np.array(3), "an array of shape () and dtype int64"),
        (lambda: np.zeros(2, np.uint32), "an array of shape (2,) and dtype uint32"),
        (lambda: jax.numpy.int32(3), "an array of shape () and dtype int32"),
        (lambda: jax.random.key(0), "a JAX random key"),
        (lambda: jax.random.split(jax.random.key(0)), "a JAX random key"),
        (lambda: jax.random.PRNGKey(0), "a JAX random key"),
    ],
)
def test_other_kinds_of_seed_are_refused(make_seed: Any, described: str) -> None:
    """The message names what came and suggests what is a good seed."""
    with pytest.raises(TypeError) as caught:
        check_shuffle_seed(make_seed())
    assert str(caught.value) == (
        f"`shuffle_seed` must be an integer or None, got {described}; "
        "pass an int, such as the epoch"
    )
