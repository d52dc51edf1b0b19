"""The verdict is right where there is no doubt, and the figures belong to what was asked."""

import dataclasses
import json
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from fifteen.data import DataLoader, Diagnosis, InMemoryDataLoader, MeasuredSetting, diagnose

from tests.diagnose import planted

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("no_leftovers")]


def _bring_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    put: Any = jax.device_put

    def device_put(minibatch: Any, *args: Any, **kwargs: Any) -> Any:
        time.sleep(0.1)
        return put(minibatch, *args, **kwargs)

    monkeypatch.setattr(jax, "device_put", device_put)


@pytest.mark.parametrize("step", [None, 0.002], ids=["no step", "a step"])
def test_slow_samples(step: float | None) -> None:
    diagnosis = diagnose(planted.slow_samples(), step=step, seconds=1)
    assert diagnosis.bottleneck == "samples"
    assert diagnosis.verdict.startswith("Loading samples is the bottleneck: 4 samples at ")
    assert diagnosis.sample_seconds >= 4 * 0.02
    # Any count of threads that sleep at once is better than one.
    assert diagnosis.recommended != diagnosis.given
    assert f" Try {diagnosis.recommended.name}: " in diagnosis.verdict


def test_samples_that_are_slow_to_load_together() -> None:
    """Larger minibatches would help, but what is slow is the dataset."""
    diagnosis = diagnose(planted.slow_batches(), step=0.002, seconds=1)
    assert diagnosis.bottleneck == "samples"


def test_slow_collation() -> None:
    diagnosis = diagnose(planted.slow_collate(), step=0.002, seconds=1)
    assert diagnosis.bottleneck == "collation"
    assert diagnosis.verdict.startswith("Collation is the bottleneck: it takes ")
    assert diagnosis.collation_seconds >= 0.1


@pytest.mark.parametrize(
    "make_loader", [planted.tiny_minibatches, planted.tiny_minibatches_in_memory]
)
def test_tiny_minibatches(make_loader: Callable[[], Any]) -> None:
    diagnosis = diagnose(make_loader(), seconds=1)
    assert diagnosis.bottleneck == "minibatch size"
    assert diagnosis.verdict.startswith("The minibatches are tiny: ")
    assert " Try minibatch_size=16 or more" in diagnosis.verdict


def test_a_slow_step() -> None:
    diagnosis = diagnose(planted.quick(), step=planted.slow_step, seconds=1)
    assert diagnosis.bottleneck == "step"
    assert diagnosis.verdict.startswith("The step is the bottleneck: it takes ")
    assert diagnosis.headroom is not None
    assert diagnosis.headroom <= 1 / 0.1
    assert diagnosis.recommended.num_workers == 0


def test_slow_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    _bring_slowly(monkeypatch)
    diagnosis = diagnose(planted.quick(), step=0.002, seconds=1)
    assert diagnosis.bottleneck == "transfer"
    assert diagnosis.verdict.startswith("Transfer to the device is the bottleneck: 2.05 kB take ")
    assert "prefetching_map(minibatches, device)" in diagnosis.verdict


def _diagnosis(**changed: Any) -> Diagnosis:
    inline = MeasuredSetting(0, 1, 100.0, 0.01, 1000)
    worker = MeasuredSetting(1, 1, 40.0, 0.2, 3000)
    diagnosis = Diagnosis(
        row_count=8,
        minibatch_nbytes=1000,
        sample_seconds=0.006,
        collation_seconds=0.003,
        overhead_seconds=0.001,
        transport_seconds=0.015,
        transfer_seconds=0.001,
        step_seconds=None,
        headroom=None,
        waiting_fraction=None,
        given=worker,
        settings=(inline, worker),
    )
    return dataclasses.replace(diagnosis, **changed)


def test_workers_that_cost_more_than_they_save() -> None:
    diagnosis = _diagnosis()
    assert diagnosis.bottleneck == "workers"
    assert diagnosis.verdict == (
        "Workers and threads cost more than they save: a minibatch takes 25 ms with num_workers=1, "
        "and 10 ms without any. Try num_workers=0: 100 minibatches/s here instead of 40."
    )


def test_a_worker_that_is_about_as_fast_as_none_is_not_to_blame() -> None:
    worker = MeasuredSetting(1, 1, 95.0, 0.2, 3000)
    inline = MeasuredSetting(0, 1, 100.0, 0.01, 1000)
    assert _diagnosis(given=worker, settings=(inline, worker)).bottleneck == "samples"


def test_the_fewest_that_keep_up_with_the_step_are_recommended() -> None:
    settings = tuple(
        MeasuredSetting(count, 1, 50.0 * max(1, count), 0.1, 1000) for count in (0, 1, 2, 4, 8)
    )
    chosen = _diagnosis(given=settings[0], settings=settings)
    assert chosen.recommended.num_workers == 8
    assert dataclasses.replace(chosen, headroom=80.0).recommended.num_workers == 2
    assert dataclasses.replace(chosen, headroom=1000.0).recommended.num_workers == 8


