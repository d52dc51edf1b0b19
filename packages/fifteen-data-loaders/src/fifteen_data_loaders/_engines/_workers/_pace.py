"""How minibatches are cut into runs, and how many are on their way at once. In the parent."""

_RUN_NANOSECONDS = 1_000_000
"""A run costs the parent some twenty microseconds; it takes so long for that not to matter."""

_SHORTEST_RUN_NANOSECONDS = 200_000
"""Runs are shorter, down to this, only where threads would go without one."""

_RUNS_PER_THREAD = 8
"""Enough for threads that got costly samples to be made up for by the others."""

_READY_NANOSECONDS = 1_000_000
"""So much work should lie ready for each thread: waking a process up takes a while."""

_MOST_QUICK_MINIBATCHES = 16
"""But only so many minibatches."""

_NOTABLE_CHANGE = 0.1
"""Nothing is decided anew before the cost of a sample has changed by so much."""


class Pace:
    """Learns what a sample costs, and shares rows out accordingly."""

    def __init__(self, thread_count: int, *, collated: bool) -> None:
        self._thread_count = thread_count
        """Of all workers."""
        self._collated = collated
        """Whether a minibatch cannot be cut, since it goes through a custom ``collate_fn``."""
        self._sample_nanoseconds = 0.0
        self._assumed_nanoseconds = 0.0
        """What the cost was when the decisions below were made."""
        self._run_lengths: dict[int, int] = {}
        self._windows: dict[tuple[int, int], int] = {}

    def note(self, nanoseconds: int, row_count: int) -> None:
        """Take the time into account that workers spent on a minibatch."""
        cost = nanoseconds / row_count
        self._sample_nanoseconds = 0.8 * (self._sample_nanoseconds or cost) + 0.2 * cost
        change = abs(self._sample_nanoseconds - self._assumed_nanoseconds)
        if change > _NOTABLE_CHANGE * self._assumed_nanoseconds:
            self._assumed_nanoseconds = self._sample_nanoseconds
            self._run_lengths.clear()
            self._windows.clear()

    def run_length(self, row_count: int) -> int:
        """Returns how many rows of a minibatch to give to a thread at a time."""
        length = self._run_lengths.get(row_count)
        if length is None:
            length = self._run_lengths[row_count] = self._find_run_length(row_count)
        return length

    def window(self, prefetch: int, row_count: int) -> int:
        """Returns how many minibatches an iteration should have on their way.

        That is ``prefetch``, unless there would be fewer runs than threads: then so many that there
        are two runs for each thread; or unless minibatches are loaded in no time.
        """
        window = self._windows.get((prefetch, row_count))
        if window is None:
            window = max(prefetch, self._find_window(row_count))
            self._windows[prefetch, row_count] = window
        return window

    def _find_run_length(self, row_count: int) -> int:
        if self._collated:
            return row_count
        share = length = -(-row_count // self._thread_count)
        if cost := self._assumed_nanoseconds:
            length = max(int(_RUN_NANOSECONDS / cost), -(-share // _RUNS_PER_THREAD))
            if length > share:
                length = max(share, int(_SHORTEST_RUN_NANOSECONDS / cost))
        return max(1, min(row_count, length))

    def _find_window(self, row_count: int) -> int:
        run_count = -(-row_count // self.run_length(row_count))
        window = 0
        if run_count < self._thread_count or self._collated:
            window = -(-2 * self._thread_count // run_count)
        if cost := self._assumed_nanoseconds * row_count:
            ready = int(_READY_NANOSECONDS * self._thread_count / cost)
            window = max(window, min(ready, _MOST_QUICK_MINIBATCHES))
        return window
