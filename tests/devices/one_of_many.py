"""A process of a `jax.distributed` program: runs every case and prints what it got, as JSON.

The cases come in the same order on all processes, as the statements of any such program do.
"""

import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any, cast

import jax
import numpy as np
from fifteen_data_devices import (
    _process_agreement,
    padding_map,
    prefetching_map,
    process_shard,
    sharding_map,
)
from fifteen_data_loaders import DataLoader, InMemoryDataLoader, check_resume, cycled_minibatches
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.devices.stand_ins import Minibatches, MinibatchRun

P = PartitionSpec
SAMPLE_COUNT, MINIBATCH_SIZE = 48, 16

Case = Callable[[], Iterable[Any]]


def flat(spec: PartitionSpec | None = None, order: slice = slice(None)) -> NamedSharding:
    mesh = Mesh(np.array(jax.devices())[order], ("data",))
    return NamedSharding(mesh, P("data") if spec is None else spec)


def interleaved() -> NamedSharding:
    devices = np.array(jax.devices()).reshape(jax.process_count(), -1).T.ravel()
    return NamedSharding(Mesh(devices, ("data",)), P("data"))


def model_within(spec: PartitionSpec) -> NamedSharding:
    """The model axis runs over the devices of a process."""
    devices = np.array(jax.devices()).reshape(jax.process_count(), -1)
    return NamedSharding(Mesh(devices, ("data", "model")), spec)


def model_across(spec: PartitionSpec) -> NamedSharding:
    """The model axis runs over all processes."""
    devices = np.array(jax.devices()).reshape(jax.process_count(), -1).T
    return NamedSharding(Mesh(devices, ("data", "model")), spec)


