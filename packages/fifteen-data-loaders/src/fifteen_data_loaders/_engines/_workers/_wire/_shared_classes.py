"""Classes that exist in the parent and, pickled by value, in its workers: one class, two objects.

A class of ``__main__`` or of a notebook cannot be imported by a worker, so it travels by value.
What comes back must be of the parent's own class again, or ``except`` and ``isinstance`` would not
know it; pickled by value a second time it would overwrite the attributes of that class. So both
sides number these classes alike, and send the number. Both sides import this.
"""

import io
import itertools
import os
import pickle
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from fifteen_data_loaders._engines._workers._wire._pickler import FaithfulPickler

_TOKENS: WeakKeyDictionary[type, str] = WeakKeyDictionary()
_CLASSES: WeakValueDictionary[str, type] = WeakValueDictionary()
_COUNTER = itertools.count()


def share_class(kind: type, token: str | None = None) -> str:
    """Returns the token of a class; the worker gives the one that the parent chose."""
    token = _TOKENS.setdefault(kind, token or f"{os.getpid()}-{next(_COUNTER)}")
    _CLASSES[token] = kind
    return token


def dumps(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    """Pickle for the process at the other end."""
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=buffer_callback).dump(value)
    return stream.getvalue()


class _Pickler(FaithfulPickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) and obj in _TOKENS:
            return _class_of, (_TOKENS[obj],)
        return super().reducer_override(obj)


def _class_of(token: str) -> type:
    return _CLASSES[token]
