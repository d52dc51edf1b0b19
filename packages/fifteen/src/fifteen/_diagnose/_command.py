"""``python -m fifteen.data``: the command line of `diagnose`."""

import argparse
import inspect
import json
import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from fifteen_data_loaders import DataLoader, InMemoryDataLoader

from fifteen._diagnose._measure import Progress, diagnose
from fifteen._diagnose._plot import Plotter


class UsageError(Exception):
    """A mistake on the command line; the message is all there is to say."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _diagnose(options)
    except UsageError as error:
        print(f"{parser.prog} diagnose: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m fifteen.data", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "diagnose",
        allow_abbrev=False,
        help="find out whether data is the bottleneck, and which setting helps",
        description="Measures what a minibatch costs and where, and how other counts of workers "
        "and threads do on this machine. Says what the bottleneck is and what to try.",
    )
    command.add_argument(
        "target",
        metavar="MODULE:ATTRIBUTE",
        help="a loader, a dataset, or a function without arguments that returns one",
    )
    command.add_argument("--minibatch-size", type=int, metavar="N", help="needed for a dataset")
    step = command.add_mutually_exclusive_group()
    step.add_argument("--step-ms", type=float, metavar="MS", help="how long a step takes")
    step.add_argument(
        "--step", metavar="MODULE:FUNCTION", help="what a step does with a minibatch on the device"
    )
    command.add_argument(
        "--seconds", type=float, default=20.0, metavar="S", help="how long to measure, about: 20"
    )
    command.add_argument("--json", action="store_true", help="print figures for tools")
    command.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw them; needs matplotlib (fifteen[diagnose])"
    )
    return parser


def _diagnose(options: argparse.Namespace) -> None:
    for name, value in (("--step-ms", options.step_ms), ("--seconds", options.seconds)):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name} must be positive and finite, got {value}")
    plotter = None if options.plot is None else _plotter(options.plot)
    step = None if options.step_ms is None else options.step_ms / 1e3
    if options.step is not None:
        step = _look_up("--step", options.step)
        if not callable(step):
            raise UsageError(f"--step must be a function, got a {type(step).__name__}")
    loader = _loader(_look_up("MODULE:ATTRIBUTE", options.target), options.minibatch_size)
    if loader.minibatch_count() == 0:
        raise UsageError(f"the loader must have at least one minibatch, got {loader!r}")
    progress = _progress_bar()
    try:
        diagnosis = diagnose(loader, step=step, seconds=options.seconds, progress=progress)
    finally:
        if isinstance(loader, DataLoader):
            loader.close()
    if plotter is not None:
        plotter.draw(diagnosis)
    if options.json:
        named = {"bottleneck": diagnosis.bottleneck, "verdict": diagnosis.verdict}
        recommended = {"recommended": asdict(diagnosis.recommended)}
        print(json.dumps({**named, **recommended, **asdict(diagnosis)}, indent=2))
    else:
        print(diagnosis)


def _plotter(file: Path) -> Plotter:
    try:
        return Plotter(file)
    except (ModuleNotFoundError, ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None


def _look_up(option: str, path: str) -> Any:
    module_name, colon, attribute = path.partition(":")
    if not (colon and attribute and all(map(str.isidentifier, module_name.split(".")))):
        raise UsageError(f"{option} must be of the form module:attribute, got {path!r}")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(f"{option} must name a module that can be imported: {error}") from None
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError as error:
        raise UsageError(f"{option} must name an attribute that exists: {error}") from None


def _call(function: Callable[..., Any]) -> Any:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        name = getattr(function, "__name__", type(function).__name__)
        raise UsageError(f"MODULE:ATTRIBUTE must need no arguments, got {name}: {error}") from None
    return function()


def _loader(found: Any, minibatch_size: int | None) -> DataLoader[Any] | InMemoryDataLoader[Any]:
    # Not what is callable and a dataset at once.
    if isinstance(found, type) or not hasattr(found, "__getitem__"):
        found = _call(found) if callable(found) else found
    if isinstance(found, DataLoader | InMemoryDataLoader):
        if minibatch_size is not None:
            raise UsageError(
                f"--minibatch-size is for datasets, and a loader has its own "
                f"({found.minibatch_size}), got {minibatch_size}"
            )
        return found
    if minibatch_size is None:
        raise UsageError(
            f"--minibatch-size is needed for a dataset, and MODULE:ATTRIBUTE is a "
            f"{type(found).__name__}"
        )
    try:
        return DataLoader(found, minibatch_size)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def _progress_bar() -> Progress:
    """Returns a bar on a terminal, or lines on stderr if there is none or tqdm is missing."""
    if not sys.stderr.isatty():
        return _print_progress
    try:
        tqdm = import_module("tqdm").tqdm
    except ModuleNotFoundError:
        return _print_progress
    bar: Any = tqdm(total=1, bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}", leave=False)

    def show(what: str, done: int, total: int) -> None:
        bar.total = total
        bar.n = done
        bar.set_description(what)
        if done == total:
            bar.close()

    return show


def _print_progress(what: str, done: int, total: int) -> None:
    if done < total:
        print(f"[{done + 1}/{total}] {what}", file=sys.stderr)
