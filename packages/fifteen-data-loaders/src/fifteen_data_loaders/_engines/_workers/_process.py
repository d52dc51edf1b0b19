"""A worker process: how it is started, watched and ended. In the parent."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from fifteen_data_loaders._engines._workers._descriptors import keep_open, open_memory
from fifteen_data_loaders._engines._workers._wire._boot_record import STARTING, BootRecord, Shared

_BOOTSTRAP = (
    "import marshal, os, sys; fields = marshal.loads(os.pread({fd}, 1 << 24, 0)); "
    "sys.path[:] = fields[0]; from {boot} import run; run(fields)"
)
"""Runs in the worker before anything can be imported by its name, and leads to `_boot`."""

_BOOT = f"{__package__}._child._boot"
"""By name, since no module of the parent imports one of the child."""

# Both are read when numpy and jax are imported in the worker.
_ALWAYS = {"JAX_PLATFORMS": "cpu", STARTING: "1"}
"""Workers never take an accelerator: the parent needs its memory."""

_UNLESS_SET = {
    # Several workers with a thread pool for each core would fight over the cores.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Iteration orders of sets must not differ between workers.
    "PYTHONHASHSEED": "0",
    # Else glibc gives the memory of every sample back to the system and faults it in again.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
    # Large rows are copied past the cache, 1.4 times as fast: they would only empty it.
    "GLIBC_TUNABLES": f"glibc.cpu.x86_non_temporal_threshold={1 << 19:#x}",
}


_JAX_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_explicit_x64_dtypes",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_threefry_partitionable",
)
"""Those that change what samples are."""


class Surroundings(NamedTuple):
    """What a worker takes over from the process that constructed the loader, as it was then."""

    environment: Mapping[str, str]
    directory: str | None
    path: list[str]
    argv: list[str]

    @classmethod
    def capture(cls) -> "Surroundings":
        """Note them, for workers that are started at any time."""
        try:
            directory = os.getcwd()
        except FileNotFoundError:
            directory = None
        # The import system passes over entries that are no strings.
        path = [str(entry) or directory or "" for entry in sys.path if isinstance(entry, str)]
        environment = {**_UNLESS_SET, **os.environ, **_jax_settings(), **_ALWAYS}
        if environment["PYTHONHASHSEED"] == "random":
            environment["PYTHONHASHSEED"] = _UNLESS_SET["PYTHONHASHSEED"]
        argv = [str(argument) for argument in getattr(sys, "argv", [])]
        return cls(environment, directory, path, argv)


def _jax_settings() -> dict[str, str]:
    """Returns the settings of this process's jax as variables that a worker's jax reads."""
    jax = sys.modules.get("jax")
    # As of now, and in this thread: `jax.enable_x64()` may be entered around a loader.
    settings = {name: getattr(jax.config, name, None) for name in _JAX_SETTINGS} if jax else {}
    return {
        name.upper(): value.name.lower() if isinstance(value, Enum) else str(value)
        for name, value in settings.items()
        # As the text of a variable, `None` would be refused.
        if value is not None
    }


class WorkerProcess:
    """One worker process, started at construction and gone at the latest when its parent is.

    Every worker has its own lifeline, a pipe whose only writing end the parent holds; when that
    closes, by `close` or because the parent died, the kernel kills the worker at once.
    """

    def __init__(
        self, index: int, surroundings: Surroundings, shared: Shared, spill_fd: int
    ) -> None:
        self.index = index
        self.killed_on_purpose = False
        """Whether the parent ended it, so that its death is nobody's fault."""
        self._reaped_by_others = False
        with contextlib.ExitStack() as kept, contextlib.ExitStack() as passed_on:
            # What is kept is released only if the start fails, what is passed on always.
            self._stderr_fd: int | None = open_memory("fifteen-stderr", kept)
            reader, writer = os.pipe()
            lifeline = keep_open(reader, passed_on)
            self._lifeline = keep_open(writer, kept)
            boot_fd = open_memory("fifteen-boot", passed_on)
            stderr = keep_open(_duplicate_of_stderr(), passed_on)
            record = BootRecord(surroundings.path, shared, index, lifeline, stderr, spill_fd)
            os.pwrite(boot_fd, record.dump(), 0)
            passed = (boot_fd, *record.descriptors)
            self._process = _spawn(surroundings, boot_fd, self._stderr_fd, passed)
            kept.callback(self._process.wait)
            kept.callback(self._process.kill)
            self.pidfd: int = os.pidfd_open(self._process.pid)
            """Readable once the process is dead, whoever else holds its pipes."""
            kept.pop_all()
        self.pid: int = self._process.pid

    def close_lifeline(self) -> None:
        """Close this process's end, and nothing else."""
        os.close(self._lifeline)

    def forget_startup(self) -> None:
        """Let go of what the process printed while it started; from now on it prints for itself."""
        if self._stderr_fd is not None:
            os.close(self._stderr_fd)
            self._stderr_fd = None

    def startup_stderr(self) -> str:
        """Returns what the process printed before it was ready."""
        if self._stderr_fd is None:
            return ""
        return os.pread(self._stderr_fd, 1 << 20, 0).decode(errors="replace")

    @property
    def has_died(self) -> bool:
        """Whether the process is no more; returns at once."""
        if not self._reaped_by_others:
            try:
                os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self._reaped_by_others = True
        return self._process.poll() is not None

    def kill(self) -> None:
        """End the process now; `describe_death` waits until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def describe_death(self) -> str:
        """Reap the process and say how it ended, with the likely cause."""
        code = self._process.wait()
        if self._reaped_by_others:
            return (
                f"worker process {self.pid} ended (how is unknown: this program ignores SIGCHLD or "
                f"reaps processes itself)"
            )
        if code >= 0:
            return f"worker process {self.pid} exited with code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        cause = {
            "SIGKILL": ", often the system's answer to a lack of memory",
            "SIGSEGV": ", a crash in native code",
            "SIGBUS": ", often a lack of memory or a file that was cut short",
            "SIGABRT": ", a crash in native code",
        }.get(name, "")
        return f"worker process {self.pid} was ended by {name}{cause}"

    def close(self) -> None:
        """Release everything; the process must be dead."""
        self._process.wait()
        os.close(self._lifeline)
        os.close(self.pidfd)
        self.forget_startup()


def _spawn(
    surroundings: Surroundings, boot_fd: int, stderr_fd: int, passed: tuple[int, ...]
) -> "subprocess.Popen[bytes]":
    # The directory may be gone by the time that a worker is replaced.
    directory = surroundings.directory
    if directory and not os.path.isdir(directory):
        directory = "/"
    # The worker lets signals in once it knows what to do about them.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        return _popen(surroundings.environment, directory, boot_fd, stderr_fd, passed)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _popen(
    environment: Mapping[str, str],
    directory: str | None,
    boot_fd: int,
    stderr_fd: int,
    passed: tuple[int, ...],
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [
            sys.executable,
            *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
            "-c",
            _BOOTSTRAP.format(fd=boot_fd, boot=_BOOT),
        ],
        stdin=subprocess.DEVNULL,
        stderr=stderr_fd,
        env=environment,
        cwd=directory,
        pass_fds=passed,
        # Ctrl-C goes to the process group of the terminal.
        process_group=0,
    )


def _duplicate_of_stderr() -> int:
    try:
        return os.dup(2)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
