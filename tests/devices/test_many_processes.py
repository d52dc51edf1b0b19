"""`jax.distributed` programs of several processes on this machine, over the loopback device."""

import fcntl
import functools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import InMemoryDataLoader

from tests.devices.one_of_many import MINIBATCH_SIZE, SAMPLE_COUNT
from tests.devices.stand_ins import Minibatches

DEVICES_PER_PROCESS = 2
LIMIT_SECONDS = 100

Results = list[dict[str, Any]]
ResultsOf = Callable[[int], Results]


def run_processes(count: int) -> Results:
    """Returns what every process printed; none of them is left in any case."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = f"--xla_force_host_platform_device_count={DEVICES_PER_PROCESS}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.devices.one_of_many", str(i), str(count), str(port)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    try:
        ended = [process.communicate(timeout=LIMIT_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for process, (_, err) in zip(processes, ended, strict=True):
        assert process.returncode == 0, err
    return [json.loads(out.splitlines()[-1]) for out, _ in ended]


@pytest.fixture(scope="session")
def results_of(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> ResultsOf:
    """Returns a function that runs the programs, once for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp().parent

    @functools.cache
    def run_once(count: int) -> Results:
        with (folder / f"{count}-processes-{testrun_uid}.json").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if not (content := file.read()):
                content = json.dumps(run_processes(count))
                file.write(content)
        results: Results = json.loads(content)
        return results

    return run_once


