"""What the figures were measured on, and with which versions."""

import datetime as dt
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_DISTRIBUTIONS = ("fifteen-data-loaders", "torch", "grain", "jax", "numpy", "cloudpickle")
_QUIET_FRACTION = 0.1
_PAUSE_SECONDS = 1.0


def describe_machine() -> dict[str, Any]:
    """Returns date, hardware and versions."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _DISTRIBUTIONS},
    }


def busy_fraction() -> float:
    """How much of all cores others use at the moment."""
    return psutil.cpu_percent(interval=0.25) / 100


def quiet_fraction(patience_seconds: float) -> float:
    """Wait until others use hardly anything, but no longer than this; returns what they use."""
    end = time.monotonic() + patience_seconds
    while (busy := busy_fraction()) > _QUIET_FRACTION and time.monotonic() < end:
        time.sleep(_PAUSE_SECONDS)
    return busy


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
