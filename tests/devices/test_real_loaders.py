"""Every kind of loader through the maps and what they are composed to."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import jax
import numpy as np
import pytest
from fifteen_data_devices import padding_map, prefetching_map, sharding_map
from fifteen_data_loaders import DataLoader, cycled_minibatches
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.loaders.datasets import SAMPLE_COUNT, VARIANTS, FromFunction, Squares

pytestmark = pytest.mark.usefixtures("no_leftovers")

MINIBATCH_SIZE = 4

Make = Callable[..., Any]
Composed = Callable[[Any], Any]


@pytest.fixture(params=["inline", "threads", "workers", "in memory"])
def make(request: pytest.FixtureRequest, no_leftovers: None) -> Iterator[Make]:
    """Returns a function that makes a loader of the 23 `Squares`, with a short last minibatch."""
    made = list[Any]()

    def make_one(**kwargs: Any) -> Any:
        made.append(VARIANTS[request.param](MINIBATCH_SIZE, drop_last=False, **kwargs))
        return made[-1]

    yield make_one
    # Popped, because a loader that is closed and still referred to keeps an arena that arrays used.
    while made:
        loader = made.pop()
        if isinstance(loader, DataLoader):
            loader.close()
        del loader


def two_devices() -> list[Any]:
    return jax.devices()[:2]


def by_mesh() -> NamedSharding:
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    return NamedSharding(mesh, PartitionSpec("data"))


COMPOSITIONS: dict[str, Composed] = {
    "pad": padding_map,
    "prefetch": lambda inputs: prefetching_map(padding_map(inputs)),
    "prefetch to a device": lambda inputs: prefetching_map(
        padding_map(inputs), jax.devices()[1], buffer_size=4
    ),
    "prefetch to a sharding": lambda inputs: prefetching_map(padding_map(inputs), by_mesh()),
    "shard": lambda inputs: sharding_map(padding_map(inputs), two_devices()),
    "shard by a mesh": lambda inputs: sharding_map(padding_map(inputs), by_mesh()),
    "prefetch what is sharded": lambda inputs: prefetching_map(
        sharding_map(padding_map(inputs), two_devices()), buffer_size=3
    ),
    "prefetch what is sharded by a mesh": lambda inputs: prefetching_map(
        sharding_map(padding_map(inputs), by_mesh())
    ),
    "shard what is prefetched": lambda inputs: sharding_map(
        prefetching_map(padding_map(inputs)), two_devices()
    ),
    "pad what is prefetched": lambda inputs: sharding_map(
        padding_map(prefetching_map(inputs)), by_mesh()
    ),
}


def reference(seed: int) -> list[list[tuple[list[float], int]]]:
    """Returns the rows of every minibatch of an epoch."""
    return [
        rows(minibatch) for minibatch in DataLoader(Squares(), 4, drop_last=False).minibatches(seed)
    ]


def rows(minibatch: Any, mask: Any = None) -> list[tuple[list[float], int]]:
    xs, ys = np.asarray(minibatch["x"]).reshape(-1, 3), np.asarray(minibatch["y"]).ravel()
    real = np.ones(len(ys), bool) if mask is None else np.asarray(mask).ravel()
    return list(zip(xs[real].tolist(), ys[real].tolist(), strict=True))


def test_epochs_come_out_whole_and_in_order(make: Make) -> None:
    loader = make()
    for name, compose in COMPOSITIONS.items():
        for seed in (0, 1):
            minibatches = compose(loader.minibatches(seed))
            expected = reference(seed)
            assert len(minibatches) == len(expected), name
            for _ in range(2):
                assert [rows(*padded) for padded in minibatches] == expected, name
            assert [rows(*padded) for padded in minibatches[2:]] == expected[2:], name
            assert rows(*minibatches[-1]) == expected[-1], name


def test_the_state_is_that_of_the_minibatch_received(make: Make) -> None:
    loader = make()
    expected = [minibatch for seed in (5, 6, 7) for minibatch in reference(seed)]
    plain = cycled_minibatches(loader, 5)
    states = [plain.get_state() for _ in range(9) if next(plain)]
    plain.close()
    for name, compose in COMPOSITIONS.items():
        with closing(compose(cycled_minibatches(loader, 5))) as train:
            for step, state in enumerate(states):
                assert rows(*next(train)) == expected[step], name
                assert train.get_state() == state, name
            for step in (8, 2):
                train.set_state(states[step])
                received = [rows(*padded) for _, padded in zip(range(4), train, strict=False)]
                assert received == expected[step + 1 : step + 5], name


def test_a_state_goes_from_one_kind_of_loader_to_another(make: Make) -> None:
    compose = COMPOSITIONS["prefetch what is sharded"]
    with closing(compose(cycled_minibatches(make(), 0))) as train:
        for _ in range(8):
            next(train)
        state = train.get_state()
    inline = DataLoader(Squares(), MINIBATCH_SIZE, drop_last=False)
    with closing(compose(cycled_minibatches(inline, 0))) as resumed:
        resumed.set_state(state)
        assert rows(*next(resumed)) == reference(1)[2]


def test_minibatches_that_are_kept_on_devices_do_not_change(make: Make) -> None:
    """On CPUs they use the loader's memory in place, which must not be loaded into again."""
    loader = make()
    kept = [
        padded
        for seed in range(3)
        for padded in prefetching_map(padding_map(loader.minibatches(seed)), jax.devices()[0], 3)
    ]
    expected = [minibatch for seed in range(3) for minibatch in reference(seed)]
    assert [rows(*padded) for padded in kept] == expected


