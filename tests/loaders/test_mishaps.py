"""Mishaps that were found once, each held against the loader for good."""

import gc
import mmap
import os
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import types
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, WorkerDiedError, WorkerError
from fifteen_data_loaders._engines._workers._arena import Arena

from tests.loaders import scripts
from tests.loaders.datasets import FromFunction

pytestmark = pytest.mark.usefixtures("no_leftovers")


class _TwoArgumentsError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__("one argument")


def test_a_sample_that_cannot_be_unpickled_spoils_its_own_minibatch_only() -> None:
    def load(index: int) -> Any:
        return _TwoArgumentsError(1, 2) if index == 3 else index

    with DataLoader(FromFunction(load, 8), 2, num_workers=1) as loader:
        for _ in range(2):
            iteration = iter(loader.minibatches(None))
            assert next(iteration).tolist() == [0, 1]
            with pytest.raises(WorkerError, match="cannot be unpickled: TypeError: "):
                next(iteration)
            assert [minibatch.tolist() for minibatch in iteration] == [[4, 5], [6, 7]]


def test_closing_a_loader_wakes_whoever_waits_for_its_threads() -> None:
    release = threading.Event()

    def load(index: int) -> int:
        release.wait()
        return index

    loader = DataLoader(FromFunction(load, 64), 16, num_threads=2)
    errors: list[BaseException] = []

    def consume() -> None:
        try:
            list(loader.minibatches(None))
        except RuntimeError as error:
            errors.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    loader.close()
    release.set()
    consumer.join()
    assert [str(error) for error in errors] == [
        "this DataLoader is closed: construct another one to iterate again"
    ]


def test_python_ends_without_what_threads_were_handed(tmp_path: Path) -> None:
    """Samples that cannot be loaded before the main thread is gone would hold it up."""
    source = """
    import atexit, threading, time
    from fifteen_data_loaders import DataLoader

    class Patient:
        def __getitem__(self, index):
            while index >= 4 and threading.main_thread().is_alive():
                time.sleep(0.001)
            return index

        def __len__(self):
            return 10**9

    minibatches = iter(DataLoader(Patient(), 4, num_threads=2).minibatches(None))

    def consume():
        try:
            for _ in minibatches:
                pass
        except RuntimeError as error:
            print(error)

    consumer = threading.Thread(target=consume, daemon=True)
    # Called last. Other packages may wait at exit for a thread that waits for a minibatch.
    atexit.register(consumer.join)
    print(next(minibatches))
    consumer.start()
    """
    closed = "this DataLoader is closed: construct another one to iterate again"
    assert scripts.run(tmp_path, source) == (0, f"[0 1 2 3]\n{closed}\n", "")


