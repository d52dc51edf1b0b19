"""What an iteration asks of whatever loads its minibatches. In the parent, like all engines."""

from typing import Any, Protocol

from fifteen_data_loaders._order._plan import Request


class Loading(Protocol):
    """A minibatch on its way, owned by the iteration that asked for it."""

    @property
    def finished(self) -> bool:
        """Whether the outcome is settled: a minibatch, or an error for good."""
        ...

    @property
    def nanoseconds(self) -> int:
        """Time that went into it, summed over all threads; final once there is a result."""
        ...

    def result(self) -> Any:
        """Wait for the minibatch, or raise what went wrong; may be called again."""
        ...

    def cancel(self) -> None:
        """Say that nobody wants it, or its error again; takes no locks, as finalisers call it."""
        ...


class Engine(Protocol):
    """Loads minibatches: inline, in threads, in worker processes or out of arrays. Thread-safe."""

    def window(self, row_count: int) -> int:
        """Returns how many minibatches to have on their way; 0 to load each when it is wanted."""
        ...

    def start(self, request: Request) -> Loading:
        """Begin to load a minibatch, without waiting for anything."""
        ...

    def check_usable(self) -> None:
        """Refuse an engine that is closed, or that belongs to another process.

        Raises:
            RuntimeError: in these cases.
        """
        ...

    def close(self) -> None:
        """End whatever loads, and refuse further iterations; idempotent."""
        ...


def closed_error() -> RuntimeError:
    """Returns the error of an iteration over a loader that is closed."""
    return RuntimeError("this DataLoader is closed: construct another one to iterate again")
