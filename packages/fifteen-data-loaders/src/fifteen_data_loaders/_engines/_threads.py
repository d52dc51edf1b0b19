"""Loading in threads that share in each minibatch. In the parent.

A minibatch is split into runs of samples, and each run is handed to whichever thread is free. The
thread that ends the last run collates, and wakes the one that waits for the minibatch.
"""

import os
import threading
import time
from functools import partial
from typing import Any

from fifteen_data_loaders._engines._engine import closed_error
from fifteen_data_loaders._engines._inline import InlineEngine
from fifteen_data_loaders._engines._thread_pool import ThreadPool
from fifteen_data_loaders._order._plan import Request

_RUNS_PER_THREAD = 16
"""Samples are handed to threads one by one unless minibatches have more than this many for each."""


class ThreadsEngine:
    """Loads minibatches ahead in threads of the calling process.

    All threads share in each minibatch, which is collated in one of them.
    """

    def __init__(self, inline: InlineEngine, thread_count: int, prefetch: int) -> None:
        self._inline = inline
        self._thread_count = thread_count
        self._prefetch = prefetch
        self._pid = os.getpid()
        self._pool = ThreadPool(thread_count, inline.close)

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
            self._pool.hand(partial(loading.load, first, min(first + length, row_count)))
        self._pool.start()
        if self._inline.closed:  # In the meantime, and threads that are told to end do no more.
            self._pool.end()
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
        self._pool.end()


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
