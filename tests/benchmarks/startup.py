"""How long it takes until the first minibatch is there, and what memory loading takes."""

import time
from itertools import islice

from tests.benchmarks.contenders import Trial
from tests.benchmarks.memory import tree_memory

_EPOCHS_BEFORE = 3
_FEWEST_EPOCHS = 5
_PAUSE_SECONDS = 0.05


def measure_first_minibatch(trial: Trial, seconds: float) -> dict[str, float]:
    """From before the loader's construction; imports in this process are not counted."""
    trial.import_loader()
    started = time.perf_counter()
    next(trial.open()(0))
    return {"seconds": time.perf_counter() - started}


def measure_big_dataset(trial: Trial, seconds: float) -> dict[str, float]:
    """The same, and the memory that is added to that of the dataset once all of it was read."""
    trial.import_loader()
    before = tree_memory().total
    started = time.perf_counter()
    epochs = trial.open()
    epoch = epochs(0)
    next(epoch)
    elapsed = time.perf_counter() - started
    rest = len(trial.dataset) // trial.minibatch_size - 1
    for _ in islice(epoch, rest):
        pass
    return {
        "seconds": elapsed,
        "extra_memory_gib": (tree_memory().total - before) / (1 << 30),
    }


def measure_new_epoch(trial: Trial, seconds: float) -> dict[str, float]:
    """From asking a loader that has run before for an epoch to its first minibatch, as a median."""
    epochs = trial.open()
    for seed in range(_EPOCHS_BEFORE):
        list(epochs(seed))
    times: list[float] = []
    while len(times) < _FEWEST_EPOCHS or sum(times) < seconds:
        time.sleep(_PAUSE_SECONDS)
        started = time.perf_counter()
        epoch = epochs(_EPOCHS_BEFORE + len(times))
        next(epoch)
        times.append(time.perf_counter() - started)
        list(epoch)
    return {"milliseconds": sorted(times)[len(times) // 2] * 1e3}
