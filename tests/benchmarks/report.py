"""Medians, what they say of the targets, and how that is shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.benchmarks.experiments import Experiment, Target

Runs = dict[str, list[dict[str, Any]]]
"""The figures of every run of each entry of an experiment."""


@dataclass(frozen=True)
class Finding:
    """What was measured for one target."""

    claim: str
    measured: float | None
    bound: float | None
    """What it should be at least or at most, after the peers in the same run."""
    reference: float | None
    """The best of the peers that the bound is a multiple of."""
    score: float | None
    """How many times the bound is exceeded, in the good direction: met if at least 1."""

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.score is not None and self.score >= 1


def medians(runs: Runs, figure: str) -> dict[str, float]:
    """Returns the median of a figure for each entry that has it."""
    values = {name: [run[figure] for run in each if figure in run] for name, each in runs.items()}
    return {name: median(each) for name, each in values.items() if each}


def judge(target: Target, runs: Runs) -> Finding:
    """Hold the runs of an experiment against one of its targets."""
    typical = medians(runs, target.figure)
    peers = [typical[name] for name in target.of_best if name in typical]
    measured = typical.get(target.entry)
    factor = target.at_most if target.at_least is None else target.at_least
    assert factor is not None
    if measured is None or (target.of_best and not peers):
        return Finding(target.claim, measured, None, None, None)
    best = max if target.at_least is not None else min
    reference = best(peers) if peers else None
    bound = factor if reference is None else factor * reference
    if target.at_least is not None:
        score = measured / bound
    else:
        score = bound / measured if measured else float(bound >= 0)
    return Finding(target.claim, measured, bound, reference, score)


def targets_table(findings: Iterable[Finding]) -> str:
    """The targets, the one that is missed by most first."""
    rows: list[tuple[str, ...]] = [("target", "measured", "bound", "peer", "x peer", "x bound", "")]
    for finding in sorted(findings, key=lambda each: each.score or 0):
        ratio = finding.measured / finding.reference if finding.reference else None  # type: ignore[operator]
        figures = (finding.measured, finding.bound, finding.reference, ratio, finding.score)
        verdict = "not measured" if finding.score is None else "met" if finding.met else "MISSED"
        rows.append((finding.claim, *map(shown, figures), verdict))
    return _aligned(rows)


def runs_table(experiments: Iterable[Experiment], results: dict[str, Runs]) -> str:
    """Every figure of every entry: median, smallest and largest."""
    rows: list[tuple[str, ...]] = [
        ("experiment", "entry", "figure", "median", "min", "max", "others busy")
    ]
    for experiment in experiments:
        for name, runs in results[experiment.name].items():
            busy = max((run["others_busy"] for run in runs), default=0.0)
            rows += [
                (experiment.name, name, f"error: {run['error'][:60]}", "", "", "", f"{busy:.0%}")
                for run in runs
                if "error" in run
            ]
            figures = {figure for run in runs for figure in run} - {"error", "others_busy"}
            for figure in sorted(figures):
                values = [run[figure] for run in runs if figure in run]
                spread = map(shown, (median(values), min(values), max(values)))
                rows.append((experiment.name, name, figure, *spread, f"{busy:.0%}"))
    return _aligned(rows)


def save_plot(findings: Iterable[Finding], results: dict[str, Runs], path: str) -> None:
    """Draw how every target is met, and the rates of all loaders, into a PNG file."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    judged = sorted((each for each in findings if each.score), key=lambda each: each.score or 0)
    rates = {name: medians(runs, "minibatches_per_second") for name, runs in results.items()}
    rates = {name: each for name, each in rates.items() if len(each) > 2}
    figure, axes = plt.subplots(
        1 + len(rates),
        figsize=(9, 1 + 0.3 * len(judged) + 2.4 * len(rates)),
        height_ratios=[max(3, len(judged)), *(8 for _ in rates)],
        layout="constrained",
        squeeze=False,
    )
    (first,), *others = axes
    colours = ["tab:green" if each.met else "tab:red" for each in judged]
    first.barh([each.claim for each in judged], [each.score for each in judged], color=colours)
    first.axvline(1, color="black", linewidth=1)
    first.set_xscale("log")
    first.set_xticks([1 / 4, 1 / 2, 1, 2, 4, 8], ["1/4", "1/2", "1", "2", "4", "8"])
    first.minorticks_off()
    first.set_title("measured, relative to the target (right of the line: met)")
    for (axis,), (name, each) in zip(others, rates.items(), strict=True):
        ours = ["tab:blue" if entry.startswith("fifteen") else "tab:gray" for entry in each]
        bars = axis.barh(list(each), list(each.values()), color=ours)
        axis.bar_label(bars, fmt="%.0f", padding=3)
        axis.margins(x=0.12)
        axis.invert_yaxis()
        axis.set_title(f"{name}: minibatches per second")
    figure.savefig(path, dpi=90)


def shown(value: float | None) -> str:
    """Write a figure with three digits, or all of those before the point."""
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
