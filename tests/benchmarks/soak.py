"""Load 100 000 minibatches in every way and see that nothing grows: ``hatch run bench:soak``.

Whole epochs, epochs that are left half-way and epochs with samples that raise, with and without a
`collate_fn`, all in the same worker processes. Every minibatch is compared with what it must be.
Memory, descriptors, mappings and threads of this process and its workers are written down ten
times; they must be the same at the end as when a fifth was done.
"""

import argparse
import gc
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from fifteen_data_loaders import DataLoader

from tests.benchmarks.memory import tree_memory

_SAMPLE_COUNT = 64 * 100
_MINIBATCH_SIZE = 64
_STOPS = 10
_WARM_UP_STOPS = 2
_ALLOWED_GROWTH_NBYTES = 8 << 20


class Fragile:
    """Rows of numbers; some samples raise."""

    def __init__(self, broken: frozenset[int] = frozenset()) -> None:
        self.broken = broken

    def __getitem__(self, index: int) -> Any:
        if index in self.broken:
            raise ValueError(f"sample {index} is broken")
        return {"x": np.full(300, index, np.float32), "y": index}

    def __len__(self) -> int:
        return _SAMPLE_COUNT


class Usage(NamedTuple):
    """What must not grow."""

    processes: int
    threads: int
    descriptors: int
    mappings: int
    nbytes: int


def main() -> None:
    """Load as many minibatches as the command line says; the exit status is 1 if anything grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minibatches", type=int, default=100_000)
    per_stop = parser.parse_args().minibatches // _STOPS
    loaders = _loaders()
    received = _received(loaders, random.Random(15))
    usages = []
    for stop in range(_STOPS):
        for _ in range(per_stop):
            next(received)
        usages.append(_usage())
        print(f"{(stop + 1) * per_stop} minibatches: {usages[-1]}", flush=True)
    for loader in loaders:
        loader.close()
    grown = _growth(usages[_WARM_UP_STOPS - 1], usages[-1])
    print(f"grown: {', '.join(grown) or 'nothing'}")
    sys.exit(bool(grown))


def _loaders() -> list[DataLoader[Any]]:
    broken = Fragile(frozenset(range(0, _SAMPLE_COUNT, 997)))
    return [
        DataLoader(Fragile(), _MINIBATCH_SIZE, num_workers=2),
        DataLoader(Fragile(), _MINIBATCH_SIZE, num_workers=1, num_threads=2, collate_fn=_stacked),
        DataLoader(broken, _MINIBATCH_SIZE, num_workers=2),
        DataLoader(Fragile(), _MINIBATCH_SIZE, num_threads=2),
    ]


def _received(loaders: list[DataLoader[Any]], choice: random.Random) -> Iterator[Any]:
    """Every minibatch that some epoch of some loader gives, errors included."""
    indices_only = DataLoader(np.arange(_SAMPLE_COUNT), _MINIBATCH_SIZE)
    kept: list[Any] = []
    while True:
        loader, seed = choice.choice(loaders), choice.randrange(1 << 60)
        length = choice.choice([1, 3, 20, 1000])
        epoch = iter(loader.minibatches(seed))
        for expected, _ in zip(indices_only.minibatches(seed), range(length), strict=False):
            try:
                minibatch = next(epoch)
            except ValueError:
                minibatch = None
            _check(minibatch, expected, loader.dataset)
            # A few are held for a while, as a training loop may do.
            kept = [*kept[-5:], minibatch]
            yield minibatch


def _check(minibatch: Any, expected: Any, dataset: Any) -> None:
    if minibatch is None:
        assert not dataset.broken.isdisjoint(expected.tolist())
        return
    np.testing.assert_array_equal(minibatch["y"], expected)
    np.testing.assert_array_equal(minibatch["x"][:, ::299], np.stack([expected] * 2, axis=1))


def _stacked(samples: list[Any]) -> Any:
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _usage() -> Usage:
    gc.collect()
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return Usage(
        len(processes),
        sum(process.num_threads() for process in processes),
        sum(process.num_fds() for process in processes),
        sum(
            len(Path(f"/proc/{process.pid}/maps").read_text().splitlines()) for process in processes
        ),
        tree_memory().total,
    )


def _growth(before: Usage, after: Usage) -> list[str]:
    # The allocators of a few processes map a little more now and then; a leak maps thousands.
    allowed = Usage(0, 0, 0, 8 * before.processes, _ALLOWED_GROWTH_NBYTES)
    return [
        name
        for name, first, last, slack in zip(Usage._fields, before, after, allowed, strict=True)
        if last > first + slack
    ]


if __name__ == "__main__":
    main()
