"""Writes which versions the environments take: the newest ones that go together.

``hatch run constraints:refresh`` resolves the dependencies of all environments at once, for each
Python that is tested. So they have every package in one version for each Python.
"""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

FOLDER = Path(__file__).parent
TESTED = FOLDER / "tested.txt"
LOWEST = FOLDER / "lowest.txt"

_ROOT = FOLDER.parents[1]
_HATCH: dict[str, Any] = tomllib.loads((_ROOT / "hatch.toml").read_text())
_LOWEST_PYTHON: str = _HATCH["envs"]["lowest"]["python"]
_HEADER = "# Written by `hatch run constraints:refresh`.\n"


def pythons() -> list[str]:
    """Returns the versions that are tested."""
    (matrix,) = _HATCH["envs"]["hatch-test"]["matrix"]
    versions: list[str] = matrix["python"]
    return versions


def main() -> None:
    """Write both files."""
    environments = _HATCH["envs"].values()
    everything = [
        requirement
        for environment in environments
        for requirement in environment.get("dependencies", [])
    ]
    everything += _HATCH["envs"]["libraries"]["extra-dependencies"]
    resolved = {python: _resolve(python, everything + _runtime()) for python in pythons()}
    TESTED.write_text(_HEADER + "\n".join(_lines(resolved)) + "\n")

    lowest = _HATCH["envs"]["lowest"]["extra-dependencies"]
    test = _HATCH["envs"]["hatch-test"]["dependencies"]
    pins = _resolve(_LOWEST_PYTHON, test + lowest)
    # Those are what the environment is about, and says itself.
    for name in (*(Requirement(each).name for each in lowest), "jaxlib"):
        del pins[name]
    LOWEST.write_text(_HEADER + "\n".join(_lines({_LOWEST_PYTHON: pins})) + "\n")


def _runtime() -> list[str]:
    """What the distributions require of others, extras included."""
    requirements: list[str] = []
    for path in (_ROOT / "packages").glob("*/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        requirements += project["dependencies"]
        for extra in project.get("optional-dependencies", {}).values():
            requirements += extra
    return [each for each in requirements if not Requirement(each).name.startswith("fifteen")]


def _resolve(python: str, requirements: Iterable[str]) -> dict[str, str]:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-annotate"]
    command += ["--no-header", "--upgrade", "--python-version", python, "-"]
    environment = {name: value for name, value in os.environ.items() if "CONSTRAINT" not in name}
    compiled = subprocess.run(
        command,
        input="\n".join(sorted(set(requirements))),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    versions: dict[str, str] = {}
    for line in compiled.splitlines():
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        # A local version says where a wheel comes from.
        versions[requirement.name] = specifier.version.partition("+")[0]
    return versions


def _lines(resolved: dict[str, dict[str, str]]) -> Iterable[str]:
    """One line for each package, or one for each Python if these differ."""
    for name in sorted(set().union(*resolved.values())):
        versions = {python: pins.get(name) for python, pins in resolved.items()}
        if len(set(versions.values())) == 1:
            yield f"{name}=={versions.popitem()[1]}"
            continue
        for python, version in versions.items():
            if version is not None:
                yield f'{name}=={version} ; python_version == "{python}"'


if __name__ == "__main__":
    main()
