"""The exceptions of this package, and how notes are added to those of others."""

from contextlib import suppress


class WorkerError(RuntimeError):
    """Raised for an error in a worker process that cannot be raised as itself.

    Either the exception could not be pickled and rebuilt, in which case the message holds its type,
    message and traceback, or it would have ended more than the loading of a sample
    (``SystemExit``, ``KeyboardInterrupt``).
    """


class WorkerDiedError(RuntimeError):
    """Raised when worker processes keep dying over the same samples, or before they have started.

    The message names the signal or exit code, a likely cause and the samples being loaded.
    """


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, unless it is of a kind that cannot be changed."""
    with suppress(Exception):
        error.add_note(note)