def model_across_pairs(spec: PartitionSpec) -> NamedSharding:
    """The model axis runs over pairs of processes, and rows over the pairs."""
    devices = np.array(jax.devices()).reshape(jax.process_count() // 2, 2, -1)
    return NamedSharding(Mesh(devices, ("data", "model", "rest")), spec)


def shard_of(sharding: Any) -> Minibatches:
    return Minibatches(SAMPLE_COUNT, MINIBATCH_SIZE, **process_shard(sharding))


def placed(sharding: NamedSharding) -> Iterable[Any]:
    return sharding_map(shard_of(sharding), sharding)


def with_scalars() -> Iterable[Any]:
    inputs = [{**minibatch, "scale": 2.0} for minibatch in shard_of(flat())]
    shardings = {"x": flat(), "y": flat(), "scale": flat(P())}
    shard: Any = tuple(process_shard(flat()).values())
    return sharding_map(inputs, shardings, shard=shard)


def rows_on_every_process() -> Iterable[Any]:
    return sharding_map(shard_of(flat()), {"x": flat(), "y": flat(P())})


def columns_differ(step: int) -> Iterable[Any]:
    width = jax.process_index() + 2
    inputs = [np.ones((8, width if i == step else 1), np.float32) for i in range(3)]
    return sharding_map(inputs, flat(), shard=(jax.process_index(), jax.process_count()))


def columns_differ_on_one() -> Iterable[Any]:
    last = jax.process_index() == jax.process_count() - 1
    inputs = [np.ones((8, 2 if i == 2 and last else 1), np.float32) for i in range(3)]
    return sharding_map(inputs, flat(), shard=(jax.process_index(), jax.process_count()))


def overflows_on(process: int) -> Iterable[Any]:
    """A number that 32 bits do not hold, in the first minibatch of one process."""
    number = 2**40 if jax.process_index() == process else 1
    inputs = [np.full(8, number), np.ones(8, np.int64)]
    return sharding_map(inputs, flat(), shard=(jax.process_index(), jax.process_count()))


def used_in_place() -> Iterable[Any]:
    """Where the arrays of this process's devices begin in the host's memory, in rows of it."""
    memory = np.zeros((9, 16), np.float32)
    rows = memory.ravel()[-memory.ctypes.data % 64 // 4 :][: 8 * 16].reshape(8, 16)
    process, count = jax.process_index(), jax.process_count()
    placed: Any
    (placed,) = sharding_map([rows], flat(), shard=(process, count))
    starts = [
        (shard.data.unsafe_buffer_pointer() - rows.ctypes.data) // (16 * 4)
        for shard in placed.addressable_shards
    ]
    return sharding_map([np.array(starts, np.int32)], flat(), shard=(process, count))


def columns_change_together() -> Iterable[Any]:
    inputs = [np.ones((8, 1 + i % 2), np.float32) for i in range(4)]
    return sharding_map(inputs, flat(), shard=(jax.process_index(), jax.process_count()))


def padded() -> Iterable[Any]:
    inputs = Minibatches(SAMPLE_COUNT - 13, MINIBATCH_SIZE, **process_shard(flat()))
    return masked(sharding_map(padding_map(inputs), flat()))


def resumed() -> Iterable[Any]:
    """Goes on where a program with any count of processes stopped after one minibatch."""
    train = prefetching_map(sharding_map(MinibatchRun(shard_of(flat())), flat()))
    train.set_state({"step": 1})
    return train


def stopped() -> Iterable[Any]:
    train = prefetching_map(sharding_map(MinibatchRun(shard_of(flat())), flat()), buffer_size=3)
    next(train)
    step = np.full(1, train.get_state()["step"])
    # What was read ahead is dropped on all processes, wherever each of them was.
    train.set_state(train.get_state())
    return sharding_map([{"step": step}], {"step": flat(P())}, shard=(0, 1))


def real_loader(kind: Callable[..., Any], **shard: int) -> Any:
    samples = {"y": np.arange(SAMPLE_COUNT - 5, dtype=np.int32)}
    dataset = samples if kind is InMemoryDataLoader else Rows(samples)
    return kind(dataset, MINIBATCH_SIZE, drop_last=False, **shard)


class Rows:
    """The rows of arrays as samples."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.arrays = arrays

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: array[index] for name, array in self.arrays.items()}

    def __len__(self) -> int:
        return len(self.arrays["y"])


def real_epoch(kind: Callable[..., Any]) -> Iterable[Any]:
    loader = real_loader(kind, **process_shard(flat()))
    return masked(sharding_map(padding_map(loader.minibatches(7)), flat()))


def real_resumed(kind: Callable[..., Any]) -> Iterable[Any]:
    """Goes on from the state of one process, which that of many has to be as well."""
    alone = cycled_minibatches(real_loader(kind), 7)
    loader = real_loader(kind, **process_shard(flat()))
    with (
        closing(alone),
        closing(
            prefetching_map(sharding_map(padding_map(cycled_minibatches(loader, 7)), flat()))
        ) as train,
    ):
        for _ in range(4):
            next(alone)
            next(train)
        assert train.get_state() == alone.get_state()
        next(train)
        train.set_state(alone.get_state())
        yield from masked(itertools.islice(train, 3))


def resume_checked() -> Iterable[Any]:
    """Of arrays that span the processes, each looks at its own rows."""
    loader = real_loader(InMemoryDataLoader, **process_shard(flat()))
    check_resume(lambda: sharding_map(padding_map(cycled_minibatches(loader, 7)), flat()), 3)
    return placed(flat())


def masked(minibatches: Iterable[Any]) -> Iterable[Any]:
    return ({**minibatch, "mask": mask} for minibatch, mask in minibatches)


def sums_of_all_rows() -> Iterable[Any]:
    total = jax.jit(lambda x: x.sum(), out_shardings=flat(P()))
    return ({"y": total(minibatch["y"])[None]} for minibatch in prefetching_map(placed(flat())))


CASES: dict[str, Case] = {
    "flat": lambda: placed(flat()),
    "reversed": lambda: placed(flat(order=slice(None, None, -1))),
    "replicated": lambda: placed(flat(P())),
    "interleaved": lambda: placed(interleaved()),
    "model within": lambda: placed(model_within(P("data"))),
    "model within, columns": lambda: sharding_map(
        shard_of(model_within(P("data"))),
        {"x": model_within(P("data", "model")), "y": model_within(P(("data", "model")))},
    ),
    "model across": lambda: placed(model_across(P("data"))),
    "model across, columns": lambda: sharding_map(
        shard_of(model_across(P("data"))),
        {"x": model_across(P("data", "model")), "y": model_across(P("data"))},
    ),
    "model across pairs": lambda: placed(model_across_pairs(P("data"))),
    "prefetched": lambda: prefetching_map(placed(flat()), buffer_size=3),
    "devices": lambda: sharding_map(shard_of(jax.devices()), jax.devices()),
    "local devices": lambda: sharding_map(shard_of(flat()), jax.local_devices()),
    "with scalars": with_scalars,
    "change together": columns_change_together,
    "padded": padded,
    "used in place": used_in_place,
    "real epoch, inline": lambda: real_epoch(DataLoader),
    "real epoch, in memory": lambda: real_epoch(InMemoryDataLoader),
    "real resumed, inline": lambda: real_resumed(DataLoader),
    "real resumed, in memory": lambda: real_resumed(InMemoryDataLoader),
    "resumed": resumed,
    "resume checked": resume_checked,
    "stopped": stopped,
    "sums": sums_of_all_rows,
    "rows on every process": rows_on_every_process,
    "no shard": lambda: sharding_map(list(shard_of(flat())), flat()),
    "forgotten shard": lambda: sharding_map(Minibatches(SAMPLE_COUNT, MINIBATCH_SIZE), flat()),
    "doubled shard": lambda: sharding_map(
        Minibatches(SAMPLE_COUNT, MINIBATCH_SIZE, 0, jax.process_count()), flat()
    ),
    "contradicting shards": lambda: sharding_map(shard_of(flat()), flat(), shard=(7, 8)),
    "host rows prefetched": lambda: prefetching_map(shard_of(flat()), flat()),
    "device of the first": lambda: prefetching_map([{"y": np.ones(2)}], jax.devices()[0]),
    "device of the last": lambda: prefetching_map(
        [{"y": np.ones(2)}], jax.sharding.SingleDeviceSharding(jax.devices()[-1])
    ),
    "columns differ": lambda: columns_differ(0),
    "columns differ later": lambda: columns_differ(2),
    "overflows on the first": lambda: overflows_on(0),
    "overflows on the last": lambda: overflows_on(jax.process_count() - 1),
    "columns differ on one": columns_differ_on_one,
}


def run(case: Case) -> dict[str, Any]:
    """Returns all shards that this process holds, minibatch by minibatch, or the error."""
    minibatches = list[Any]()
    result: dict[str, Any] = {"minibatches": minibatches}
    try:
        for minibatch in case():
            leaves = minibatch if isinstance(minibatch, dict) else {"": minibatch}
            minibatches.append({name: describe(leaf) for name, leaf in leaves.items()})
    except Exception as error:
        result["error"] = [type(error).__name__, str(error)]
    return result


def describe(leaf: jax.Array) -> dict[str, Any]:
    return {
        "shape": leaf.shape,
        "shards": [
            [
                [
                    part.indices(size)[:2]
                    for part, size in zip(shard.index, leaf.shape, strict=True)
                ],
                np.asarray(shard.data).tolist(),
            ]
            for shard in leaf.addressable_shards
        ],
    }


def messages(log: QueueHandler) -> list[str]:
    """Returns what was logged since the last time."""
    said, queue = list[str](), cast("SimpleQueue[Any]", log.queue)
    while not queue.empty():
        said.append(queue.get().getMessage())
    return said


def main(process: int, count: int, port: int) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, process)
    results = dict[str, Any]()
    log = QueueHandler(SimpleQueue())
    logging.getLogger("fifteen_data_devices").addHandler(log)
    for name, case in CASES.items():
        # The last case, in which one process waits for others that have gone on.
        if name == "columns differ on one":
            _process_agreement._WAIT_SECONDS = 1
        results[name] = {"shard": process_shard(flat()), **run(case), "log": messages(log)}
    print(json.dumps(results))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
