"""The Python blocks of READMEs and pages of the docs, and how one is run.

A block that needs libraries beyond those of the usual tests names them after its language, as in
```` ```python h5py ````; the tests in ``tests/libraries`` run it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

_BLOCK = re.compile(r"^```python(?: ([^\n]+))?\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


class Block(NamedTuple):
    """A script of its own, without a ``__main__`` guard, whose comments say what it prints."""

    page: Path
    number: int
    libraries: list[str]
    source: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}-{self.number}"


def pages() -> list[Path]:
    """Returns all READMEs and pages."""
    return sorted(
        [ROOT / "README.md", *ROOT.glob("packages/*/README.md"), *(ROOT / "docs").rglob("*.md")]
    )


def blocks(*, with_libraries: bool) -> list[Block]:
    """Returns all blocks that need libraries, or all those that need none."""
    found = [
        Block(page, number, libraries.split(), source)
        for page in pages()
        for number, (libraries, source) in enumerate(_BLOCK.findall(page.read_text()), start=1)
    ]
    return [block for block in found if bool(block.libraries) == with_libraries]


def check(block: Block, folder: Path, *options: str, ending: str = "") -> None:
    """Run a block in a fresh interpreter: it ends well and prints what its comments say."""
    script = folder / "example.py"
    script.write_text(block.source + ending)
    process = subprocess.run(
        [sys.executable, *options, script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert process.stdout.splitlines() == _PRINTED.findall(block.source)
