"""What every test shares: four virtual CPU devices, Hypothesis profiles, the leftovers fixture."""

import gc
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

# jax reads both once, when it is first imported.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import hypothesis
import pytest

from tests import leftovers

# Every process that a test starts inherits this, so that it can be told from others' and found even
# after its parent has died.
os.environ[leftovers.SESSION_VARIABLE] = str(os.getpid())

# Examples that start processes take as long as they take, and one examination of what is left
# behind after all of a test's examples is what `no_leftovers` means there.
hypothesis.settings.register_profile(
    "local",
    deadline=None,
    print_blob=True,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
# A check that decides whether a change lands gives the same answer twice; new examples are found
# by everyone's own runs.
hypothesis.settings.register_profile(
    "ci", hypothesis.settings.get_profile("local"), derandomize=True, database=None
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report: Any = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def _warm_jax() -> None:
    """Let jax start what it keeps for the whole process, such as its thread pools."""
    import jax

    jax.block_until_ready([jax.jit(lambda x: x + 1)(jax.device_put(0, d)) for d in jax.devices()])
    # What is there now stays; every later collection of garbage has little left to look at.
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_leftovers(
    _warm_jax: None,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[None]:
    """Fail if processes, threads, descriptors, mappings or files outlive the test.

    Temporary files of the test and of its child processes go to a folder of its own.
    """
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = leftovers.take_stock(folder)
    yield
    # The traceback of a failed test keeps its objects alive; its failure says enough.
    if not request.node.stash.get(_FAILED, False):
        leftovers.check(before, folder)
