"""Datasets of other libraries, given to a loader as they are."""

from pathlib import Path
from typing import Any

import cloudpickle
import datasets
import grain
import numpy as np
import pytest
import torch
import zarr
from fifteen_data_loaders import DataLoader, sample_rng

from tests.libraries.same_data import check


class Lines(torch.utils.data.Dataset[Any]):  # type: ignore[misc] # torch is not there for mypy.
    def __getitem__(self, index: int) -> Any:
        return {"x": torch.full((3,), float(index)), "y": index}

    def __len__(self) -> int:
        return 20


def _workers(dataset: Any) -> DataLoader[Any]:
    return DataLoader(dataset, 4, num_workers=2)


def test_subsets_and_joins_of_torch_datasets() -> None:
    tensors = torch.utils.data.TensorDataset(torch.arange(60.0).reshape(20, 3), torch.arange(20))
    part = torch.utils.data.Subset(tensors, list(range(0, 20, 2)))
    check(_workers(torch.utils.data.ConcatDataset([part, tensors])))
    minibatch = DataLoader(Lines(), 2).minibatches(None)[1]
    np.testing.assert_array_equal(minibatch["x"], np.array([[2.0] * 3, [3.0] * 3], np.float32))
    assert minibatch["y"].tolist() == [2, 3]


class Noisy(Lines):
    def __getitem__(self, index: int) -> Any:
        return sample_rng().random(2)


class NoisyTogether(Noisy):
    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [sample_rng(index).random(2) for index in indices]


@pytest.mark.parametrize("kind", [Noisy, NoisyTogether])
def test_subsets_have_the_random_numbers_of_their_samples(kind: type[Noisy]) -> None:
    """A subset is batched as torch has it, and the dataset below need not be."""
    half, _ = torch.utils.data.random_split(kind(), [10, 10])
    quarter = torch.utils.data.Subset(half, range(5))
    check(_workers(quarter))
    assert DataLoader(quarter, 5).minibatches(3)[0].shape == (5, 2)


@pytest.fixture
def rows(tmp_path: Path) -> Any:
    """A Hugging Face dataset over an Arrow file that it maps."""
    datasets.disable_progress_bars()
    content = {"tokens": [[i] * 500 for i in range(200)], "label": list(range(200))}
    datasets.Dataset.from_dict(content).save_to_disk(tmp_path / "rows")
    return datasets.load_from_disk(tmp_path / "rows").with_format("numpy")


def test_hugging_face_datasets(rows: Any) -> None:
    chosen = rows.shuffle(seed=1).select(range(30))
    squares = chosen.with_transform(lambda batch: {"x": [np.square(t) for t in batch["tokens"]]})
    check(_workers(squares))


def test_hugging_face_datasets_travel_as_the_names_of_their_files(rows: Any) -> None:
    assert len(cloudpickle.dumps(rows)) < 10_000


def test_grain_s_sources() -> None:
    check(_workers(grain.sources.RangeDataSource(0, 20, 1)))


def test_grain_s_random_transformations() -> None:
    source = grain.MapDataset.range(20).seed(3)
    check(_workers(source.random_map(lambda x, rng: x + rng.normal(size=2))))


def test_zarr_s_arrays_have_no_length(tmp_path: Path) -> None:
    array: Any = zarr.create_array(tmp_path / "x.zarr", shape=(4, 2), dtype="int32")
    with pytest.raises(TypeError) as raised:
        DataLoader(array, 2)
    assert str(raised.value) == (
        "`dataset` must have `__getitem__` and `__len__`, got a Array without `__len__`"
    )
