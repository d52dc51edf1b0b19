"""The life of worker processes: how they start, what they load, and that they always end."""

import copy
import functools
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fifteen_data_loaders import DataLoader

from tests.loaders import scripts
from tests.loaders.datasets import FromFunction, Point, Squares, assert_same

pytestmark = pytest.mark.usefixtures("no_leftovers")


def _pid(index: int) -> int:
    return os.getpid()


def _modules(index: int) -> Any:
    return {name: name in sys.modules for name in ("jax", "numpy.random", "cloudpickle")}


def _environment(index: int) -> Any:
    return [hash("x"), os.environ["JAX_PLATFORMS"] == "cpu", int(os.environ["OMP_NUM_THREADS"])]


def test_workers_state_is_none_without_workers() -> None:
    assert DataLoader(Squares(), 4).workers_state is None
    with DataLoader(Squares(), 4, num_workers=1) as loader:
        assert loader.workers_state is not None
        assert len(loader.workers_state.pids) == 1


def test_workers_are_other_processes_and_stay_over_epochs() -> None:
    with DataLoader(FromFunction(_pid), 4, num_workers=2) as loader:
        assert loader.workers_state is not None
        pids = set(loader.workers_state.pids)
        assert len(pids) == 2
        assert os.getpid() not in pids
        for seed in range(5):
            for minibatch in loader.minibatches(seed):
                assert set(minibatch.tolist()) <= pids
        assert set(loader.workers_state.pids) == pids


def test_workers_do_not_import_jax() -> None:
    """Unless the dataset does: 150 MB each, and 0.7 s."""
    with DataLoader(FromFunction(_modules), 4, num_workers=1) as loader:
        assert not loader.minibatches(None)[0]["jax"].any()


def test_workers_use_one_hash_seed_the_cpu_and_one_thread_each() -> None:
    with DataLoader(FromFunction(_environment, 64), 1, num_workers=4) as loader:
        seen = {tuple(map(int, np.ravel(minibatch))) for minibatch in loader.minibatches(None)}
    assert len(seen) == 1
    assert seen.pop()[1:] == (1, 1)


def test_the_dataset_is_a_snapshot() -> None:
    dataset: list[Any] = [1, 2, 3, 4]
    with DataLoader(dataset, 4, num_workers=1) as loader:
        dataset[0] = 100
        assert loader.minibatches(None)[0].tolist() == [1, 2, 3, 4]


def test_lambdas_and_local_classes_work() -> None:
    offset = 5

    class Local:
        def __getitem__(self, index: int) -> Any:
            return Point(index + offset, lambda: index)

        def __len__(self) -> int:
            return 8

    with DataLoader(
        Local(), 4, num_workers=2, collate_fn=lambda samples: [(s.x, s.y()) for s in samples]
    ) as loader:
        assert loader.minibatches(None)[1] == [(9, 4), (10, 5), (11, 6), (12, 7)]


def test_cached_functions_and_properties_of_local_classes_work() -> None:
    """The usual ways to open something on first use; what is cached here stays here."""

    @functools.cache
    def opened(index: int) -> int:
        return opened(index - 1) + 1 if index else 0

    class Local:
        @functools.cached_property
        def offset(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Any:
            return self.offset + opened(index)

        def __len__(self) -> int:
            return 4

    with DataLoader(Local(), 2, num_workers=1) as loader:
        assert loader.minibatches(None)[1].tolist() == [12, 13]


def test_classes_that_travelled_by_value_come_back_as_themselves() -> None:
    """And untouched: a second by-value pickle would overwrite the attributes of the class."""

    class Result:
        made_by = "the parent"

        def __init__(self, value: int) -> None:
            type(self).made_by = "somebody else"
            self.value = value

    with DataLoader([1, 2], 2, num_workers=1, collate_fn=lambda s: Result(s[0])) as loader:
        result = loader.minibatches(None)[0]
    assert type(result) is Result
    assert result.value == 1
    assert Result.made_by == "the parent"


def test_large_arrays_are_views_of_one_mapping() -> None:
    """A dataset of 256 MB costs its workers next to nothing."""
    big = np.ones(2**25)

    def private(index: int) -> int:
        big[::512].sum()
        with open("/proc/self/smaps_rollup") as rollup:
            return next(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))

    with DataLoader(FromFunction(private), 4, num_workers=2) as loader:
        for minibatch in loader.minibatches(None):
            assert minibatch.max() < 100_000  # kB


