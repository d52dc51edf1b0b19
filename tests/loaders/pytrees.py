"""Samples that take jax to be understood. Workers that load them import it too."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import numpy as np

from tests.loaders.datasets import Point


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Registered:
    image: Any
    label: Any


@flax.struct.dataclass
class FlaxStruct:
    image: Any
    name: str = flax.struct.field(pytree_node=False, default="constant")


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    name: Any


def _array(index: int) -> Any:
    return np.arange(6, dtype=np.int16).reshape(2, 3) * index


PYTREES: dict[str, Callable[[int], Any]] = {
    "registered dataclass": lambda i: Registered(_array(i), i),
    "flax struct": lambda i: FlaxStruct(_array(i)),
    "nested": lambda i: {"a": [Registered(i, None), (Point(i, [1.5]), "s")]},
    "static": lambda i: {"x": i, "kind": Static("constant")},
    "nothing but static": lambda i: [Static("constant"), FlaxStruct(None)],
    "empty ordered dict": lambda i: {"x": i, "more": OrderedDict()},
    "bfloat16": lambda i: np.full(3, i, jax.numpy.bfloat16),
    "jax array": lambda i: jax.numpy.full(3, i),
}
