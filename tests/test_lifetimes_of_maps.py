"""What a loop leaves lives no longer than the loop: nothing waits for the garbage collector."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
from fifteen.data import (
    DataLoader,
    cycled_minibatches,
    padding_map,
    prefetching_map,
    sharding_map,
)

pytestmark = pytest.mark.usefixtures("no_leftovers")

_MAPS: dict[str, Callable[[Any], Any]] = {
    "none": lambda minibatches: minibatches,
    "nothing ahead": lambda minibatches: prefetching_map(minibatches, buffer_size=1),
    "one ahead": prefetching_map,
    "two ahead": lambda minibatches: prefetching_map(minibatches, jax.devices()[0], 3),
    "sharded": lambda minibatches: sharding_map(minibatches, jax.devices()),
    "padded": lambda minibatches: prefetching_map(padding_map(minibatches)),
}


class _Fails:
    """Numbers, of which one may be missing."""

    def __init__(self, missing: int | None) -> None:
        self.missing = missing

    def __getitem__(self, index: int) -> Any:
        if index == self.missing:
            raise LookupError(index)
        return np.float32(index)

    def __len__(self) -> int:
        return 16


def _to_the_end(minibatches: Iterator[Any]) -> None:
    for _ in zip(range(9), minibatches, strict=False):
        pass


def _to_the_error(minibatches: Iterator[Any]) -> None:
    with pytest.raises(LookupError):
        _to_the_end(minibatches)


def _to_before_the_error(minibatches: Iterator[Any]) -> None:
    """It has been read ahead, and nobody takes it."""
    next(minibatches)
    ready = getattr(minibatches, "_loading", None)
    while ready is not None and ready.is_running() and len(ready.ready) < ready._count:
        pass


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("options", "mapped", "cycled"),
    [
        *(({}, mapped, cycled) for mapped in _MAPS for cycled in (False, True)),
        *(({"num_threads": 2}, mapped, False) for mapped in _MAPS),
        # These take longer to start.
        *(
            pytest.param({"num_workers": 1}, mapped, False, marks=pytest.mark.once)
            for mapped in ("none", "one ahead", "two ahead")
        ),
    ],
)
@pytest.mark.parametrize(
    ("use", "missing"),
    [(next, None), (_to_the_end, None), (_to_the_error, 9), (_to_before_the_error, 9)],
)
def test_a_loader_is_gone_with_the_last_iteration(
    no_collector: None,
    options: dict[str, Any],
    cycled: bool,
    use: Callable[[Iterator[Any]], Any],
    missing: int | None,
    mapped: str,
) -> None:
    def run() -> weakref.ref[Any]:
        loader: DataLoader[Any] = DataLoader(_Fails(missing), 4, **options)
        minibatches = cycled_minibatches(loader, None) if cycled else loader.minibatches(None)
        use(iter(_MAPS[mapped](minibatches)))
        return weakref.ref(loader)

    assert run()() is None