def test_arrays_of_the_dataset_can_be_written_in_one_worker_alone() -> None:
    counts = np.zeros(1 << 16)

    def count(index: int) -> float:
        counts[0] += 1
        return counts[0]

    with DataLoader(FromFunction(count, 20), 20, num_workers=1) as loader:
        assert loader.minibatches(None)[0].tolist() == list(range(1, 21))
    assert counts[0] == 0


@pytest.mark.parametrize("mode", ["r", "r+", "w+", "c"])
def test_memory_maps_are_opened_again(tmp_path: Path, mode: Any) -> None:
    """Also slices of them, with steps and turned around; one opened with w+ keeps its data."""
    content = np.arange(100_000, dtype=np.int32).reshape(1000, 100)
    path = tmp_path / "map.bin"
    content.tofile(path)
    memmap = np.memmap(path, np.int32, mode, offset=400, shape=(999, 100))
    if mode == "w+":
        memmap[:] = content[1:]
    for view in (memmap, memmap[10:500:3], memmap[::-1, ::-2], memmap.T, np.asarray(memmap)[5:]):
        with DataLoader(view, 2, num_workers=1) as loader:
            for actual, expected in zip(
                loader.minibatches(1)[:4], DataLoader(view, 2).minibatches(1), strict=False
            ):
                assert_same(actual, expected)
    assert os.path.getsize(path) == 400 + 999 * 400


def test_settings_of_jax_that_change_values_reach_workers(tmp_path: Path) -> None:
    """Those that the program has made until a loader is constructed, not only its environment."""
    source = """
    import jax
    import numpy as np
    from fifteen_data_loaders import DataLoader

    CHANGED = {
        "jax_enable_x64": True,
        "jax_explicit_x64_dtypes": "error",
        "jax_numpy_dtype_promotion": "strict",
        "jax_numpy_rank_promotion": "raise",
        "jax_default_prng_impl": "rbg",
        "jax_threefry_partitionable": False,
    }

    class Dataset:
        def __getitem__(self, index):
            import jax
            settings = [str(getattr(jax.config, name, None)) for name in NAMES]
            return np.asarray(jax.numpy.arange(2.0)).dtype.name, *settings
        def __len__(self):
            return 2

    NAMES = ["jax_default_matmul_precision", *CHANGED]
    def differ():
        with DataLoader(Dataset(), 2, num_workers=1, collate_fn=list) as loader:
            return list(loader.minibatches(None)) != [[Dataset()[0]] * 2]

    print(differ())
    for name, value in CHANGED.items():
        if hasattr(jax.config, name):
            jax.config.update(name, value)
    print(differ(), Dataset()[0][0])
    jax.config.update("jax_default_matmul_precision", "highest")
    print(differ())
    """
    assert scripts.run(tmp_path, source) == (0, "False\nFalse float64\nFalse\n", "")


class _Labelled(np.ndarray):
    """An array that knows its unit."""

    def __array_finalize__(self, other: Any) -> None:
        self.unit = getattr(other, "unit", None)


class _OwnMemmap(np.memmap[Any, Any]):
    pass


@pytest.mark.parametrize(
    "view",
    [
        lambda memmap: np.ma.masked_array(memmap, mask=np.asarray(memmap) % 3 == 0, fill_value=-1),
        lambda memmap: np.ma.masked_array(np.asarray(memmap), mask=memmap[:] > 9)[::-2, 1:],
        lambda memmap: memmap.view([("a", np.int16), ("b", np.int16)], np.recarray)[:, 0],
        lambda memmap: memmap.view(_OwnMemmap)[2:],
    ],
    ids=["masked", "slice of a mask", "recarray", "own memmap"],
)
def test_a_subclass_over_a_memory_map_arrives_as_itself(
    tmp_path: Path, view: Callable[[Any], Any]
) -> None:
    path = tmp_path / "map.bin"
    np.arange(60, dtype=np.int32).tofile(path)
    array = view(np.memmap(path, np.int32, "r", shape=(15, 4)))
    described = FromFunction(
        lambda i: (type(array).__name__, repr(array[i]), getattr(array, "fill_value", None)), 4
    )
    with DataLoader(described, 4, num_workers=1, collate_fn=list) as loader:
        (actual,) = loader.minibatches(None)
    (expected,) = DataLoader(described, 4, collate_fn=list).minibatches(None)
    assert actual == expected


