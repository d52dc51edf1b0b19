"""Where each row of a minibatch goes: global arrays, or a block of rows for each device."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fifteen_data_devices._joined_rows import JoinedRows
from fifteen_data_devices._leaves import check_type, named_leaves
from fifteen_data_devices._mapped import MinibatchMap
from fifteen_data_devices._transfer import transfer

if TYPE_CHECKING:
    from jax.sharding import NamedSharding

PyTreeType = TypeVar("PyTreeType")


class GlobalArrays(MinibatchMap[PyTreeType, PyTreeType]):
    """Places minibatches as a PyTree prefix of shardings says, from one process or from many."""

    def __init__(self, inputs: object, shardings: Any, shard: tuple[int, int] | None) -> None:
        import jax

        self._shardings = shardings
        spans_processes = not all(one.is_fully_addressable for one in jax.tree.leaves(shardings))
        self._joined = JoinedRows(inputs, shardings, shard) if spans_processes else None

    def new_transform(self) -> Callable[[PyTreeType], PyTreeType]:
        if self._joined is None:
            return partial(transfer, target=self._shardings)
        return self._joined.new_iteration()


class DeviceRows(GlobalArrays[PyTreeType]):
    """Gives every device a block of rows: ``(device_count, N // device_count, ...)``."""

    def __init__(
        self, inputs: object, sharding: "NamedSharding", shard: tuple[int, int] | None
    ) -> None:
        super().__init__(inputs, sharding, shard)
        self._device_count = len(sharding.addressable_devices)

    def new_transform(self) -> Callable[[PyTreeType], PyTreeType]:
        place = super().new_transform()
        return lambda minibatch: place(self._divide(minibatch))

    def _divide(self, minibatch: PyTreeType) -> PyTreeType:
        import jax

        leaves, structure = jax.tree.flatten(minibatch)
        count = self._device_count
        try:
            rows = [leaf.reshape(count, len(leaf) // count, *leaf.shape[1:]) for leaf in leaves]
        except (AttributeError, TypeError, ValueError) as error:
            self._name_the_leaf(minibatch, error)
            raise
        return cast(PyTreeType, jax.tree.unflatten(structure, rows))

    def _name_the_leaf(self, minibatch: PyTreeType, cause: Exception) -> None:
        count = self._device_count
        for name, leaf in named_leaves(minibatch):
            check_type(name, leaf)
            shape = getattr(leaf, "shape", ())
            if not shape:
                raise ValueError(
                    f"`{name}` is a scalar; it has no rows to divide among {count} devices"
                ) from cause
            if shape[0] % count:
                raise ValueError(
                    f"`{name}` has shape {shape}, whose {shape[0]} rows cannot be divided among "
                    f"{count} devices; choose a multiple as the minibatch size, drop or pad "
                    "(`padding_map`) a short last minibatch, or use fewer devices"
                ) from cause
