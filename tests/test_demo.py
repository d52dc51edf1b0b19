"""The demo and the program on a mesh, both examples of the docs, train and say how it went."""

import re
import subprocess
import sys
from pathlib import Path

_EXAMPLES = Path(__file__).parents[1] / "docs/examples"


def _run(*options: str) -> tuple[float, float]:
    """The share of time waited for data and the test accuracy, in percent."""
    process = subprocess.run(
        [sys.executable, _EXAMPLES / "digits.py", *options], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    match = re.fullmatch(
        r"Waited for data: ([\d.]+)% of [\d.]+ s\nTest accuracy: ([\d.]+)% of 360 digits\n",
        process.stdout,
    )
    assert match, process.stdout
    return float(match[1]), float(match[2])


def test_the_demo_learns_to_read_digits_and_so_does_a_mesh(no_leftovers: None) -> None:
    waited, accuracy = _run()
    assert 0 <= waited <= 100
    assert accuracy >= 95
    mesh = [sys.executable, "-W", "error", _EXAMPLES / "mesh.py"]
    printed = subprocess.run(mesh, capture_output=True, text=True)
    assert (printed.returncode, printed.stderr) == (0, "")
    match = re.fullmatch(r"Test accuracy: ([\d.]+)% of 360 digits\n", printed.stdout)
    assert match, printed.stdout
    # Sums in another order may read a digit or two differently.
    assert abs(float(match[1]) - accuracy) < 1


def test_the_demo_takes_other_sizes(no_leftovers: None) -> None:
    _run("--steps=3", "--minibatch-size=30", "--num-workers=0", "--devices=2")
