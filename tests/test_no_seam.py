"""An endless iteration loads the next epoch before the loop is done with this one."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fifteen_data_devices import prefetching_map
from fifteen_data_loaders import DataLoader, cycled_minibatches
from fifteen_data_protocols import MinibatchIterator

from tests.loaders.datasets import Telling

pytestmark = [pytest.mark.usefixtures("no_leftovers"), pytest.mark.timeout(30)]


def _unmapped(train: MinibatchIterator[Any]) -> MinibatchIterator[Any]:
    return train


def _prefetching(train: MinibatchIterator[Any]) -> MinibatchIterator[Any]:
    return prefetching_map(train, buffer_size=3)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A named pipe, into which worker processes can write too."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    yield path
    path.unlink()


@pytest.mark.parametrize(
    ("options", "mapped"),
    [
        pytest.param({"num_threads": 2}, _unmapped, id="threads"),
        pytest.param({"num_workers": 2}, _unmapped, id="workers"),
        pytest.param({}, _prefetching, id="prefetching_map"),
        pytest.param({"num_workers": 2}, _prefetching, id="prefetching_map of workers"),
    ],
)
def test_the_next_epoch_is_loading_while_this_one_has_minibatches_left(
    pipe: Path, options: dict[str, Any], mapped: Callable[..., MinibatchIterator[Any]]
) -> None:
    """The loop holds the first of two minibatches, and asks for no other."""
    # Open for both, so that neither end waits for the other one.
    with (
        open(os.open(pipe, os.O_RDWR), "rb") as told,
        DataLoader(Telling(str(pipe), 8), 4, **options) as loader,
    ):
        train = mapped(cycled_minibatches(loader, None))
        assert next(train).tolist() == [0, 1, 2, 3]
        # Were the next epoch not begun, these samples would never be told of once more.
        missing = Counter([0, 1, 2, 3] * 2)
        while missing:
            missing -= Counter([int(told.readline())])
        assert [next(train).tolist() for _ in range(2)] == [[4, 5, 6, 7], [0, 1, 2, 3]]
        train.close()
