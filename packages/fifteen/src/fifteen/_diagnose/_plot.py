"""A diagnosis as a picture."""

from importlib import import_module
from pathlib import Path
from typing import Any

from fifteen._diagnose._diagnosis import Diagnosis
from fifteen._diagnose._report import parts, verdict


class Plotter:
    """Draws to a file; made before anything is measured, so that a mistake shows at once.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
        ValueError: if it cannot write such a file.
        FileNotFoundError: if there is no such folder.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._figure: Any = import_module("matplotlib.figure").Figure(
                figsize=(10, 4), layout="constrained"
            )
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "--plot needs matplotlib: pip install 'fifteen[diagnose]'"
            ) from error
        kinds = self._figure.canvas.get_supported_filetypes()
        if file.suffix.removeprefix(".") not in kinds:
            raise ValueError(
                f"--plot must end with one of {', '.join(sorted(kinds))}, got {str(file)!r}"
            )
        if not file.parent.is_dir():
            raise FileNotFoundError(f"--plot must be in a folder that exists, got {str(file)!r}")
        self._file = file

    def draw(self, diagnosis: Diagnosis) -> None:
        """Write the picture: what a minibatch costs, and how each setting does."""
        costs, rates = self._figure.subplots(1, 2)
        names, values = zip(*parts(diagnosis), strict=True)
        costs.barh(names, [1e3 * value for value in values])
        costs.invert_yaxis()
        costs.set_xlabel("ms per minibatch")
        rates.barh(
            [each.name for each in diagnosis.settings],
            [each.minibatches_per_second for each in diagnosis.settings],
        )
        rates.invert_yaxis()
        rates.set_xlabel("minibatches per second, without a step")
        if diagnosis.headroom is not None:
            rates.axvline(diagnosis.headroom, color="black", linestyle="--", label="headroom")
            rates.legend()
        self._figure.suptitle(verdict(diagnosis), fontsize="small", wrap=True)
        self._figure.savefig(self._file)
