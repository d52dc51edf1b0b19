"""Threads that do what they are handed, until they are told to end or Python ends."""

import atexit
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], object]

_EXIT_SECONDS = 5.0
"""How long Python's exit waits for what threads are in the middle of."""


class Threads:
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
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        while len(self._threads) < self._count:
            thread = threading.Thread(
                target=_work,
                args=(self._jobs, self._at_exit),
                name="fifteen-loader",
                daemon=True,
            )
            self._threads.append(thread)
            # Exit functions run last in, first out. Registering anew with every thread puts ours
            # before those of libraries that the thread may be using.
            atexit.unregister(_end_all)
            atexit.register(_end_all)
            thread.start()

    def end(self) -> None:
        """Let the threads end when they have done what they were handed; idempotent."""
        self._jobs.put(None)


_running: dict[threading.Thread, tuple[SimpleQueue[Job | None], Callable[[], object]]] = {}


def _work(jobs: SimpleQueue[Job | None], at_exit: Callable[[], object]) -> None:
    _running[threading.current_thread()] = jobs, at_exit
    while (job := jobs.get()) is not None:
        job()
        # It would keep a minibatch alive while there is nothing to do.
        del job
    # For the next thread, and for one that is started after the end.
    jobs.put(None)
    del _running[threading.current_thread()]


def _end_all() -> None:
    """Wait for the threads, because one that is within JAX when Python ends aborts the process.

    They are daemons nevertheless: Python waits for others before it calls exit functions, and
    nobody would tell them to end. The limit is for samples that wait for something forever. Jobs
    are not dropped, since a thread that reads ahead may wait for them, and the exit for that one.
    """
    deadline = time.monotonic() + _EXIT_SECONDS
    running = dict(_running)
    for jobs, at_exit in running.values():
        at_exit()
        jobs.put(None)
    for thread in running:
        thread.join(max(0.0, deadline - time.monotonic()))