def joined(results: Results, case: str) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Put the minibatches together from the shards that all processes hold."""
    for result in results:
        assert "error" not in result[case], result[case]["error"]
    minibatches = list[dict[str, np.ndarray[Any, Any]]]()
    for parts in zip(*(result[case]["minibatches"] for result in results), strict=True):
        minibatches.append({})
        for name in parts[0]:
            whole = np.full(parts[0][name]["shape"], np.nan)
            for part in parts:
                assert part[name]["shape"] == parts[0][name]["shape"]
                for index, data in part[name]["shards"]:
                    place = tuple(slice(*bounds) for bounds in index)
                    known = whole[place]
                    # Devices that hold the same rows hold equal ones.
                    assert np.isnan(known).all() or np.array_equal(known, data)
                    whole[place] = data
            assert not np.isnan(whole).any()
            minibatches[-1][name] = whole
    return minibatches


def errors(results: Results, case: str) -> list[list[str]]:
    return [result[case].get("error", ["", ""]) for result in results]


on_2_and_4_processes = pytest.mark.parametrize("count", [2, 4])


@on_2_and_4_processes
def test_the_programs_end_and_leave_nothing(
    results_of: ResultsOf, count: int, no_leftovers: None
) -> None:
    assert len(results_of(count)) == count


@on_2_and_4_processes
@pytest.mark.parametrize(
    "case",
    [
        "flat",
        "reversed",
        "replicated",
        "model within",
        "model within, columns",
        "model across",
        "model across, columns",
        "model across pairs",
        "prefetched",
        "resume checked",
    ],
)
def test_many_processes_make_the_minibatches_of_one(
    results_of: ResultsOf, count: int, case: str
) -> None:
    expected = list(Minibatches(SAMPLE_COUNT, MINIBATCH_SIZE))
    for minibatch, whole in zip(joined(results_of(count), case), expected, strict=True):
        assert np.array_equal(minibatch["x"], whole["x"])
        assert np.array_equal(minibatch["y"], whole["y"])


@on_2_and_4_processes
def test_devices_of_all_processes_divide_the_rows_of_all(results_of: ResultsOf, count: int) -> None:
    expected = list(Minibatches(SAMPLE_COUNT, MINIBATCH_SIZE))
    for minibatch, whole in zip(joined(results_of(count), "devices"), expected, strict=True):
        shape = (count * DEVICES_PER_PROCESS, -1, 4)
        assert np.array_equal(minibatch["x"], whole["x"].reshape(shape))


@on_2_and_4_processes
def test_devices_of_this_process_divide_its_own_rows(results_of: ResultsOf, count: int) -> None:
    for result in results_of(count):
        inputs = Minibatches(SAMPLE_COUNT, MINIBATCH_SIZE, **result["flat"]["shard"])
        for minibatch, own in zip(joined([result], "local devices"), inputs, strict=True):
            assert np.array_equal(minibatch["y"].ravel(), own["y"])


@on_2_and_4_processes
def test_scalars_go_with_rows(results_of: ResultsOf, count: int) -> None:
    minibatches = joined(results_of(count), "with scalars")
    assert [minibatch["scale"].tolist() for minibatch in minibatches] == [2.0] * 3


@on_2_and_4_processes
def test_a_computation_sees_the_rows_of_all_processes(results_of: ResultsOf, count: int) -> None:
    expected = [whole["y"].sum() for whole in Minibatches(SAMPLE_COUNT, MINIBATCH_SIZE)]
    sums = [minibatch["y"].tolist() for minibatch in joined(results_of(count), "sums")]
    assert sums == [[total] for total in expected]


@on_2_and_4_processes
def test_shapes_may_change_on_all_processes_together(results_of: ResultsOf, count: int) -> None:
    shapes = [minibatch[""].shape for minibatch in joined(results_of(count), "change together")]
    assert shapes == [(8 * count, 1), (8 * count, 2), (8 * count, 1), (8 * count, 2)]


@on_2_and_4_processes
def test_padding_gives_every_process_as_many_minibatches_of_one_shape(
    results_of: ResultsOf, count: int
) -> None:
    minibatches = joined(results_of(count), "padded")
    assert [minibatch["y"].shape for minibatch in minibatches] == [(MINIBATCH_SIZE,)] * 3
    counted = [minibatch["y"][minibatch["mask"] == 1] for minibatch in minibatches]
    assert sorted(np.concatenate(counted)) == list(range(SAMPLE_COUNT - 13))


@on_2_and_4_processes
def test_the_state_does_not_depend_on_the_processes(results_of: ResultsOf, count: int) -> None:
    assert [stop["step"].tolist() for stop in joined(results_of(count), "stopped")] == [[1]]
    expected = list(Minibatches(SAMPLE_COUNT, MINIBATCH_SIZE))[1:]
    for minibatch, whole in zip(joined(results_of(count), "resumed"), expected, strict=True):
        assert np.array_equal(minibatch["y"], whole["y"])


@on_2_and_4_processes
def test_aligned_host_memory_is_used_in_place(results_of: ResultsOf, count: int) -> None:
    (starts,) = joined(results_of(count), "used in place")
    assert starts[""].tolist() == [0, 4] * count


@on_2_and_4_processes
@pytest.mark.parametrize("kind", ["inline", "in memory"])
def test_shards_of_real_loaders_make_the_minibatches_of_one(
    results_of: ResultsOf, count: int, kind: str
) -> None:
    whole = InMemoryDataLoader({"y": np.arange(SAMPLE_COUNT - 5)}, MINIBATCH_SIZE, drop_last=False)
    epochs = [list(minibatch["y"]) for seed in (7, 8, 9) for minibatch in whole.minibatches(seed)]
    assert real_rows(results_of(count), f"real epoch, {kind}") == epochs[:3]
    assert real_rows(results_of(count), f"real resumed, {kind}") == epochs[4:7]


def real_rows(results: Results, case: str) -> list[list[int]]:
    minibatches = joined(results, case)
    assert all(minibatch["y"].shape == (MINIBATCH_SIZE,) for minibatch in minibatches)
    return [list(minibatch["y"][minibatch["mask"] == 1]) for minibatch in minibatches]


@on_2_and_4_processes
@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "interleaved",
            "process 0 holds the parts [0, {count}] of {device_count} that the rows are divided "
            "into; each process must hold one contiguous block, all of the same size. Order the "
            "devices of the mesh by process, as `jax.devices()` is",
        ),
        (
            "rows on every process",
            "`minibatch['y']` has the rows of shard {process} of {count}, but P() places shard 0 "
            "of 1 on this process; every leaf with rows needs them on the same axes of the mesh",
        ),
        (
            "no shard",
            "`sharding_map` joins the rows of {count} processes, and `inputs` does not say which "
            "it loads; pass `**process_shard(sharding)` to the data loader, here "
            "`shard_index={process}, shard_count={count}`, or load these rows yourself and pass "
            "`shard=({process}, {count})`",
        ),
        (
            "forgotten shard",
            "each of {count} processes loads all 16 rows of every minibatch; pass "
            "`**process_shard(sharding)` to the data loader, here `shard_index={process}, "
            "shard_count={count}`",
        ),
        (
            "contradicting shards",
            "`shard` is (7, 8), but `inputs` says that it loads shard {process} of {count}",
        ),
        (
            "host rows prefetched",
            "`minibatch['x']` is data of one process, but `device` is a sharding that spans "
            "several; use `sharding_map(inputs, sharding)` inside of `prefetching_map`",
        ),
    ],
)
def test_what_would_go_wrong_is_refused_with_the_cure(
    results_of: ResultsOf, count: int, case: str, message: str
) -> None:
    for process, (kind, said) in enumerate(errors(results_of(count), case)):
        device_count = count * DEVICES_PER_PROCESS
        assert kind == "ValueError"
        assert said.replace("PartitionSpec", "P") == message.format(
            process=process, count=count, device_count=device_count
        )


@on_2_and_4_processes
def test_a_shard_that_two_processes_load_is_refused_on_all(
    results_of: ResultsOf, count: int
) -> None:
    reason = (
        "`inputs` loads shard 0 of {count}, but the devices of this process hold shard {process} "
        "of {count}; pass `**process_shard(sharding)` to the data loader, here "
        "`shard_index={process}, shard_count={count}`"
    )
    (_, first), *others = errors(results_of(count), "doubled shard")
    for process, (_, said) in enumerate(others, start=1):
        assert said == reason.format(process=process, count=count)
    assert first == (
        "another process refused minibatch 0 of this iteration: "
        + reason.format(process=1, count=count)
    )


@on_2_and_4_processes
@pytest.mark.parametrize(("case", "step"), [("columns differ", 0), ("columns differ later", 2)])
def test_shapes_that_differ_are_refused_on_all_processes(
    results_of: ResultsOf, count: int, case: str, step: int
) -> None:
    said = "; ".join(
        f"processes [{process}]: minibatch (8, {process + 2}) float32" for process in range(count)
    )
    for result in results_of(count):
        assert len(result[case]["minibatches"]) == step
        assert result[case]["error"][1] == (
            f"minibatch {step} of this iteration differs between processes, whose leaves must "
            f"have the same shapes and dtypes: {said}. A short last minibatch is filled up by "
            "`padding_map` and left out by `drop_last=True`"
        )


@on_2_and_4_processes
def test_a_process_whose_shapes_alone_change_stops(results_of: ResultsOf, count: int) -> None:
    *others, last = errors(results_of(count), "columns differ on one")
    assert others == [["", ""]] * (count - 1)
    news = (
        "minibatch 2 of this iteration has new leaf shapes on this process (minibatch (8, 2) "
        "float32)"
    )
    assert last == [
        "TimeoutError",
        f"{news}, and for 1 s some other process of {list(range(count))} had none. Shapes may "
        "only change on all processes together; `padding_map` keeps them constant",
    ]
    *others, log = (result["columns differ on one"]["log"] for result in results_of(count))
    assert others == [[]] * (count - 1)
    assert log == [f"{news}; waiting for the other processes to have them too"]


@on_2_and_4_processes
@pytest.mark.parametrize(("case", "which"), [("on the first", 0), ("on the last", -1)])
def test_an_overflow_at_the_beginning_stops_all_processes(
    results_of: ResultsOf, count: int, case: str, which: int
) -> None:
    said = errors(results_of(count), f"overflows {case}")
    kind, reason = said.pop(which)
    assert kind == "OverflowError"
    assert reason.startswith("`minibatch` holds int64 values from 1099511627776 to 1099511627776,")
    message = f"another process refused minibatch 0 of this iteration: {reason}"
    assert said == [["ValueError", message]] * (count - 1)


@on_2_and_4_processes
def test_a_device_of_another_process_is_refused(results_of: ResultsOf, count: int) -> None:
    """Its arrays could not be read here."""
    own, *others = errors(results_of(count), "device of the first")
    assert own == ["", ""]
    for process, (kind, said) in enumerate(others, start=1):
        assert kind == "ValueError"
        assert re.fullmatch(
            rf"`device` must be one of this process, number {process}, got \S+ of process 0; pick "
            r"one of `jax\.local_devices\(\)`",
            said,
        )
    *others, own = errors(results_of(count), "device of the last")
    assert own == ["", ""]
    for process, (kind, said) in enumerate(others):
        assert kind == "ValueError"
        assert said.startswith(f"`device` must place something on this process, number {process}, ")


@on_2_and_4_processes
def test_nothing_is_logged_where_all_is_well(results_of: ResultsOf, count: int) -> None:
    for result in results_of(count):
        assert result["flat"]["log"] == result["change together"]["log"] == []
