from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fifteen_data_devices._leaves import check_shape, check_type, named_leaves, spread
from fifteen_data_devices._tracing import traced

if TYPE_CHECKING:
    from jax.sharding import Sharding

    from fifteen_data_devices._device import Device

PyTreeType = TypeVar("PyTreeType")

_NARROWED: dict[np.dtype[Any], type[np.integer[Any]]] = {
    np.dtype(np.int64): np.int32,
    np.dtype(np.uint64): np.uint32,
}
"""What JAX makes of 64-bit integers unless it was told to keep them."""


def transfer(minibatch: PyTreeType, target: "Device | Sharding | Any") -> PyTreeType:
    """Put a minibatch on devices with one call; leaves that are there already are not copied.

    Args:
        minibatch: a PyTree of arrays and numbers.
        target: a device, a sharding or a PyTree prefix of shardings.

    Raises:
        TypeError: if a leaf is of a type that JAX has no arrays of.
        ValueError: if the shape of a leaf does not fit its sharding.
        OverflowError: if a 64-bit integer does not fit into the 32 bits that JAX would store.
    """
    import jax

    check_integers(minibatch)
    try:
        with traced("transfer"):
            placed: PyTreeType = jax.device_put(minibatch, target)
    except (TypeError, ValueError) as error:
        _name_the_leaf(minibatch, target, error)
        raise
    return placed


def check_integers(minibatch: Any) -> None:
    """Refuse integers that JAX would wrap around in silence because it is limited to 32 bits.

    For a Python integer JAX raises this error itself, for arrays and scalars of NumPy it does not
    look.

    Raises:
        OverflowError: that names the leaf.
    """
    import jax

    config: Any = jax.config  # has no stubs for its options
    if config.jax_enable_x64:
        return
    for leaf in jax.tree.leaves(minibatch):
        if not isinstance(leaf, np.ndarray | np.generic):
            continue
        if leaf.dtype in _NARROWED and not _fits(leaf):
            name = next(name for name, other in named_leaves(minibatch) if other is leaf)
            raise OverflowError(
                f"`{name}` holds {leaf.dtype} values from {leaf.min()} to {leaf.max()}, which do "
                f"not fit in the {_NARROWED[leaf.dtype].__name__} that JAX would store; call "
                '`jax.config.update("jax_enable_x64", True)` or convert the values yourself'
            )


def _fits(leaf: "np.ndarray[Any, Any] | np.generic[Any]") -> bool:
    limits = np.iinfo(_NARROWED[leaf.dtype])
    return not leaf.size or bool(leaf.min() >= limits.min and leaf.max() <= limits.max)


def _name_the_leaf(minibatch: Any, target: Any, cause: Exception) -> None:
    """Raise an error that says which leaf ``device_put`` refused, if it was for a leaf."""
    import jax

    try:
        for name, leaf in named_leaves(minibatch):
            check_type(name, leaf)
        for (name, leaf), one in zip(
            named_leaves(minibatch), spread(target, minibatch), strict=False
        ):
            if isinstance(one, jax.sharding.NamedSharding):
                check_shape(name, np.shape(leaf), one)
    except type(cause) as error:
        raise error from cause
