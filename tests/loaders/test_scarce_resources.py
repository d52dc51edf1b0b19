"""What a small machine, a container or a cluster lacks: workers get along without it."""

import mmap
import os
import shutil
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders import DataLoader
from fifteen_data_loaders._engines._workers._arena import Arena

from tests import leftovers
from tests.loaders import scripts
from tests.loaders.datasets import FromFunction, Squares

pytestmark = pytest.mark.usefixtures("no_leftovers")

_HOLD_A_THOUSAND = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
import numpy as np
from fifteen_data_loaders import DataLoader

class Dataset:
    def __getitem__(self, index):
        return {"a": np.full(500, index), "b": np.full((2, 3), index), "c": index}
    def __len__(self):
        return 4000

loader = DataLoader(Dataset(), 4, num_workers=4)
held = list(loader.minibatches(None))
assert len(held) == 1000
for number, minibatch in enumerate(held):
    for leaf in minibatch.values():
        rows = leaf.reshape(4, -1)
        assert (rows == np.arange(4)[:, None] + 4 * number).all()
print(len(os.listdir("/proc/self/fd")) < 60)
"""


def test_few_descriptors_suffice_for_a_thousand_held_minibatches(tmp_path: Path) -> None:
    assert scripts.run(tmp_path, _HOLD_A_THOUSAND) == (0, "True\n", "")


def test_nothing_needs_dev_shm(tmp_path: Path) -> None:
    """Docker gives it 64 MB, which other loaders overflow; here it has 64 kB and stays empty."""
    unshare = shutil.which("unshare")
    mount = "mount -t tmpfs -o size=64k none /dev/shm"
    if (
        unshare is None
        or subprocess.run(
            [unshare, "--mount", "sh", "-c", mount], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("this machine does not allow mount namespaces")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(_HOLD_A_THOUSAND) + 'assert not os.listdir("/dev/shm")\n')
    command = f'{mount} && exec "{sys.executable}" "{script}"'
    done = subprocess.run(
        [unshare, "--mount", "sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=scripts.TIMEOUT_SECONDS,
        check=False,
        env={**os.environ},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_nothing_gets_a_name_in_dev_shm() -> None:
    """Whatever runs at the moment: the workers have loaded, and minibatches are held."""
    with (
        DataLoader(Squares(), 4, num_workers=2, collate_fn=list) as collated,
        DataLoader(Squares(), 4, num_workers=2) as loader,
    ):
        held = [*loader.minibatches(None), *collated.minibatches(None)]
        assert leftovers.shared_memory() == set()
    assert held


def test_descriptors_do_not_grow_with_epochs_or_loaders(tmp_path: Path) -> None:
    source = """
    import gc, os
    from fifteen_data_loaders import DataLoader

    loader = DataLoader(list(range(100)), 4, num_workers=2)
    counts = []
    for epoch in range(20):
        list(loader.minibatches(epoch))
        counts.append(len(os.listdir("/proc/self/fd")))
    print(max(counts[1:]) - counts[0] <= 0)
    loader.close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        list(DataLoader(list(range(10)), 4, num_workers=1).minibatches(0))
        gc.collect()
    print(len(os.listdir("/proc/self/fd")) - before)
    """
    assert scripts.run(tmp_path, source) == (0, "True\n0\n", "")


def test_a_directory_and_an_import_path_of_construction_are_kept(tmp_path: Path) -> None:
    """Also for workers that start later, when both have changed."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "datasets_of_mine.py").write_text(
        "import os\n"
        "class Dataset:\n"
        "    def __getitem__(self, index):\n"
        "        if index == 3 and not os.path.exists('died'):\n"
        "            open('died', 'w').close()\n"
        "            os._exit(1)\n"
        "        return index\n"
        "    def __len__(self):\n"
        "        return 4\n"
    )
    source = f"""
    import os, sys, logging
    logging.disable()
    os.chdir({str(tmp_path)!r})
    sys.path.append("modules")
    from datasets_of_mine import Dataset
    from fifteen_data_loaders import DataLoader

    loader = DataLoader(Dataset(), 4, num_workers=1)
    os.chdir("/")
    sys.path.remove("modules")
    print(loader.minibatches(None)[0].tolist())
    """
    assert scripts.run(tmp_path, source) == (0, "[0, 1, 2, 3]\n", "")


def test_minibatches_of_many_sizes_leave_little_memory_behind() -> None:
    """What is kept to be used again is bounded by the largest size, not by how many there were."""
    largest = 4 * 60 * 50_000
    dataset = FromFunction(lambda index: np.zeros((index // 4 + 1) * 50_000, np.uint8), 4 * 60)
    loader = DataLoader(dataset, 4)
    tracemalloc.start()
    try:
        for minibatch in loader.minibatches(None):
            assert minibatch.nbytes <= largest
        del minibatch
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 10 * largest


def test_an_arena_that_cannot_grow_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.memfd_create("arena")
    arena = Arena(fd)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no descriptor left")

    with monkeypatch.context() as scarce:
        scarce.setattr(mmap, "mmap", fail)
        for _ in range(30):
            with pytest.raises(OSError, match="no descriptor left"):
                arena.lend(1 << 20)
    assert os.fstat(fd).st_size < 1 << 28
    arena.lend(1 << 20).memory[:] = 1
    arena.close()
    os.close(fd)
