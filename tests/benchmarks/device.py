"""What the maps cost a device and its memory: ``hatch run bench:device``.

Made for a GPU, on which it has not run yet; there the environment needs ``jax[cuda12]`` besides. It
runs on CPU devices as well, which use aligned host memory in place: bandwidths there are no
bandwidths. What could not be measured is said to be so.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from fifteen_data_devices import prefetching_map, sharding_map
from fifteen_data_loaders import DataLoader

from tests.benchmarks.machine import describe_machine

_MINIBATCH_SIZE = 64
_LEAF_COUNT = 64
_HELD = 4
_WARM_UP = 3


class Rows:
    """Samples that lie in memory and together make minibatches of a given size."""

    def __init__(self, minibatch_bytes: int) -> None:
        self.row = np.ones(max(1, minibatch_bytes // _MINIBATCH_SIZE // 4), np.float32)

    def __getitem__(self, index: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return self.row

    def __len__(self) -> int:
        return 1 << 20


def main() -> None:
    """Measure as the command line says and print everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=64, help="of a minibatch")
    parser.add_argument("--steps", type=int, default=50, help="of each measurement")
    options = parser.parse_args()
    import jax

    device = jax.devices()[0]
    with DataLoader(Rows(int(options.megabytes * 1e6)), _MINIBATCH_SIZE, num_workers=2) as loader:
        loaded = list(islice(loader.minibatches(None), _HELD))
        report = {
            "machine": describe_machine(),
            "device": device.device_kind,
            "minibatch_megabytes": loaded[0].nbytes / 1e6,
            "microseconds_on_top_of_device_put": cost_on_top(device, options.steps * 20),
            "gigabytes_per_second": bandwidths(loaded, device, options.steps),
            "minibatches_alive": minibatches_alive(loader, device, options.steps),
            "step": step_stall(loader, device, options.steps),
            "workers": memory_of_workers(),
        }
    print(json.dumps(report, indent=1))


def bandwidths(loaded: list[Any], device: Any, steps: int) -> dict[str, float | str]:
    """From host memory to the device, by everything that could be the fastest way."""
    import jax

    # Given the device alone, JAX leaves pinned memory of the same device where it is.
    there = jax.sharding.SingleDeviceSharding(device, memory_kind=device.default_memory().kind)

    def put(minibatch: Any) -> Any:
        return jax.device_put(minibatch, there)

    unaligned = [_unaligned(minibatch) for minibatch in loaded]
    split = [np.split(minibatch, _LEAF_COUNT) for minibatch in loaded]
    rates: dict[str, float | str] = {
        "device_put of ordinary memory": _rate(map(put, _endless(unaligned)), steps),
        "device_put of a loader's memory": _rate(map(put, _endless(loaded)), steps),
        f"device_put of {_LEAF_COUNT} leaves": _rate(map(put, _endless(split)), steps),
        "prefetching_map": _rate(prefetching_map(_endless(loaded), device), steps),
        "prefetching_map, 3 minibatches": _rate(
            prefetching_map(_endless(loaded), device, 3), steps
        ),
        f"prefetching_map, {_LEAF_COUNT} leaves": _rate(
            prefetching_map(_endless(split), device), steps
        ),
        "prefetching_map of sharding_map": _rate(
            prefetching_map(sharding_map(_endless(loaded), [device])), steps
        ),
    }
    if "pinned_host" not in [memory.kind for memory in device.addressable_memories()]:
        return {**rates, "pinned memory": "not measured: the device has no such kind of memory"}
    pinned = jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host")
    held = jax.block_until_ready([jax.device_put(minibatch, pinned) for minibatch in loaded])

    def put_in_turn(minibatch: Any) -> Any:
        return jax.device_put(jax.device_put(minibatch, pinned), there)

    return {
        **rates,
        "a plain copy of pinned memory": _rate(map(put, _endless(held)), steps),
        "by way of pinned memory": _rate(map(put_in_turn, _endless(loaded)), steps),
        "prefetching_map, by way of pinned memory": _rate(
            prefetching_map(prefetching_map(_endless(loaded), pinned), there), steps
        ),
    }


def _endless(minibatches: list[Any]) -> Iterator[Any]:
    for each in repeat(minibatches):
        yield from each


