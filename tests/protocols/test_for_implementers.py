"""What the protocols' distribution holds for whoever implements loaders and maps."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from fifteen.data import (
    DataLoader,
    InMemoryDataLoader,
    cycled_minibatches,
    padding_map,
    prefetching_map,
)
from fifteen_data_protocols import Sharded, checked_int


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_integers_of_all_kinds_become_plain_ones(value: Any) -> None:
    number = checked_int("count", value, at_least=3)
    assert (type(number), number) == (int, 3)


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float32(3), "3", None, np.array([3])])
def test_nothing_else_is_an_integer(value: Any) -> None:
    with pytest.raises(TypeError) as raised:
        checked_int("count", value, at_least=0)
    assert str(raised.value) == f"`count` must be an integer, got {value!r}"


def test_an_integer_that_is_too_small_is_refused_with_a_note() -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared.
        checked_int("count", 0, at_least=1, note=", which is nothing")
    assert str(raised.value) == "`count` must be at least 1, which is nothing, got 0"


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(list(range(8)), 4, shard_index=1, shard_count=2),
        InMemoryDataLoader(np.arange(8), 4, shard_index=1, shard_count=2),
    ],
    ids=lambda loader: type(loader).__name__,
)
def test_minibatches_iterations_and_maps_say_which_rows_they_hold(loader: Any) -> None:
    minibatches = loader.minibatches(0)
    cycled = cycled_minibatches(loader, 0)
    for each in (
        minibatches,
        minibatches[1:],
        iter(minibatches),
        cycled,
        padding_map(minibatches),
        iter(padding_map(minibatches)),
        prefetching_map(cycled),
    ):
        sharded: Any = each
        assert isinstance(sharded, Sharded)
        assert (sharded.minibatch_size, sharded.shard_index, sharded.shard_count) == (4, 1, 2)
    assert not isinstance([], Sharded)


def test_python_s_exit_ends_a_thread_that_would_wait_for_ever() -> None:
    """Those that end by themselves, and those that nobody has started, are no matter."""
    code = """
import threading
from fifteen_data_protocols import thread_until_exit

bell, ended = threading.Event(), threading.Event()
def run():
    print("started", flush=True)
    bell.wait()
    print("stopped", flush=True)
thread_until_exit(run, bell.set, name="waits").start()
thread_until_exit(ended.set, lambda: print("told too late"), name="ends").start()
thread_until_exit(run, lambda: None, name="never started")
ended.wait()
[thread.join() for thread in threading.enumerate() if thread.name == "ends"]
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (ended.stdout, ended.stderr) == ("started\nstopped\n", "")
