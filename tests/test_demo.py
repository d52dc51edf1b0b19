"""The demo, which is also the example of the docs, trains and says how it went."""

import re
import subprocess
import sys
from pathlib import Path

_DEMO = Path(__file__).parents[1] / "docs/examples/digits.py"


def _run(*options: str) -> tuple[float, float]:
    """The share of time waited for data and the test accuracy, in percent."""
    process = subprocess.run([sys.executable, _DEMO, *options], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    match = re.fullmatch(
        r"Waited for data: ([\d.]+)% of [\d.]+ s\nTest accuracy: ([\d.]+)% of 360 digits\n",
        process.stdout,
    )
    assert match, process.stdout
    return float(match[1]), float(match[2])


def test_the_demo_learns_to_read_digits(no_leftovers: None) -> None:
    waited, accuracy = _run()
    assert 0 <= waited <= 100
    assert accuracy >= 95


def test_the_demo_takes_other_sizes(no_leftovers: None) -> None:
    _run("--steps=3", "--minibatch-size=30", "--num-workers=0", "--devices=2")
