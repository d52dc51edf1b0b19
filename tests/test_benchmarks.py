"""The benchmarks can be run: a short one of our own loader, so that they do not fall out of use."""

import json
import subprocess
import sys


def test_a_benchmark_prints_its_figures_as_json(no_leftovers: None) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.measure", "tokens", "fifteen", "--seconds=0.1"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["minibatches_per_second"] > 0
