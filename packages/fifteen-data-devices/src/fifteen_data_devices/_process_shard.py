"""Which rows of each minibatch a process holds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from fifteen_data_devices._device import Device, listed, sharding_over

if TYPE_CHECKING:
    from jax.sharding import NamedSharding


class ProcessShard(TypedDict):
    """The shard that a process has to load, named as the arguments of data loaders are."""

    shard_index: int
    """Number of the shard, in the order of the rows."""

    shard_count: int
    """Count of different shards; processes that hold the same rows load the same one."""


def process_shard(sharding: "NamedSharding | Sequence[Device]") -> ProcessShard:
    """Returns which shard of every minibatch this process has to load for a sharding.

    The rows of a minibatch are its first axis. Shard ``k`` of ``n`` is the ``k``-th of ``n`` equal
    blocks of rows, and the processes need not come in the order of their numbers: a mesh may be
    reversed. Processes whose devices hold the same rows, because another axis of the mesh spans
    them, load the same shard. On one process it is shard 0 of 1.

    Args:
        sharding: how the minibatches will be placed, or a sequence of devices as for
            :func:`sharding_map`.

    Raises:
        ValueError: if the rows that some process holds are not one block of the common size, so
            that no shard fits it, or if this process holds none.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
        >>> process_shard(jax.NamedSharding(mesh, jax.P("data")))
        {'shard_index': 0, 'shard_count': 1}
    """
    import jax

    given = listed(sharding)
    placed: Any = sharding_over(given) if isinstance(given, Sequence) else sharding
    if not isinstance(placed, jax.sharding.NamedSharding):
        hint = ""
        if isinstance(placed, jax.sharding.Mesh):
            hint = "; wrap it: `NamedSharding(mesh, P(...))`"
        raise TypeError(
            f"`sharding` must be a `NamedSharding` or devices, got `{type(placed).__name__}`{hint}"
        )
    count, blocks = _row_blocks(placed)
    process = jax.process_index()
    if process not in blocks:
        raise ValueError(
            f"`sharding` places nothing on the devices of this process, number {process}"
        )
    block = blocks[process]
    return {"shard_index": block.start // len(block), "shard_count": count // len(block)}


def _row_blocks(sharding: "NamedSharding") -> tuple[int, dict[int, range]]:
    """Returns the count of parts that the rows are divided into, and those of every process."""
    # The number of devices is a size that every mesh axis divides, whichever axis the rows are on.
    size = sharding.num_devices
    indices: Mapping[Device, Any] = sharding.devices_indices_map(
        (size,) * max(1, len(sharding.spec))
    )
    rows: dict[int, set[int]] = {}
    for device, index in indices.items():
        rows.setdefault(device.process_index, set()).update(range(*index[0].indices(size)))
    blocks = {process: range(min(held), max(held) + 1) for process, held in rows.items()}
    length = len(next(iter(blocks.values())))
    for process, block in blocks.items():
        if len(rows[process]) < len(block) or len(block) != length or block.start % length:
            # Every process looks at every other, so that all of them refuse together.
            raise ValueError(
                f"process {process} holds the parts {sorted(rows[process])} of {size} that the "
                "rows are divided into; each process must hold one contiguous block, all of the "
                "same size. Order the devices of the mesh by process, as `jax.devices()` is"
            )
    return size, blocks
