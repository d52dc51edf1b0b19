"""The demo and the program on a mesh, both examples of the docs, train and say how it went."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.once

_DEMO = Path(__file__).parents[1] / "docs/examples/digits.py"
_MESH = _DEMO.with_name("mesh.py")


def _start(*options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, _DEMO, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """The share of time waited for data and the test accuracy, in percent."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    match = re.fullmatch(
        r"Waited for data: ([\d.]+)% of [\d.]+ s\nTest accuracy: ([\d.]+)% of 360 digits\n", out
    )
    assert match, out
    return float(match[1]), float(match[2])


def _checkpoint(path: Path) -> dict[str, Any]:
    with np.load(path) as saved:
        return dict(saved)


def test_the_demo_learns_to_read_digits_and_so_does_a_mesh(no_leftovers: None) -> None:
    waited, accuracy = _finish(_start())
    assert 0 <= waited <= 100
    assert accuracy >= 95
    mesh = subprocess.run([sys.executable, "-W", "error", _MESH], capture_output=True, text=True)
    assert (mesh.returncode, mesh.stderr) == (0, "")
    match = re.fullmatch(r"Test accuracy: ([\d.]+)% of 360 digits\n", mesh.stdout)
    assert match, mesh.stdout
    # Sums in another order may read a digit or two differently.
    assert abs(float(match[1]) - accuracy) < 1


def test_the_demo_takes_other_sizes(no_leftovers: None) -> None:
    _finish(_start("--steps=3", "--minibatch-size=30", "--num-workers=0", "--devices=2"))


def test_the_demo_is_killed_and_ends_as_if_it_had_not_been(
    tmp_path: Path, no_leftovers: None
) -> None:
    """Bit for bit, with another number of workers, a few epochs of eleven steps later."""
    killed, undisturbed = tmp_path / "killed.npz", tmp_path / "undisturbed.npz"
    # So many steps that it cannot be at its end when it is killed.
    process = _start(f"--checkpoint={killed}", "--checkpoint-every=7", "--steps=1000000")
    while not killed.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    step = json.loads(_checkpoint(killed)["state"].item())["step"]
    steps = f"--steps={step + 30}"
    runs = [
        _start(steps, f"--checkpoint={killed}", "--num-workers=1"),
        _start(steps, f"--checkpoint={undisturbed}", "--num-workers=0"),
    ]
    assert len({accuracy for _, accuracy in map(_finish, runs)}) == 1

    resumed, expected = _checkpoint(killed), _checkpoint(undisturbed)
    assert json.loads(resumed["state"].item())["step"] == step + 30
    assert resumed.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(resumed[name], leaf, strict=True)
