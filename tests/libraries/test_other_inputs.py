"""Iterables of other libraries go through the maps."""

from typing import Any

import datasets
import grain
import jax
import numpy as np
import pytest
from fifteen_data_devices import padding_map, prefetching_map, sharding_map
from torch.utils.data import DataLoader as TorchLoader

# They warn of their own use of others.
pytestmark = pytest.mark.filterwarnings("default")


def test_a_grain_iterator_keeps_its_state_through_the_maps() -> None:
    def start() -> Any:
        dataset = grain.MapDataset.range(96).map(lambda i: {"x": np.full(3, i)}).batch(8)
        inputs = iter(dataset.to_iter_dataset())
        return prefetching_map(sharding_map(inputs, jax.devices()[:4]), buffer_size=3)

    def take(count: int, train: Any) -> list[int]:
        return [
            int(minibatch["x"][0, 0, 0]) for _, minibatch in zip(range(count), train, strict=False)
        ]

    train = start()
    assert take(4, train) == [0, 8, 16, 24]
    state = train.get_state()
    rest = take(8, train)
    train.close()
    resumed = start()
    resumed.set_state(state)
    assert take(8, resumed) == rest == list(range(32, 96, 8))
    resumed.close()


def test_a_grain_dataset_is_sized_and_started_anew() -> None:
    minibatches = prefetching_map(grain.MapDataset.range(96).batch(8), jax.devices()[1])
    assert len(minibatches) == 12
    for _ in range(2):
        assert [int(minibatch[0]) for minibatch in minibatches] == list(range(0, 96, 8))


def test_the_state_of_a_grain_data_loader_is_passed_through() -> None:
    source = grain.MapDataset.range(32)
    loader = grain.DataLoader(
        data_source=source,
        sampler=grain.samplers.IndexSampler(len(source), shuffle=True, seed=1, num_epochs=1),
        operations=[grain.transforms.Batch(8)],
    )
    train = prefetching_map(iter(loader), jax.devices()[0], buffer_size=3)
    next(train)
    state = train.get_state()
    assert isinstance(state, bytes)
    rest = [minibatch.tolist() for minibatch in train]
    train.set_state(state)
    assert [minibatch.tolist() for minibatch in train] == rest
    assert len(rest) == 3


def test_minibatches_of_hugging_face_datasets_can_be_padded_and_sharded() -> None:
    columns = {"x": np.arange(20).reshape(10, 2), "y": np.arange(10)}
    dataset = datasets.Dataset.from_dict(columns).with_format("numpy")
    seen = list[int]()
    for minibatch, mask in sharding_map(padding_map(dataset.iter(batch_size=4)), jax.devices()[:2]):
        assert minibatch["x"].shape == (2, 2, 2)
        seen += np.asarray(minibatch["y"])[np.asarray(mask)].tolist()
    assert seen == list(range(10))


def test_a_torch_loader_of_numpy_minibatches_is_sized() -> None:
    loader = TorchLoader(list(range(10)), batch_size=4, collate_fn=np.asarray)
    minibatches = prefetching_map(loader, jax.devices()[0])
    assert len(minibatches) == 3
    for _ in range(2):
        assert [minibatch.tolist() for minibatch in minibatches] == [
            [0, 1, 2, 3],
            [4, 5, 6, 7],
            [8, 9],
        ]


def test_torch_tensors_are_refused_with_the_cure() -> None:
    loader = TorchLoader([{"x": 1.0}, {"x": 2.0}], batch_size=2)
    for minibatches in (
        prefetching_map(loader, jax.devices()[0]),
        sharding_map(loader, jax.devices()[:2]),
    ):
        with pytest.raises(TypeError) as raised:
            next(iter(minibatches))
        assert str(raised.value) == (
            "`minibatch['x']` cannot be put on a device, as JAX has no arrays of dtype "
            "torch.float64; convert it with `np.asarray`, for example in the `collate_fn` of its "
            "loader"
        )
