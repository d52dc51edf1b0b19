"""Threads that do what they are handed, until they are told to end. In the parent."""

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from fifteen_data_protocols import thread_until_exit

Job = Callable[[], object]


class ThreadPool:
    """Some threads that share one queue, started when they are first needed.

    Not a ``ThreadPoolExecutor``: Python does not exit before that has done all that it was handed,
    and a signal handler that closes it in the middle of being handed something waits forever.
    """

    def __init__(self, count: int, at_exit: Callable[[], object]) -> None:
        """Start nothing yet; after ``at_exit()``, jobs should be over as soon as they begin."""
        self._count = count
        self._at_exit = at_exit
        self._jobs = SimpleQueue[Job | None]()
        self._threads: list[threading.Thread] = []

    def hand(self, job: Job) -> None:
        """Have a job done, which must not raise anything."""
        self._jobs.put(job)

    def start(self) -> None:
        """Start threads that are not running yet, or were interrupted when they were started."""
        jobs, at_exit = self._jobs, self._at_exit  # Threads must not refer to the pool.

        def stop() -> None:
            at_exit()
            jobs.put(None)

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        while len(self._threads) < self._count:
            thread = thread_until_exit(partial(_work, jobs), stop, name="fifteen-loader")
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Let the threads end when they have done what they were handed; idempotent.

        Jobs are not dropped, since a thread that reads ahead may wait for them, and Python's exit
        for that one.
        """
        self._jobs.put(None)


def _work(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        # While this thread waits for the next job, the last one would keep its minibatch alive.
        del job
    # For the next thread, and for one that is started after the end.
    jobs.put(None)
