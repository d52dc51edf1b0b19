"""What a worker takes over from the program around it: streams, signals, paths, directories."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from fifteen_data_loaders import DataLoader

from tests.loaders import scripts
from tests.loaders.datasets import FromFunction

pytestmark = pytest.mark.usefixtures("no_leftovers")


def test_programs_that_a_dataset_runs_heed_sigterm() -> None:
    def load(index: int) -> int:
        import subprocess

        program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        program.terminate()
        return program.wait(timeout=30)

    with DataLoader(FromFunction(load, 1), 1, num_workers=1) as loader:
        assert loader.minibatches(None)[0].tolist() == [-15]


def test_closed_standard_streams_are_nobodys_business(tmp_path: Path) -> None:
    source = f"""
    from fifteen_data_loaders import DataLoader

    with DataLoader(list(range(8)), 4, num_workers=2) as loader:
        rows = [minibatch.tolist() for minibatch in loader.minibatches(None)]
    with open({str(tmp_path / "rows")!r}, "w") as file:
        print(rows, file=file)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(source))
    subprocess.run(["sh", "-c", f"exec '{sys.executable}' '{script}' 0<&- 1>&- 2>&-"], check=True)
    assert (tmp_path / "rows").read_text() == "[[0, 1, 2, 3], [4, 5, 6, 7]]\n"


@pytest.mark.parametrize(
    ("name", "value"), [("frozen", True), ("executable", ""), ("executable", None)]
)
def test_a_program_without_an_interpreter_has_no_workers(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.setattr(sys, name, value, raising=False)
    with pytest.raises(ValueError, match=r"^`num_workers` must be 0 in a frozen or embedded"):
        DataLoader([1, 2], 2, num_workers=2)
    loader: DataLoader[Any] = DataLoader([1, 2], 2, num_threads=2)
    assert loader.minibatches(None)[0].tolist() == [1, 2]


def test_a_program_that_is_its_own_interpreter_is_not_started_without_end(tmp_path: Path) -> None:
    """Such as one that Python is embedded in: its workers are the program once more."""
    program = tmp_path / "program"
    program.write_text(
        f"""#!/bin/sh
echo started >> "{tmp_path}/starts"
exec "{sys.executable}" "{tmp_path}/script.py"
"""
    )
    program.chmod(0o755)
    source = f"""
    import sys
    from fifteen_data_loaders import DataLoader, WorkerDiedError

    sys.executable = {str(program)!r}
    loader = DataLoader([1, 2], 2, num_workers=1)
    try:
        loader.minibatches(None)[0]
    except WorkerDiedError as error:
        print(str(error).splitlines()[-1])
    """
    code, out, err = scripts.run(tmp_path, source)
    assert (code, out) == (
        0,
        f"RuntimeError: `num_workers` must be 0 here, got 1: this program was started in the place "
        f"of a worker process, since `sys.executable` ({program}) is this program and no Python "
        f"interpreter; `num_threads` works everywhere\n",
    )
    assert (tmp_path / "starts").read_text() == "started\n" * 2
    assert "another one takes its place" in err


def test_what_the_dataset_runs_may_have_workers_of_its_own() -> None:
    """It is no worker, and does not see that it was started by one."""
    variables = FromFunction(lambda i: int(os.environ.get("FIFTEEN_STARTING_WORKER", 0)) + i, 2)
    with DataLoader(variables, 2, num_workers=1) as loader:
        assert loader.minibatches(None)[0].tolist() == [0, 1]


def test_how_a_worker_ended_is_not_told_where_nobody_can_know(tmp_path: Path) -> None:
    """It was killed; the system says that it exited with code 0 where SIGCHLD is ignored."""
    source = f"""
    import os, signal
    from fifteen_data_loaders import DataLoader

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    class Dataset:
        def __getitem__(self, index):
            if index == 1 and not os.path.exists({str(tmp_path / "died")!r}):
                open({str(tmp_path / "died")!r}, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return index
        def __len__(self):
            return 2

    with DataLoader(Dataset(), 2, num_workers=1) as loader:
        print(loader.minibatches(None)[0].tolist())
    """
    code, out, err = scripts.run(tmp_path, source)
    assert (code, out) == (0, "[0, 1]\n")
    assert re.fullmatch(
        r"worker process \d+ ended \(how is unknown: this program ignores SIGCHLD or reaps "
        r"processes itself\); another one takes its place\n",
        err,
    )


def test_odd_import_paths_and_arguments_reach_workers_as_strings(tmp_path: Path) -> None:
    source = """
    import sys
    from pathlib import Path
    from fifteen_data_loaders import DataLoader

    class Arguments:
        def __getitem__(self, index):
            return sys.argv[1]
        def __len__(self):
            return 1

    sys.path.append(Path("somewhere"))
    sys.argv.append(Path("argument"))
    with DataLoader(Arguments(), 1, num_workers=1) as loader:
        print(loader.minibatches(None)[0].tolist())
    """
    assert scripts.run(tmp_path, source) == (0, "['argument']\n", "")


def test_a_worker_is_replaced_though_the_directory_is_gone(tmp_path: Path) -> None:
    source = """
    import logging, os, tempfile
    from fifteen_data_loaders import DataLoader

    class DiesOnce:
        def __init__(self, flag):
            self.flag = flag
        def __getitem__(self, index):
            if index == 0 and os.path.exists(self.flag):
                os.remove(self.flag)
                os._exit(1)
            return index
        def __len__(self):
            return 4

    logging.disable()
    flag = tempfile.mkstemp()[1]
    directory = tempfile.mkdtemp()
    os.chdir(directory)
    with DataLoader(DiesOnce(flag), 4, num_workers=1) as loader:
        os.rmdir(directory)
        print(loader.minibatches(None)[0].tolist())
    """
    assert scripts.run(tmp_path, source) == (0, "[0, 1, 2, 3]\n", "")
