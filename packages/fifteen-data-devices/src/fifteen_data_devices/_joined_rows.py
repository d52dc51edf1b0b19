"""Global arrays of the rows that many processes have loaded, checked before they are joined."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from fifteen_data_devices._inputs import carried
from fifteen_data_devices._leaves import check_shape, check_type, named_leaves, spread
from fifteen_data_devices._process_agreement import ProcessAgreement
from fifteen_data_devices._process_shard import ProcessShard, process_shard
from fifteen_data_devices._tracing import traced
from fifteen_data_devices._transfer import check_integers

_map_numbers = itertools.count()


class JoinedRows:
    """Makes global arrays of the rows that each of many processes has loaded.

    ``jax.make_array_from_process_local_data`` joins them, and believes what it is given: the rows
    of a wrong shard, or shapes that differ between processes, go wrong without an error there. So
    they are checked before.
    """

    def __init__(self, inputs: object, shardings: Any, shard: tuple[int, int] | None) -> None:
        import jax

        leaves = jax.tree.leaves(shardings)
        devices = {device for one in leaves for device in one.device_set}
        self._shardings = shardings
        self._processes = sorted({device.process_index for device in devices})
        # Every process runs the same program, so these numbers name the same map on all of them.
        self._number = next(_map_numbers)
        self._iteration_numbers = itertools.count()
        # A minibatch may also hold scalars, whose shardings place the same on every process.
        self._shard = max(map(process_shard, leaves), key=lambda part: part["shard_count"])
        try:
            _check_shard(inputs, shard, self._shard, len(self._processes))
        except ValueError as error:
            self._agreement(0).refuse(str(error))
            raise

    def new_iteration(self) -> Callable[[Any], Any]:
        """Returns a function for the minibatches of one iteration, called in their order."""
        agreement = self._agreement(next(self._iteration_numbers))
        return _Iteration(self._shardings, self._shard, agreement)

    def _agreement(self, iteration_number: int) -> ProcessAgreement:
        return ProcessAgreement(f"{self._number}/{iteration_number}", self._processes)


class _Iteration:
    def __init__(self, shardings: Any, shard: ProcessShard, agreement: ProcessAgreement) -> None:
        self._shardings = shardings
        self._shard = shard
        self._agreement = agreement
        self._step = 0
        self._layout: Any = None
        # Of every leaf in that layout, computed once.
        self._leaf_shardings: list[Any] = []
        self._leaf_shapes: list[tuple[int, ...]] = []

    def __call__(self, minibatch: Any) -> Any:
        import jax

        self._check_integers(minibatch)
        leaves, structure = jax.tree.flatten(minibatch)
        layout = (structure, [(np.shape(leaf), getattr(leaf, "dtype", None)) for leaf in leaves])
        if layout != self._layout:
            self._check_layout(minibatch)
            self._layout = layout
            self._leaf_shardings = spread(self._shardings, minibatch)
            self._leaf_shapes = [self._global_shape(leaf) for leaf in leaves]
        self._step += 1
        arrays = [leaf if hasattr(leaf, "shape") else np.asarray(leaf) for leaf in leaves]
        with traced("transfer"):
            placed = jax.make_array_from_process_local_data(
                self._leaf_shardings, arrays, self._leaf_shapes
            )
        return jax.tree.unflatten(structure, placed)

    def _check_integers(self, minibatch: Any) -> None:
        try:
            check_integers(minibatch)
        except OverflowError as error:
            # Those that wait for this process, as all do before their first step, need not.
            self._agreement.refuse(str(error), self._step)
            raise

    def _check_layout(self, minibatch: Any) -> None:
        """Compare this layout of leaves with the shardings and with the other processes."""
        try:
            layout = "; ".join(self._check_leaves(minibatch))
        except (TypeError, ValueError) as error:
            self._agreement.refuse(str(error), self._step)
            raise
        self._agreement.check(layout, self._step)

    def _check_leaves(self, minibatch: Any) -> list[str]:
        layout: list[str] = []
        shardings = spread(self._shardings, minibatch)
        for (name, leaf), sharding in zip(named_leaves(minibatch), shardings, strict=True):
            check_type(name, leaf)
            part = process_shard(sharding)
            if np.ndim(leaf) and part != self._shard:
                raise ValueError(
                    f"`{name}` has the rows of shard {_words(self._shard)}, but {sharding.spec} "
                    f"places shard {_words(part)} on this process; every leaf with rows needs "
                    "them on the same axes of the mesh"
                )
            check_shape(name, self._global_shape(leaf), sharding)
            layout.append(f"{name} {np.shape(leaf)} {getattr(leaf, 'dtype', type(leaf).__name__)}")
        return layout

    def _global_shape(self, leaf: Any) -> tuple[int, ...]:
        shape = np.shape(leaf)
        return (shape[0] * self._shard["shard_count"], *shape[1:]) if shape else ()


def _check_shard(
    inputs: object, shard: tuple[int, int] | None, held: ProcessShard, process_count: int
) -> None:
    """Compare the shard that is loaded with the one that the devices of this process hold."""
    index, count = carried(inputs, "shard_index"), carried(inputs, "shard_count")
    known = None if index is None or count is None else (index, count)
    if shard is not None and known is not None and shard != known:
        raise ValueError(
            f"`shard` is {shard}, but `inputs` says that it loads shard {known[0]} of {known[1]}"
        )
    loaded = shard or known
    wanted = (held["shard_index"], held["shard_count"])
    cure = (
        "pass `**process_shard(sharding)` to the data loader, here "
        f"`shard_index={wanted[0]}, shard_count={wanted[1]}`"
    )
    if loaded is None:
        raise ValueError(
            f"`sharding_map` joins the rows of {process_count} processes, and `inputs` does not "
            f"say which it loads; {cure}, or load these rows yourself and pass `shard={wanted}`"
        )
    if loaded == wanted:
        return
    if loaded == (0, 1):
        rows = carried(inputs, "minibatch_size") or ""
        raise ValueError(
            f"each of {process_count} processes loads all {rows} rows of every minibatch; {cure}"
        )
    raise ValueError(
        f"`inputs` loads shard {loaded[0]} of {loaded[1]}, but the devices of this process hold "
        f"shard {_words(held)}; {cure}"
    )


def _words(shard: ProcessShard) -> str:
    return f"{shard['shard_index']} of {shard['shard_count']}"
