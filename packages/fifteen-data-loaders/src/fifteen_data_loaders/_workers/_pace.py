"""How minibatches are cut into runs, and how many are on their way at once."""

# A run costs the parent some twenty microseconds. Runs are made long enough for that not to matter,
# and shorter, down to the second figure, only where threads would go without one.
_RUN_NANOSECONDS = 1_000_000
_SHORTEST_RUN_NANOSECONDS = 200_000

# Enough for threads that got costly samples to be made up for by the others.
_RUNS_PER_THREAD = 8


class Pace:
    """Learns what a sample costs, and shares rows out accordingly."""

    def __init__(self, thread_count: int, *, collated: bool) -> None:
        self._thread_count = thread_count
        """Of all workers."""
        self._collated = collated
        """Whether a minibatch cannot be cut, since it goes through a custom ``collate_fn``."""
        self._sample_nanoseconds = 0.0

    def note(self, nanoseconds: int, row_count: int) -> None:
        """Take the time into account that workers spent on a minibatch."""
        cost = nanoseconds / row_count
        self._sample_nanoseconds = 0.8 * (self._sample_nanoseconds or cost) + 0.2 * cost

    def run_length(self, row_count: int) -> int:
        """Returns how many rows of a minibatch to give to a thread at a time."""
        if self._collated:
            return row_count
        share = length = -(-row_count // self._thread_count)
        if cost := self._sample_nanoseconds:
            length = max(int(_RUN_NANOSECONDS / cost), -(-share // _RUNS_PER_THREAD))
            if length > share:
                length = max(share, int(_SHORTEST_RUN_NANOSECONDS / cost))
        return max(1, min(row_count, length))

    def window(self, prefetch: int, row_count: int) -> int:
        """Returns how many minibatches an iteration should have on their way.

        That is ``prefetch``, unless there would be fewer runs than threads: then so many that there
        are two runs for each thread.
        """
        run_count = -(-row_count // self.run_length(row_count))
        if run_count >= self._thread_count and not self._collated:
            return prefetch
        return max(prefetch, -(-2 * self._thread_count // run_count))
