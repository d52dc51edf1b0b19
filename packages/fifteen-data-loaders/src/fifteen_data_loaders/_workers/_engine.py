"""Loading in worker processes: what an iteration sees of the pool."""

import time
from typing import Any

from fifteen_data_loaders._plan import Request
from fifteen_data_loaders._workers._flight import Flight
from fifteen_data_loaders._workers._pool import WorkerPool


class WorkersState:
    """Loads minibatches ahead in worker processes, which start when it is constructed."""

    def __init__(
        self,
        dataset: Any,
        collate_fn: Any,
        *,
        worker_count: int,
        thread_count: int,
        prefetch: int,
        timeout: float | None,
        shard_index: int,
    ) -> None:
        self._pool = WorkerPool(
            worker_count,
            thread_count,
            collated=collate_fn is not None,
            shard_index=shard_index,
        )
        try:
            self.random_states: list[str] = self._pool.send(dataset, collate_fn)
            """Classes of random number generators that the dataset holds."""
        except BaseException:
            self._pool.close()
            raise
        self._prefetch = prefetch
        self._timeout = timeout

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return self._pool.crew.pids

    def window(self, row_count: int) -> int:
        """Returns how many minibatches to have on their way."""
        return self._pool.pace.window(self._prefetch, row_count)

    def start(self, request: Request) -> "_InWorkers":
        """Put a minibatch on the board."""
        return _InWorkers(self._pool, self._pool.post(request), self._timeout)

    def check_usable(self) -> None:
        """Refuse a loader that is closed, or that a forked child inherited."""
        self._pool.check_usable()

    def close(self) -> None:
        """End the workers."""
        self._pool.close()


class _InWorkers:
    """A minibatch on its way through the pool."""

    finished: bool = False
    nanoseconds: int = 0

    def __init__(self, pool: WorkerPool, flight: Flight, timeout: float | None) -> None:
        self._pool = pool
        self._flight = flight
        self._timeout = timeout

    def result(self) -> Any:
        """Wait for the minibatch."""
        self._pool.wait(self._flight, self._timeout)
        self.finished = True
        started = time.perf_counter_ns()
        minibatch = self._pool.minibatch(self._flight)
        self.nanoseconds = self._flight.nanoseconds + time.perf_counter_ns() - started
        return minibatch

    def cancel(self) -> None:
        """Say that nobody wants it."""
        self._pool.cancel(self._flight)
