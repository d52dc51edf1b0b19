"""What is measured, with whom, and what is expected of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.benchmarks import contenders, workloads
from tests.benchmarks.contenders import Trial
from tests.benchmarks.schedule import measure_boundary, measure_uneven
from tests.benchmarks.startup import (
    measure_big_dataset,
    measure_first_minibatch,
    measure_new_epoch,
)
from tests.benchmarks.throughput import (
    measure_ceiling,
    measure_memory_in_flight,
    measure_throughput,
    measure_workers,
)

RATE = "minibatches_per_second"


@dataclass(frozen=True)
class Entry:
    """One contender of an experiment."""

    contender: Callable[[Any, int, int, int], contenders.Epochs]
    num_workers: int = 2
    num_threads: int = 1
    dataset: Callable[[], Any] | None = None
    """Instead of the experiment's."""
    measure: Callable[[Trial, float], dict[str, float]] | None = None
    """Instead of the experiment's."""


@dataclass(frozen=True)
class Target:
    """What one figure of one entry should be, as the median of its runs."""

    claim: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None
    of_best: tuple[str, ...] = ()
    """The bound is a multiple of the best of these entries if there are any."""
    entry: str = "fifteen"


@dataclass(frozen=True)
class Experiment:
    """One workload, measured in one way with each entry."""

    name: str
    description: str
    """What is measured, in sentences for the documentation."""
    measure: Callable[[Trial, float], dict[str, float]]
    dataset: Callable[[], Any]
    minibatch_size: int
    entries: dict[str, Entry]
    targets: tuple[Target, ...]

    def trial(self, name: str) -> Trial:
        """Make the dataset for an entry."""
        entry = self.entries[name]
        dataset = (entry.dataset or self.dataset)()
        return Trial(
            entry.contender, dataset, self.minibatch_size, entry.num_workers, entry.num_threads
        )


_FIFTEEN = {"fifteen": Entry(contenders.fifteen)}
_PYTORCH = {
    "PyTorch forkserver": Entry(contenders.pytorch_forkserver),
    "PyTorch fork": Entry(contenders.pytorch_fork),
    "PyTorch documented": Entry(contenders.pytorch_documented),
    "PyTorch tensors": Entry(contenders.pytorch_tensors),
}
_GRAIN = {
    "Grain mp_prefetch": Entry(contenders.grain_iter_dataset),
    "Grain DataLoader": Entry(contenders.grain_data_loader),
}


def _with(num_workers: int, entries: dict[str, Entry]) -> dict[str, Entry]:
    return {name: Entry(entry.contender, num_workers) for name, entry in entries.items()}


