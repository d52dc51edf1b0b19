"""An interrupt may come at any moment, and a signal handler may do anything."""

import inspect
import linecache
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader
from fifteen_data_loaders._engines._workers import _arena, _flight, _pool, _schedule
from fifteen_data_loaders._iteration import Iteration

from tests.loaders.datasets import FromFunction

pytestmark = pytest.mark.usefixtures("no_leftovers")

_FILES = {inspect.getfile(module) for module in (_arena, _flight, _pool, _schedule)} | {
    inspect.getfile(Iteration)
}
_Line = tuple[str, int]
_Tracer = Callable[[FrameType, str, Any], Any]


def _load(index: int) -> Any:
    # One that does not fit the layout comes back as it is.
    return np.full(4, index, np.int32 if index % 40 == 5 else np.int64)


def _receive(iteration: Iterator[Any], interrupts: list[None]) -> list[list[int]]:
    received: list[list[int]] = []
    while True:
        try:
            minibatch = next(iteration)
        except StopIteration:
            return received
        except KeyboardInterrupt:
            interrupts.append(None)
        else:
            received.append(minibatch[:, 0].tolist())


@contextmanager
def _traced(on_line: Callable[[_Line], None]) -> Iterator[None]:
    """Call a function before each line of the engine, on this thread."""

    def trace_line(frame: FrameType, event: str, argument: Any) -> _Tracer:
        if event == "line":
            on_line((frame.f_code.co_filename, frame.f_lineno))
        return trace_line

    def trace(frame: FrameType, event: str, argument: Any) -> _Tracer | None:
        code = frame.f_code
        # What a finaliser raises goes nowhere.
        is_finaliser = code.co_name in ("__del__", "_give_back", "cancel", "close")
        return trace_line if code.co_filename in _FILES and not is_finaliser else None

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def _lines_after_receipt() -> set[_Line]:
    """Where the minibatch counts as received, though the loop has not got it yet."""
    source, first = inspect.getsourcelines(Iteration.__next__)
    counted = max(n for n, line in enumerate(source) if "self._position = position + 1" in line)
    return {(inspect.getfile(Iteration), first + n) for n in range(counted + 1, len(source))}


def _is_no_place_for_interrupts(line: _Line) -> bool:
    """Python looks for signals after calls and jumps; a tracer gets in elsewhere, too."""
    return linecache.getline(*line).strip().startswith(("with ", "try:"))


def test_an_interrupt_at_any_line_loses_nothing() -> None:
    expected = [list(range(start, start + 8)) for start in range(0, 48, 8)]
    with (
        DataLoader(FromFunction(_load, 48), 8, num_workers=1) as loader,
        ThreadPoolExecutor(1) as other,
    ):
        lines: set[_Line] = set()
        for _ in range(3):
            with _traced(lines.add):
                assert _receive(iter(loader.minibatches(None)), []) == expected
        for target in sorted(lines - _lines_after_receipt()):
            if _is_no_place_for_interrupts(target):
                continue

            def interrupt_once(line: _Line, target: _Line = target) -> None:
                if line == target:
                    sys.settrace(None)
                    raise KeyboardInterrupt

            interrupts: list[None] = []
            iteration = iter(loader.minibatches(None))
            with _traced(interrupt_once):
                received = _receive(iteration, interrupts)
            assert received == expected, target
            # Nor does it keep anybody else from loading.
            assert len(other.submit(list, loader.minibatches(None)).result()) == 6


def test_a_signal_handler_is_told_that_it_cannot_load_here() -> None:
    """While the same thread is in the middle of it."""
    told: list[str] = []
    parent = os.getpid()

    def load(index: int) -> int:
        if index == 0:
            os.kill(parent, signal.SIGUSR1)
        return index

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            next(iteration)
        except RuntimeError as error:
            told.append(str(error))

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with DataLoader(FromFunction(load, 16), 8, num_workers=1) as loader:
            iteration = iter(loader.minibatches(None)[:1])
            assert next(iteration).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(told) == 1
    assert "a signal handler or finaliser has interrupted this very thread" in told[0]
