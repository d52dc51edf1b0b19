"""What a forked child does to its copies of a loader's objects is nothing to the parent."""

import textwrap
from pathlib import Path

import pytest

from tests.loaders import scripts

pytestmark = pytest.mark.usefixtures("no_leftovers")

_HEADER = """
import os, warnings
import numpy as np
from fifteen_data_loaders import DataLoader

warnings.simplefilter("ignore")  # Python's, of threads that NumPy has.

class Rows:
    def __getitem__(self, index):
        return np.full(64, index)
    def __len__(self):
        return 64

def in_child(function):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0

loader = DataLoader(Rows(), 8, num_workers=2)
expected = [np.repeat(np.arange(64), 64).reshape(64, 64)[n : n + 8] for n in range(0, 64, 8)]
"""

_WAYS = {
    "drops an iteration": """
        iterations = [iter(loader.minibatches(None))]
        received = [next(iterations[0])]
        in_child(iterations.clear)
        received += iterations[0]
        np.testing.assert_array_equal(received, expected)
    """,
    "drops minibatches": """
        held = list(loader.minibatches(None))
        in_child(held.clear)
        np.testing.assert_array_equal(held, expected)
    """,
    "drops minibatches of a closed loader": """
        held = list(loader.minibatches(None))
        loader.close()
        in_child(held.clear)
        np.testing.assert_array_equal(held, expected)
    """,
    "closes the loader": """
        iteration = iter(loader.minibatches(None))
        received = [next(iteration)]
        in_child(loader.close)
        received += iteration
        np.testing.assert_array_equal(received, expected)
    """,
    "has a child with files of its own": """
        next(iter(loader.minibatches(None)))

        def child():
            files = [open(os.devnull) for _ in range(8)]
            in_child(lambda: [os.fstat(file.fileno()) for file in files])

        in_child(child)
    """,
}


@pytest.mark.parametrize("way", _WAYS.values(), ids=_WAYS)
def test_the_parent_goes_on_when_a_child(way: str, tmp_path: Path) -> None:
    assert scripts.run(tmp_path, _HEADER + textwrap.dedent(way)) == (0, "", "")
