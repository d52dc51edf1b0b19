"""Ctrl-C in a finaliser, where Python would ignore it."""

import _thread
import signal
import threading
from typing import cast


def interrupt_later() -> None:
    """Have a ``KeyboardInterrupt`` raised again, for a finaliser: what that raises is ignored.

    By another thread, which gets its turn when the finaliser is over; and by a signal, since the
    main thread may have begun to wait for something by then. For whoever implements an iteration.

    Example:
        >>> class Loading:
        ...     def __del__(self) -> None:
        ...         try:
        ...             self.close()
        ...         except KeyboardInterrupt:
        ...             interrupt_later()
        ...
        ...     def close(self) -> None: ...
    """
    main = cast(int, threading.main_thread().ident)
    _thread.start_new_thread(signal.pthread_kill, (main, signal.SIGINT))