def test_a_subclass_over_a_memory_map_is_not_read(tmp_path: Path) -> None:
    """The file has a terabyte, of which nothing is on disk."""
    array: Any = np.memmap(tmp_path / "map.bin", np.uint8, "w+", shape=(1 << 40,)).view(_Labelled)
    array[7], array.unit = 7, "metre"
    described = FromFunction(lambda i: (int(array[i]), array.unit, type(array).__name__), 8)
    with DataLoader(described, 8, num_workers=1, collate_fn=list) as loader:
        assert loader.minibatches(None)[0][7] == (7, "metre", "_Labelled")


@pytest.mark.parametrize("threads", [1, 3])
def test_every_minibatch_of_three_epochs_can_be_held(threads: int) -> None:
    """Also in part, and through views of views: none is overwritten while anything refers to it."""
    with DataLoader(Squares(100), 4, num_workers=2, num_threads=threads) as loader:
        held, views, expected = [], [], []
        for seed in range(3):
            for minibatch in loader.minibatches(seed):
                expected.append(copy.deepcopy(minibatch))
                held.append(minibatch)
                views.append(minibatch["x"][1:].T[:, ::2])
        for minibatch, wanted in zip(held, expected, strict=True):
            assert_same(minibatch, wanted)
        held.clear()
        del minibatch
        for _ in range(3):
            list(loader.minibatches(9))
        for view, wanted in zip(views, expected, strict=True):
            np.testing.assert_array_equal(view, wanted["x"][1:].T[:, ::2])


def test_a_loop_that_keeps_nothing_uses_the_same_memory_again() -> None:
    with DataLoader(FromFunction(_wide, 400), 8, num_workers=2) as loader:
        list(loader.minibatches(None)[:4])
        gc.collect()
        addresses = {m.ctypes.data for seed in range(3) for m in loader.minibatches(seed)}
    # The one in use, and sixteen that are loaded in no time.
    assert len(addresses) <= 18


def _wide(index: int) -> Any:
    return np.full(10_000, index)


def test_minibatches_outlive_their_loader() -> None:
    loader = DataLoader(FromFunction(_wide), 4, num_workers=2)
    minibatches = list(loader.minibatches(None))
    loader.close()
    del loader
    gc.collect()
    for number, minibatch in enumerate(minibatches):
        np.testing.assert_array_equal(minibatch[:, -1], np.arange(4) + 4 * number)


def test_jax_arrays_over_minibatches_stay_as_they_are() -> None:
    """device_put aliases aligned memory on CPU; the memory is not used again while jax has it."""
    import jax

    with DataLoader(FromFunction(_wide, 200), 4, num_workers=2) as loader:
        held = [jax.device_put(m.astype(np.int32, copy=False)) for m in loader.minibatches(None)]
        aliased = [jax.device_put(m.view(np.int32)) for m in loader.minibatches(None)]
        for _ in range(3):
            list(loader.minibatches(1))
        for number, (one, other) in enumerate(zip(held, aliased, strict=True)):
            wanted = np.arange(4) + 4 * number
            np.testing.assert_array_equal(np.asarray(one)[:, 0], wanted)
            np.testing.assert_array_equal(np.asarray(other)[:, 0], wanted)


@pytest.mark.parametrize("options", [{}, {"num_threads": 2}, {"num_workers": 1}])
def test_a_closed_loader_is_not_iterated_over(options: dict[str, Any]) -> None:
    loader = DataLoader(Squares(), 4, **options)
    iteration = iter(loader.minibatches(0))
    next(iteration)
    loader.close()
    loader.close()
    message = "this DataLoader is closed: construct another one to iterate again"
    with pytest.raises(RuntimeError) as raised:
        iter(loader.minibatches(0))
    assert str(raised.value) == message
    if "num_workers" in options:
        with pytest.raises(RuntimeError) as raised:
            list(iteration)
        assert str(raised.value) == message


def test_workers_end_with_their_loader() -> None:
    loader = DataLoader(Squares(), 4, num_workers=2)
    assert loader.workers_state is not None
    processes = [psutil.Process(pid) for pid in loader.workers_state.pids]
    iteration = iter(loader.minibatches(0))
    next(iteration)
    del loader
    gc.collect()
    assert all(process.is_running() for process in processes)
    del iteration
    gc.collect()
    psutil.wait_procs(processes, timeout=10)
    assert not any(process.is_running() for process in processes)


