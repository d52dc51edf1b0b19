"""The leftovers check fails on a planted leak of each kind, and is fair to what ends on its own."""

import _thread
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import leftovers

Undo = Callable[[], object]


def _leak_process() -> Undo:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    return lambda: child.communicate(b"\n")


def _leak_zombie() -> Undo:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child.wait


def _leak_orphan() -> Undo:
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=-3).pid)"
    pid = int(subprocess.check_output([sys.executable, "-c", code]))
    return lambda: os.kill(pid, signal.SIGKILL)


def _leak_thread() -> Undo:
    event = threading.Event()
    thread = threading.Thread(target=event.wait, name="planted")
    thread.start()
    return lambda: (event.set(), thread.join())


def _leak_bare_thread() -> Undo:
    event, running = threading.Event(), threading.Event()
    _thread.start_new_thread(lambda: (running.set(), event.wait()), ())
    running.wait()
    return event.set


def _leak_file_descriptor() -> Undo:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    return lambda: os.close(descriptor)


def _leak_pipe() -> Undo:
    ends = os.pipe()
    return lambda: [os.close(end) for end in ends]


def _leak_mapping() -> Undo:
    descriptor = os.memfd_create("planted")
    os.truncate(descriptor, 4096)
    mapping = mmap.mmap(descriptor, 4096)
    # Before Python 3.13 the mapping holds a duplicate of its own.
    os.close(descriptor)
    return mapping.close


def _leak_anonymous_mapping() -> Undo:
    return mmap.mmap(-1, 4096).close


def _leak_shared_memory() -> Undo:
    """Other than a mapping or a descriptor, the name is still there when all processes are gone."""
    path = Path(f"/dev/shm/planted-{os.getpid()}")
    with path.open("wb+"):
        assert path.name in leftovers.shared_memory()
    return path.unlink


def _leak_temporary_file() -> Undo:
    with tempfile.NamedTemporaryFile(prefix="planted", delete=False) as file:
        return Path(file.name).unlink


@contextmanager
def _planted(leak: Callable[[], Undo]) -> Iterator[None]:
    undo = leak()
    try:
        yield
    finally:
        undo()


@pytest.mark.parametrize(
    ("leak", "name"),
    [
        (_leak_process, r"process \d+ \([a-z-]+: .*input\(\)\)"),
        (_leak_zombie, r"process \d+ \(zombie: .*\)"),
        (_leak_orphan, r"process \d+ \([a-z-]+: sleep 60\)"),
        (_leak_thread, r"thread \d+ \(planted\)"),
        (_leak_bare_thread, r"thread \d+ \(not started by threading\)"),
        (_leak_file_descriptor, r"descriptor of /dev/null"),
        (_leak_pipe, r"descriptor of pipe:\[\d+\]"),
        (_leak_mapping, r"mapping of /memfd:planted \(deleted\)"),
        (_leak_anonymous_mapping, r"mapping of /dev/zero \(deleted\)"),
        (_leak_shared_memory, r"shared memory planted-\d+"),
        (_leak_temporary_file, r"temporary file planted\w+"),
    ],
)
def test_a_planted_leak_is_named(
    no_leftovers: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    leak: Callable[[], Undo],
    name: str,
) -> None:
    """The fixture also runs around this test, and finds nothing once the leak is undone."""
    folder = tmp_path / "temporary"
    before = leftovers.take_stock(folder)
    with monkeypatch.context() as impatient, _planted(leak):
        impatient.setattr(leftovers, "PATIENCE_SECONDS", 0)
        with pytest.raises(AssertionError) as failure:
            leftovers.check(before, folder)
    assert re.search(rf"{name} \(x\d\)", str(failure.value)), failure.value


@pytest.mark.once
def test_the_fixture_fails_a_test_that_leaks(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole run, because the fixture acts in the teardown."""
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", str(here.parent))
    pytester.makeconftest((here / "conftest.py").read_text() + "\nleftovers.PATIENCE_SECONDS = 0")
    pytester.makepyfile(
        """
        import os

        def test_leaks(no_leftovers):
            os.pipe()

        def test_fails_for_a_reason_of_its_own(no_leftovers):
            os.pipe()
            assert False

        def test_is_clean(no_leftovers):
            for end in os.pipe():
                os.close(end)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(["E*AssertionError: left behind: descriptor of pipe:*(x2)"])


def test_what_ends_on_its_own_has_time_for_it(no_leftovers: None) -> None:
    threading.Thread(target=time.sleep, args=(0.2,)).start()


def test_what_other_programs_keep_in_shared_memory_is_not_left(tmp_path: Path) -> None:
    before = leftovers.take_stock(tmp_path)
    path = Path(f"/dev/shm/planted-elsewhere-{os.getpid()}")
    path.touch()
    try:
        leftovers.check(before, tmp_path)
    finally:
        path.unlink()


def test_what_only_the_collector_frees_is_not_left(no_leftovers: None) -> None:
    class Node:
        itself: Any
        mapping: Any

    node = Node()
    node.itself = node
    node.mapping = mmap.mmap(-1, 4096)


def test_jax_may_start_what_it_keeps(no_leftovers: None) -> None:
    import jax
    import jax.numpy as jnp

    jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((64, 64))).block_until_ready()
