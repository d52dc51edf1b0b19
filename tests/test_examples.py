"""Every example in READMEs, pages and docstrings runs."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import fifteen
import fifteen_data_devices
import fifteen_data_loaders
import fifteen_data_protocols
import pytest

_ROOT = Path(__file__).parent.parent
_PACKAGES = [fifteen, fifteen_data_devices, fifteen_data_loaders, fifteen_data_protocols]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


def _pages() -> list[Path]:
    return sorted(
        [_ROOT / "README.md", *_ROOT.glob("packages/*/README.md"), *(_ROOT / "docs").rglob("*.md")]
    )


def _blocks() -> list[object]:
    return [
        pytest.param(block, id=f"{page.relative_to(_ROOT)}-{number}")
        for page in _pages()
        for number, block in enumerate(_BLOCK.findall(page.read_text()), start=1)
    ]


def _modules() -> list[str]:
    """All of them, except those that are programs: importing one would run it."""
    names = [package.__name__ for package in _PACKAGES]
    for package in _PACKAGES:
        found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names += [module.name for module in found if not module.name.endswith(".__main__")]
    return sorted(names)


def test_every_readme_has_an_example() -> None:
    readmes = [page for page in _pages() if page.name == "README.md"]
    assert len(readmes) == 1 + len(_PACKAGES)
    for readme in readmes:
        assert _BLOCK.search(readme.read_text()), readme


@pytest.mark.parametrize("block", _blocks())
def test_a_page_s_example_runs(block: str, tmp_path: Path) -> None:
    """Each is a script of its own, without a guard, and prints what its comments say."""
    script = tmp_path / "example.py"
    script.write_text(block)
    process = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert process.stdout.splitlines() == _PRINTED.findall(block)


@pytest.mark.parametrize("name", _modules())
def test_the_docstrings_examples_run(name: str) -> None:
    module: ModuleType = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
