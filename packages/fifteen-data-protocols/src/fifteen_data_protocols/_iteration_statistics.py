"""What an iteration tells of itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class IterationStatistics:
    """What an iteration has done so far, and how long its loop waited for it.

    All figures count from the first ``next()``. Subtract earlier ones to look at a stretch of the
    loop: an epoch, or the steps between two evaluations.

    Example:
        >>> earlier = IterationStatistics(10, 2.0, 1.5, 1.5, 0.0)
        >>> later = IterationStatistics(110, 12.0, 2.5, 6.5, 0.0)
        >>> (later - earlier).minibatch_count, (later - earlier).waiting_fraction
        (100, 0.1)
    """

    minibatch_count: int
    """Minibatches handed out."""

    elapsed_seconds: float
    """Since the first minibatch was asked for, except while the iteration was over or closed."""

    waiting_seconds: float
    """Of these, spent in ``next()``: what the loop would save if data cost nothing."""

    loading_seconds: float
    """Spent on loading samples and collating them, summed over all workers and threads.

    Of the minibatches handed out, and with a map on a thread also of those that it has read ahead.
    Where an iterator of others lies below, this is the time that its ``next()`` took.
    """

    transfer_seconds: float
    """Spent in maps, which pad minibatches and bring them to devices.

    JAX may go on transferring in the background.
    """

    ahead_count: int = 0
    """Minibatches that are being loaded or lie ready now, beside those handed out."""

    @property
    def waiting_fraction(self) -> float:
        """Part of the elapsed time that the loop waited, in ``[0, 1]``."""
        return self.waiting_seconds / self.elapsed_seconds if self.elapsed_seconds else 0.0

    def __sub__(self, earlier: "IterationStatistics", /) -> "IterationStatistics":
        """Returns what was added since ``earlier`` statistics of the same iteration.

        ``ahead_count`` is that of now.
        """
        return IterationStatistics(
            self.minibatch_count - earlier.minibatch_count,
            self.elapsed_seconds - earlier.elapsed_seconds,
            self.waiting_seconds - earlier.waiting_seconds,
            self.loading_seconds - earlier.loading_seconds,
            self.transfer_seconds - earlier.transfer_seconds,
            self.ahead_count,
        )
