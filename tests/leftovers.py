"""Takes stock of what a test can leave behind: processes, threads, descriptors, mappings, files."""

import gc
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

SESSION_VARIABLE = "FIFTEEN_TEST_SESSION"

PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.02
_SHARED_MEMORY = "/dev/shm/"

Stock = Counter[str]


def check(before: Stock, temporary_folder: Path) -> None:
    """Fail with the names of all that is there now and was not there before.

    What ends on its own after it was let go of, such as a worker, has ``PATIENCE_SECONDS`` for it.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    surplus = take_stock(temporary_folder) - before
    while surplus := surplus & (take_stock(temporary_folder) - before):
        if time.monotonic() > deadline:
            names = sorted(f"{_told(name)} (x{count})" for name, count in surplus.items())
            raise AssertionError("left behind: " + "; ".join(names))
        time.sleep(_POLL_SECONDS)


def take_stock(temporary_folder: Path) -> Stock:
    """Count everything by a name that tells what it is."""
    gc.collect()
    others = list(_others())
    return Counter(
        [
            *(f"process {pid}" for pid in others),
            *_threads(),
            *_descriptors(),
            *_mappings(),
            *(f"shared memory {name}" for name in shared_memory(others)),
            *(f"temporary file {path.name}" for path in temporary_folder.rglob("*")),
        ]
    )


def _told(name: str) -> str:
    """Complete the name of a process by what would not stay the same from one look to the next."""
    kind, _, pid = name.partition(" ")
    if kind != "process":
        return name
    try:
        process = psutil.Process(int(pid))
        return f"{name} ({process.status()}: {_command(process)})"
    except psutil.NoSuchProcess:
        return f"{name} (ended by now)"


_ours: set[str] = set()
"""Names in /dev/shm that one of our processes had open or mapped at one of the looks."""


def shared_memory(others: Iterable[int] | None = None) -> set[str]:
    """Returns the names in /dev/shm that are ours; other programs of the machine have some too."""
    pids = [os.getpid(), *(_others() if others is None else others)]
    used = {name for pid in pids for name in (*_opened(pid), *_mapped(pid))}
    _ours.update(
        name.removeprefix(_SHARED_MEMORY) for name in used if name.startswith(_SHARED_MEMORY)
    )
    _ours.intersection_update(os.listdir(_SHARED_MEMORY))
    return set(_ours)


def _others() -> Iterator[int]:
    """Descendants, dead ones that nobody reaped and orphans of dead descendants included."""
    own = psutil.Process()
    descendants = set(own.children(recursive=True))
    session = os.environ.get(SESSION_VARIABLE)
    for process in psutil.process_iter():
        try:
            ours = process in descendants or (
                session is not None and process.environ().get(SESSION_VARIABLE) == session
            )
            if ours and process != own:
                yield process.pid
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.ZombieProcess:
        return process.name()


def _threads() -> Iterator[str]:
    """Threads that run Python; those of jax's native pools come and go as it likes."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident in sys._current_frames():
        yield f"thread {ident} ({names.get(ident, 'not started by threading')})"


def _descriptors() -> Iterator[str]:
    for name in _opened(os.getpid()):
        yield f"descriptor of {name}"


def _mappings() -> Iterator[str]:
    """Mappings of memory that has no name in the file system, or one in /dev/shm."""
    for name in _mapped(os.getpid()):
        if name.startswith(_SHARED_MEMORY) or name.endswith("(deleted)"):
            yield f"mapping of {name}"


def _opened(pid: int) -> Iterator[str]:
    with suppress(OSError):  # The process has ended.
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # The descriptor that listed the folder.
                yield os.readlink(f"/proc/{pid}/fd/{name}")


def _mapped(pid: int) -> Iterator[str]:
    with suppress(OSError), open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            yield from (path.strip() for path in line.split(maxsplit=5)[5:])
