"""Whether loading and transfer go on during the step: ``hatch run bench:overlap``.

With a loader that needs t per minibatch and a step that needs t, an epoch of n minibatches should
take (n + 1) t, and 1.05 times that at most. Both only wait here, as for a disk and an accelerator,
so that they do not take the cores from each other and the rest is what is measured.
"""

import argparse
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from fifteen_data_devices import prefetching_map
from fifteen_data_loaders import DataLoader

from tests.benchmarks.machine import busy_fraction, quiet_fraction

_MINIBATCH_SIZE = 4
_ALLOWED = 1.05
_KINDS: dict[str, dict[str, int]] = {
    "2 worker processes": {"num_workers": 2},
    "2 threads": {"num_threads": 2},
    "inline": {},
}


@dataclass(frozen=True)
class Waits:
    """Samples that take a given time each."""

    sample_count: int
    seconds: float

    def __getitem__(self, index: int) -> dict[str, Any]:
        time.sleep(self.seconds)
        return {"x": np.full((64, 64), index, np.float32), "y": index}

    def __len__(self) -> int:
        return self.sample_count


def main() -> None:
    """Measure as the command line says and print a line of JSON for each kind of loader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minibatches", type=int, default=50, help="n, in an epoch")
    parser.add_argument("--seconds", type=float, default=0.04, help="t, about")
    parser.add_argument("--epochs", type=int, default=5, help="the median of which counts")
    parser.add_argument(
        "--patience", type=float, default=0, help="seconds to wait before a loader for idle cores"
    )
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for kind, parallel in _KINDS.items():
        busy = quiet_fraction(options.patience)
        figures = measure(parallel, options.minibatches, options.seconds, options.epochs)
        busy = max(busy, busy_fraction())
        print(json.dumps({"loader": kind, **figures, "others_busy": round(busy, 2)}), flush=True)


def measure(
    parallel: dict[str, Any], count: int, seconds: float, epoch_count: int
) -> dict[str, float | bool]:
    """Time epochs of one kind of loader, and in turn with them its loading and the steps alone."""
    import jax

    device = jax.devices()[0]
    at_once = max(1, *parallel.values()) if parallel else 1
    dataset = Waits(count * _MINIBATCH_SIZE, seconds * at_once / _MINIBATCH_SIZE)
    times = _Times([], [], [])
    with DataLoader(dataset, _MINIBATCH_SIZE, **parallel) as loader:
        list(prefetching_map(loader.minibatches(0)[:2], device))
        for seed in range(epoch_count):
            times.loading.append(_timed(loader.minibatches(seed), 0))
            times.stepping.append(_timed([{}] * count, seconds))
            times.both.append(_timed(prefetching_map(loader.minibatches(seed), device), seconds))
    loading, stepping, both = map(median, (times.loading, times.stepping, times.both))
    ideal = (count + 1) * max(loading, stepping) / count
    return {
        "loading_alone_seconds": round(loading, 4),
        "steps_alone_seconds": round(stepping, 4),
        "epoch_seconds": round(both, 4),
        "ideal_times": round(both / ideal, 4),
        "met": both <= _ALLOWED * ideal,
    }


class _Times(NamedTuple):
    """Of whole epochs."""

    loading: list[float]
    stepping: list[float]
    both: list[float]


def _timed(minibatches: Iterable[Any], seconds: float) -> float:
    """Returns how long a loop takes whose steps take some seconds each."""
    import jax

    started = time.perf_counter()
    for minibatch in minibatches:
        jax.block_until_ready(minibatch)
        if seconds:
            time.sleep(seconds)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
