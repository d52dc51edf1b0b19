"""How evenly minibatches arrive, and how well the work is shared out."""

import time
from itertools import islice
from statistics import median
from typing import Any

from tests.benchmarks.contenders import Trial, endless
from tests.benchmarks.workloads import Uneven

_STEPS_PER_EPOCH = 32
_WARM_UP_EPOCHS = 2
_FEWEST_EPOCHS = 3


def measure_boundary(trial: Trial, seconds: float) -> dict[str, float]:
    """The slowest of the last step of an epoch and the first two of the next, in median steps.

    This is the median over the boundaries of epochs; the same for the middle of epochs tells how
    much of it has nothing to do with them.
    """
    stream = endless(trial.open())
    for _ in islice(stream, _WARM_UP_EPOCHS * _STEPS_PER_EPOCH):
        pass
    steps = _timed_steps(stream, seconds)
    typical = median(steps)
    # The stream stands at the beginning of an epoch when the first step is timed.
    return {
        "boundary_in_median_steps": _slowest_of_three(steps, _STEPS_PER_EPOCH - 1) / typical,
        "middle_in_median_steps": _slowest_of_three(steps, _STEPS_PER_EPOCH // 2) / typical,
    }


def measure_uneven(trial: Trial, seconds: float) -> dict[str, float]:
    """The time of epochs in terms of the ideal one, where no worker ever waits."""
    epochs = trial.open()
    count = Uneven.sample_count // trial.minibatch_size
    for _ in islice(epochs(0), count):
        pass
    times: list[float] = []
    while len(times) < _FEWEST_EPOCHS or sum(times) < seconds:
        started = time.perf_counter()
        for _ in islice(epochs(1 + len(times)), count):
            pass
        times.append(time.perf_counter() - started)
    return {"ideal_times": median(times) * trial.num_workers / Uneven.total_seconds}


def _timed_steps(stream: Any, seconds: float) -> list[float]:
    steps: list[float] = []
    last = started = time.perf_counter()
    while last - started < seconds or len(steps) < _FEWEST_EPOCHS * _STEPS_PER_EPOCH:
        next(stream)
        now = time.perf_counter()
        steps.append(now - last)
        last = now
    return steps


def _slowest_of_three(steps: list[float], first: int) -> float:
    starts = range(first, len(steps) - 2, _STEPS_PER_EPOCH)
    return median(max(steps[start : start + 3]) for start in starts)
