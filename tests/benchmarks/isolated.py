"""Measuring in a process of its own, of which nothing is left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

_COMMAND = (sys.executable, "-m", "tests.benchmarks.measure")
_LIMIT_SECONDS = 180


def measure_in_process(experiment: str, entry: str, seconds: float) -> dict[str, Any]:
    """Returns the figures, or ``{"error": ...}``.

    The process leads a group of its own, which is killed at the end or after a time limit.
    """
    process = subprocess.Popen(
        [*_COMMAND, experiment, entry, f"--seconds={seconds}"],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"no result within {_LIMIT_SECONDS} s"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        return {"error": errors.strip().splitlines()[-1] if errors.strip() else "no output"}
    figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return figures
