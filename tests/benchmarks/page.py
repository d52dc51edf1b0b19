"""Write the documentation's page of benchmarks: ``hatch run bench:page FILE.json``.

The file is what ``hatch run bench:compare --json FILE.json`` has measured.
"""

import argparse
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.experiments import EXPERIMENTS
from tests.benchmarks.report import Finding, Runs, medians, save_plot, shown

_DOCS = Path(__file__).parents[2] / "docs"
_PLOT = "_static/benchmarks.png"

# By experiment: the figure that entries are compared by, and whether more of it is better.
_FIGURES = {
    "minibatches_per_second": ("minibatches/s", True),
    "ideal_times": ("times the ideal", False),
    "boundary_in_median_steps": ("slowest step at the boundary, in medians", False),
    "milliseconds": ("ms", False),
    "seconds": ("s", False),
}

_HEAD = """\
# Benchmarks

Written by `hatch run bench:page` from what `hatch run bench:compare` has measured. Repeat it on a
machine of your own: ratios travel, figures do not.

## Method

Every loader runs at its best fair settings, in processes of its own. The loaders of an experiment
take turns, forwards and backwards, so that whatever else the machine does hits all alike. Figures
are medians of {rounds} runs of about {seconds:g} s. The range is from the smallest to the
largest; the ratio says how many times better `fifteen` is.

PyTorch is shown with forked and forkserver workers that stack with NumPy, with the collation that
JAX's documentation gives for it, and with its own collation to tensors. Grain is shown with its
`IterDataset` API and its older `DataLoader`.

| | |
|---|---|
{machine}

## Results

```{{image}} {plot}
:alt: Targets, and the rates of all loaders.
:target: {plot}
```
"""

_TAIL = """\
## What the others do better

{ahead}
Beyond speed: PyTorch's loader reads iterable datasets, pins memory for CUDA and runs on Windows
and macOS with worker processes. Grain has transformations, packing and file formats in one
pipeline. This project has none of these, and needs Linux for worker processes.
"""


def main() -> None:
    """Write the page and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", metavar="FILE.json", type=Path)
    parser.add_argument("--docs", type=Path, default=_DOCS, help="where to write the page")
    options = parser.parse_args()
    document = json.loads(options.results.read_text())
    (options.docs / "_static").mkdir(exist_ok=True)
    (options.docs / "benchmarks.md").write_text(page(document))
    save_plot(_findings(document), document["runs"], str(options.docs / _PLOT))


def page(document: dict[str, Any]) -> str:
    """Returns the page for the results of a comparison."""
    machine = document["machine"]
    facts = {
        "date": machine["date"][:10],
        "processor": f"{machine['cores']} cores of an {machine['cpu']}",
        "memory": f"{machine['memory_gib']} GiB",
        "Python": machine["python"],
        **{name: version for name, version in machine["versions"].items() if version},
    }
    sections = [
        _HEAD.format(
            rounds=document["method"]["rounds"],
            seconds=document["method"]["seconds"],
            machine="\n".join(f"| {name} | {fact} |" for name, fact in facts.items()),
            plot=_PLOT,
        )
    ]
    sections += [_experiment(name, runs) for name, runs in document["runs"].items()]
    sections.append("## Targets\n\n" + _targets(_findings(document)))
    sections.append(_TAIL.format(ahead=_where_others_are_ahead(document["runs"])))
    return "\n".join(sections)


def _experiment(name: str, runs: Runs) -> str:
    descriptions = {each.name: each.description for each in EXPERIMENTS}
    rows = [f"### {name[0].upper()}{name[1:]}", "", *textwrap.wrap(descriptions[name], 100), ""]
    figure = _figure(runs)
    if figure is None:
        rows += ["| | figure | median |", "|---|---|---|"]
        rows += [
            f"| {_cell(entry)} | {key.replace('_', ' ')} | {shown(value)} |"
            for entry, key, value in _all_figures(runs)
        ]
        return "\n".join([*rows, ""])
    unit, more_is_better = _FIGURES[figure]
    typical = medians(runs, figure)
    ours = typical.get("fifteen")
    rows += [f"| | {unit} | range | ratio |", "|---|---|---|---|"]
    for entry in sorted(typical, key=typical.__getitem__, reverse=more_is_better):
        values = [run[figure] for run in runs[entry] if figure in run]
        spread = f"{shown(min(values))} to {shown(max(values))}"
        ratio = ""
        if ours and entry != "fifteen":
            better = ours / typical[entry] if more_is_better else typical[entry] / ours
            ratio = f"{better:.2g}x"
        rows.append(f"| {_cell(entry)} | {shown(typical[entry])} | {spread} | {ratio} |")
    return "\n".join([*rows, ""])


def _targets(findings: list[Finding]) -> str:
    rows = ["| what was aimed at | measured | aim | |", "|---|---|---|---|"]
    rows += [
        f"| {_cell(each.claim)} | {shown(each.measured)} | {shown(each.bound)} | "
        f"{'met' if each.met else 'not met'} |"
        for each in findings
        if each.measured is not None
    ]
    return "\n".join([*rows, ""])


def _where_others_are_ahead(results: dict[str, Runs]) -> str:
    rows = []
    for name, runs in results.items():
        figure = _figure(runs)
        if figure is None or "fifteen" not in medians(runs, figure):
            continue
        unit, more_is_better = _FIGURES[figure]
        typical = medians(runs, figure)
        ours = typical["fifteen"]
        rows += [
            f"- {name}: {entry} has {shown(value)} {unit}, `fifteen` {shown(ours)}."
            for entry, value in typical.items()
            if not entry.startswith(("fifteen", "bare"))
            and (value > ours if more_is_better else value < ours)
        ]
    return "\n".join(rows or ["In these figures, nothing."]) + "\n"


def _cell(text: str) -> str:
    """Names with underscores are code."""
    return re.sub(r"\w*_\w*", r"`\g<0>`", text)


def _figure(runs: Runs) -> str | None:
    measured = {key for _, key, _ in _all_figures(runs)}
    return next((figure for figure in _FIGURES if figure in measured), None)


def _all_figures(runs: Runs) -> Iterator[tuple[str, str, float]]:
    for entry, each in runs.items():
        figures = {key for run in each for key in run} - {"error", "others_busy"}
        for key in sorted(figures):
            yield entry, key, median(run[key] for run in each if key in run)


def _findings(document: dict[str, Any]) -> list[Finding]:
    names = ("claim", "measured", "bound", "reference", "score")
    return [Finding(*(each[name] for name in names)) for each in document["targets"]]


if __name__ == "__main__":
    main()
