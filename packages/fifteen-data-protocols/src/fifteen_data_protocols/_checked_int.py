"""The one rule for arguments that are integers."""

import operator
from typing import Any


def checked_int(name: str, value: Any, *, at_least: int, note: str = "") -> int:
    """Returns an argument as a Python integer: one of Python's or NumPy's, and not a ``bool``.

    For whoever implements a data loader or a map.

    Args:
        name: of the argument.
        value: that was given for it.
        at_least: the smallest value that is allowed.
        note: what to say of that one in the error, such as ``", which reads nothing ahead"``.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is too small.

    Example:
        >>> checked_int("minibatch_size", 0, at_least=1)
        Traceback (most recent call last):
        ValueError: `minibatch_size` must be at least 1, got 0
    """
    # Told by its type: older NumPy takes its own truth values for integers, with a warning.
    is_truth_value = isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"
    try:
        number = None if is_truth_value else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    if number < at_least:
        raise ValueError(f"`{name}` must be at least {at_least}{note}, got {number}")
    return number
