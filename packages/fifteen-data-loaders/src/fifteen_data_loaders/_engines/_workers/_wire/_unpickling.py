"""Whether this process is a worker that is unpickling its dataset. The worker says so, loaders ask.

Unpickling a dataset imports the modules that it comes from. A loader at the top of such a module is
constructed again then, in every worker; workers of its own would do the same, without end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_unpickling = False


@contextmanager
def unpickling() -> Iterator[None]:
    """Let loaders that are constructed meanwhile do without worker processes."""
    global _unpickling
    _unpickling = True
    try:
        yield
    finally:
        _unpickling = False


def is_unpickling() -> bool:
    """Whether a dataset is being unpickled in this worker process."""
    return _unpickling
