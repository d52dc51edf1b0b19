"""Findings in words."""

from fifteen._diagnose._findings import Findings, MeasuredSetting


def verdict(findings: Findings) -> str:
    """Returns two sentences: what the bottleneck is, and which setting to try."""
    return " ".join(_SENTENCES[findings.bottleneck](findings))


def report(findings: Findings) -> str:
    """Returns the figures as tables, and the verdict."""
    size = f"{findings.row_count} samples, {nbytes(findings.minibatch_nbytes)}"
    lines = [f"A minibatch: {size}", ""]
    lines += [f"  {name:<22}{seconds(value):>10}" for name, value in parts(findings)]
    lines += ["", "  workers  threads  minibatches/s  first after   in flight"]
    for each in findings.settings:
        lines.append(
            f"  {each.num_workers:>7}  {each.num_threads:>7}  {each.minibatches_per_second:>13.4g}"
            f"  {seconds(each.first_minibatch_seconds):>11}  {nbytes(each.nbytes_in_flight):>10}"
            f"{'  as given' if each == findings.given else ''}"
        )
    if findings.headroom is not None:
        lines += ["", f"Headroom: {findings.headroom:.4g} steps/s on a minibatch that is there."]
    if findings.waiting_fraction is not None:
        lines += [f"The loop waits for data {findings.waiting_fraction:.0%} of its time."]
    return "\n".join([*lines, "", verdict(findings)])


def parts(findings: Findings) -> list[tuple[str, float]]:
    """Returns what goes into a minibatch, and what follows, in seconds; only what is known."""
    named = {
        "loading samples": findings.sample_seconds,
        "collation": findings.collation_seconds,
        "overhead": findings.overhead_seconds,
        "transport by a worker": findings.transport_seconds,
        "transfer": findings.transfer_seconds,
        "step": findings.step_seconds,
    }
    return [(name, value) for name, value in named.items() if value is not None]


def seconds(value: float) -> str:
    """Write out a time with its unit."""
    return _with_unit(value, {"s": 1, "ms": 1e-3, "us": 1e-6})


def nbytes(value: float) -> str:
    """Write out an amount of memory with its unit."""
    return _with_unit(value, {"GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1})


def _with_unit(value: float, units: dict[str, float]) -> str:
    """Write a value in the largest unit that it has one of, or else in the smallest."""
    fitting = [unit for unit, size in units.items() if value >= size] or [*units][-1:]
    return f"{value / units[fitting[0]]:.3g} {fitting[0]}"


def _samples(findings: Findings) -> tuple[str, str]:
    each = seconds(findings.sample_seconds / findings.row_count)
    return (
        f"Loading samples is the bottleneck: {findings.row_count} samples at {each} make "
        f"{seconds(findings.sample_seconds)} per minibatch.",
        _better_setting(findings)
        or "No other setting is faster here: make __getitem__ do less, or give the dataset "
        "__getitems__.",
    )


def _collation(findings: Findings) -> tuple[str, str]:
    return (
        f"Collation is the bottleneck: it takes {seconds(findings.collation_seconds)} per "
        f"minibatch, and loading the samples {seconds(findings.sample_seconds)}.",
        _better_setting(findings)
        or "No other setting is faster here: make collate_fn do less, or move its work to "
        "__getitem__ or the device.",
    )


def _minibatch_size(findings: Findings) -> tuple[str, str]:
    return (
        f"The minibatches are tiny: {seconds(findings.overhead_seconds)} of what one takes do "
        f"not depend on how many samples it has ({findings.row_count}).",
        f"Try minibatch_size={16 * findings.row_count} or more, which lax.scan can split into "
        f"steps on the device.",
    )


def _workers(findings: Findings) -> tuple[str, str]:
    without = next(each for each in findings.settings if each.is_plain)
    return (
        f"Workers and threads cost more than they save: a minibatch takes "
        f"{seconds(_given_seconds(findings))} with {findings.given.name}, and "
        f"{seconds(1 / without.minibatches_per_second)} without any.",
        _better_setting(findings) or "Try num_workers=0.",
    )


def _transfer(findings: Findings) -> tuple[str, str]:
    taken = findings.transfer_seconds or 0.0
    return (
        f"Transfer to the device is the bottleneck: {nbytes(findings.minibatch_nbytes)} take "
        f"{seconds(taken)}, and loading them {seconds(_given_seconds(findings))}.",
        "Send fewer bytes (uint8 images or half precision, converted on the device) and overlap "
        "transfer and step with prefetching_map(minibatches, device).",
    )


def _step(findings: Findings) -> tuple[str, str]:
    best = findings.recommended
    enough = "the loader's settings can stay"
    if best != findings.given:
        enough = f"{best.name} would be enough, with {_rate(best)}"
    return (
        f"The step is the bottleneck: it takes {seconds(findings.step_seconds or 0.0)}, and the "
        f"loop waits for data {findings.waiting_fraction or 0.0:.0%} of its time.",
        f"Faster loading would change little; {enough}.",
    )


_SENTENCES = {
    "samples": _samples,
    "collation": _collation,
    "minibatch size": _minibatch_size,
    "workers": _workers,
    "transfer": _transfer,
    "step": _step,
}


def _better_setting(findings: Findings) -> str | None:
    best = findings.recommended
    if best.minibatches_per_second <= 1.1 * findings.given.minibatches_per_second:
        return None
    given = findings.given.minibatches_per_second
    return f"Try {best.name}: {_rate(best)} here instead of {given:.3g}."


def _rate(setting: MeasuredSetting) -> str:
    return f"{setting.minibatches_per_second:.3g} minibatches/s"


def _given_seconds(findings: Findings) -> float:
    return 1 / findings.given.minibatches_per_second
