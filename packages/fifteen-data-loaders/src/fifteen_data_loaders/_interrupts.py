"""Locks for code that signal handlers and finalisers may interrupt, and call again.

The rules of interrupt safety are on the page "How it works".
"""

import threading


def not_held(lock: "threading.RLock") -> "threading.RLock":
    """Returns a lock for a ``with`` statement, unless this very thread is inside of one.

    A plain lock would wait for ever there, and a reentrant one would let in what finds everything
    half done. Nothing can interrupt a ``with`` statement between taking the lock and entering,
    since the lock's methods are not Python.

    Raises:
        RuntimeError: if this thread has the lock.
    """
    if lock._is_owned():  # type: ignore[attr-defined] # What threading.Condition asks, too.
        raise RuntimeError(
            "minibatches cannot be asked for here: a signal handler or finaliser has interrupted "
            "this very thread while it was loading. Set a flag there, and act on it in the loop"
        )
    return lock
