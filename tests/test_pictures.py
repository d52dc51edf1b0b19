"""The pictures of the docs show what is there."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from fifteen.data import DataLoader

from tests.pages import ROOT, pages


def test_the_lay_of_the_land_names_every_module() -> None:
    picture = (ROOT / "docs/diagrams/layout.svg").read_text()
    shown = re.findall(r"\b(_\w+/?)", "\n".join(re.findall(r'<text class="name".*', picture)))
    there = [
        path.stem
        for path in ROOT.glob("packages/*/src/*/**/_[a-z]*.py")
        if path.parent.name != "_diagnose"
    ]
    assert sorted(shown) == sorted([*there, "_diagnose/"])


def test_the_lay_of_the_land_names_every_folder() -> None:
    picture = (ROOT / "docs/diagrams/layout.svg").read_text()
    there = {path.parent.name for path in ROOT.glob("packages/*/src/*/**/_[a-z]*/__init__.py")}
    assert set(re.findall(r">(_\w+)/", picture)) == there


@pytest.mark.parametrize("picture", sorted(ROOT.glob("docs/diagrams/*.svg")), ids=lambda p: p.stem)
def test_every_picture_has_a_title_and_is_on_a_page(picture: Path) -> None:
    root = ET.fromstring(picture.read_text())
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.get("id") == root.get("aria-labelledby")
    assert any(f":file: diagrams/{picture.name}" in page.read_text() for page in pages())


def test_the_picture_of_an_epoch_shows_the_order() -> None:
    picture = (ROOT / "docs/diagrams/order.svg").read_text()
    shown = re.findall(r'class="name middle sample"[^>]*>(\d+)<', picture)
    (minibatch,) = DataLoader(np.arange(12), 12).minibatches(shuffle_seed=0)
    assert [int(index) for index in shown] == minibatch.tolist()
