"""Runs scripts as a user would: in a fresh interpreter, with their output captured."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil

TIMEOUT_SECONDS = 60


def start(folder: Path, source: str, **kwargs: Any) -> "subprocess.Popen[str]":
    """Start a script in a process group of its own, as a shell would."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(source))
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        **kwargs,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for a script; returns its exit code, output and errors."""
    try:
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, out, err


def run(folder: Path, source: str, **kwargs: Any) -> tuple[int, str, str]:
    """Run a script to its end."""
    return finish(start(folder, source, **kwargs))


def children(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Returns the processes that a script has started."""
    return psutil.Process(process.pid).children(recursive=True)
