"""Compare the loaders with each other and with the targets: ``hatch run bench:compare``.

The entries of an experiment take turns, each run in a process of its own, so that whatever else
the machine does hits all alike; medians of the runs count.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from tests.benchmarks.experiments import EXPERIMENTS, Experiment
from tests.benchmarks.isolated import measure_in_process
from tests.benchmarks.machine import busy_fraction, describe_machine, quiet_fraction
from tests.benchmarks.report import Runs, judge, runs_table, save_plot, targets_table


def main() -> None:
    """Measure and report as the command line says."""
    options = _options()
    experiments = [each for each in EXPERIMENTS if options.only in (None, each.name)]
    results: dict[str, Runs] = {}
    for experiment in experiments:
        results[experiment.name] = _run(experiment, options)
    findings = [
        judge(target, results[experiment.name])
        for experiment in experiments
        for target in experiment.targets
    ]
    print(runs_table(experiments, results), targets_table(findings), sep="\n\n")
    if options.json:
        document = {
            "machine": describe_machine(),
            "method": {
                "rounds": options.rounds,
                "seconds": options.seconds,
                "order": "alternating",
            },
            "targets": [{**dataclasses.asdict(each), "met": each.met} for each in findings],
            "runs": results,
        }
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
    if options.plot:
        save_plot(findings, results, options.plot)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [each.name for each in EXPERIMENTS]
    parser.add_argument("--only", metavar="EXPERIMENT", choices=names, help=", ".join(names))
    parser.add_argument("--entry", action="append", help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each entry")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a run, about")
    parser.add_argument(
        "--patience", type=float, default=0, help="seconds to wait before a run for idle cores"
    )
    parser.add_argument("--quick", action="store_true", help="one short run of each entry")
    parser.add_argument("--json", metavar="FILE", help="where to write every figure")
    parser.add_argument("--plot", metavar="FILE.png", help="where to draw the result")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    return options


def _run(experiment: Experiment, options: argparse.Namespace) -> Runs:
    names = [name for name in experiment.entries if options.entry is None or name in options.entry]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(options.rounds):
        # Forwards and backwards in turn, so that nobody always follows the same one.
        for name in names if number % 2 == 0 else reversed(names):
            before = quiet_fraction(options.patience)
            figures = measure_in_process(experiment.name, name, options.seconds)
            figures["others_busy"] = max(before, busy_fraction())
            runs[name].append(figures)
            _progress(f"{experiment.name}, {name}, round {number + 1}: {figures}")
    return runs


def _progress(text: str) -> None:
    os.write(2, f"{text}\n".encode())


if __name__ == "__main__":
    main()
