"""What the distributions declare is what is tested."""

import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

_ROOT = Path(__file__).parents[2]
_RUNTIME = {"cloudpickle", "jax", "numpy"}


def _load(path: str) -> dict[str, Any]:
    return tomllib.loads((_ROOT / path).read_text())


def _requirements() -> list[Requirement]:
    return [
        Requirement(requirement)
        for path in sorted((_ROOT / "packages").glob("*/pyproject.toml"))
        for requirement in tomllib.loads(path.read_text())["project"]["dependencies"]
    ]


def test_runtime_dependencies_are_few() -> None:
    names = {requirement.name for requirement in _requirements()}
    assert {name for name in names if not name.startswith("fifteen-")} == _RUNTIME


def test_the_lowest_environment_pins_every_lower_bound() -> None:
    pins = {}
    for pin in map(Requirement, _load("hatch.toml")["envs"]["lowest"]["extra-dependencies"]):
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        pins[pin.name] = Version(specifier.version)
    assert set(pins) == _RUNTIME
    for requirement in _requirements():
        if requirement.name in _RUNTIME:
            (specifier,) = requirement.specifier
            assert specifier.operator == ">="
            assert Version(specifier.version) == pins[requirement.name], requirement


def test_siblings_are_required_in_compatible_ranges() -> None:
    siblings = [r for r in _requirements() if r.name.startswith("fifteen-")]
    assert {str(requirement.specifier) for requirement in siblings} == {"<0.2,>=0.1"}


def test_every_distribution_orders_its_metadata_alike() -> None:
    """A reader of one finds the way in all."""

    def keys(path: Path) -> list[str]:
        text = re.sub(
            r"^\[project\.optional-dependencies\]\n(.+\n)*", "", path.read_text(), flags=re.M
        )
        return re.findall(r"^(\[.*\]|[\w-]+ =)", text, re.MULTILINE)

    first, *others = sorted((_ROOT / "packages").glob("*/pyproject.toml"))
    for other in others:
        assert keys(other) == keys(first)
