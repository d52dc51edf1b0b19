"""What users see when their code, or a worker, fails."""

import json
import linecache
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader, WorkerDiedError, WorkerError

from tests.loaders.datasets import FromFunction, Squares

pytestmark = pytest.mark.usefixtures("no_leftovers")

OPTIONS: dict[str, dict[str, Any]] = {
    "inline": {},
    "threads": {"num_threads": 2},
    "workers": {"num_workers": 2},
    "threads in workers": {"num_workers": 1, "num_threads": 2},
}
BAD = 9


@pytest.fixture(params=list(OPTIONS))
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return OPTIONS[request.param]


class OwnError(Exception):
    """An exception that the default pickling cannot rebuild."""

    def __init__(self, first: int, *, second: str) -> None:
        super().__init__(f"{first} and {second}")
        self.first = first
        self.second = second


class OwnOSError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "no such thing", path)
        self.path = path


class SlottedError(Exception):
    __slots__ = ("__private", "path", "unset")

    def __init__(self, path: str) -> None:
        self.path = path
        self.__private = f"private {path}"

    def __str__(self) -> str:
        return f"{self.path}, {self.__private}, {hasattr(self, 'unset')}"


def _raise(error: Callable[[], BaseException]) -> FromFunction:
    def load(index: int) -> int:
        if index == BAD:
            raise error()
        return index

    return FromFunction(load)


