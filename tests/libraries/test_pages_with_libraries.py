"""The examples of the docs that need libraries; the datasets among them work with processes."""

from pathlib import Path

import pytest

from tests.pages import ROOT, Block, blocks, check

_DATASETS = ROOT / "docs/datasets.md"

_ENDING = """
from tests.libraries.same_data import check
check(loader)
"""


@pytest.mark.parametrize("block", blocks(with_libraries=True), ids=str)
def test_an_example_that_needs_libraries_runs(
    no_leftovers: None, block: Block, tmp_path: Path
) -> None:
    check(block, tmp_path, ending=_ENDING if block.page == _DATASETS else "")


@pytest.mark.parametrize(
    "block",
    [block for block in blocks(with_libraries=False) if block.page == _DATASETS],
    ids=str,
)
def test_a_dataset_of_the_page_is_the_same_with_workers(
    no_leftovers: None, block: Block, tmp_path: Path
) -> None:
    check(block, tmp_path, ending=_ENDING)