def test_the_memory_of_a_loader_is_used_in_place(make: Make) -> None:
    loader = make()
    loaded = list[int]()

    def watched() -> Iterator[Any]:
        for minibatch in loader.minibatches(0):
            loaded.append(minibatch["x"].ctypes.data)
            yield minibatch

    placed = list(prefetching_map(watched(), jax.devices()[0]))
    assert [minibatch["x"].unsafe_buffer_pointer() for minibatch in placed] == loaded


def test_two_maps_over_one_loader_do_not_disturb_each_other(make: Make) -> None:
    loader = make()
    one = prefetching_map(loader.minibatches(0), jax.devices()[0])
    other = prefetching_map(loader.minibatches(1), jax.devices()[1], buffer_size=5)
    pairs = [(rows(a), rows(b)) for a, b in zip(one, other, strict=True)]
    assert pairs == list(zip(reference(0), reference(1), strict=True))


def test_a_loader_can_be_used_again_after_a_loop_was_left(make: Make) -> None:
    loader = make()
    for seed in range(4):
        for _, minibatch in zip(
            range(seed), prefetching_map(loader.minibatches(seed), buffer_size=4), strict=False
        ):
            assert rows(minibatch) in reference(seed)
    assert [rows(minibatch) for minibatch in prefetching_map(loader.minibatches(9))] == reference(9)


def test_shards_are_padded_to_one_size_and_carried(make: Make) -> None:
    seen = list[int]()
    for shard in range(2):
        loader = make(shard_index=shard, shard_count=2)
        for inputs in (loader.minibatches(3), cycled_minibatches(loader, 3)):
            padded: Any = prefetching_map(padding_map(inputs), jax.devices()[0])
            assert (padded.shard_index, padded.shard_count) == (shard, 2)
            assert padded.minibatch_size == MINIBATCH_SIZE
        for minibatch, mask in prefetching_map(padding_map(loader.minibatches(3)), by_mesh()):
            assert minibatch["x"].shape == (MINIBATCH_SIZE // 2, 3)
            seen += [y for _, y in rows(minibatch, mask)]
    assert sorted(seen) == [index**2 for index in range(SAMPLE_COUNT)]


@pytest.mark.parametrize(
    "parallel", [{}, {"num_threads": 2}, {"num_workers": 2}], ids=["inline", "threads", "workers"]
)
def test_an_error_of_the_dataset_comes_in_its_place(parallel: dict[str, Any]) -> None:
    def load(index: int) -> Any:
        if index == 9:
            raise LookupError(index)
        return np.float32(index)

    with DataLoader(FromFunction(load), MINIBATCH_SIZE, **parallel) as loader:
        placed = sharding_map(loader.minibatches(None), two_devices())
        minibatches = iter(prefetching_map(placed, buffer_size=4))
        received = [np.asarray(next(minibatches)).ravel().tolist() for _ in range(2)]
        assert received == [[0, 1, 2, 3], [4, 5, 6, 7]]
        with pytest.raises(LookupError, match=r"^9\b"):
            next(minibatches)
        later = prefetching_map(loader.minibatches(None)[3:], jax.devices()[0])
        assert [minibatch.tolist() for minibatch in later] == [[12, 13, 14, 15], [16, 17, 18, 19]]
