"""Cloudpickle, except for what it would change on the way to another process."""

import importlib
import io
import sys
from contextlib import suppress
from typing import Any

import cloudpickle
import numpy as np


class FaithfulPickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types.
    """Pickles what arrives as it is, or not at all."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, memoryview):
            # It would arrive as bytes, which are another kind of leaf.
            return memoryview, (np.asarray(obj),)
        if isinstance(obj, io.TextIOWrapper) and obj not in (sys.stdout, sys.stderr):
            # All that it contains would be sent.
            raise TypeError(f"cannot pickle {type(obj).__name__!r} object")
        if isinstance(obj, type) and obj.__module__ not in sys.modules:
            # It would be taken for a class that cannot be imported. NumPy's `recarray` says that it
            # is of `numpy.rec`, which is imported on first use.
            with suppress(ImportError):
                importlib.import_module(str(obj.__module__))
        return super().reducer_override(obj)