def _fail(dataset: Any, options: dict[str, Any], **kwargs: Any) -> BaseException:
    """Returns what is raised at the third minibatch of 4, after two good ones, before two more."""
    with DataLoader(dataset, 4, **options, **kwargs) as loader:
        for _ in range(2):
            iteration = iter(loader.minibatches(None))
            assert [next(iteration).tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
            with pytest.raises(BaseException) as raised:  # noqa: PT011 - the test looks at it.
                next(iteration)
            assert [minibatch.tolist() for minibatch in iteration] == [
                [12, 13, 14, 15],
                [16, 17, 18, 19],
            ]
    return raised.value


def test_an_exception_comes_as_itself_at_its_place(options: dict[str, Any]) -> None:
    """The iteration goes on after it, and so does the loader."""
    error = _fail(_raise(lambda: OwnError(3, second="four")), options)
    assert type(error) is OwnError
    assert (error.first, error.second, str(error)) == (3, "four", "3 and four")
    assert error.__notes__[0] == "Raised while loading sample 9 of the dataset."


def test_a_workers_exception_carries_its_traceback() -> None:
    error = _fail(_raise(lambda: KeyError("missing")), OPTIONS["workers"])
    assert type(error) is KeyError
    assert error.args == ("missing",)
    assert error.__notes__[1].startswith("In a worker process:\n\nTraceback (most recent call last")
    assert f'File "{__file__}"' in error.__notes__[1]
    assert "raise error()" in error.__notes__[1]


@pytest.mark.parametrize("name", ["<cell 1>", "/nowhere/cell.py"])
def test_a_traceback_shows_source_that_is_in_no_file(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook; nested functions and methods are as much of it as what is at the top."""
    source = """
class Outer:
    def load(self, index):
        return [(lambda: self.fail(place))() for place in [index]]

    def fail(self, index):
        raise KeyError(index)
"""
    lines = source.splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, name, (len(source), None, lines, name))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), namespace)
    with (
        DataLoader(FromFunction(namespace["Outer"]().load), 4, num_workers=1) as loader,
        pytest.raises(KeyError) as raised,
    ):
        loader.minibatches(None)[0]
    note = raised.value.__notes__[1]
    assert f'File "{name}", line 4, in load\n    return [(lambda: self.fail' in note
    assert f'File "{name}", line 4, in <lambda>' in note
    assert f'File "{name}", line 7, in fail\n    raise KeyError(index)' in note


def test_an_exception_that_pickles_itself_keeps_its_notes() -> None:
    error = _fail(_raise(lambda: json.JSONDecodeError("bad", "text", 2)), {"num_workers": 1})
    assert isinstance(error, json.JSONDecodeError)
    assert error.pos == 2
    assert error.__notes__[0] == "Raised while loading sample 9 of the dataset."
    assert error.__notes__[1].startswith("In a worker process:")


@pytest.mark.parametrize(
    "make",
    [
        lambda: OwnOSError("/nowhere"),
        lambda: FileNotFoundError(2, "no such file", "/nowhere"),
        lambda: UnicodeDecodeError("utf-8", b"abc", 1, 2, "reason"),
        lambda: ImportError("no module", name="module", path="/path"),
        lambda: ExceptionGroup("several", [ValueError("one"), OwnError(1, second="2")]),
        lambda: TimeoutError("the dataset's own"),
        lambda: np.exceptions.AxisError(3, 2),
        lambda: SlottedError("path"),
    ],
)
def test_fields_of_builtin_exceptions_arrive(make: Callable[[], BaseException]) -> None:
    expected, error = make(), _fail(_raise(make), OPTIONS["workers"])
    assert type(error) is type(expected)
    assert str(error) == str(expected)
    names = "args axis ndim errno filename path name start reason message"
    for name in names.split():
        assert repr(getattr(error, name, None)) == repr(getattr(expected, name, None))


def test_the_cause_of_an_exception_arrives() -> None:
    def load(index: int) -> int:
        try:
            return 1 // (index - BAD)
        except ZeroDivisionError as error:
            raise ValueError("bad sample") from error

    with (
        DataLoader(FromFunction(load, 10), 10, num_workers=1) as loader,
        pytest.raises(ValueError, match=r"^bad sample\n") as raised,
    ):
        loader.minibatches(None)[0]
    assert type(raised.value.__cause__) is ZeroDivisionError


def test_the_first_row_that_fails_is_the_one_that_is_raised(options: dict[str, Any]) -> None:
    def load(index: int) -> int:
        if index % 2:
            raise ValueError(index)
        return index

    with DataLoader(FromFunction(load), 20, **options) as loader:
        for _ in range(5):
            with pytest.raises(ValueError, match=r"^1\n"):
                loader.minibatches(None)[0]


def test_what_cannot_be_pickled_arrives_as_a_worker_error() -> None:
    def load(index: int) -> int:
        error = ValueError("holds a lock")
        error.lock = __import__("threading").Lock()  # type: ignore[attr-defined]
        raise error

    with (
        DataLoader(FromFunction(load), 4, num_workers=1) as loader,
        pytest.raises(WorkerError) as raised,
    ):
        loader.minibatches(None)[0]
    assert str(raised.value).startswith(
        "builtins.ValueError, which cannot be pickled, was raised: Traceback (most recent call"
    )
    assert "ValueError: holds a lock\nRaised while loading sample 0 of the dataset." in str(
        raised.value
    )


def test_stop_iteration_does_not_end_the_epoch(options: dict[str, Any]) -> None:
    error = _fail(_raise(lambda: StopIteration()), options)
    assert type(error) is RuntimeError
    assert str(error) == (
        "`__getitem__` raised StopIteration, which would end the epoch early without a word"
    )


@pytest.mark.parametrize("make", [lambda: SystemExit(0), lambda: KeyboardInterrupt()])
def test_what_would_end_a_worker_arrives_as_a_worker_error(
    make: Callable[[], BaseException],
) -> None:
    error = _fail(_raise(make), OPTIONS["workers"])
    assert type(error) is WorkerError
    assert str(error) == f"{make()!r} was raised in a worker process"
    assert "Raised while loading sample 9 of the dataset." in error.__notes__[0]


def test_an_exception_of_collate_fn_comes_as_itself(options: dict[str, Any]) -> None:
    def collate(samples: list[int]) -> Any:
        if BAD in samples:
            raise OwnError(1, second="2")
        return np.array(samples)

    error = _fail(FromFunction(int), options, collate_fn=collate)
    assert type(error) is OwnError


def test_samples_that_cannot_be_pickled_name_the_leaf() -> None:
    def load(index: int) -> Any:
        return {"a": [index, (i for i in range(3))]}

    with (
        DataLoader(FromFunction(load), 4, num_workers=1) as loader,
        pytest.raises(TypeError) as raised,
    ):
        loader.minibatches(None)[0]
    assert str(raised.value) == (
        "sample 0 cannot leave its worker process: sample['a'][1] is a generator, and "
        "cannot pickle 'generator' object"
    )


def test_a_collated_minibatch_that_cannot_be_pickled_names_the_leaf() -> None:
    def collate(samples: list[int]) -> Any:
        return {"x": 1, "generator": (sample for sample in samples)}

    with (
        DataLoader([1, 2], 2, num_workers=1, collate_fn=collate) as loader,
        pytest.raises(TypeError) as raised,
    ):
        loader.minibatches(None)[0]
    assert str(raised.value) == (
        "the minibatch of `collate_fn` cannot leave its worker process: minibatch['generator'] is "
        "a generator, and cannot pickle 'generator' object"
    )


def test_getitems_must_return_as_many_samples_as_it_was_asked_for(
    options: dict[str, Any],
) -> None:
    class Short(Squares):
        def __getitems__(self, indices: list[int]) -> list[int]:
            return indices[:-1]

    with (
        DataLoader(Short(), 4, **options) as loader,
        pytest.raises(ValueError, match=r"^`dataset.__getitems__` must return one sample for"),
    ):
        loader.minibatches(None)[0]


def test_getitems_must_not_return_columns(options: dict[str, Any]) -> None:
    """As many as there are samples would pass for samples otherwise."""

    class Columns(Squares):
        def __getitems__(self, indices: list[int]) -> dict[str, list[int]]:
            return {"x": indices, "y": indices}

    with DataLoader(Columns(), 2, **options) as loader, pytest.raises(TypeError) as raised:
        loader.minibatches(None)[0]
    assert str(raised.value) == (
        "`dataset.__getitems__` must return a sequence of samples, got a dict with the keys "
        "['x', 'y']"
    )


class _Doubled:
    """A wrapper of the common kind, which passes on what it does not know."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Any:
        return 2 * self._dataset[index]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":  # Not there yet while it is unpickled.
            raise AttributeError(name)
        return getattr(self._dataset, name)


def test_getitems_of_a_wrapped_dataset_is_not_asked(options: dict[str, Any]) -> None:
    """It knows nothing of what the wrapper does to samples."""

    class Numbers(Squares):
        def __getitem__(self, index: int) -> Any:
            return index

        def __getitems__(self, indices: list[int]) -> list[int]:
            return indices

    with DataLoader(_Doubled(Numbers()), 3, **options) as loader:
        assert loader.minibatches(None)[1].tolist() == [6, 8, 10]


class _DiesOnce:
    """Ends its worker at sample 9, unless somebody has before: the marker is a file."""

    def __init__(self, marker: Path, ending: Callable[[], Any], times: int) -> None:
        self.marker = marker
        self.ending = ending
        self.times = times

    def __getitem__(self, index: int) -> int:
        if index == BAD:
            with open(self.marker, "ab") as marker:
                if marker.tell() < self.times:
                    marker.write(b"x")
                    marker.flush()
                    self.ending()
        return index

    def __len__(self) -> int:
        return 23


def _segfault() -> None:
    import ctypes

    ctypes.string_at(0)


ENDINGS: dict[str, tuple[Callable[[], Any], str]] = {
    "SIGKILL": (
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        "was ended by SIGKILL, often the system's answer to a lack of memory",
    ),
    "segfault": (_segfault, "was ended by SIGSEGV, a crash in native code"),
    "os._exit": (lambda: os._exit(3), "exited with code 3"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("collate", [False, True])
def test_a_worker_that_dies_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, collate: bool
) -> None:
    """Nothing is lost or doubled, and a warning is logged."""
    dataset = _DiesOnce(tmp_path / "marker", ENDINGS[ending][0], times=2)
    more: dict[str, Any] = {"collate_fn": np.array} if collate else {}
    with DataLoader(dataset, 4, num_workers=2, drop_last=False, **more) as loader:
        minibatches = [minibatch.tolist() for minibatch in loader.minibatches(None)]
    assert minibatches == [list(range(i, min(i + 4, 23))) for i in range(0, 23, 4)]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    for record in caplog.records:
        assert re.fullmatch(
            rf"worker process \d+ {ENDINGS[ending][1]}; another one takes its place",
            record.getMessage(),
        )


@pytest.mark.parametrize("collate", [False, True])
def test_the_third_death_over_one_sample_is_an_error(tmp_path: Path, collate: bool) -> None:
    """At the minibatch's place; the loader goes on."""
    dataset = _DiesOnce(tmp_path / "marker", ENDINGS["os._exit"][0], times=3)
    more: dict[str, Any] = {"collate_fn": np.array} if collate else {}
    with DataLoader(dataset, 4, num_workers=2, **more) as loader:
        iteration = iter(loader.minibatches(None))
        assert [next(iteration).tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        with pytest.raises(WorkerDiedError) as raised:
            next(iteration)
        assert next(iteration).tolist() == [12, 13, 14, 15]
        assert loader.minibatches(None)[2].tolist() == [8, 9, 10, 11]
    samples = r"\[8, 9, 10, 11\]" if collate else r"\[9\]"
    assert re.fullmatch(
        rf"worker process \d+ exited with code 3 while it loaded sample\(s\) {samples} of the "
        rf"dataset, as did 2 workers before it",
        str(raised.value),
    )


def test_samples_that_were_loaded_beside_one_that_kills_are_not_blamed() -> None:
    """Threads of the same worker die with it, every time."""

    def load(index: int) -> int:
        if index == BAD:
            time.sleep(0.05)  # For the other threads to be in the middle of theirs.
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.1)  # Still in the middle then. That nobody else is blamed holds for any times.
        return index

    with DataLoader(FromFunction(load), 2, num_workers=1, num_threads=4) as loader:
        iteration = iter(loader.minibatches(None))
        received: list[list[int] | str] = []
        while True:
            try:
                received.append(next(iteration).tolist())
            except WorkerDiedError as error:
                received.append(str(error))
            except StopIteration:
                break
    blamed = received.pop(BAD // 2)
    assert "while it loaded sample(s) [9] of the dataset" in blamed
    assert received == [[index, index + 1] for index in range(0, 22, 2) if index != BAD - 1]


class _CannotLoad:
    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 4

    def __reduce__(self) -> Any:
        return _refuse, (os.getpid(),)


def _refuse(pid: int) -> Any:
    raise OSError("no such file in this worker")


def test_a_worker_that_cannot_start_is_an_error_with_what_it_printed() -> None:
    with DataLoader(_CannotLoad(), 2, num_workers=2) as loader:
        for _ in range(2):
            with pytest.raises(WorkerDiedError) as raised:
                loader.minibatches(None)[0]
            assert re.match(
                r"worker process \d+ exited with code 1 before it was ready, 2 times. It "
                r"printed:\n\nTraceback \(most recent call last\):\n",
                str(raised.value),
            )
            assert str(raised.value).endswith("OSError: no such file in this worker")


@pytest.mark.parametrize("stop", [False, True])
def test_a_worker_that_hangs_is_killed_after_the_timeout(tmp_path: Path, stop: bool) -> None:
    """The next attempt succeeds, for the sample hangs once only."""
    ending = (lambda: os.kill(os.getpid(), signal.SIGSTOP)) if stop else (lambda: time.sleep(1000))
    dataset: Any = _DiesOnce(tmp_path / "marker", ending, times=1)
    with DataLoader(dataset, 4, num_workers=2, timeout=5.0) as loader:
        # On a busy machine workers may take longer than that to start.
        while True:
            with suppress(TimeoutError):
                loader.minibatches(None)[0]
                break
        iteration = iter(loader.minibatches(None))
        assert [next(iteration).tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        with pytest.raises(TimeoutError) as raised:
            next(iteration)
        assert re.fullmatch(
            r"no minibatch within `timeout`=5.0 s: killed worker process\(es\) \d+ while loading "
            r"sample\(s\) \[[0-9, ]*9[0-9, ]*\] of the dataset. The next attempt is made by new "
            r"ones",
            str(raised.value),
        )
        assert [minibatch.tolist() for minibatch in iteration] == [
            [8, 9, 10, 11],
            [12, 13, 14, 15],
            [16, 17, 18, 19],
        ]


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)


def test_ctrl_c_leaves_the_iteration_where_it_was(tmp_path: Path) -> None:
    """The next call waits for the very minibatch that was interrupted."""
    parent, waiting, interrupted = os.getpid(), tmp_path / "waiting", tmp_path / "interrupted"

    def load(index: int) -> int:
        if index == BAD:
            _wait_for(waiting)
            if not interrupted.exists():
                os.kill(parent, signal.SIGINT)
                _wait_for(interrupted)
        return index

    with DataLoader(FromFunction(load), 4, num_workers=2) as loader:
        iteration = iter(loader.minibatches(None))
        assert [next(iteration).tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it may come right after the touch.
            waiting.touch()
            next(iteration)
        interrupted.touch()
        assert [minibatch.tolist() for minibatch in iteration] == [
            [8, 9, 10, 11],
            [12, 13, 14, 15],
            [16, 17, 18, 19],
        ]


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