def test_a_report_has_all_figures_and_the_verdict() -> None:
    diagnosis = _diagnosis(step_seconds=0.01, headroom=100.0, waiting_fraction=0.6)
    assert str(diagnosis) == (
        "A minibatch: 8 samples, 1 kB\n"
        "\n"
        "  loading samples             6 ms\n"
        "  collation                   3 ms\n"
        "  overhead                    1 ms\n"
        "  transport by a worker      15 ms\n"
        "  transfer                    1 ms\n"
        "  step                       10 ms\n"
        "\n"
        "  workers  threads  minibatches/s  first after   in flight\n"
        "        0        1            100        10 ms        1 kB\n"
        "        1        1             40       200 ms        3 kB  as given\n"
        "\n"
        "Headroom: 100 steps/s on a minibatch that is there.\n"
        "The loop waits for data 60% of its time.\n"
        "\n" + diagnosis.verdict
    )


def test_figures_are_of_this_loader_and_fit_into_json() -> None:
    loader = DataLoader(planted.Samples(), 64, num_threads=3, shard_count=2)
    diagnosis = diagnose(loader, seconds=1)
    assert diagnosis.row_count == 32
    assert diagnosis.minibatch_nbytes == 32 * 8 * 4
    assert (diagnosis.given.num_workers, diagnosis.given.num_threads) == (0, 3)
    assert diagnosis.given in diagnosis.settings
    assert {(0, 1), (0, 2), (0, 3), (0, 4)} <= {
        (each.num_workers, each.num_threads) for each in diagnosis.settings
    }
    # Without threads nothing is loaded ahead; with them two are, beside the one in use.
    in_flight = {each.num_threads: each.nbytes_in_flight for each in diagnosis.settings}
    assert in_flight[1] >= diagnosis.minibatch_nbytes
    assert in_flight[3] == 3 * diagnosis.minibatch_nbytes
    assert json.loads(json.dumps(dataclasses.asdict(diagnosis)))["row_count"] == 32
    loader.close()


def test_minibatches_that_jax_has_no_arrays_of_are_measured_without_transfer() -> None:
    loader = DataLoader([{"text": "a", "x": 1}] * 100, 10)
    seen = []
    diagnosis = diagnose(loader, step=lambda minibatch: seen.append(minibatch["text"]), seconds=1)
    assert diagnosis.transfer_seconds is None
    assert seen[0].tolist() == ["a"] * 10


def test_a_dataset_that_cannot_go_to_workers_is_tried_without() -> None:
    dataset = planted.Samples()
    dataset.lock = threading.Lock()  # type: ignore[attr-defined]
    diagnosis = diagnose(DataLoader(dataset, 10), seconds=0.5)
    assert {each.num_workers for each in diagnosis.settings} == {0}
    assert diagnosis.transport_seconds is None


def test_workers_are_started_for_what_is_tried_and_nothing_else() -> None:
    """Others would disturb the measurement. Every loader with workers pickles its dataset once."""
    pickled: list[None] = []

    class Numbers:
        def __getstate__(self) -> dict[str, Any]:
            pickled.append(None)
            return {}

        def __getitem__(self, index: int) -> int:
            return index

        def __len__(self) -> int:
            return 1000

    with DataLoader(Numbers(), 4, num_workers=1) as loader:
        pickled.clear()
        diagnosis = diagnose(loader, seconds=1)
    assert len(pickled) == sum(setting.num_workers > 0 for setting in diagnosis.settings)


def test_progress_tells_what_is_measured_next_and_how_much_there_is() -> None:
    told: list[tuple[str, int, int]] = []
    loader = InMemoryDataLoader(np.arange(100), 10)
    diagnose(loader, step=0.001, seconds=0.1, progress=lambda *args: told.append(args))
    assert told == [
        ("samples, collation, transfer", 0, 3),
        ("num_workers=0, num_threads=1", 1, 3),
        ("the loop", 2, 3),
        ("", 3, 3),
    ]


def test_an_error_of_the_dataset_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        diagnose(DataLoader(planted.Samples(), 2, collate_fn=lambda samples: 1 / 0), seconds=1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            {"loader": [1, 2]},
            TypeError(
                "`loader` must be a DataLoader or an InMemoryDataLoader, got a list: for a "
                "dataset, pass DataLoader(dataset, minibatch_size)"
            ),
        ),
        ({"step": "train"}, TypeError("`step` must be a function or seconds, got 'train'")),
        ({"step": 0.0}, ValueError("`step` must be positive and finite, got 0.0")),
        ({"seconds": None}, TypeError("`seconds` must be a number, got None")),
        ({"seconds": -1}, ValueError("`seconds` must be positive and finite, got -1")),
        ({"seconds": math.inf}, ValueError("`seconds` must be positive and finite, got inf")),
        (
            {"device": "cpu", "seconds": 0.1},
            TypeError(
                "`device` must be a device or a sharding, got `str` 'cpu'; pick one of "
                "`jax.local_devices()`"
            ),
        ),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: Exception) -> None:
    given: dict[str, Any] = {"loader": InMemoryDataLoader(np.arange(10), 2), **arguments}
    with pytest.raises(type(error)) as caught:
        diagnose(**given)
    assert str(caught.value) == str(error)


@pytest.mark.filterwarnings("ignore:there are no minibatches")
def test_a_loader_without_minibatches_is_refused() -> None:
    with pytest.raises(ValueError, match="must have at least one minibatch per epoch, got InMem"):
        diagnose(InMemoryDataLoader(np.arange(3), 5))
