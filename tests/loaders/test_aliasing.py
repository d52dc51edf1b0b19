"""Whatever refers to the memory of a minibatch, or to some of it, keeps its content."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader
from numpy.typing import NDArray

from tests.loaders.datasets import FromFunction

pytestmark = pytest.mark.usefixtures("no_leftovers")

_ROWS = 4
_WIDTH = 4096
_Array = NDArray[np.float32]


def _wide(index: int) -> _Array:
    return np.full(_WIDTH, index, np.float32)


def _through_jax(minibatch: _Array) -> Any:
    import jax

    return jax.device_put(minibatch)


def _donated(minibatch: _Array) -> Any:
    import jax

    return jax.jit(lambda array: array + 0, donate_argnums=0)(jax.device_put(minibatch))


def _dlpack_of_jax(minibatch: _Array) -> Any:
    import jax

    return jax.dlpack.from_dlpack(minibatch)


_WAYS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda minibatch: minibatch,
    "slice": lambda minibatch: minibatch[:, 5:7],
    "transposed row": lambda minibatch: minibatch.T[3:4].T,
    "other dtype": lambda minibatch: minibatch.view(np.uint32).view(np.float32),
    "memoryview": lambda minibatch: memoryview(minibatch),
    "DLPack": np.from_dlpack,
    "DLPack of JAX": _dlpack_of_jax,
    "device_put": _through_jax,
    "jitted with donation": _donated,
    "pickle with buffers": lambda minibatch: _pickled(minibatch),
}


def _pickled(minibatch: _Array) -> Any:
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(minibatch, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(pickled, buffers=buffers)


@pytest.mark.parametrize("way", _WAYS.values(), ids=_WAYS)
def test_what_refers_to_a_minibatch_stays_as_it_is(way: Callable[[_Array], Any]) -> None:
    with DataLoader(FromFunction(_wide, 200), _ROWS, num_workers=2) as loader:
        next(iter(loader.minibatches(None)))  # Later ones come in shared memory.
        held = [way(minibatch) for minibatch in loader.minibatches(None)]
        for seed in range(3):
            for minibatch in loader.minibatches(seed):
                minibatch[:] = -1
        for number, view in enumerate(held):
            column = np.asarray(view)[:, 0]
            np.testing.assert_array_equal(column, np.arange(_ROWS) + _ROWS * number)


def test_donation_leaves_the_minibatch_itself_as_it_is() -> None:
    with DataLoader(FromFunction(_wide, 40), _ROWS, num_workers=1) as loader:
        next(iter(loader.minibatches(None)))
        for number, minibatch in enumerate(loader.minibatches(None)):
            assert np.asarray(_donated(minibatch))[0, 0] == _ROWS * number
            np.testing.assert_array_equal(minibatch[:, 0], np.arange(_ROWS) + _ROWS * number)
