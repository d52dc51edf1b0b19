"""A Jupyter kernel, and what a notebook sees of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

_PATIENCE_SECONDS = 60


class Outcome(NamedTuple):
    """What a cell shows."""

    out: str
    err: str
    error: str | None
    """Name of the exception that ended the cell."""


class Kernel:
    """A running kernel, one cell at a time."""

    def __init__(self, manager: Any, client: BlockingKernelClient) -> None:
        self._client = client
        self.manager = manager

    def run(self, cell: str) -> Outcome:
        """Run a cell to its end."""
        return self._gather(self._client.execute(cell))

    def interrupt(self, cell: str) -> Outcome:
        """Run a cell and press the stop button as soon as it has printed something."""
        request = self._client.execute(cell)
        while self._next(request)["msg_type"] != "stream":
            pass
        self.manager.interrupt_kernel()
        return self._gather(request)

    def processes(self) -> list[psutil.Process]:
        """Returns the kernel and all its descendants."""
        kernel = psutil.Process(self.manager.provisioner.pid)
        return [kernel, *kernel.children(recursive=True)]

    def _gather(self, request: str) -> Outcome:
        text, error = {"stdout": "", "stderr": ""}, None
        while True:
            message = self._next(request)
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    text[content["name"]] += content["text"]
                case "error":
                    error = content["ename"]
                case "status" if content["execution_state"] == "idle":
                    return Outcome(text["stdout"], text["stderr"], error)

    def _next(self, request: str) -> dict[str, Any]:
        while True:
            message = self._client.get_iopub_msg(timeout=_PATIENCE_SECONDS)
            if message["parent_header"].get("msg_id") == request:
                return message


@contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel of this very interpreter, which ends with the block.

    What it prints outside of cells goes to ``kernel.log`` in the folder.
    """
    with open(folder / "kernel.log", "w") as log:
        manager, client = start_new_kernel(
            startup_timeout=_PATIENCE_SECONDS,
            cwd=str(folder),
            stdout=log,
            stderr=log,
            # It warns that notebooks are not encrypted on their way.
            extra_arguments=["--log-level=ERROR"],
        )
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)
