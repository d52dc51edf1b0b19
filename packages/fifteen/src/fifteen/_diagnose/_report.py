"""A diagnosis in words."""

from fifteen._diagnose._diagnosis import Diagnosis, MeasuredSetting


def verdict(diagnosis: Diagnosis) -> str:
    """Returns two sentences: what the bottleneck is, and which setting to try."""
    return " ".join(_SENTENCES[diagnosis.bottleneck](diagnosis))


def report(diagnosis: Diagnosis) -> str:
    """Returns the figures as tables, and the verdict."""
    size = f"{diagnosis.row_count} samples, {nbytes(diagnosis.minibatch_nbytes)}"
    lines = [f"A minibatch: {size}", ""]
    lines += [f"  {name:<22}{seconds(value):>10}" for name, value in parts(diagnosis)]
    lines += ["", "  workers  threads  minibatches/s  first after   in flight"]
    for each in diagnosis.settings:
        lines.append(
            f"  {each.num_workers:>7}  {each.num_threads:>7}  {each.minibatches_per_second:>13.4g}"
            f"  {seconds(each.first_minibatch_seconds):>11}  {nbytes(each.nbytes_in_flight):>10}"
            f"{'  as given' if each == diagnosis.given else ''}"
        )
    if diagnosis.headroom is not None:
        lines += ["", f"Headroom: {diagnosis.headroom:.4g} steps/s on a minibatch that is there."]
    if diagnosis.waiting_fraction is not None:
        lines += [f"The loop waits for data {diagnosis.waiting_fraction:.0%} of its time."]
    return "\n".join([*lines, "", verdict(diagnosis)])


def parts(diagnosis: Diagnosis) -> list[tuple[str, float]]:
    """Returns what goes into a minibatch, and what follows, in seconds; only what is known."""
    named = {
        "loading samples": diagnosis.sample_seconds,
        "collation": diagnosis.collation_seconds,
        "overhead": diagnosis.overhead_seconds,
        "transport by a worker": diagnosis.transport_seconds,
        "transfer": diagnosis.transfer_seconds,
        "step": diagnosis.step_seconds,
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


def _samples(diagnosis: Diagnosis) -> tuple[str, str]:
    each = seconds(diagnosis.sample_seconds / diagnosis.row_count)
    return (
        f"Loading samples is the bottleneck: {diagnosis.row_count} samples at {each} make "
        f"{seconds(diagnosis.sample_seconds)} per minibatch.",
        _better_setting(diagnosis)
        or "No other setting is faster here: make __getitem__ do less, or give the dataset "
        "__getitems__.",
    )


def _collation(diagnosis: Diagnosis) -> tuple[str, str]:
    return (
        f"Collation is the bottleneck: it takes {seconds(diagnosis.collation_seconds)} per "
        f"minibatch, and loading the samples {seconds(diagnosis.sample_seconds)}.",
        _better_setting(diagnosis)
        or "No other setting is faster here: make collate_fn do less, or move its work to "
        "__getitem__ or the device.",
    )


def _minibatch_size(diagnosis: Diagnosis) -> tuple[str, str]:
    return (
        f"The minibatches are tiny: {seconds(diagnosis.overhead_seconds)} of what one takes do "
        f"not depend on how many samples it has ({diagnosis.row_count}).",
        f"Try minibatch_size={16 * diagnosis.row_count} or more, which lax.scan can split into "
        f"steps on the device.",
    )


def _workers(diagnosis: Diagnosis) -> tuple[str, str]:
    without = next(each for each in diagnosis.settings if each.is_plain)
    return (
        f"Workers and threads cost more than they save: a minibatch takes "
        f"{seconds(_given_seconds(diagnosis))} with {diagnosis.given.name}, and "
        f"{seconds(1 / without.minibatches_per_second)} without any.",
        _better_setting(diagnosis) or "Try num_workers=0.",
    )


def _transfer(diagnosis: Diagnosis) -> tuple[str, str]:
    taken = diagnosis.transfer_seconds or 0.0
    return (
        f"Transfer to the device is the bottleneck: {nbytes(diagnosis.minibatch_nbytes)} take "
        f"{seconds(taken)}, and loading them {seconds(_given_seconds(diagnosis))}.",
        "Send fewer bytes (uint8 images or half precision, converted on the device) and overlap "
        "transfer and step with prefetching_map(minibatches, device).",
    )


def _step(diagnosis: Diagnosis) -> tuple[str, str]:
    best = diagnosis.recommended
    enough = "the loader's settings can stay"
    if best != diagnosis.given:
        enough = f"{best.name} would be enough, with {_rate(best)}"
    return (
        f"The step is the bottleneck: it takes {seconds(diagnosis.step_seconds or 0.0)}, and the "
        f"loop waits for data {diagnosis.waiting_fraction or 0.0:.0%} of its time.",
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


def _better_setting(diagnosis: Diagnosis) -> str | None:
    best = diagnosis.recommended
    if best.minibatches_per_second <= 1.1 * diagnosis.given.minibatches_per_second:
        return None
    given = diagnosis.given.minibatches_per_second
    return f"Try {best.name}: {_rate(best)} here instead of {given:.3g}."


def _rate(setting: MeasuredSetting) -> str:
    return f"{setting.minibatches_per_second:.3g} minibatches/s"


def _given_seconds(diagnosis: Diagnosis) -> float:
    return 1 / diagnosis.given.minibatches_per_second
