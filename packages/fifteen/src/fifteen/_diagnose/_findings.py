"""What was measured, and what follows from it."""

from dataclasses import dataclass
from typing import Literal

Bottleneck = Literal["samples", "collation", "minibatch size", "workers", "transfer", "step"]

_NOTABLE_WAITING_FRACTION = 0.1
"""A loop that waits less than this part of its time gains little from faster loading."""

_GOOD_ENOUGH = 0.9
"""A setting that comes so close to the fastest one, with fewer processes and threads, is better."""


@dataclass(frozen=True)
class MeasuredSetting:
    """How one choice of workers and threads did, without any step."""

    num_workers: int

    num_threads: int

    minibatches_per_second: float
    """Once it was under way."""

    first_minibatch_seconds: float
    """From the construction of the loader, the start of its workers included."""

    nbytes_in_flight: int
    """That one iteration holds: the minibatch in use, and those on their way or ready."""

    @property
    def is_plain(self) -> bool:
        """Whether it has neither workers nor threads."""
        return self.num_workers == 0 and self.num_threads == 1

    @property
    def name(self) -> str:
        """The arguments that make it."""
        if self.num_threads == 1:
            return f"num_workers={self.num_workers}"
        if self.num_workers == 0:
            return f"num_threads={self.num_threads}"
        return f"num_workers={self.num_workers}, num_threads={self.num_threads}"


@dataclass(frozen=True)
class Findings:
    """The figures of a diagnosis.

    Seconds are per minibatch, medians, without workers and threads unless it says otherwise.
    """

    row_count: int
    """Samples in a minibatch, of this shard."""

    minibatch_nbytes: int
    """All leaves together."""

    sample_seconds: float
    """To load the samples."""

    collation_seconds: float
    """To stack the samples; or, in memory, to gather the rows."""

    overhead_seconds: float
    """What loading and transfer cost however few samples there are; no part of the others."""

    transport_seconds: float | None
    """What it takes in addition if a worker loads it; ``None`` if no worker was tried."""

    transfer_seconds: float | None
    """To bring it to the device; ``None`` if it has leaves that JAX has no arrays of."""

    step_seconds: float | None
    """Of the step, on a minibatch that is there already; ``None`` without a step."""

    headroom: float | None
    """Minibatches per second if data cost nothing: the loop on one that is there already."""

    waiting_fraction: float | None
    """Part of its time that the loop waits, with the loader as it was given."""

    given: MeasuredSetting
    """The loader as it was given."""

    settings: tuple[MeasuredSetting, ...]
    """All that were tried, the given one included, those with fewer processes and threads first."""

    @property
    def recommended(self) -> MeasuredSetting:
        """The setting to try: the first that keeps up with the step, or is about the fastest."""
        fastest = max(setting.minibatches_per_second for setting in self.settings)
        enough = _GOOD_ENOUGH * fastest
        if self.headroom is not None:
            enough = min(enough, self.headroom / _GOOD_ENOUGH)
        return next(each for each in self.settings if each.minibatches_per_second >= enough)

    @property
    def bottleneck(self) -> Bottleneck:
        """What keeps the loop from being faster; without a step, what loading waits for most."""
        if self.waiting_fraction is not None and self.waiting_fraction < _NOTABLE_WAITING_FRACTION:
            return "step"
        transfer = self.transfer_seconds or 0.0
        if self.overhead_seconds > self.sample_seconds + self.collation_seconds + transfer:
            return "minibatch size"
        if transfer > 1 / self.given.minibatches_per_second:
            return "transfer"
        beaten_by = self.given.minibatches_per_second / _GOOD_ENOUGH
        if any(each.is_plain and each.minibatches_per_second > beaten_by for each in self.settings):
            return "workers"
        return "samples" if self.sample_seconds >= self.collation_seconds else "collation"
