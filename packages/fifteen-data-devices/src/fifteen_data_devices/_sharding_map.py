"""The map that distributes minibatches over devices."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast, overload

from fifteen_data_protocols import Minibatches, MinibatchIterator, SizedIterable, checked_int

from fifteen_data_devices._device import Device, listed, sharding_over
from fifteen_data_devices._inputs import check_inputs
from fifteen_data_devices._mapped import map_minibatches
from fifteen_data_devices._placements import DeviceRows, GlobalArrays

if TYPE_CHECKING:
    from jax.sharding import NamedSharding

PyTreeType = TypeVar("PyTreeType")


class _Dataclass(Protocol):
    """A dataclass of shardings, registered as a PyTree."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


if TYPE_CHECKING:
    Shardings = (
        NamedSharding | Sequence["Shardings"] | Mapping[Any, "Shardings"] | _Dataclass | None
    )
    """A sharding, or a PyTree prefix of shardings for minibatches."""


@overload
def sharding_map(
    inputs: Minibatches[PyTreeType] | Sequence[PyTreeType],
    devices: "Sequence[Device] | Shardings",
    *,
    shard: tuple[int, int] | None = None,
) -> Minibatches[PyTreeType]: ...
@overload
def sharding_map(
    inputs: SizedIterable[PyTreeType],
    devices: "Sequence[Device] | Shardings",
    *,
    shard: tuple[int, int] | None = None,
) -> SizedIterable[PyTreeType]: ...
@overload
def sharding_map(
    inputs: Iterator[PyTreeType],
    devices: "Sequence[Device] | Shardings",
    *,
    shard: tuple[int, int] | None = None,
) -> MinibatchIterator[PyTreeType]: ...
@overload
def sharding_map(
    inputs: Iterable[PyTreeType],
    devices: "Sequence[Device] | Shardings",
    *,
    shard: tuple[int, int] | None = None,
) -> Iterable[PyTreeType]: ...
def sharding_map(
    inputs: Iterable[PyTreeType],
    devices: "Sequence[Device] | Shardings",
    *,
    shard: tuple[int, int] | None = None,
) -> Iterable[PyTreeType]:
    """Maps iterables over PyTrees to iterables over sharded PyTrees, which are
    distributed on multiple devices.

    Takes as input leaf shapes ``(N, ...)``, and maps as output to an iterable with leaf
    shapes ``(device_count, N // device_count, ...)``, where the leading axis corresponds to
    the index of the device that each shard is committed to.

    That is for a sequence of devices, and suits ``jax.pmap``. Given a ``NamedSharding`` instead,
    or a PyTree prefix of them (tokens on ``P("data", "seq")``, labels on ``P("data")``), leaves
    keep their shape ``(N, ...)`` and become global arrays, as ``jax.jit`` takes them. Either way a
    leaf is one ``jax.Array``, a minibatch is transferred with one call, and aligned host memory is
    not copied on CPU devices. Integers of 64 bits become 32-bit ones unless JAX keeps them.

    Given an iterator, the map is an iterator, whose state is that of its input. Given anything
    else, every ``iter()`` is an iteration of its own.

    With many processes, ``devices`` are those of all processes, and each of them loads the rows
    that its own devices hold: pass ``**process_shard(sharding)`` to the loader. The map joins
    them to arrays of all rows, and refuses shards that do not fit the sharding and leaf shapes
    that differ between processes. Scalars must be the same on every process.

    Args:
        inputs: an iterable over minibatches, for example of a data loader.
        devices: the devices; or a ``NamedSharding``, or a PyTree prefix of them.
        shard: ``(index, count)`` of the shard that ``inputs`` loads, for many processes and inputs
            that do not say so themselves, as ours do.

    Raises:
        TypeError: if ``inputs`` is no iterable over minibatches, ``devices`` is neither of the
            above, or, during an iteration, a leaf is of a type that JAX has no arrays of.
        ValueError: if ``devices`` are none or not distinct, the shard is not the one that the
            devices of this process hold, or, during an iteration, a shape cannot be divided.
        OverflowError: during an iteration, if a 64-bit integer does not fit in 32 bits.
        TimeoutError: during an iteration, if for 300 seconds the shapes of leaves have changed on
            this process alone. The other processes cannot be told: they wait for it in their step.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> minibatches = [{"x": np.ones((8, 3))}]
        >>> devices = jax.devices()[:1]
        >>> [minibatch["x"].shape for minibatch in sharding_map(minibatches, devices)]
        [(1, 8, 3)]

        >>> mesh = jax.sharding.Mesh(np.array(devices), ("data",))
        >>> sharding = jax.NamedSharding(mesh, jax.P("data"))
        >>> [minibatch["x"].shape for minibatch in sharding_map(minibatches, sharding)]
        [(8, 3)]
    """  # noqa: D205 - the documented wording, whose first sentence spans lines.
    check_inputs(inputs)
    return map_minibatches(inputs, _placement(inputs, listed(devices), _checked_shard(shard)))


def _placement(
    inputs: Iterable[PyTreeType], devices: object, shard: tuple[int, int] | None
) -> GlobalArrays[PyTreeType]:
    if _is_devices(devices):
        return DeviceRows(inputs, sharding_over(cast("Sequence[Device]", devices)), shard)
    _check_shardings(devices)
    return GlobalArrays(inputs, devices, shard)


def _checked_shard(shard: Any) -> tuple[int, int] | None:
    if shard is None:
        return None
    if not isinstance(shard, tuple) or len(shard) != 2:
        raise TypeError(f"`shard` must be two integers `(index, count)`, got {shard!r}")
    count = checked_int("shard[1]", shard[1], at_least=1)
    index = checked_int("shard[0]", shard[0], at_least=0)
    if index >= count:
        raise ValueError(f"`shard` must be `(index, count)` with 0 <= index < count, got {shard}")
    return index, count


def _is_devices(devices: object) -> bool:
    """Whether this is meant to be a sequence of devices, right or wrong."""
    import jax

    if isinstance(devices, str | jax.Device):
        raise TypeError(
            f"`devices` must be a sequence of devices or a `NamedSharding`, got {devices!r}; "
            "for one device use `prefetching_map(inputs, device)`"
        )
    if isinstance(devices, jax.sharding.Mesh | jax.sharding.PartitionSpec):
        return False
    if not isinstance(devices, Sequence):
        return False
    return not devices or any(isinstance(device, str | jax.Device) for device in devices)


def _check_shardings(shardings: object) -> None:
    import jax

    leaves: list[tuple[Any, Any]] = jax.tree.flatten_with_path(shardings)[0]
    for path, leaf in leaves or [((), shardings)]:
        if isinstance(leaf, jax.sharding.NamedSharding):
            continue
        name = f"devices{jax.tree_util.keystr(path)}"
        hint = ""
        if isinstance(leaf, jax.sharding.Mesh):
            axes = leaf.axis_names
            hint = f"; wrap it: `NamedSharding(mesh, P({axes[0]!r}))`" if axes else ""
        if isinstance(leaf, jax.sharding.PartitionSpec):
            hint = f"; wrap it: `NamedSharding(mesh, {leaf})`"
        raise TypeError(
            f"`{name}` must be a `NamedSharding`, or devices, got `{type(leaf).__name__}`{hint}"
        )
