"""Daemon threads that Python's exit ends and waits for."""

import atexit
import threading
import time
from collections.abc import Callable

_EXIT_SECONDS = 5.0
"""How long Python's exit waits for what all threads together are in the middle of."""

_running: dict[threading.Thread, Callable[[], object]] = {}
"""How each thread is told to stop."""


def thread_until_exit(
    run: Callable[[], object], stop: Callable[[], object], *, name: str
) -> threading.Thread:
    """Returns a thread, to be started, that Python's exit tells to ``stop()`` and waits for.

    A thread that is within JAX when Python ends aborts the process, so the exit must wait. It is a
    daemon nevertheless: Python waits for other threads before it calls exit functions, and nobody
    would tell them to stop. The wait is limited to 5 seconds for threads that wait for something
    forever. For whoever implements an iteration.

    Args:
        run: the thread's work.
        stop: makes ``run`` return soon. Called by the thread in which Python ends, unless ``run``
            has returned before.
        name: of the thread.

    Example:
        >>> bell = threading.Event()
        >>> thread = thread_until_exit(bell.wait, bell.set, name="waits for the bell")
        >>> thread.start()
    """

    def work() -> None:
        try:
            run()
        finally:
            del _running[threading.current_thread()]

    thread = threading.Thread(target=work, name=name, daemon=True)
    _running[thread] = stop
    # Exit functions run last in, first out. Registering anew with every thread puts ours before
    # those of JAX and other libraries, which take down what the thread may be using.
    atexit.unregister(_stop_all)
    atexit.register(_stop_all)
    return thread


def _stop_all() -> None:
    deadline = time.monotonic() + _EXIT_SECONDS
    running = dict(_running)
    for stop in running.values():
        stop()
    for thread in running:
        # An interrupt may have come before the thread was started.
        if thread.ident is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
