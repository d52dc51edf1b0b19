"""The leaves of a minibatch: their names, and what JAX cannot take."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jax.sharding import NamedSharding


def named_leaves(minibatch: Any) -> list[tuple[str, Any]]:
    """Returns the leaves with what a reader of an error would call them."""
    import jax

    leaves, _ = jax.tree.flatten_with_path(minibatch)
    return [(f"minibatch{jax.tree_util.keystr(path)}", leaf) for path, leaf in leaves]


def spread(shardings: Any, minibatch: Any) -> list[Any]:
    """Returns the sharding of every leaf of a minibatch, given a PyTree prefix of them.

    Raises:
        ValueError: if it is not a prefix.
    """
    import jax

    def repeat(sharding: Any, part: Any) -> Any:
        return jax.tree.map(lambda _: sharding, part)

    try:
        return jax.tree.leaves(jax.tree.map(repeat, shardings, minibatch))
    except ValueError as error:
        raise ValueError(
            "the shardings must be a PyTree prefix of the minibatches, got "
            f"{jax.tree.structure(shardings)} for {jax.tree.structure(minibatch)}"
        ) from error


def check_type(name: str, leaf: Any) -> None:
    """Refuse a leaf that JAX has no arrays for.

    Raises:
        TypeError: that names the leaf.
    """
    import jax

    try:
        jax.eval_shape(lambda leaf: leaf, leaf)
    except TypeError as error:
        kind = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else f"type `{type(leaf).__name__}`"
        cure = "take it out of the minibatch or encode it as numbers"
        if hasattr(leaf, "__array__") and not isinstance(leaf, np.ndarray):
            cure = "convert it with `np.asarray`, for example in the `collate_fn` of its loader"
        raise TypeError(
            f"`{name}` cannot be put on a device, as JAX has no arrays of {kind}; {cure}"
        ) from error


def check_shape(name: str, shape: tuple[int, ...], sharding: "NamedSharding") -> None:
    """Refuse a leaf of a global shape that the sharding cannot divide.

    Raises:
        ValueError: that names the leaf.
    """
    spec = sharding.spec
    if len(spec) > len(shape):
        raise ValueError(
            f"`{name}` has shape {shape}, but its sharding places {len(spec)} axes: {spec}; "
            "pass a PyTree of shardings that has a shorter one for this leaf"
        )
    for axis, names in enumerate(spec):
        if names is None or not isinstance(names, str | tuple):
            continue
        part_count = math.prod(sharding.mesh.shape[name] for name in _as_tuple(names))
        if shape[axis] % part_count:
            raise ValueError(
                f"`{name}` has shape {shape}, whose axis {axis} of size {shape[axis]} cannot be "
                f"divided by {part_count}, the size of mesh axis {names!r}"
            )


def _as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
