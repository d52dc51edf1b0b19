"""Loading in the calling process: in the calling thread, or in threads of our own."""

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from fifteen_data_loaders._collate import Collator
from fifteen_data_loaders._fetch import collate, fetch, is_batched
from fifteen_data_loaders._plan import Request
from fifteen_data_loaders._threads import Threads

# Samples are handed to threads one by one unless minibatches have more than this many for each.
_RUNS_PER_THREAD = 16


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


class ThreadsEngine:
    """Loads minibatches ahead in threads of the calling process.

    All threads share in each minibatch, which is collated in one of them.
    """

    def __init__(self, inline: InlineEngine, thread_count: int, prefetch: int) -> None:
        self._inline = inline
        self._thread_count = thread_count
        self._prefetch = prefetch
        self._pid = os.getpid()
        self._threads = Threads(thread_count, inline.close)

    def window(self, row_count: int) -> int:
        """Returns ``prefetch``, or as many small minibatches as keep every thread busy."""
        return max(self._prefetch, -(-2 * self._thread_count // row_count))

    def start(self, request: Request) -> "_Threaded":
        """Hand the samples of a minibatch to the threads."""
        row_count = len(request.loaded_indices)
        length = max(1, row_count // (_RUNS_PER_THREAD * self._thread_count))
        if self._inline.batched:
            length = -(-row_count // self._thread_count)
        runs = range(0, row_count, length)
        loading = _Threaded(self._inline, request, len(runs))
        for first in runs:
            self._threads.hand(partial(loading.load, first, min(first + length, row_count)))
        self._threads.start()
        if self._inline.closed:  # In the meantime, and threads that are told to end do no more.
            self._threads.end()
            raise closed_error()
        return loading

    def check_usable(self) -> None:
        """Refuse a loader that is closed, or that a forked child inherited without its threads.

        Raises:
            RuntimeError: in these cases.
        """
        self._inline.check_usable()
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this DataLoader's threads belong to the process that forked: construct a loader "
                "of its own in the child"
            )

    def close(self) -> None:
        """Let the threads end; samples that nobody has begun to load are dropped."""
        self._inline.close()
        # What is queued is not cancelled, or whoever waits for it would wait for ever.
        self._threads.end()


class _Threaded:
    """A minibatch that several threads load; the one that comes last puts it together."""

    def __init__(self, inline: InlineEngine, request: Request, run_count: int) -> None:
        self._inline = inline
        self._request = request
        self._cancelled = False
        self._lock = threading.Lock()
        self._samples: dict[int, list[Any]] = {}
        self._errors: dict[int, BaseException] = {}
        self._missing = run_count
        self._settled = threading.Event()
        self._minibatch: Any = None
        self._error: BaseException | None = None
        self.nanoseconds = 0

    @property
    def finished(self) -> bool:
        return self._settled.is_set()

    def load(self, first: int, last: int) -> None:
        """Load some rows, in one of the threads."""
        started = time.perf_counter_ns()
        try:
            # Rows after one that failed are not needed any more; those before it are, since the
            # error of the first row that fails is the one to be raised.
            wanted = not self._cancelled and not self._inline.closed
            if wanted and not any(row < first for row in list(self._errors)):
                self._samples[first] = self._inline.fetch(self._request, first, last)
        except BaseException as error:
            self._errors[first] = error
        with self._lock:
            self.nanoseconds += time.perf_counter_ns() - started
            self._missing -= 1
            if self._missing:
                return
        self._settle()

    def _settle(self) -> None:
        try:
            if self._errors:
                self._error = self._errors[min(self._errors)]
            elif self._inline.closed:
                self._error = closed_error()
            elif not self._cancelled:
                samples = [sample for _, run in sorted(self._samples.items()) for sample in run]
                started = time.perf_counter_ns()
                self._minibatch = self._inline.collate(self._request, samples)
                self.nanoseconds += time.perf_counter_ns() - started
        except BaseException as error:
            self._error = error
        finally:
            self._samples.clear()
            self._errors.clear()
            self._settled.set()

    def result(self) -> Any:
        self._settled.wait()
        error = self._error
        if error is None:
            return self._minibatch
        try:
            raise error
        finally:
            del error

    def cancel(self) -> None:
        self._cancelled = True
        # Its traceback refers to what refers to it.
        self._error = None


def closed_error() -> RuntimeError:
    """Returns the error of an iteration over a loader that is closed."""
    return RuntimeError("this DataLoader is closed: construct another one to iterate again")
