"""The benchmarks can be run: short ones of our own, so that they do not fall out of use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once


def test_a_benchmark_prints_its_figures_as_json(no_leftovers: None) -> None:
    printed = _run("measure", "tokens", "fifteen", "--seconds=0.1")
    assert json.loads(printed)["minibatches_per_second"] > 0


def test_the_overlap_of_every_kind_of_loader_is_measured(no_leftovers: None) -> None:
    printed = _run("overlap", "--minibatches=3", "--seconds=0.01", "--epochs=1")
    figures = [json.loads(line) for line in printed.splitlines()]
    assert [each["loader"] for each in figures] == ["2 worker processes", "2 threads", "inline"]
    assert all(each["epoch_seconds"] > 0 for each in figures)


def test_a_device_is_measured_as_far_as_it_can_be(no_leftovers: None) -> None:
    report = json.loads(_run("device", "--megabytes=0.1", "--steps=3"))
    assert report["device"] == "cpu"
    assert report["gigabytes_per_second"]["prefetching_map"] > 0
    assert report["minibatches_alive"]["arrays"] in (1, 2)
    assert report["minibatches_alive"]["memory"].startswith("not measured: ")
    assert report["step"]["milliseconds"] > 0
    assert report["workers"]["count"] == 2
    assert report["workers"]["with a GPU's file open"] == 0
    assert "GPU megabytes" in report["workers"]


def _run(benchmark: str, *options: str) -> str:
    process = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{benchmark}", *options],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_page_of_benchmarks_has_what_was_measured(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    _run("compare", "--quick", "--only", "tokens", "--entry", "fifteen", f"--json={results}")
    _run("page", str(results), f"--docs={tmp_path}")
    page = (tmp_path / "benchmarks.md").read_text()
    (run,) = json.loads(results.read_text())["runs"]["tokens"]["fifteen"]
    assert f"| fifteen | {run['minibatches_per_second']:.0f} |" in page
    assert (tmp_path / "_static/benchmarks.png").stat().st_size > 0
