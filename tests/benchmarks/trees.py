"""The arrays of a minibatch."""

from typing import Any

import numpy as np


def leaves(minibatch: Any) -> list[Any]:
    """The leaves of nested tuples and lists, as arrays."""
    if isinstance(minibatch, tuple | list):
        return [leaf for child in minibatch for leaf in leaves(child)]
    return [np.asarray(minibatch)]
