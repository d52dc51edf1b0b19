"""Cloudpickle, except for what it would change on the way to another process. Both sides."""

import importlib
import io
import linecache
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from types import CodeType
from typing import Any

import cloudpickle
import numpy as np


class FaithfulPickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types.
    """Pickles what arrives as it is, or not at all."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, memoryview):
            # It would arrive as bytes, which are another kind of leaf.
            return memoryview, (np.asarray(obj),)
        if isinstance(obj, CodeType):
            # Some versions of cloudpickle leave the name of the file out, without which tracebacks,
            # debuggers and profilers find no source.
            name = obj.co_filename
            return _code, (name, _lines_without_file(name), *self.dispatch_table[CodeType](obj))
        if isinstance(obj, io.TextIOWrapper) and obj not in (sys.stdout, sys.stderr):
            # All that it contains would be sent.
            raise TypeError(f"cannot pickle {type(obj).__name__!r} object")
        if isinstance(obj, type) and obj.__module__ not in sys.modules:
            # It would be taken for a class that cannot be imported. NumPy's `recarray` says that it
            # is of `numpy.rec`, which is imported on first use.
            with suppress(ImportError):
                importlib.import_module(str(obj.__module__))
        return super().reducer_override(obj)


def _lines_without_file(name: str) -> list[str]:
    """Returns source that is known to this process alone, such as that of a notebook's cell."""
    return [] if os.path.exists(name) else linecache.getlines(name)


def _code(
    name: str, lines: list[str], make: Callable[..., CodeType], arguments: tuple[Any, ...]
) -> CodeType:
    if lines:
        # Without a time of change, so that it is never compared with a file.
        entry = sum(map(len, lines)), None, lines, name
        linecache.cache.setdefault(name, entry)
    return make(*arguments).replace(co_filename=name)
