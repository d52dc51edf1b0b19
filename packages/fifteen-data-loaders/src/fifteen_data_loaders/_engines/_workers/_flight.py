"""A flight: one minibatch on its way from request to result. In the parent, under its lock."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._engines._workers._arena import Slot
from fifteen_data_loaders._engines._workers._wire._slot import (
    Extent,
    collated_nbytes,
    content_start,
    indices_of,
    read_collated,
)
from fifteen_data_loaders._order._plan import Request
from fifteen_data_loaders._samples._collate import Collator
from fifteen_data_loaders._samples._layout import Layout

UNPOSTED = -1
"""In place of a job's number: the run is not on the board."""


@dataclass(eq=False, slots=True)
class Run:
    """Consecutive rows of a flight that one thread of a worker loads: a job on the board."""

    first: int
    last: int
    deaths: int = 0
    """How many workers died while they loaded these rows."""
    number: int = UNPOSTED
    """Of the job on the board."""


class Failure(NamedTuple):
    """Why a flight has no minibatch."""

    row: int
    """The first one of the run that failed."""
    new_error: Callable[[], BaseException]
    """Makes the exception anew, for one that was raised holds on to the frames it passed."""


@dataclass(eq=False, slots=True)
class Flight:
    """A minibatch on its way. It ends when no run is pending, cancelled or not: only then may its
    slot be used for another.
    """  # noqa: D205 - one thought.

    request: Request
    indices: NDArray[np.int64]
    """Of the samples to load."""
    slot: Slot
    layout: "KnownLayout | None"
    pending: list[Run]
    """Runs that are not done, the first one last."""
    awaited: Run | None = None
    """The run whose end the worker rings for."""
    cancelled: bool = False
    leftovers: dict[int, Any] = field(default_factory=dict)
    """Samples that came back as they are, by row, since they did not fit a row exactly."""
    collated: Any = None
    """The minibatch, after a custom ``collate_fn``."""
    failure: "Failure | None" = None
    nanoseconds: int = 0
    """Time that workers spent on it."""

    @classmethod
    def of(
        cls, request: Request, slot: Slot, layout: "KnownLayout | None", run_length: int
    ) -> "Flight":
        """Begin a flight: its indices are in the slot, and none of its runs is posted."""
        row_count = len(request.loaded_indices)
        pending = [
            Run(first, min(first + run_length, row_count))
            for first in range(0, row_count, run_length)
        ]
        indices_of(slot.memory, row_count)[:] = request.loaded_indices
        return cls(request, request.loaded_indices, slot, layout, pending[::-1])

    @property
    def posted(self) -> list[Run]:
        """The runs on the board, in their order."""
        return [run for run in reversed(self.pending) if run.number != UNPOSTED]

    @property
    def has_unposted(self) -> bool:
        """Whether there was no room on the board for some runs."""
        return any(run.number == UNPOSTED for run in self.pending)

    @property
    def is_settled(self) -> bool:
        """Whether all rows are there, or one failed and all before it are there."""
        if self.failure is not None and self.pending:
            return self.pending[-1].first > self.failure.row
        return not self.pending

    def fail(self, row: int, new_error: Callable[[], BaseException]) -> None:
        """Note a failure; the one with the lowest row counts, as if rows were loaded in order."""
        if self.failure is None or row < self.failure.row:
            self.failure = Failure(row, new_error)

    def split(self, run: Run) -> None:
        """Have a run loaded row by row, so that the next death says which sample it was."""
        place = self.pending.index(run)
        self.pending[place : place + 1] = [
            Run(row, row + 1, run.deaths) for row in reversed(range(run.first, run.last))
        ]

    def drop_unwanted(self) -> None:
        """Forget runs that are not on the board and need not be, since the outcome is settled."""
        if self.cancelled or self.failure:
            row = -1 if self.cancelled or not self.failure else self.failure.row
            self.pending = [
                run for run in self.pending if run.number != UNPOSTED or run.first <= row
            ]

    def collate(self, collator: Collator) -> Any:
        """Returns the minibatch of rows that are all there."""
        if self.layout is None:
            rows = range(len(self.indices))
            return collator.stack([self.leftovers[row] for row in rows], self.indices.tolist())
        layout = self.layout.layout
        row_count = len(self.indices)
        arrays = layout.arrays(self.slot.memory, content_start(row_count), row_count)
        if not self.leftovers:
            return layout.minibatch(arrays)
        # Rows in the slot are exactly what default collation makes of a sample first. Not
        # `array[row]`: as scalars, bytes would lose the zeros at their end.
        samples = [
            self.leftovers[row]
            if row in self.leftovers
            else layout.minibatch([array[row, ...] for array in arrays])
            for row in range(len(self.indices))
        ]
        return collator.stack(samples, self.indices.tolist())

    def load_collated(self, head_nbytes: int) -> None:
        """Take over what a custom ``collate_fn`` made, as arrays over the memory of the slot."""
        pickled, buffers = read_collated(self.slot.memory, len(self.indices), head_nbytes)
        self.collated = pickle.loads(pickled, buffers=buffers)

    def load_spilled(self, spilled: bytes, collator: Collator) -> int:
        """Take over what had no room in the slot; returns how many bytes would have sufficed."""
        pickled, buffers = pickle.loads(spilled)
        self.collated = pickle.loads(pickled, buffers=[collator.copy(each) for each in buffers])
        return collated_nbytes(pickled, buffers)


@dataclass(frozen=True, slots=True)
class KnownLayout:
    """A layout that workers can look up in the arena."""

    number: int
    layout: Layout
    slot: Slot
    """It holds the pickled layout."""
    extent: Extent
    """Of the pickle, at the beginning of the slot."""