@pytest.mark.parametrize("options", [{}, {"num_threads": 2}, {"num_workers": 1}])
def test_an_error_that_is_dropped_takes_the_iteration_with_it(options: dict[str, Any]) -> None:
    """And with the iteration its loader, the workers included: no cycle waits for the collector."""

    def load(index: int) -> int:
        raise ValueError(index)

    loader = DataLoader(FromFunction(load), 4, **options)
    iteration = iter(loader.minibatches(None))
    references = weakref.ref(loader), weakref.ref(iteration)
    gc.disable()
    try:
        with suppress(ValueError):
            next(iteration)
        del loader, iteration
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_minibatches_of_many_sizes_leave_little_memory_behind() -> None:
    """What is kept to be used again is bounded by the largest size, not by how many there were."""
    largest = 4 * 60 * 50_000
    dataset = FromFunction(lambda index: np.zeros((index // 4 + 1) * 50_000, np.uint8), 4 * 60)
    loader = DataLoader(dataset, 4)
    tracemalloc.start()
    try:
        for minibatch in loader.minibatches(None):
            assert minibatch.nbytes <= largest
        del minibatch
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10 * largest


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_leaves_no_workers() -> None:
    dataset = FromFunction(int)
    dataset.rng = np.random.default_rng(0)  # type: ignore[attr-defined]
    with pytest.raises(UserWarning, match="random number generator"):
        DataLoader(dataset, 4, num_workers=2)


class _OneStarts:
    """The first worker loads it; the second fails to, some time later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, index: int) -> int:
        time.sleep(0.01)
        return index

    def __len__(self) -> int:
        return 40

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        try:
            (self.folder / "first").touch(exist_ok=False)
        except FileExistsError:
            raise OSError("no second one") from None


def test_an_error_of_a_start_costs_no_minibatch(tmp_path: Path) -> None:
    """It says that a worker is missing; what the others have loaded comes after it."""
    received: list[int] = []
    failed = False
    with DataLoader(_OneStarts(tmp_path), 4, num_workers=2) as loader:
        iteration = iter(loader.minibatches(None))
        while len(received) < 40:
            try:
                received += next(iteration).tolist()
            except WorkerDiedError:
                failed = True
    assert received == list(range(40))
    assert failed or len(os.listdir(tmp_path)) > 0


def test_too_few_descriptors_for_all_workers_leave_nothing_behind(tmp_path: Path) -> None:
    source = """
    import gc, os, resource
    from fifteen_data_loaders import DataLoader

    before = len(os.listdir("/proc/self/fd"))
    for spare in range(2, 60, 3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + spare, 4096))
        try:
            DataLoader(list(range(8)), 4, num_workers=8)
        except OSError:
            gc.collect()
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            assert len(os.listdir("/proc/self/fd")) == before, spare
    """
    code, _, err = scripts.run(tmp_path, source)
    assert (code, err) == (0, "")


def test_a_class_that_is_defined_again_does_not_disturb_its_loader() -> None:
    """As when a cell of a notebook is run twice."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cell = "class Sample:\n    def __init__(self, x):\n        self.x = x"
    exec(cell, names)
    loader = DataLoader(
        FromFunction(names["Sample"], 8), 2, num_workers=1, collate_fn=lambda samples: samples
    )
    exec(cell, names)
    with loader:
        assert [[s.x for s in samples] for samples in loader.minibatches(None)] == [
            [0, 1], [2, 3], [4, 5], [6, 7]
        ]  # fmt: skip


def test_programs_that_a_dataset_runs_heed_sigterm() -> None:
    def load(index: int) -> int:
        import subprocess

        program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        program.terminate()
        return program.wait(timeout=30)

    with DataLoader(FromFunction(load, 1), 1, num_workers=1) as loader:
        assert loader.minibatches(None)[0].tolist() == [-15]


def test_a_timeout_shorter_than_the_start_does_not_stop_it() -> None:
    class SlowStart(FromFunction):
        def __setstate__(self, state: dict[str, Any]) -> None:
            time.sleep(1)
            self.__dict__.update(state)

    with DataLoader(SlowStart(int, 8), 4, num_workers=1, timeout=0.2) as loader:
        iteration = iter(loader.minibatches(None))
        with pytest.raises(TimeoutError, match="still starting"):
            next(iteration)
        while True:
            with suppress(TimeoutError):
                assert next(iteration).tolist() == [0, 1, 2, 3]
                break


@dataclass(frozen=True)
class _FrozenError(Exception):
    index: int


@pytest.mark.parametrize("num_threads", [1, 2])
def test_an_exception_that_takes_no_notes_comes_all_the_same(num_threads: int) -> None:
    def load(index: int) -> int:
        raise _FrozenError(index)

    def collate(samples: list[int]) -> int:
        raise _FrozenError(samples[0])

    loaders = [
        DataLoader(FromFunction(load), 4, num_workers=1, num_threads=num_threads),
        DataLoader(
            FromFunction(int), 4, num_workers=1, num_threads=num_threads, collate_fn=collate
        ),
    ]
    for loader in loaders:
        with loader, pytest.raises((_FrozenError, WorkerError), match=r"0|_FrozenError"):
            next(iter(loader.minibatches(None)))


def test_an_exception_that_only_a_worker_can_import_is_told(tmp_path: Path) -> None:
    (tmp_path / "plugin_of_workers.py").write_text("class PluginError(Exception): pass")

    def load(index: int) -> int:
        sys.path.append(str(tmp_path))
        import plugin_of_workers

        raise plugin_of_workers.PluginError("sample is broken")

    with (
        DataLoader(FromFunction(load), 4, num_workers=1) as loader,
        pytest.raises(WorkerError, match=r"plugin_of_workers\.PluginError(.|\n)*sample is broken"),
    ):
        next(iter(loader.minibatches(None)))


class _NoThreads(FromFunction):
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        threading.Thread.start = start  # type: ignore[method-assign]


def test_workers_that_cannot_have_their_threads_are_not_started_for_ever() -> None:
    with (
        DataLoader(_NoThreads(int), 4, num_workers=1, num_threads=2) as loader,
        pytest.raises(WorkerDiedError, match=r"before it was ready(.|\n)*can't start new thread"),
    ):
        next(iter(loader.minibatches(None)))


def test_an_arena_that_cannot_grow_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.memfd_create("arena")
    arena = Arena(fd)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no descriptor left")

    with monkeypatch.context() as scarce:
        scarce.setattr(mmap, "mmap", fail)
        for _ in range(30):
            with pytest.raises(OSError, match="no descriptor left"):
                arena.lend(1 << 20)
    assert os.fstat(fd).st_size < 1 << 28
    arena.lend(1 << 20).memory[:] = 1
    arena.close()
    os.close(fd)


def test_minibatches_that_outlive_close_are_let_go_of() -> None:
    loader = DataLoader(FromFunction(lambda index: np.zeros(100), 64), 4, num_workers=1)
    list(loader.minibatches(None))
    held = list(loader.minibatches(None))
    loader.close()
    assert "memfd:fifteen-arena" in Path("/proc/self/maps").read_text()
    del held
    gc.collect()
    assert "memfd:fifteen-arena" not in Path("/proc/self/maps").read_text()


def test_closed_standard_streams_are_nobodys_business(tmp_path: Path) -> None:
    source = f"""
    from fifteen_data_loaders import DataLoader

    with DataLoader(list(range(8)), 4, num_workers=2) as loader:
        rows = [minibatch.tolist() for minibatch in loader.minibatches(None)]
    with open({str(tmp_path / "rows")!r}, "w") as file:
        print(rows, file=file)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(source))
    subprocess.run(["sh", "-c", f"exec '{sys.executable}' '{script}' 0<&- 1>&- 2>&-"], check=True)
    assert (tmp_path / "rows").read_text() == "[[0, 1, 2, 3], [4, 5, 6, 7]]\n"


def test_odd_import_paths_and_arguments_reach_workers_as_strings(tmp_path: Path) -> None:
    source = """
    import sys
    from pathlib import Path
    from fifteen_data_loaders import DataLoader

    class Arguments:
        def __getitem__(self, index):
            return sys.argv[1]
        def __len__(self):
            return 1

    sys.path.append(Path("somewhere"))
    sys.argv.append(Path("argument"))
    with DataLoader(Arguments(), 1, num_workers=1) as loader:
        print(loader.minibatches(None)[0].tolist())
    """
    assert scripts.run(tmp_path, source) == (0, "['argument']\n", "")


def test_a_worker_is_replaced_though_the_directory_is_gone(tmp_path: Path) -> None:
    source = """
    import logging, os, tempfile
    from fifteen_data_loaders import DataLoader

    class DiesOnce:
        def __init__(self, flag):
            self.flag = flag
        def __getitem__(self, index):
            if index == 0 and os.path.exists(self.flag):
                os.remove(self.flag)
                os._exit(1)
            return index
        def __len__(self):
            return 4

    logging.disable()
    flag = tempfile.mkstemp()[1]
    directory = tempfile.mkdtemp()
    os.chdir(directory)
    with DataLoader(DiesOnce(flag), 4, num_workers=1) as loader:
        os.rmdir(directory)
        print(loader.minibatches(None)[0].tolist())
    """
    assert scripts.run(tmp_path, source) == (0, "[0, 1, 2, 3]\n", "")


def test_what_cannot_be_pickled_is_named_beside_variables_without_a_value() -> None:
    lock = threading.Lock()

    def collate(samples: list[int]) -> Any:
        return lock, later

    with pytest.raises(
        TypeError, match=r"`collate_fn, variable 'lock'` \(a _thread\.lock\) is not"
    ):
        DataLoader([1, 2], 2, num_workers=1, collate_fn=collate)
    later = None


def test_loaders_constructed_at_once_do_not_disturb_each_other() -> None:
    """What is pickled by value is known to the whole process."""
    module = types.ModuleType("module_of_a_notebook")
    exec("class Number(int): pass", module.__dict__)
    sys.modules[module.__name__] = module
    failures: list[BaseException] = []
    waiting, proceed = threading.Event(), threading.Event()

    class Waits:
        def __reduce__(self) -> Any:
            waiting.set()
            proceed.wait()
            return int, ()

    def construct(*parts: Any) -> None:
        try:
            with DataLoader([parts], 1, num_workers=1, collate_fn=len) as loader:
                assert loader.minibatches(None)[0] == 1
        except BaseException as error:
            failures.append(error)

    first = threading.Thread(target=construct, args=(module.Number, Waits(), module.Number(1)))
    second = threading.Thread(target=construct, args=(module.Number,))
    first.start()
    waiting.wait()
    second.start()
    second.join(0.2)  # Where it need not wait, it is done by now and has forgotten the module.
    proceed.set()
    first.join()
    second.join()
    del sys.modules[module.__name__]
    assert failures == []
