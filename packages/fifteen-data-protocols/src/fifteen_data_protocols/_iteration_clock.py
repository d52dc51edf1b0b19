"""How the statistics of an iteration are kept."""

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from fifteen_data_protocols._iteration_statistics import IterationStatistics

MinibatchType = TypeVar("MinibatchType")


class IterationClock:
    """Keeps the statistics of an iteration, for whoever implements one.

    One thread at a time may call :meth:`receive`, and one at a time add to each of the two sums;
    any thread may call the rest, at any moment. There are no locks, so finalisers may, too.

    Example:
        >>> class Numbers:
        ...     def __init__(self) -> None:
        ...         self._next = iter(range(3)).__next__
        ...         self._clock = IterationClock()
        ...
        ...     def __iter__(self) -> "Numbers":
        ...         return self
        ...
        ...     def __next__(self) -> int:
        ...         return self._clock.receive(self._next)
        ...
        ...     def statistics(self) -> IterationStatistics:
        ...         return self._clock.statistics()
        >>> numbers = Numbers()
        >>> sum(numbers), numbers.statistics().minibatch_count
        (3, 3)
    """

    def __init__(self) -> None:
        self.loading_seconds: float = 0.0
        """Added to by the iteration; see :class:`IterationStatistics`."""
        self.transfer_seconds: float = 0.0
        """Likewise."""
        # Each is replaced as a whole, so that another thread never sees half of a change.
        self._waits: tuple[int, float, float | None] = 0, 0.0, None
        """Minibatches handed out, seconds waited for them, and since when there is a wait."""
        self._runs: tuple[float, float | None] = 0.0, None
        """Seconds until the clock was last stopped, and since when it runs."""
        self._told: tuple[float, float] = 0.0, 0.0
        """Seconds elapsed and waited, as they were told last."""

    def receive(self, take: Callable[[], MinibatchType]) -> MinibatchType:
        """Call ``take()``, which waits for the next minibatch, and count both.

        ``StopIteration`` stops the clock, as :meth:`stop` does; the next call starts it again.
        """
        begun = perf_counter()
        elapsed, since = self._runs
        if since is None:
            self._runs = elapsed, begun
        count, waited, _ = self._waits
        self._waits = count, waited, begun
        try:
            minibatch = take()
        except BaseException as error:
            self._waits = count, waited + perf_counter() - begun, None
            if isinstance(error, StopIteration):
                self.stop()
            raise
        self._waits = count + 1, waited + perf_counter() - begun, None
        return minibatch

    def stop(self) -> None:
        """Stop the clock, since the iteration is over; idempotent."""
        elapsed, since = self._runs
        if since is not None:
            self._runs = elapsed + perf_counter() - since, None

    def statistics(self) -> IterationStatistics:
        """Returns the figures up to now, a wait that goes on included."""
        # Time first: what ends while this goes on is then never counted beyond its end.
        now = perf_counter()
        count, waited, waiting_since = self._waits
        elapsed, running_since = self._runs
        if running_since is not None:
            elapsed += max(0.0, now - running_since)
        if waiting_since is not None:
            waited += max(0.0, now - waiting_since)
        # Between measuring the end of a wait and storing it a thread may lose its turn, and until
        # then the wait seemed to go on. What was told of it is not taken back.
        told_elapsed, told_waited = self._told
        elapsed = max(elapsed, told_elapsed)
        # A thread may still wait when another one has closed the iteration.
        waited = min(max(waited, told_waited), elapsed)
        self._told = elapsed, waited
        return IterationStatistics(
            count,
            elapsed,
            waited,
            self.loading_seconds,
            self.transfer_seconds,
        )
