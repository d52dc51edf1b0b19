"""The map that loads and transfers ahead of the loop."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from fifteen_data_protocols import Minibatches, MinibatchIterator, SizedIterable, checked_int

from fifteen_data_devices._device import Device
from fifteen_data_devices._leaves import named_leaves
from fifteen_data_devices._mapped import MinibatchMap, map_minibatches
from fifteen_data_devices._read_ahead import ReadAhead, SizedReadAhead
from fifteen_data_devices._transfer import transfer

if TYPE_CHECKING:
    from jax.sharding import Sharding

PyTreeType = TypeVar("PyTreeType")


@overload
def prefetching_map(
    inputs: Minibatches[PyTreeType] | Sequence[PyTreeType],
    device: "Device | Sharding | None" = None,
    buffer_size: int = 2,
) -> Minibatches[PyTreeType]: ...
@overload
def prefetching_map(
    inputs: SizedIterable[PyTreeType],
    device: "Device | Sharding | None" = None,
    buffer_size: int = 2,
) -> SizedIterable[PyTreeType]: ...
@overload
def prefetching_map(
    inputs: Iterator[PyTreeType],
    device: "Device | Sharding | None" = None,
    buffer_size: int = 2,
) -> MinibatchIterator[PyTreeType]: ...
@overload
def prefetching_map(
    inputs: Iterable[PyTreeType],
    device: "Device | Sharding | None" = None,
    buffer_size: int = 2,
) -> Iterable[PyTreeType]: ...
def prefetching_map(
    inputs: Iterable[PyTreeType],
    device: "Device | Sharding | None" = None,
    buffer_size: int = 2,
) -> Iterable[PyTreeType]:
    """Maps iterables over PyTrees to an identical iterable, but with a prefetching
    buffer under the hood. Adapted from ``flax.jax_utils.prefetch_to_device()``.

    This can improve parallelization for GPUs, particularly when memory is re-allocated
    before freeing is finished. When the buffer size is set to 2, we make it explicit
    that two sets of data should live in GPU memory at once: for a standard training
    loop, this is typically both the "current" minibatch and the "next" one.

    If a device is specified, we commit arrays (via ``jax.device_put()``) before pushing them
    onto the buffer. This should generally be set if the input iterable yields arrays
    that are still living on the CPU.

    For multi-device use cases, we can combine this function with
    :meth:`fifteen.data.sharding_map()`.

    A background thread asks the input for minibatches and transfers each with one call, while the
    loop works on an earlier one. It sees the JAX settings (``enable_x64``, ``default_device``,
    mesh, transfer guard ...) and context variables of the loop. It starts with the first ``next()``
    and ends with the iteration: dropping one waits up to a second for the minibatch that is being
    loaded, ``close()`` as long as it takes. Order is kept, and an error of the input is raised in
    its place, after the minibatches before it; the next ``next()`` asks the input to go on.

    Given an iterator, the map is an iterator: leaving a ``for`` loop pauses it, and what was read
    ahead is there for the next one. Its state is the input's after the minibatch that was received
    last, never that of what was read ahead; ``set_state()`` drops what was read ahead. Given
    anything else, every ``iter()`` is an iteration of its own, which ends when it is left. A map
    must be used by one thread at a time, and uses its input on one thread at a time.

    Args:
        inputs: an iterable over minibatches, for example of a data loader.
        device: a ``jax.Device``, or any ``jax.sharding.Sharding`` on devices of this process.
            ``None`` transfers nothing. Leaves that are there already are not copied. Integers of
            64 bits become 32-bit ones unless JAX keeps them.
        buffer_size: how many minibatches live at once, the one in use included: one fewer is read
            ahead. 1 reads nothing ahead and needs no thread. Minibatches that the caller keeps for
            longer are not counted, so they never block.

    Raises:
        TypeError: if ``inputs`` is no iterable over minibatches, an argument is of the wrong type,
            or, during an iteration, a leaf is of a type that JAX has no arrays of.
        ValueError: if ``buffer_size`` is less than 1, ``device`` belongs to another process, or,
            during an iteration, the shape of a leaf does not fit the sharding.
        OverflowError: during an iteration, if a 64-bit integer does not fit in 32 bits.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> minibatches = [np.ones(3), np.zeros(3)]
        >>> for minibatch in prefetching_map(minibatches, jax.local_devices()[0]):
        ...     print(minibatch.sum())
        3.0
        0.0
    """  # noqa: D205 - the documented wording, whose first sentence spans lines.
    _check_device(device)
    size = checked_int("buffer_size", buffer_size, at_least=1, note=", which reads nothing ahead")
    return map_minibatches(inputs, _Prefetching[PyTreeType](device, size))


class _Prefetching(MinibatchMap[PyTreeType, PyTreeType]):
    def __init__(self, device: "Device | Sharding | None", buffer_size: int) -> None:
        self._device = device
        self._buffer_size = buffer_size

    def new_transform(self) -> Callable[[PyTreeType], PyTreeType]:
        if self._device is None:
            return _unchanged
        if getattr(self._device, "is_fully_addressable", True):
            return partial(transfer, target=self._device)
        return self._move_global_arrays

    def _move_global_arrays(self, minibatch: PyTreeType) -> PyTreeType:
        """Refuse rows of this process alone, which JAX would take for those of all processes."""
        import jax

        for name, leaf in named_leaves(minibatch):
            if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
                raise ValueError(
                    f"`{name}` is data of one process, but `device` is a sharding that spans "
                    "several; use `sharding_map(inputs, sharding)` inside of `prefetching_map`"
                )
        return transfer(minibatch, self._device)

    def iterate(self, inputs: Iterator[PyTreeType], *, owned: bool) -> Iterator[PyTreeType]:
        if self._buffer_size == 1:
            return super().iterate(inputs, owned=owned)
        kind = SizedReadAhead if isinstance(inputs, Sized) else ReadAhead
        return kind(inputs, self.new_transform, owned=owned, count=self._buffer_size - 1)


def _unchanged(minibatch: PyTreeType) -> PyTreeType:
    return minibatch


def _check_device(device: Any) -> None:
    if device is None:
        return
    if isinstance(device, int):
        hint = "" if isinstance(device, bool) else f"; did you mean `buffer_size={device}`?"
        raise TypeError(f"`device` must be a device or a sharding, got {device!r}{hint}")
    import jax

    if isinstance(device, jax.Device):
        if device.process_index != jax.process_index():
            raise ValueError(
                f"`device` must be one of this process, number {jax.process_index()}, got "
                f"{device} of process {device.process_index}; pick one of `jax.local_devices()`"
            )
        return
    if isinstance(device, jax.sharding.Sharding):
        if not device.addressable_devices:
            raise ValueError(
                f"`device` must place something on this process, number {jax.process_index()}, got "
                f"a sharding on devices of other processes: {device}"
            )
        return
    hint = ""
    if isinstance(device, str):
        hint = f" {device!r}; pick one of `jax.local_devices()`"
    elif isinstance(device, jax.sharding.Mesh):
        hint = "; wrap it: `NamedSharding(mesh, P(...))`"
    elif isinstance(device, Sequence):
        hint = "; for several devices use `sharding_map(inputs, devices)`"
    raise TypeError(f"`device` must be a device or a sharding, got `{type(device).__name__}`{hint}")
