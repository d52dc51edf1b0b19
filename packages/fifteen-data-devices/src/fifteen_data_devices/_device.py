"""What the maps ask of a device, and the sharding over a sequence of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from jax.sharding import NamedSharding


class Device(Protocol):
    """What the maps ask of a ``jax.Device``, for which JAX ships no type."""

    @property
    def id(self) -> int:
        """Number of the device, unique among all processes."""
        ...

    @property
    def platform(self) -> str:
        """Kind of the device, such as ``"cpu"`` or ``"gpu"``."""
        ...

    @property
    def process_index(self) -> int:
        """Number of the process that the device belongs to."""
        ...


def listed(devices: object) -> object:
    """Returns a list of what a one-dimensional array holds, as it is made of ``jax.devices()``."""
    return list(devices) if isinstance(devices, np.ndarray) and devices.ndim == 1 else devices


def sharding_over(devices: Sequence[Device]) -> "NamedSharding":
    """Returns the sharding that puts block ``i`` of the leading axis on ``devices[i]``.

    Raises:
        TypeError: if something in ``devices`` is not a device.
        ValueError: if there are no devices, or one comes twice.
    """
    import jax

    for device in devices:
        if not isinstance(device, jax.Device):
            raise TypeError(
                "`devices` must be a sequence of `jax.Device`s, such as `jax.devices()`, or a "
                f"`NamedSharding`; it holds {device!r}"
            )
    if not devices:
        raise ValueError("`devices` must hold at least one device, got an empty sequence")
    if len(set(devices)) < len(devices):
        raise ValueError(f"`devices` must hold every device once, got {list(devices)}")
    # `jax.make_mesh` would make the axis explicit, and then it becomes part of the types that the
    # user's functions see. `jax.pmap`, `jax.shard_map` and `jax.jit` all take an automatic one.
    mesh = jax.sharding.Mesh(np.array(devices), ("devices",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))
