"""The one rule for arguments that are integers."""

import operator
from typing import Any


def checked_int(name: str, value: Any, *, at_least: int) -> int:
    """Returns an argument as a Python integer: one of Python's or NumPy's, and not a ``bool``.

    For whoever implements a data loader or a map.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is too small.

    Example:
        >>> checked_int("minibatch_size", 0, at_least=1)
        Traceback (most recent call last):
        ValueError: `minibatch_size` must be at least 1, got 0
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    if number < at_least:
        raise ValueError(f"`{name}` must be at least {at_least}, got {number}")
    return number
