"""Takes stock of what a test can leave behind: processes, threads, descriptors, mappings, files."""

import gc
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

SESSION_VARIABLE = "FIFTEEN_TEST_SESSION"

PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.02

Stock = Counter[str]


def check(before: Stock, temporary_folder: Path) -> None:
    """Fail with the names of all that is there now and was not there before.

    What ends on its own after it was let go of, such as a worker, has ``PATIENCE_SECONDS`` for it;
    only what is there all the time counts, since other programs share the machine's /dev/shm.
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
    return Counter(
        [
            *_processes(),
            *_threads(),
            *_descriptors(),
            *_mappings(),
            *(f"shared memory {entry.name}" for entry in os.scandir("/dev/shm")),
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


def _processes() -> Iterator[str]:
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
                yield f"process {process.pid}"
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
    for name in os.listdir("/proc/self/fd"):
        try:
            yield f"descriptor of {os.readlink(f'/proc/self/fd/{name}')}"
        except OSError:
            continue  # The one that listed the folder.


def _mappings() -> Iterator[str]:
    """Mappings of memory that has no name in the file system, or one in /dev/shm."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[5:]
            if path and (path[0].startswith("/dev/shm/") or path[0].endswith("(deleted)\n")):
                yield f"mapping of {path[0].strip()}"
