"""Each distribution, built and installed alone in a fresh environment, is complete.

Needs a package index for the dependencies: `hatch test -- -m "not wheels"` leaves these tests out.
"""

import os
import runpy
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

pytestmark = [pytest.mark.once, pytest.mark.wheels]

_PACKAGES = Path(__file__).parents[2] / "packages"
_OURS = ["fifteen", "fifteen-data-devices", "fifteen-data-loaders", "fifteen-data-protocols"]


def _run(*command: object, cwd: Path | None = None) -> str:
    # Whoever installs a wheel gets the newest versions, and not those that the tests take.
    environment = {name: value for name, value in os.environ.items() if "CONSTRAINT" not in name}
    process = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


def _import_name(distribution: str) -> str:
    return distribution.replace("-", "_")


def _version(distribution: str) -> str:
    about = _PACKAGES / distribution / "src" / _import_name(distribution) / "__about__.py"
    version: str = runpy.run_path(str(about))["__version__"]
    return version


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive of every distribution."""
    folder = tmp_path_factory.mktemp("dist")
    for distribution in _OURS:
        build = [sys.executable, "-m", "hatchling", "build", "-d", folder]
        _run(*build, cwd=_PACKAGES / distribution)
    return folder


class Environment:
    """A fresh environment with one distribution, and whatever that brings."""

    def __init__(self, folder: Path, dist: Path, distribution: str) -> None:
        self._folder = folder
        self._python = folder / "env/bin/python"
        _run(sys.executable, "-m", "uv", "venv", "--python", sys.executable, folder / "env")
        # Without a refresh, uv takes an earlier build of the same version for the same wheel.
        refresh = [f"--refresh-package={ours}" for ours in _OURS]
        self._uv(
            "install", "--find-links", dist, *refresh, f"{distribution}=={_version(distribution)}"
        )

    def installed(self) -> set[str]:
        lines = self._uv("list", "--format=freeze", "--quiet").splitlines()
        return {line.partition("==")[0] for line in lines}

    def python(self, code: str) -> None:
        """Run isolated and elsewhere, so that nothing of the checkout is found."""
        _run(self._python, "-I", "-W", "error", "-c", code, cwd=self._folder)

    def _uv(self, command: str, *arguments: object) -> str:
        uv = [sys.executable, "-m", "uv", "pip", command, "--python", self._python]
        return _run(*uv, *arguments)


def test_protocols_bring_nothing_else(dist: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path, dist, "fifteen-data-protocols")
    assert environment.installed() == {"fifteen-data-protocols"}
    environment.python(
        """
from fifteen_data_protocols import MapDatasetProtocol
assert isinstance([1, 2], MapDatasetProtocol)
"""
    )


def test_loaders_run_without_importing_jax(dist: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path, dist, "fifteen-data-loaders")
    assert environment.installed() & set(_OURS) == {
        "fifteen-data-loaders",
        "fifteen-data-protocols",
    }
    environment.python(
        """
import sys
from fifteen_data_loaders import DataLoader
minibatches = DataLoader([1, 2, 3, 4], 2).minibatches(shuffle_seed=None)
assert [minibatch.tolist() for minibatch in minibatches] == [[1, 2], [3, 4]]
with DataLoader([1, 2, 3, 4], 2, num_workers=1) as loader:
    assert [minibatch.tolist() for minibatch in loader.minibatches(None)] == [[1, 2], [3, 4]]
assert "jax" not in sys.modules
"""
    )


def test_devices_run_without_the_loaders(dist: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path, dist, "fifteen-data-devices")
    assert environment.installed() & set(_OURS) == {
        "fifteen-data-devices",
        "fifteen-data-protocols",
    }
    environment.python(
        """
import os
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
import numpy as np
from fifteen_data_devices import prefetching_map, sharding_map
minibatches = [np.arange(4), np.arange(4) + 4]
mapped = prefetching_map(sharding_map(minibatches, jax.devices()[:1]))
assert [minibatch.tolist() for minibatch in mapped] == [[[0, 1, 2, 3]], [[4, 5, 6, 7]]]
"""
    )


def test_fifteen_brings_all(dist: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path, dist, "fifteen")
    assert environment.installed() >= set(_OURS)
    environment.python(
        """
import sys
import fifteen
import fifteen_data_devices, fifteen_data_loaders, fifteen_data_protocols
assert fifteen.data.DataLoader is fifteen_data_loaders.DataLoader
assert fifteen.data.SizedIterable is fifteen_data_protocols.SizedIterable
assert fifteen.data.sharding_map is fifteen_data_devices.sharding_map
assert "jax" not in sys.modules
"""
    )


@pytest.mark.parametrize("distribution", _OURS)
def test_a_wheel_is_complete(dist: Path, distribution: str) -> None:
    name, version = _import_name(distribution), _version(distribution)
    with zipfile.ZipFile(dist / f"{name}-{version}-py3-none-any.whl") as wheel:
        files = set(wheel.namelist())
        info = f"{name}-{version}.dist-info"
        metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert {f"{name}/py.typed", f"{info}/licenses/LICENSE"} <= files
    sources = _PACKAGES / distribution / "src"
    expected = {str(path.relative_to(sources)) for path in sources.rglob("*.py")}
    assert {file for file in files if file.endswith(".py")} == expected
    assert metadata["Version"] == version
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (_PACKAGES / distribution / "README.md").read_text()


@pytest.mark.parametrize("distribution", _OURS)
def test_a_source_archive_is_complete(dist: Path, distribution: str) -> None:
    root = f"{_import_name(distribution)}-{_version(distribution)}"
    with tarfile.open(dist / f"{root}.tar.gz") as archive:
        files = {name.removeprefix(f"{root}/") for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= files
    assert f"src/{_import_name(distribution)}/py.typed" in files
