"""Run one entry of one experiment in this process and print its figures as JSON.

``python -m tests.benchmarks.measure EXPERIMENT ENTRY [--seconds S]``
"""

import argparse
import json

# Nothing else here: the processes that some loaders start import the main module again.


def main() -> None:
    """Measure as the command line says."""
    from tests.benchmarks.experiments import EXPERIMENTS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", choices=[each.name for each in EXPERIMENTS])
    parser.add_argument("entry")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    experiment = next(each for each in EXPERIMENTS if each.name == arguments.experiment)
    trial = experiment.trial(arguments.entry)
    measure = experiment.entries[arguments.entry].measure or experiment.measure
    print(json.dumps(measure(trial, arguments.seconds)))


if __name__ == "__main__":
    main()
