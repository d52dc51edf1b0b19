"""How long loaders, iterations and minibatches live: no longer than somebody refers to them."""

import gc
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader

from tests.loaders.datasets import FromFunction

pytestmark = pytest.mark.usefixtures("no_leftovers")


@pytest.mark.parametrize("options", [{}, {"num_threads": 2}, {"num_workers": 1}])
def test_an_error_that_is_dropped_takes_the_iteration_with_it(options: dict[str, Any]) -> None:
    """And with the iteration its loader, the workers included: no cycle waits for the collector."""

    def load(index: int) -> int:
        raise ValueError(index)

    loader = DataLoader(FromFunction(load), 4, **options)
    iteration = iter(loader.minibatches(None))
    references = weakref.ref(loader), weakref.ref(iteration)
    gc.disable()
    try:
        with suppress(ValueError):
            next(iteration)
        del loader, iteration
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_leaves_no_workers() -> None:
    dataset = FromFunction(int)
    dataset.rng = np.random.default_rng(0)  # type: ignore[attr-defined]
    with pytest.raises(UserWarning, match="random number generator"):
        DataLoader(dataset, 4, num_workers=2)


def test_minibatches_that_outlive_close_are_let_go_of() -> None:
    loader = DataLoader(FromFunction(lambda index: np.zeros(100), 64), 4, num_workers=1)
    list(loader.minibatches(None))
    held = list(loader.minibatches(None))
    loader.close()
    assert "memfd:fifteen-arena" in Path("/proc/self/maps").read_text()
    del held
    gc.collect()
    assert "memfd:fifteen-arena" not in Path("/proc/self/maps").read_text()
