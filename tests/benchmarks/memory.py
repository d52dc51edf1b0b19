"""Memory of this process and of all its descendants, as Linux accounts for it."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import psutil


class TreeMemory(NamedTuple):
    """In bytes. Pages that several processes share count once."""

    total: int
    shared: int
    """The part in shared memory, anonymous files included, that some process has mapped."""
    private_of_children: list[int]
    """What nobody shares with each descendant."""


def tree_memory() -> TreeMemory:
    """Add up the proportional shares of this process and its descendants."""
    children = [child.pid for child in psutil.Process().children(recursive=True)]
    rollups = [_rollup(pid) for pid in (os.getpid(), *children)]
    return TreeMemory(
        sum(rollup.get("Pss", 0) for rollup in rollups),
        sum(rollup.get("Pss_Shmem", 0) for rollup in rollups),
        [rollup.get("Private_Clean", 0) + rollup.get("Private_Dirty", 0) for rollup in rollups[1:]],
    )


def _rollup(pid: int) -> dict[str, int]:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        # It has ended meanwhile.
        return {}
    return {
        name: int(kilobytes) * 1024 for name, kilobytes in re.findall(r"(\w+): +(\d+) kB", text)
    }