_LOADER = """
import numpy as np, os, sys
from fifteen_data_loaders import DataLoader

class Dataset:
    def __getitem__(self, index):
        return {"x": np.full(1000, index), "pid": os.getpid()}
    def __len__(self):
        return 64

loader = DataLoader(Dataset(), 4, num_workers=2, collate_fn=lambda samples: samples)
"""


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    source = _LOADER + "print(sum(len(minibatch) for minibatch in loader.minibatches(0)))"
    assert scripts.run(tmp_path, source) == (0, "64\n", "")


def test_pytree_classes_of_main_work(tmp_path: Path) -> None:
    source = """
    import dataclasses, jax, numpy as np
    from fifteen_data_loaders import DataLoader

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Sample:
        x: object

    class Dataset:
        def __getitem__(self, index):
            return Sample(np.full(2, index))
        def __len__(self):
            return 4

    loader = DataLoader(Dataset(), 2, num_workers=2)
    for minibatch in loader.minibatches(None):
        print(type(minibatch) is Sample, minibatch.x.tolist())
    """
    expected = "True [[0, 0], [1, 1]]\nTrue [[2, 2], [3, 3]]\n"
    assert scripts.run(tmp_path, source) == (0, expected, "")


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "iteration = iter(loader.minibatches(0)); held = [next(iteration), next(iteration)]",
        "next(iter(loader.minibatches(0))); loader = None",
        "import threading; threading.Thread(target=list, args=(loader.minibatches(0),)).start()",
        "next(iter(loader.minibatches(0))); sys.exit(0)",
    ],
)
def test_the_interpreter_exits_without_a_word(tmp_path: Path, ending: str) -> None:
    """Whatever was going on: nothing on stderr, no process left (which the fixture checks)."""
    assert scripts.run(tmp_path, _LOADER + ending) == (0, "", "")


def test_what_outlives_the_modules_goes_without_a_word(tmp_path: Path) -> None:
    """Such as what an exception refers to that a library keeps: Orbax does."""
    source = """
    import os
    from fifteen_data_loaders import DataLoader, cycled_minibatches

    train = cycled_minibatches(DataLoader(list(range(20)), 4, num_workers=1), 0)
    os.kept = train, next(train)
    """
    assert scripts.run(tmp_path, source) == (0, "", "")


def test_an_error_in_the_loop_is_all_that_is_printed(tmp_path: Path) -> None:
    source = _LOADER + "for minibatch in loader.minibatches(0): raise ValueError('mine')"
    code, out, err = scripts.run(tmp_path, source)
    assert (code, out) == (1, "")
    assert err.count("Traceback") == 1
    assert err.endswith("ValueError: mine\n")


_FOREVER = (
    _LOADER
    + """
pids, seed = set(), 0
while True:
    for minibatch in loader.minibatches(seed):
        # Not before both workers work: one that is stopped as it starts is not ours to end.
        if len(pids) < 2:
            pids |= {sample["pid"] for sample in minibatch}
            if len(pids) == 2:
                print(*pids, flush=True)
    seed += 1
"""
)


def _started_forever(tmp_path: Path) -> tuple[Any, list[psutil.Process]]:
    process = scripts.start(tmp_path, _FOREVER)
    assert process.stdout is not None
    pids = process.stdout.readline().split()
    return process, [psutil.Process(int(pid)) for pid in pids]


def test_ctrl_c_gives_one_keyboard_interrupt(tmp_path: Path) -> None:
    process, workers = _started_forever(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = scripts.finish(process)
    assert code == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.endswith("KeyboardInterrupt\n")
    assert not any(worker.is_running() for worker in workers)


def test_ctrl_c_while_workers_start_gives_one_keyboard_interrupt(tmp_path: Path) -> None:
    source = _LOADER + "print(flush=True); list(loader.minibatches(0)); sys.stdin.read()"
    process = scripts.start(tmp_path, source, stdin=-1)
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    code, _, err = scripts.finish(process)
    assert code == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("stopped", [False, True])
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, stopped: bool) -> None:
    process, workers = _started_forever(tmp_path)
    if stopped:
        for worker in workers:
            worker.suspend()
    process.kill()
    scripts.finish(process)
    assert psutil.wait_procs(workers, timeout=10)[1] == []


