"""The crew: the worker processes of a pool, started, watched, replaced and ended. In the parent.

A worker's way: starting (an interpreter that loads the dataset), ready (takes jobs), dead (killed,
crashed or exited), and then replaced by another with the same index.
"""

import contextlib
import logging
import os
import select
from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakSet

from fifteen_data_loaders._engines._workers._descriptors import open_memory, open_pipe
from fifteen_data_loaders._engines._workers._process import Surroundings, WorkerProcess
from fifteen_data_loaders._engines._workers._wire._board import Board
from fifteen_data_loaders._engines._workers._wire._boot_record import Shared
from fifteen_data_loaders._errors import WorkerDiedError

_LOGGER = logging.getLogger("fifteen_data_loaders")

_STARTS_PER_WORKER = 2
"""A worker that dies so many times before it is ready is an error."""


class Death(NamedTuple):
    """What is known of a worker that has died."""

    description: str
    claims: set[int]
    """Numbers of the jobs that its threads took last, done or not."""
    on_purpose: bool
    """Whether the parent killed it."""


class Crew:
    """A fixed count of workers, each one replaced when it dies. Under the pool's lock."""

    def __init__(
        self,
        board: Board,
        *,
        worker_count: int,
        thread_count: int,
        shard_index: int,
        payload_fd: int,
        board_fd: int,
        arena_fd: int,
        jobs_fd: int,
    ) -> None:
        """Start nothing yet; see `Shared` for the arguments."""
        self._board = board
        self._workers: dict[int, WorkerProcess] = {}
        self.unready: set[int] = set(range(worker_count))
        """Indices of workers that are not there, or not ready as far as is known."""
        self._failed_starts = [0] * worker_count
        self.start_error: WorkerDiedError | None = None
        """Set when a worker died twice before it was ready."""
        with contextlib.ExitStack() as resources:
            # Workers ring at one end, without waiting if nobody answers at the other.
            self._doorbell_out, self._doorbell_in = open_pipe(resources)
            os.set_blocking(self._doorbell_out, False)
            os.set_blocking(self._doorbell_in, False)
            # A worker takes a byte out of it before it loads the payload.
            gate_out, self._gate = open_pipe(resources)
            self._gate_is_open = False
            self._epoll = resources.enter_context(select.epoll())
            self._epoll.register(self._doorbell_out, select.EPOLLIN)
            self.spill_fds: list[int] = [
                open_memory("fifteen-spill", resources) for _ in range(worker_count)
            ]
            """By the index of the worker; a replacement goes on with the file of the one before."""
            self._surroundings = Surroundings.capture()
            self._shared = Shared(
                self._surroundings.argv,
                worker_count,
                thread_count,
                shard_index,
                payload_fd,
                board_fd,
                arena_fd,
                jobs_fd,
                self._doorbell_in,
                gate_out,
            )
            self._resources = resources.pop_all()
        _close_lifelines_after_fork(self)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that live."""
        return [worker.pid for worker in list(self._workers.values())]

    @property
    def ready(self) -> list[WorkerProcess]:
        """The workers that have loaded the dataset."""
        workers = self._workers.values()
        return [worker for worker in workers if self._board.is_ready(worker.index)]

    def start_missing(self) -> None:
        """Start every worker that is not there; returns at once."""
        for index in range(len(self.spill_fds)):
            if index not in self._workers:
                self._start(index)

    def open_gate(self) -> None:
        """Let all workers, those to come included, load the payload, which is there now."""
        self._gate_is_open = True
        os.write(self._gate, bytes(len(self._workers)))

    def let_go_of_starts(self) -> None:
        """Let go of what workers printed before they were ready, once they are."""
        for index in list(self.unready):
            if index in self._workers and self._board.is_ready(index):
                self._workers[index].forget_startup()
                self.unready.discard(index)
                self._failed_starts[index] = 0

    def listen(self, timeout: float) -> bool:
        """Wait for the doorbell, without the lock; returns whether a worker may have died."""
        events = self._epoll.poll(timeout)
        with contextlib.suppress(BlockingIOError):
            os.read(self._doorbell_out, 1 << 16)
        return any(fd != self._doorbell_out for fd, _ in events)

    def ring(self) -> None:
        """Wake whoever listens."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._doorbell_in, b"\0")

    def claims(self) -> dict[int, WorkerProcess]:
        """Returns who took which jobs last, done or not."""
        return {
            number: worker
            for index, worker in self._workers.items()
            for number in self._board.claims(index)
        }

    def bury(self) -> list[Death]:
        """Replace workers that have died, unless they cannot be started."""
        # Asked of each one under the lock: what `listen` saw may be of a worker that another thread
        # has replaced, and its descriptor of the new one.
        dead = [worker for worker in self._workers.values() if worker.has_died]
        return [self._replace(worker) for worker in dead]

    def kill(self, workers: Iterable[WorkerProcess] | None = None) -> list[int]:
        """Kill workers, all of them by default; they are replaced like others that died."""
        killed = list(self._workers.values() if workers is None else workers)
        for worker in killed:
            worker.killed_on_purpose = True
            worker.kill()
        return [worker.pid for worker in killed]

    def close(self) -> None:
        """End all workers and release everything."""
        self.kill()
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
        self._resources.close()

    def close_lifelines(self) -> None:
        """Let go of the workers' lifelines; called in a child that inherited them by a fork."""
        for worker in self._workers.values():
            worker.close_lifeline()

    def _start(self, index: int) -> None:
        self._board.clear(index)
        worker = WorkerProcess(index, self._surroundings, self._shared, self.spill_fds[index])
        try:
            self._epoll.register(worker.pidfd, select.EPOLLIN)
            if self._gate_is_open:
                os.write(self._gate, b"\0")
            self._workers[index] = worker
        except BaseException:
            worker.kill()
            worker.close()
            raise

    def _replace(self, worker: WorkerProcess) -> Death:
        index = worker.index
        description = worker.describe_death()
        death = Death(description, set(self._board.claims(index)), worker.killed_on_purpose)
        was_ready = self._board.is_ready(index)
        printed = worker.startup_stderr().strip() or "(nothing)"
        self._epoll.unregister(worker.pidfd)
        self.unready.add(index)
        del self._workers[index]
        worker.close()
        failed = not was_ready and not worker.killed_on_purpose
        self._failed_starts[index] = self._failed_starts[index] + 1 if failed else 0
        if self._failed_starts[index] == _STARTS_PER_WORKER:
            self._failed_starts[index] = 0
            self.start_error = WorkerDiedError(
                f"{description} before it was ready, {_STARTS_PER_WORKER} times. It printed:\n\n"
                f"{printed}"
            )
            return death
        if not worker.killed_on_purpose:
            _LOGGER.warning("%s; another one takes its place", description)
        self._start(index)
        return death


_CREWS: WeakSet[Crew] = WeakSet()
_hooked = False


def _close_lifelines_after_fork(crew: Crew) -> None:
    """Keep forked children from holding workers alive when their parent is gone."""
    global _hooked
    _CREWS.add(crew)
    if not _hooked:
        os.register_at_fork(after_in_child=_close_lifelines)
        _hooked = True


def _close_lifelines() -> None:
    for crew in _CREWS:
        crew.close_lifelines()
    # A child of this one would close them again, whatever they are by then.
    _CREWS.clear()
