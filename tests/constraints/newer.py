"""Says which packages here are not of the version that was tested; exits with 1 if some are not.

It is for the environment ``newest``, which takes what a user gets today.
"""

import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.constraints.refresh import TESTED


def changes() -> list[str]:
    """Returns what is another version here than in the constraints, as ``name 1.0 -> 1.1``."""
    installed = {canonicalize_name(each.name): each.version for each in metadata.distributions()}
    found = []
    for line in TESTED.read_text().splitlines():
        if line.startswith("#"):
            continue
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        version = installed.get(canonicalize_name(requirement.name))
        if version is None or (requirement.marker and not requirement.marker.evaluate()):
            continue
        if not specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} {specifier.version} -> {version}")
    return found


if __name__ == "__main__":
    found = changes()
    for change in found:
        print(change)
    sys.exit(bool(found))
