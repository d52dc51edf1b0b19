"""Every example in READMEs, pages and docstrings runs."""

import doctest
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import fifteen
import fifteen_data_devices
import fifteen_data_loaders
import fifteen_data_protocols
import pytest

from tests.pages import Block, blocks, check, pages

_PACKAGES = [fifteen, fifteen_data_devices, fifteen_data_loaders, fifteen_data_protocols]


def _modules() -> list[str]:
    """All of them, except those that are programs: importing one would run it."""
    names = [package.__name__ for package in _PACKAGES]
    for package in _PACKAGES:
        found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names += [module.name for module in found if not module.name.endswith(".__main__")]
    return sorted(names)


def test_every_readme_has_an_example() -> None:
    readmes = {page for page in pages() if page.name == "README.md"}
    assert len(readmes) == 1 + len(_PACKAGES)
    assert readmes <= {block.page for block in blocks(with_libraries=False)}


@pytest.mark.once
@pytest.mark.parametrize("block", blocks(with_libraries=False), ids=str)
def test_a_page_s_example_runs(block: Block, tmp_path: Path) -> None:
    check(block, tmp_path, "-W", "error")


@pytest.mark.parametrize("name", _modules())
def test_the_docstrings_examples_run(name: str) -> None:
    module: ModuleType = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
