"""Names in profiles."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any


def traced(what: str) -> AbstractContextManager[Any]:
    """Show a piece of work in the JAX profiler as ``fifteen: <what>``; next to free without one."""
    profiler = getattr(sys.modules.get("jax"), "profiler", None)
    return nullcontext() if profiler is None else profiler.TraceAnnotation(f"fifteen: {what}")
