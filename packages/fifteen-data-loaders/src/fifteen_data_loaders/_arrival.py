"""Whether this process is a worker to which a dataset is on its way.

Unpickling a dataset imports the modules that it comes from. A loader at the top of such a module is
constructed again then, in every worker; workers of its own would do the same, without end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_arriving = False


@contextmanager
def arrival() -> Iterator[None]:
    """Let loaders that are constructed meanwhile do without worker processes."""
    global _arriving
    _arriving = True
    try:
        yield
    finally:
        _arriving = False


def is_arriving() -> bool:
    """Whether a dataset is being unpickled in this worker process."""
    return _arriving