def test_workers_ignore_sigterm(tmp_path: Path) -> None:
    """Schedulers send it to all processes, and the parent may want data for a last checkpoint."""
    with DataLoader(FromFunction(_pid), 4, num_workers=2) as loader:
        list(loader.minibatches(0))
        assert loader.workers_state is not None
        pids = loader.workers_state.pids
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        list(loader.minibatches(0))
        assert loader.workers_state.pids == pids


@pytest.mark.parametrize("loaders", ["workers", "threads"])
def test_a_forked_child_is_told_so(tmp_path: Path, loaders: str) -> None:
    source = (
        _LOADER.replace("num_workers=2", f"num_{loaders}=2")
        + """
iteration = iter(loader.minibatches(0))
next(iteration)
if os.fork() == 0:
    for use in (lambda: iter(loader.minibatches(0)), lambda: next(iteration)):
        try:
            use()
        except RuntimeError as error:
            print(error, flush=True)
    sys.exit(0)
os.wait()
print(len(list(iteration)))
"""
    )
    told = (
        f"this DataLoader's {loaders} belong to the process that forked: construct a loader of its "
        "own in the child\n"
    )
    code, out, err = scripts.run(tmp_path, source)
    assert (code, out) == (0, told * 2 + "15\n"), err


def test_workers_print_where_the_parent_does(tmp_path: Path) -> None:
    source = """
    import sys
    from fifteen_data_loaders import DataLoader

    class Dataset:
        def __getitem__(self, index):
            print("out", index)
            print("err", index, file=sys.stderr)
            return index
        def __len__(self):
            return 2

    list(DataLoader(Dataset(), 2, num_workers=1).minibatches(None))
    """
    assert scripts.run(tmp_path, source) == (0, "out 0\nout 1\n", "err 0\nerr 1\n")


def test_random_number_generators_in_the_dataset_are_warned_of() -> None:
    dataset = Squares()
    dataset.rng = np.random.default_rng(0)  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="random number generator") as warned:
        DataLoader(dataset, 4, num_workers=1).close()
    (warning,) = warned
    assert str(warning.message) == (
        "`dataset` holds a random number generator (numpy.random._generator.Generator), and every "
        "worker process would draw the same numbers from its copy: use sample_rng() instead"
    )
    assert warning.filename == __file__


class _Holds:
    def __init__(self, value: Any) -> None:
        self.parts = {"handles": [value]}

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 4


def test_an_open_text_file_is_not_sent() -> None:
    """Its contents could be."""
    with open(__file__) as file, pytest.raises(TypeError) as raised:
        DataLoader(_Holds(file), 2, num_workers=1)
    assert "but `dataset.parts['handles'][0]` (a _io.TextIOWrapper) is not" in str(raised.value)


def test_a_class_arrives_whose_module_is_not_imported_yet(tmp_path: Path) -> None:
    """NumPy says that `recarray` is of `numpy.rec`, and imports that on first use."""
    source = """
import sys
import numpy as np
from fifteen_data_loaders import DataLoader
records = np.array([(1, 2.0), (3, 4.0)], "i4,f8").view(np.recarray)
assert "numpy.rec" not in sys.modules
with DataLoader(records, 2, num_workers=1) as loader:
    print(loader.minibatches(None)[0].tolist())
"""
    assert scripts.run(tmp_path, source) == (0, "[(1, 2.0), (3, 4.0)]\n", "")


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TypeError) as raised:
        DataLoader(_Holds(threading.Lock()), 2, num_workers=1)
    assert str(raised.value) == (
        "`dataset` must be picklable to be sent to worker processes, but "
        "`dataset.parts['handles'][0]` (a _thread.lock) is not: cannot pickle '_thread.lock' "
        "object. Open files, connections and locks on first use in the "
        "worker instead, or leave them out with `__getstate__`; `num_threads` needs no pickling"
    )
    lock = threading.Lock()
    with pytest.raises(TypeError) as raised:
        DataLoader([1, 2], 2, num_workers=1, collate_fn=lambda samples: lock)
    assert "but `collate_fn, variable 'lock'` (a _thread.lock) is not" in str(raised.value)


def test_what_cannot_be_pickled_is_named_beside_variables_without_a_value() -> None:
    lock = threading.Lock()

    def collate(samples: list[int]) -> Any:
        return lock, later

    with pytest.raises(
        TypeError, match=r"`collate_fn, variable 'lock'` \(a _thread\.lock\) is not"
    ):
        DataLoader([1, 2], 2, num_workers=1, collate_fn=collate)
    later = None
