from collections.abc import Iterable, Mapping
from typing import Any

_CARRIED = ("shard_index", "shard_count", "minibatch_size")


def check_inputs(inputs: object) -> None:
    """Refuse what cannot be an iterable over minibatches.

    Raises:
        TypeError: if ``inputs`` is no iterable, or is a single minibatch.
    """
    if isinstance(inputs, Mapping | str | bytes):
        msg = (
            f"`inputs` must be an iterable over minibatches, got one `{type(inputs).__name__}`; "
            "to map a single minibatch, wrap it in a list"
        )
        raise TypeError(msg)
    if isinstance(inputs, Iterable):
        return
    msg = f"`inputs` must be an iterable over minibatches, got `{type(inputs).__name__}`"
    if hasattr(inputs, "minibatches"):
        msg += "; did you mean `loader.minibatches(shuffle_seed)`?"
    raise TypeError(msg)


def carry_shard(inputs: object, onto: object) -> None:
    """Copy what a loader's minibatches know about their shard, so that maps compose in any order.

    The attributes are looked up by name: loaders are another distribution, and anybody's iterable
    may have them. ``minibatch_size`` counts the rows of all shards.
    """
    for name in _CARRIED:
        value: Any = getattr(inputs, name, None)
        if value is not None:
            setattr(onto, name, value)


def carried(inputs: object, name: str) -> int | None:
    """Returns an attribute that :func:`carry_shard` copies, or ``None`` if it is not there."""
    value: Any = getattr(inputs, name, None)
    return value if isinstance(value, int) else None
