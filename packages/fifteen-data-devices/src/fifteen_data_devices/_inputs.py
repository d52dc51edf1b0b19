"""What maps are given: an iterable over minibatches, and what it says of its rows."""

from collections.abc import Iterable, Mapping
from typing import Any

from fifteen_data_protocols import Sharded

_CARRIED = tuple(name for name in vars(Sharded) if not name.startswith("_"))
"""The attributes of `Sharded`."""


def check_inputs(inputs: object) -> None:
    """Refuse what cannot be an iterable over minibatches.

    Raises:
        TypeError: if ``inputs`` is no iterable, or is a single minibatch.
    """
    if isinstance(inputs, Mapping | str | bytes):
        raise TypeError(
            f"`inputs` must be an iterable over minibatches, got one `{type(inputs).__name__}`; "
            "to map a single minibatch, wrap it in a list"
        )
    if isinstance(inputs, Iterable):
        return
    hint = ""
    if hasattr(inputs, "minibatches"):
        hint = "; did you mean `loader.minibatches(shuffle_seed)`?"
    raise TypeError(
        f"`inputs` must be an iterable over minibatches, got `{type(inputs).__name__}`{hint}"
    )


def carry_shard(inputs: object, onto: object) -> None:
    """Copy what a loader's minibatches know about their shard, so that maps compose in any order.

    That is what `Sharded` says, or some of it: the iterables of others may know one thing only.
    """
    for name in _CARRIED:
        value: Any = getattr(inputs, name, None)
        if value is not None:
            setattr(onto, name, value)


def carried(inputs: object, name: str) -> int | None:
    """Returns an attribute that :func:`carry_shard` copies, or ``None`` if it is not there."""
    value: Any = getattr(inputs, name, None)
    return value if isinstance(value, int) else None
