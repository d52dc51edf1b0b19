"""How fast minibatches arrive, and what that costs the process that wants them."""

import os
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import psutil

from tests.benchmarks.contenders import Trial, endless
from tests.benchmarks.memory import tree_memory
from tests.benchmarks.trees import leaves

_WARM_UP_MINIBATCHES = 8
_FEWEST_MINIBATCHES = 8


def measure_throughput(trial: Trial, seconds: float) -> dict[str, float]:
    """Iterate for some seconds after a warm-up; nothing is done with the minibatches."""
    stream = endless(trial.open())
    _warm_up(stream, seconds / 2)
    tree_started, cpu_started = _cpu_seconds_of_tree(), time.process_time()
    started = time.perf_counter()
    count = 0
    while count < _FEWEST_MINIBATCHES or time.perf_counter() - started < seconds:
        next(stream)
        count += 1
    elapsed = time.perf_counter() - started
    cpu, tree = time.process_time() - cpu_started, _cpu_seconds_of_tree() - tree_started
    return {
        "minibatches_per_second": count / elapsed,
        "main_process_ms_per_minibatch": cpu / count * 1e3,
        "all_processes_ms_per_minibatch": tree / count * 1e3,
    }


def measure_ceiling(trial: Trial, seconds: float) -> dict[str, float]:
    """The same for two processes at once, each with a loader of its own: what the cores can do."""
    reader, writer = os.pipe()
    for _ in range(2):
        if os.fork() == 0:
            figures = measure_throughput(trial, seconds)
            os.write(writer, f"{figures['minibatches_per_second']}\n".encode())
            os._exit(0)
    os.wait(), os.wait()
    return {"minibatches_per_second": sum(map(float, os.read(reader, 1 << 10).split()))}


def measure_memory_in_flight(trial: Trial, seconds: float) -> dict[str, float]:
    """Shared memory of all processes in minibatches, and how many places these are handed out in.

    The loop keeps no minibatch beyond its turn.
    """
    stream = endless(trial.open())
    _warm_up(stream, seconds / 2)
    places, nbytes, shared = set(), 1, 0
    for number, minibatch in enumerate(islice(stream, 100)):
        arrays = leaves(minibatch)
        places.add(arrays[0].ctypes.data)
        nbytes = sum(array.nbytes for array in arrays)
        if number % 10 == 0:
            shared = max(shared, tree_memory().shared)
    return {"shared_memory_in_minibatches": shared / nbytes, "places": len(places)}


def measure_workers(trial: Trial, seconds: float) -> dict[str, float]:
    """Private memory of the largest worker, and whether any of them has imported jax."""
    stream = endless(trial.open())
    jax_seen = any(bool(minibatch.any()) for minibatch in islice(stream, 200))
    return {
        "worker_private_mb": max(tree_memory().private_of_children) / 1e6,
        "jax_in_a_worker": float(jax_seen),
    }


def _cpu_seconds_of_tree() -> float:
    this = psutil.Process()
    times = [each.cpu_times() for each in (this, *this.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _warm_up(stream: Iterator[Any], seconds: float) -> None:
    end = time.perf_counter() + seconds
    for _ in islice(stream, _WARM_UP_MINIBATCHES):
        pass
    while time.perf_counter() < end:
        next(stream)
