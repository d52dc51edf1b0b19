"""The limit on starts: only so many workers start at once as there are cores. In the child.

So the first ones are ready the sooner, and can begin while others start. A turn is a lock on a byte
of a file, which the kernel takes back from those that die.
"""

import fcntl
import os
import time

_PATIENCE_SECONDS = 1.0
"""A start that takes longer than this is not held up by lack of a core alone, and may hang."""

_POLL_SECONDS = 0.01


def take_turn(turns: int) -> None:
    """Wait, though not for long, while as many workers are starting as there are cores."""
    count = len(os.sched_getaffinity(0))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for turn in range(count):
            try:
                fcntl.lockf(turns, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, turn)
            except OSError:
                continue
            return
        time.sleep(_POLL_SECONDS)


def end_turn(turns: int) -> None:
    """Let another worker start."""
    fcntl.lockf(turns, fcntl.LOCK_UN)