def _unaligned(minibatch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    memory = np.empty(minibatch.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64 + 4
    unaligned = memory[start : start + minibatch.nbytes].view(minibatch.dtype)
    return unaligned.reshape(minibatch.shape)


def _rate(placed: Iterable[Any], steps: int) -> float:
    """Gigabytes per second, all of a minibatch being there before the next is asked for."""
    import jax

    iterator = iter(placed)
    for minibatch in islice(iterator, _WARM_UP):
        jax.block_until_ready(minibatch)
    byte_count = 0
    started = time.perf_counter()
    for minibatch in islice(iterator, steps):
        jax.block_until_ready(minibatch)
        byte_count += sum(leaf.nbytes for leaf in jax.tree.leaves(minibatch))
    return round(byte_count / (time.perf_counter() - started) / 1e9, 2)


def cost_on_top(device: Any, steps: int) -> dict[str, float]:
    """Of the map for a small tree: the loop over it less the same loop with ``device_put``."""
    import jax

    tree = {"x": np.ones((32, 8), np.float32), "y": np.ones(32, np.int32)}

    def seconds(placed: Iterable[Any]) -> float:
        iterator = iter(placed)
        for minibatch in islice(iterator, _WARM_UP):
            jax.block_until_ready(minibatch)
        started = time.perf_counter()
        for minibatch in islice(iterator, steps):
            jax.block_until_ready(minibatch)
        return (time.perf_counter() - started) / steps

    def plain() -> float:
        return seconds(jax.device_put(each, device) for each in repeat(tree))

    rounds = range(5)
    return {
        "prefetching_map": round(
            1e6 * median(seconds(prefetching_map(repeat(tree), device)) - plain() for _ in rounds),
            1,
        ),
        "prefetching_map, buffer_size=1": round(
            1e6
            * median(seconds(prefetching_map(repeat(tree), device, 1)) - plain() for _ in rounds),
            1,
        ),
    }


def minibatches_alive(loader: DataLoader[Any], device: Any, steps: int) -> dict[str, int | str]:
    """The most that live on the device at any step, for the default ``buffer_size`` of 2."""
    import jax

    def alive(shape: tuple[int, ...]) -> int:
        return sum(array.shape == shape for array in jax.live_arrays())

    def in_use() -> int:
        return (device.memory_stats() or {}).get("bytes_in_use", 0)

    before, most, most_bytes = in_use(), 0, 0
    minibatch = None
    for minibatch in prefetching_map(loader.minibatches(0)[:steps], device):
        jax.block_until_ready(minibatch)
        # Time for the thread to read ahead as far as it ever will.
        time.sleep(0.01)
        most = max(most, alive(minibatch.shape))
        most_bytes = max(most_bytes, in_use() - before)
    assert minibatch is not None
    figures: dict[str, int | str] = {"arrays": most}
    if device.memory_stats() is None:
        return {**figures, "memory": "not measured: the device does not count its memory"}
    return {**figures, "memory": -(-most_bytes // minibatch.nbytes)}


def step_stall(loader: DataLoader[Any], device: Any, steps: int) -> dict[str, float]:
    """What a step takes longer with minibatches that are loaded than with one that is there.

    The step is made to take twice as long as loading and transfer, which thus have time to hide.
    """
    import jax

    weights = jax.device_put(np.ones((512, 512), np.float32) / 512, device)

    @jax.jit
    def step(minibatch: Any, product_count: int) -> Any:
        product = jax.lax.fori_loop(0, product_count, lambda _, each: each @ weights, weights)
        return product + minibatch.mean()

    def seconds(minibatches: Iterator[Any], product_count: int) -> float:
        for minibatch in islice(minibatches, _WARM_UP):
            jax.block_until_ready(step(minibatch, product_count))
        started = time.perf_counter()
        for minibatch in islice(minibatches, steps):
            # As a loop that looks at its loss, which does not run ahead of the device.
            jax.block_until_ready(step(minibatch, product_count))
        return (time.perf_counter() - started) / steps

    loaded = iter(prefetching_map(loader.minibatches(0), device))
    resident = next(loaded)
    nothing, many = seconds(repeat(resident), 0), seconds(repeat(resident), 50)
    product_seconds = max(many - nothing, 1e-9) / 50
    product_count = max(1, round(2 * seconds(loaded, 0) / product_seconds))
    alone, loading = seconds(repeat(resident), product_count), seconds(loaded, product_count)
    return {
        "milliseconds": round(1e3 * alone, 3),
        "milliseconds_with_loading": round(1e3 * loading, 3),
        "stall_milliseconds": round(1e3 * (loading - alone), 3),
    }


def memory_of_workers() -> dict[str, Any]:
    """Whether some worker process has a GPU open, by two accounts."""
    import psutil

    workers = [child.pid for child in psutil.Process().children(recursive=True)]
    opened = [pid for pid in workers if _opened_gpu(pid)]
    report: dict[str, Any] = {"count": len(workers), "with a GPU's file open": len(opened)}
    if shutil.which("nvidia-smi") is None:
        return {**report, "GPU megabytes": "not measured: there is no nvidia-smi"}
    query = ("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    used = dict(line.split(", ") for line in listed.splitlines())
    if str(os.getpid()) not in used:
        told = "not measured: nvidia-smi does not list this process by its number here"
        return {**report, "GPU megabytes": told}
    return {**report, "GPU megabytes": [used.get(str(pid), "0") for pid in workers]}


def _opened_gpu(pid: int) -> bool:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(descriptor).startswith("/dev/nvidia"):
                return True
        except FileNotFoundError:
            # Closed meanwhile.
            continue
    return False


if __name__ == "__main__":
    main()
