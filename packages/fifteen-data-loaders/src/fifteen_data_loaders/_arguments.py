"""Checks of arguments: each error names the argument, the rule and the value."""

from typing import Any

import numpy as np
from fifteen_data_protocols import checked_int


def checked_bool(name: str, value: Any) -> bool:
    """Returns ``value``, which must be a ``bool``, NumPy's included.

    Raises:
        TypeError: if it is anything else.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {value!r}")
    return bool(value)


def check_shard(shard_index: Any, shard_count: Any, minibatch_size: int) -> tuple[int, int]:
    """Returns the checked pair.

    Raises:
        TypeError: if one is not an integer.
        ValueError: if the index is out of range, or the minibatch cannot be divided.
    """
    count = checked_int("shard_count", shard_count, at_least=1)
    index = checked_int("shard_index", shard_index, at_least=0)
    if index >= count:
        raise ValueError(f"`shard_index` must be less than `shard_count`={count}, got {index}")
    if minibatch_size % count:
        raise ValueError(
            f"`minibatch_size` must be divisible by `shard_count`={count}, got {minibatch_size}: "
            f"it counts the samples of the whole minibatch, of which each shard loads an equal part"
        )
    return index, count


def checked_timeout(timeout: Any, num_workers: int) -> float | None:
    """Returns the seconds to wait for a minibatch.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is not positive, or there are no workers to wait for.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float | np.number):
        raise TypeError(f"`timeout` must be a number of seconds or None, got {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"`timeout` must be positive, got {timeout}")
    if not num_workers:
        raise ValueError(
            f"`timeout` must be None without worker processes, got {timeout}: only a worker can be "
            f"ended while it loads a sample"
        )
    return float(timeout)
