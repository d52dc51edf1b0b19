"""The boot record: all that a worker process is told when it starts.

The parent writes it, and the worker reads it before anything can be imported by its name: it holds
the import path. What must be shared is inherited as a descriptor, and told by its number.
"""

import marshal
from typing import Any, NamedTuple

STARTING = "FIFTEEN_STARTING_WORKER"
"""A variable of a worker's environment until `_boot` runs. Whoever else sees it is a program that
was started in the place of a Python interpreter."""


class Shared(NamedTuple):
    """What all workers of a loader are told alike."""

    argv: list[str]
    """The program's arguments."""
    worker_count: int
    thread_count: int
    """Of each worker."""
    shard_index: int
    payload: int
    """Descriptor of the file with dataset and ``collate_fn``."""
    board: int
    """Descriptor of the file of the board; workers also lock bytes of it, see `_start_limit`."""
    arena: int
    """Descriptor of the file with the slots."""
    jobs: int
    """Descriptor of the pipe to read job numbers from."""
    doorbell: int
    """Descriptor of the pipe to ring at, by writing a byte."""
    gate: int
    """Descriptor of the pipe to read a byte from before the payload is there."""


class BootRecord(NamedTuple):
    """What one worker is told."""

    path: list[str]
    """The import path. It comes first: `_process` has no name for its place."""
    shared: Shared
    worker: int
    """Index of the worker; its replacement has the same."""
    lifeline: int
    """Descriptor of the pipe whose other end closes with the parent."""
    stderr: int
    """Descriptor of the parent's standard error."""
    spill: int
    """Descriptor of the worker's spill file."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All those that the worker inherits."""
        shared = self.shared
        return (
            *(shared.payload, shared.board, shared.arena),
            *(shared.jobs, shared.doorbell, shared.gate),
            *(self.lifeline, self.stderr, self.spill),
        )

    def dump(self) -> bytes:
        """Returns the record as bytes, of which ``marshal`` makes the fields for `load`."""
        return marshal.dumps((self.path, tuple(self.shared), *self[2:]))

    @classmethod
    def load(cls, fields: tuple[Any, ...]) -> "BootRecord":
        """Returns the record of these fields."""
        path, shared, *own = fields
        return cls(path, Shared._make(shared), *own)
