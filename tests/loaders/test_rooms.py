"""Which room of the loaders' house may look into which: what must never be imported from where."""

import ast
import operator
import re
import statistics
import subprocess
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any

import fifteen_data_loaders
import pytest
from fifteen_data_loaders import DataLoader

from tests.loaders.datasets import Squares
from tests.pages import ROOT

_HERE = Path(fifteen_data_loaders.__file__).parent
_WORKERS = "fifteen_data_loaders._engines._workers"


def _imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, wherever in it, but not those for type checkers only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    froms = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name for name in froms if name and name.startswith("fifteen")}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[parts.index("src") + 1 :]).removesuffix(".__init__")


_ALL = {_name(path): _imports(path) - {_name(path)} for path in ROOT.glob("packages/*/src/**/*.py")}

# By the beginnings of names: who must not import whom.
_NEVER = [
    (rf"{_WORKERS}\._child", rf"{_WORKERS}\._(?!child|wire)"),
    (rf"{_WORKERS}\._(?!child|wire)", rf"{_WORKERS}\._child"),
    (rf"{_WORKERS}\._wire", rf"{_WORKERS}\._(?!wire)"),
    (r"fifteen_data_loaders\._samples", r"fifteen_data_loaders\._engines"),
    (r"fifteen_data_loaders\._order", r"fifteen_data_loaders\._(engines|samples)"),
    (r"fifteen_data_loaders\._errors", r"fifteen_data_loaders\._engines"),
    (r"fifteen_data_loaders", r"fifteen_data_devices|fifteen\."),
    (r"fifteen_data_devices", r"fifteen_data_loaders|fifteen\."),
    (r"fifteen_data_protocols", r"fifteen_data_loaders|fifteen_data_devices|fifteen\."),
]


@pytest.mark.parametrize(("importing", "imported"), _NEVER)
def test_a_room_does_not_look_into_these(importing: str, imported: str) -> None:
    rooms = [name for name in _ALL if re.match(importing, name)]
    assert rooms
    assert any(re.match(imported, name) for name in _ALL)
    assert [(n, i) for n in rooms for i in sorted(_ALL[n]) if re.match(imported, i)] == []


def test_no_modules_import_each_other() -> None:
    TopologicalSorter(_ALL).prepare()


@pytest.mark.parametrize(
    "folder", [path.parent for path in _HERE.glob("_*/**/__init__.py")], ids=lambda path: path.name
)
def test_a_folder_imports_nothing_of_itself(folder: Path) -> None:
    """A worker comes through `_engines` and `_workers` before it knows how to import numpy."""
    body = ast.parse((folder / "__init__.py").read_text()).body
    assert [type(node) for node in body] == [ast.Expr]


def test_a_module_of_an_engine_says_where_it_runs() -> None:
    for path in _HERE.glob("_engines/**/_[a-z]*.py"):
        words = ast.get_docstring(ast.parse(path.read_text())) or ""
        where = r"In the (parent|child)|Both sides|[Tt]he (parent|worker) \w+s"
        assert re.search(where, words), path


def test_the_first_thing_that_a_worker_runs_imports_nothing_heavy() -> None:
    code = f"import sys; import {_WORKERS}._child._boot; print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_a_minibatch_goes_through_the_house_with_little_back_and_forth(no_leftovers: None) -> None:
    """A steady one, which is ready when it is asked for: calls of functions in another file."""
    changes: list[int] = []
    with DataLoader(Squares(4096), 32, num_workers=2) as loader:
        pool: Any = loader.workers_state
        iteration: Any = iter(loader.minibatches(0))
        for _ in range(60):
            next(iteration)
            flight = iteration._ahead[0].loading._flight
            while not all(pool._board.is_done(run.number) for run in flight.posted):
                time.sleep(0.001)
            files: list[str] = []

            def trace(
                frame: FrameType, event: str, argument: Any, files: list[str] = files
            ) -> None:
                if "fifteen_data" in frame.f_code.co_filename:
                    files.append(frame.f_code.co_filename)

            sys.settrace(trace)
            try:
                next(iteration)
            finally:
                sys.settrace(None)
            changes.append(sum(map(operator.ne, files, files[1:])))
    assert statistics.median(changes[-30:]) <= 40
