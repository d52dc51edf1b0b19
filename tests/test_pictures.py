"""The pictures of the docs show what is there."""

import re

from tests.pages import ROOT


def test_the_lay_of_the_land_names_modules_that_exist() -> None:
    picture = (ROOT / "docs/diagrams/layout.svg").read_text()
    shown = re.findall(r"\b(_\w+/?)", "\n".join(re.findall(r'<text class="name".*', picture)))
    there = {path.stem for path in ROOT.glob("packages/*/src/*/_*.py")}
    there |= {f"{path.name}/" for path in ROOT.glob("packages/*/src/*/_workers")}
    assert len(shown) > 20
    assert set(shown) <= there
