"""A diagnosis: the findings with the words for them."""

from dataclasses import dataclass

from fifteen._diagnose._findings import Findings
from fifteen._diagnose._report import report, verdict


@dataclass(frozen=True)
class Diagnosis(Findings):
    """What :func:`diagnose` found. ``str()`` gives a report, ``dataclasses.asdict()`` the figures.

    Seconds are per minibatch, medians, without workers and threads unless it says otherwise.
    """

    @property
    def verdict(self) -> str:
        """Two sentences: what the bottleneck is, and which setting to try."""
        return verdict(self)

    def __str__(self) -> str:
        return report(self)
