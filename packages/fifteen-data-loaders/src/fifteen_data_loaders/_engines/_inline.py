"""Loading in the thread that asks for a minibatch. In the parent."""

import time
from collections.abc import Callable
from typing import Any

from fifteen_data_loaders._engines._engine import closed_error
from fifteen_data_loaders._order._plan import Request
from fifteen_data_loaders._samples._collate import Collator
from fifteen_data_loaders._samples._fetch import collate, fetch, is_batched


class InlineEngine:
    """Loads each minibatch when it is asked for, in the thread that asks."""

    def __init__(self, dataset: Any, collate_fn: Callable[[list[Any]], Any] | None) -> None:
        self._dataset = dataset
        self.batched = is_batched(dataset)
        """Whether the dataset loads several samples in one call."""
        self._collate_fn = collate_fn
        self._collator = Collator()
        self.closed = False

    def window(self, row_count: int) -> int:
        """Returns 0: nothing is loaded ahead."""
        return 0

    def start(self, request: Request) -> "_Inline":
        """Returns a promise that is kept when it is asked for."""
        return _Inline(self, request)

    def fetch(self, request: Request, first: int, last: int) -> list[Any]:
        """Load rows ``[first, last)`` of a minibatch."""
        return fetch(
            self._dataset, request.loaded_indices[first:last].tolist(), request.shuffle_seed
        )

    def collate(self, request: Request, samples: list[Any]) -> Any:
        """Make a minibatch of its samples."""
        if self._collate_fn is None:
            return self._collator.stack(samples, request.loaded_indices.tolist())
        return collate(
            self._collate_fn, samples, request.shuffle_seed, request.minibatch, request.shard_index
        )

    def check_usable(self) -> None:
        """Refuse a loader that is closed.

        Raises:
            RuntimeError: in this case.
        """
        if self.closed:
            raise closed_error()

    def close(self) -> None:
        """Refuse further iterations."""
        self.closed = True


class _Inline:
    finished = False
    nanoseconds = 0

    def __init__(self, engine: InlineEngine, request: Request) -> None:
        self._engine = engine
        self._request = request

    def result(self) -> Any:
        started = time.perf_counter_ns()
        try:
            samples = self._engine.fetch(self._request, 0, len(self._request.loaded_indices))
            return self._engine.collate(self._request, samples)
        finally:
            self.nanoseconds = time.perf_counter_ns() - started
            self.finished = True

    def cancel(self) -> None:
        """Nothing has begun."""
