"""Exceptions on their way from a worker to the parent, where they arrive as themselves.

The worker dumps them, the parent loads them.
"""

import copyreg
import pickle
import traceback
from contextlib import suppress
from types import WrapperDescriptorType
from typing import Any

from fifteen_data_loaders._engines._workers._wire._shared_classes import dumps
from fifteen_data_loaders._errors import WorkerError, add_note


def dump_exception(error: BaseException) -> bytes:
    """Pickle an exception of a worker, with its traceback as a note."""
    trace = "".join(traceback.format_exception(error)).rstrip()
    if isinstance(error, SystemExit | KeyboardInterrupt | GeneratorExit):
        # As itself it would end the parent, or seem to be the user's Ctrl-C.
        described = repr(error)
        error = WorkerError(f"{described} was raised in a worker process")
    add_note(error, f"In a worker process:\n\n{trace}")
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    try:
        pickled = dumps(_Carried(error))
        pickle.loads(pickled)
    except Exception:
        pickled = b""
    return pickle.dumps((pickled, name, trace))


def load_exception(dumped: bytes) -> BaseException:
    """Returns the exception that was dumped."""
    pickled, name, trace = pickle.loads(dumped)
    if pickled:
        # What a worker can import need not be known here.
        with suppress(Exception):
            error: BaseException = pickle.loads(pickled)
            return error
    return WorkerError(f"{name}, which cannot be pickled, was raised: {trace}")


class _Carried:
    """An exception on its way to another process, where it is rebuilt without its ``__init__``.

    By default exceptions are pickled as a call of their class with ``args``, which fails, or does
    the wrong thing, for each one whose constructor takes other arguments.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        error = self._error
        kind = type(error)
        reduced: Any = error.__reduce__()
        if _reduces_itself(kind) or not isinstance(reduced, tuple) or reduced[0] is not kind:
            return _with_notes, (error, getattr(error, "__notes__", []))
        _, args, *state = reduced
        state = [*state, _slots(error)]
        cause = error.__cause__ and _Carried(error.__cause__)
        return _rebuild, (kind, _carried(args), state, cause, error.__suppress_context__)


def _slots(error: BaseException) -> dict[str, Any]:
    """Returns the fields that an exception has in ``__slots__``, of which it does not tell."""
    names: list[str] = copyreg._slotnames(type(error))  # type: ignore[attr-defined] # As pickle does.
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


def _carried(value: Any) -> Any:
    """Wrap the exceptions among the arguments of an exception: groups have a list of them."""
    if isinstance(value, BaseException):
        return _Carried(value)
    if type(value) in (list, tuple):
        return type(value)(map(_carried, value))
    return value


def _reduces_itself(kind: type[BaseException]) -> bool:
    return any(
        not isinstance(vars(base).get(name, _BUILTIN), type(_BUILTIN))
        for base in kind.__mro__
        for name in ("__reduce__", "__reduce_ex__", "__setstate__", "__getnewargs__")
        if base.__module__ != "builtins"
    )


_BUILTIN = BaseException.__dict__["__reduce__"]


def _with_notes(error: BaseException, notes: list[str]) -> BaseException:
    # An exception that pickles itself may know nothing of notes.
    if notes:
        error.__notes__ = notes
    return error


def _rebuild(
    kind: type[BaseException],
    args: tuple[Any, ...],
    state: list[dict[str, Any]],
    cause: BaseException | None,
    suppress_context: bool,
) -> BaseException:
    error = kind.__new__(kind, *args)
    # The constructor in C sets the fields of OSError, UnicodeError and their like.
    for base in kind.__mro__:
        initialise = vars(base).get("__init__")
        if isinstance(initialise, WrapperDescriptorType):
            initialise(error, *args)
            break
    for fields in state:
        error.__setstate__(fields)
    error.__cause__ = cause
    error.__suppress_context__ = suppress_context
    return error