EXPERIMENTS = (
    Experiment(
        "ready images",
        "Minibatches of 64 images of 224 x 224 x 3 float32 that lie in memory: nothing but "
        "stacking and transport, 38 MB each. 2 workers.",
        measure_throughput,
        workloads.ReadyImages,
        64,
        _FIFTEEN | _PYTORCH | _GRAIN,
        (
            Target("64 ready-made 224x224x3 float32: 15x PyTorch", RATE, 15, of_best=(*_PYTORCH,)),
            Target("64 ready-made 224x224x3 float32: 15x Grain", RATE, 15, of_best=(*_GRAIN,)),
            Target(
                "main-process CPU per 38 MB minibatch: under 0.3 ms",
                "main_process_ms_per_minibatch",
                at_most=0.3,
            ),
        ),
    ),
    Experiment(
        "tokens",
        "Minibatches of 128 rows of 128 int32 tokens and a label, rows of an array: what a sample "
        "costs beside its loading. 2 workers.",
        measure_throughput,
        workloads.Tokens,
        128,
        _FIFTEEN
        | {"fifteen __getitems__": Entry(contenders.fifteen, dataset=workloads.TokensTogether)}
        | _PYTORCH
        | _GRAIN,
        (
            Target("128 x 128 int32 tokens: 10x PyTorch", RATE, 10, of_best=(*_PYTORCH,)),
            Target("128 x 128 int32 tokens: 20x Grain", RATE, 20, of_best=(*_GRAIN,)),
            Target(
                "the same tokens by __getitems__: 3x by __getitem__",
                RATE,
                3,
                of_best=("fifteen",),
                entry="fifteen __getitems__",
            ),
        ),
    ),
    Experiment(
        "compressed images",
        "Minibatches of 64 images that are inflated, cropped to 112 x 112 x 3 and normalised: "
        "work for the processor. 2 workers. `bare` calls `__getitem__` in a loop, without a "
        "loader, in one process or in two at once: what the machine can do.",
        measure_throughput,
        workloads.CompressedImages,
        64,
        _FIFTEEN
        | _PYTORCH
        | _GRAIN
        | {
            "bare": Entry(contenders.bare),
            "bare in 2 processes": Entry(contenders.bare, measure=measure_ceiling),
        },
        (
            Target("64 x inflate, crop, normalise: 4x PyTorch", RATE, 4, of_best=(*_PYTORCH,)),
            Target("64 x inflate, crop, normalise: 4x Grain", RATE, 4, of_best=(*_GRAIN,)),
            Target("64 x inflate: 0.85 of 2 x the bare rate", RATE, 2 * 0.85, of_best=("bare",)),
            Target(
                "64 x inflate: 0.85 of the bare rate in 2 processes",
                RATE,
                0.85,
                of_best=("bare in 2 processes",),
            ),
        ),
    ),
    Experiment(
        "first minibatch",
        "From the construction of a loader with 2 workers to its first minibatch of a few "
        "kilobytes. The import of the library is not counted.",
        measure_first_minibatch,
        workloads.Small,
        64,
        _FIFTEEN | _PYTORCH | _GRAIN,
        (Target("first minibatch, a few kB: 0.25 s", "seconds", at_most=0.25),),
    ),
    Experiment(
        "new epoch",
        "From asking a loader that has run before for an epoch to its first minibatch, of 64 "
        "samples that wait for 5 ms each. 16 workers, or as many threads.",
        measure_new_epoch,
        partial(workloads.Sleeping, 64, 5e-3),
        64,
        {
            "fifteen": Entry(contenders.fifteen, 16),
            "fifteen, 16 threads": Entry(contenders.fifteen, 0, 16),
            "fifteen, 2 x 8 threads": Entry(contenders.fifteen, 2, 8),
            "PyTorch forkserver": Entry(contenders.pytorch_forkserver, 16),
        },
        (
            Target("new epoch, 64 x 5 ms, 16 workers: 40 ms", "milliseconds", at_most=40),
            Target(
                "new epoch, 64 x 5 ms, 16 threads: 40 ms",
                "milliseconds",
                at_most=40,
                entry="fifteen, 16 threads",
            ),
            Target(
                "new epoch, 64 x 5 ms, 2 workers x 8 threads: 40 ms",
                "milliseconds",
                at_most=40,
                entry="fifteen, 2 x 8 threads",
            ),
        ),
    ),
    Experiment(
        "1 GiB array",
        "From the construction of a loader with 8 workers, for a dataset that holds an array of 1 "
        "GiB, to the first minibatch.",
        measure_big_dataset,
        workloads.BigArray,
        64,
        _with(8, _FIFTEEN | {"PyTorch fork": _PYTORCH["PyTorch fork"]}),
        (
            Target("1 GiB array, 8 workers, first minibatch: 0.8 s", "seconds", at_most=0.8),
            Target(
                "1 GiB array, 8 workers, extra memory (PSS): 1.15 GiB",
                "extra_memory_gib",
                at_most=1.15,
            ),
        ),
    ),
    Experiment(
        "1.28 million strings",
        "From the construction of a loader with 8 workers, for a dataset that holds a list of "
        "1.28 million paths, to the first minibatch.",
        measure_first_minibatch,
        workloads.Paths,
        64,
        _with(8, _FIFTEEN | {"PyTorch spawn": Entry(contenders.pytorch_spawn)} | _PYTORCH | _GRAIN),
        (
            Target(
                "1.28 million strings, 8 workers: 3x faster than PyTorch spawn",
                "seconds",
                at_most=1 / 3,
                of_best=("PyTorch spawn",),
            ),
        ),
    ),
    Experiment(
        "boundary",
        "The slowest of the steps around the end of an epoch, against the median step. 2 workers, "
        "the compressed images.",
        measure_boundary,
        partial(workloads.CompressedImages, 64 * 32),
        64,
        {"fifteen": Entry(contenders.fifteen_cycled)} | _PYTORCH,
        (
            Target(
                "slowest step across an epoch's end: 2x the median",
                "boundary_in_median_steps",
                at_most=2,
            ),
        ),
    ),
    Experiment(
        "uneven samples",
        "How long an epoch takes in which one sample in 64 takes 20 times as long as the others, "
        "against the time if no worker ever waited. 2 workers.",
        measure_uneven,
        workloads.Uneven,
        64,
        _FIFTEEN | _PYTORCH | _GRAIN,
        (Target("1 in 64 takes 20x as long: 1.2x the ideal", "ideal_times", at_most=1.2),),
    ),
    Experiment(
        "custom collate_fn",
        "Minibatches of 64 samples that wait for 5 ms each, with a `collate_fn` of the user's. 16 "
        "workers; all of them busy would be 50 minibatches/s.",
        measure_throughput,
        partial(workloads.Sleeping, 640_000, 5e-3),
        64,
        {"fifteen": Entry(contenders.fifteen_collate_fn, 16)}
        | _with(16, {"PyTorch forkserver": _PYTORCH["PyTorch forkserver"]}),
        (Target("a collate_fn keeps 16 workers 90 % busy", RATE, 0.9 * 16 / (64 * 5e-3)),),
    ),
    Experiment(
        "128 threads",
        "Minibatches of 8 samples that wait for 50 ms each. All threads busy would be 320 "
        "minibatches/s.",
        measure_throughput,
        partial(workloads.Sleeping, 640_000, 50e-3),
        8,
        {
            "fifteen": Entry(contenders.fifteen, 0, 128),
            "fifteen, 2 x 64 threads": Entry(contenders.fifteen, 2, 64),
        },
        (
            Target("128 threads, minibatches of 8: 90 % busy", RATE, 0.9 * 128 / (8 * 50e-3)),
            Target(
                "2 workers x 64 threads, minibatches of 8: 90 % busy",
                RATE,
                0.9 * 128 / (8 * 50e-3),
                entry="fifteen, 2 x 64 threads",
            ),
        ),
    ),
    Experiment(
        "memory in flight",
        "With 16 workers and `prefetch=2`, a loop that keeps none of its minibatches, which are "
        "the ready images: in how many places in memory they are handed out, and all shared "
        "memory in terms of one.",
        measure_memory_in_flight,
        partial(workloads.ReadyImages, 8),
        64,
        _with(16, _FIFTEEN),
        (
            # Two ahead, one that arrives, one in the loop's hands, and the dataset's own 5 MB.
            Target(
                "16 workers, prefetch=2: minibatches in shared memory",
                "shared_memory_in_minibatches",
                at_most=4.5,
            ),
            Target("a loop that keeps nothing: a constant set of slots", "places", at_most=4),
        ),
    ),
    Experiment(
        "worker memory",
        "What the largest of 2 workers has in memory for itself alone, and whether any of them "
        "has imported jax, for a small dataset that does not.",
        measure_workers,
        workloads.Imports,
        64,
        _FIFTEEN,
        (
            Target("private memory of a worker: 40 MB", "worker_private_mb", at_most=40),
            Target("workers that import jax by themselves: none", "jax_in_a_worker", at_most=0),
        ),
    ),
)
