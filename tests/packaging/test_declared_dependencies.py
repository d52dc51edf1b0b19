"""What the distributions declare is what is tested."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.constraints.refresh import LOWEST, TESTED, pythons

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


def _pins(path: Path) -> list[Requirement]:
    return [Requirement(line) for line in path.read_text().splitlines() if line[0] != "#"]


@pytest.mark.parametrize("path", [TESTED, LOWEST], ids=lambda path: path.stem)
def test_environments_are_constrained_to_exact_versions(path: Path) -> None:
    for pin in _pins(path):
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert Version(specifier.version).local is None
        assert pin.url is None
    assert "--hash" not in path.read_text()


def test_what_environments_ask_for_has_one_version_on_each_python() -> None:
    environments = _load("hatch.toml")["envs"]
    asked = [*_requirements()]
    for name, environment in environments.items():
        asked += map(Requirement, environment.get("dependencies", []))
        if name != "lowest":
            asked += map(Requirement, environment.get("extra-dependencies", []))
    for python in pythons():
        pins = [
            pin
            for pin in _pins(TESTED)
            if pin.marker is None or pin.marker.evaluate({"python_version": python})
        ]
        versions = {pin.name: str(pin.specifier)[2:] for pin in pins}
        assert len(versions) == len(pins)
        for requirement in asked:
            if not requirement.name.startswith("fifteen-"):
                assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_every_environment_but_the_newest_is_constrained() -> None:
    variables = {
        name: environment["env-vars"]
        for name, environment in _load("hatch.toml")["envs"].items()
        if "env-vars" in environment
    }
    # All others have those of `default`, or of the template `hatch-test`.
    assert set(variables) == {"default", "hatch-test", "lowest", "newest"}
    for name in ("default", "hatch-test"):
        assert set(variables[name]) == {"PIP_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_CONSTRAINT"}
        assert set(variables[name].values()) == {"{root:uri}/tests/constraints/tested.txt"}
    assert set(variables["lowest"].values()) == {"{root:uri}/tests/constraints/lowest.txt"}
    assert set(variables["newest"].values()) == {""}


def test_the_lowest_constraints_leave_the_runtime_packages_alone() -> None:
    assert not {pin.name for pin in _pins(LOWEST)} & (_RUNTIME | {"jaxlib"})


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
