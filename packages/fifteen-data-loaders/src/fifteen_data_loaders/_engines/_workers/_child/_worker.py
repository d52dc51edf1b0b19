"""The worker: takes jobs off the board and loads their samples. In the child.

Every thread of the process does that, whichever is free.
"""

import contextlib
import mmap
import os
import pickle
import sys
import threading
import time
import traceback
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._engines._workers._child._start_limit import end_turn
from fifteen_data_loaders._engines._workers._wire._board import (
    FAILED,
    NUMBER,
    SPILLED,
    WRITTEN,
    Answer,
    Board,
    Job,
)
from fifteen_data_loaders._engines._workers._wire._boot_record import BootRecord
from fifteen_data_loaders._engines._workers._wire._exceptions import dump_exception
from fifteen_data_loaders._engines._workers._wire._payload import unpickle_payload
from fifteen_data_loaders._engines._workers._wire._shared_classes import dumps
from fifteen_data_loaders._engines._workers._wire._slot import (
    Extent,
    content_start,
    indices_of,
    write_collated,
)
from fifteen_data_loaders._engines._workers._wire._spill import SpillWriter
from fifteen_data_loaders._engines._workers._wire._unpickling import unpickling
from fifteen_data_loaders._samples._fetch import collate, fetch, is_batched
from fifteen_data_loaders._samples._layout import Layout
from fifteen_data_loaders._samples._trees import (
    StructureMismatchError,
    columns,
    leaf_paths,
    structure_of,
)

_BITE_NBYTES = 1 << 16
"""Samples are copied into their rows while they are in the cache: after about so many bytes."""

_LAYOUTS_KNOWN = 16
"""How many layouts a worker remembers."""


def main(record: BootRecord) -> None:
    """Serve until the parent closes the pipe of jobs."""
    shared = record.shared
    sys.argv = shared.argv
    if sys.stdout is not None:
        # What a dataset prints must not be lost when the worker is ended.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # The worker may be here before the payload is.
    os.read(shared.gate, 1)
    with unpickling():
        dataset, collate_fn = unpickle_payload(shared.payload)
    worker = _Worker(record, dataset, collate_fn)
    for thread in range(1, shared.thread_count):
        threading.Thread(target=worker.serve, args=(thread,), daemon=True).start()
    _hand_back_stderr(record.stderr)
    worker.board.set_ready(record.worker)
    end_turn(shared.board)
    worker.ring()
    worker.serve(0)
    # The parent is done with us. Threads may be in the middle of a sample, and nothing is worth
    # waiting for.
    os._exit(0)


def _hand_back_stderr(stderr: int) -> None:
    """From here on print to the parent's stderr; first what was printed so far."""
    sys.stderr.flush()
    printed = os.pread(2, 1 << 20, 0)
    os.dup2(stderr, 2)
    os.close(stderr)
    if printed:
        with contextlib.suppress(OSError):
            os.write(2, printed)


class _Worker:
    """What the threads of this process share."""

    def __init__(self, record: BootRecord, dataset: Any, collate_fn: Any) -> None:
        shared = record.shared
        self.board = Board(shared.board, shared.worker_count, shared.thread_count)
        self._index = record.worker
        self._shard = shared.shard_index
        self._jobs = shared.jobs
        self._doorbell = shared.doorbell
        self._dataset = dataset
        self._collate_fn = collate_fn
        self._memory = _Memory(shared.arena)
        self._spill = SpillWriter(record.spill)
        self._layouts: dict[int, Layout] = {}

    def serve(self, thread: int) -> None:
        """Do job after job, until the pipe is closed."""
        claim = self.board.claim(self._index, thread)
        try:
            # The kernel puts the number into the claim as it takes it out of the pipe.
            while os.readv(self._jobs, (claim,)):
                number = NUMBER.unpack(claim)[0]
                outcome = self._do(self.board.read_job(number))
                if outcome == FAILED or self.board.is_awaited(number):
                    self.ring()
        except BaseException:
            # Nobody would do the job of a thread that is gone while the others live.
            traceback.print_exc()
            os._exit(1)

    def ring(self) -> None:
        """Wake the parent; a full pipe means that it has been rung for."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._doorbell, b"\0")

    def _do(self, job: Job) -> int:
        started = time.perf_counter_ns()
        spill, head_nbytes = b"", 0
        if self.board.is_cancelled(job.number):
            outcome = WRITTEN
        else:
            try:
                if job.collated:
                    outcome, spill, head_nbytes = self._load_collated(job)
                else:
                    outcome, spill = self._load_rows(job)
            except BaseException as error:
                outcome, spill = FAILED, dump_exception(error)
        spill_start = self._spill.write(spill) if spill else 0
        elapsed = time.perf_counter_ns() - started
        self.board.write_answer(
            job.number,
            Answer(outcome, elapsed, spill_start, len(spill), head_nbytes, self._index),
        )
        return outcome

    def _load_rows(self, job: Job) -> tuple[int, bytes]:
        """Load a run of rows into the slot; what does not fit its rows exactly is spilled."""
        slot = self._memory.at(job.slot)
        indices = _indices(slot, job)
        layout = self._layout(job)
        leftovers: dict[int, Any] = {}
        if layout is None:
            samples = fetch(self._dataset, indices, _seed(job))
            leftovers = dict(enumerate(samples, job.first_row))
        else:
            arrays = layout.arrays(slot, content_start(job.row_count), job.row_count)
            bite_count = -(-len(indices) * layout.row_nbytes // _BITE_NBYTES) or 1
            bite = -(-len(indices) // min(bite_count, len(indices)))
            if is_batched(self._dataset):
                bite = len(indices)
            for start in range(0, len(indices), bite):
                samples = fetch(self._dataset, indices[start : start + bite], _seed(job))
                row = job.first_row + start
                try:
                    layout.write(arrays, row, samples, first=row == 0)
                except StructureMismatchError:
                    leftovers.update(enumerate(samples, row))
        if leftovers:
            return SPILLED, _dumps_samples(leftovers, indices, job.first_row)
        return WRITTEN, b""

    def _load_collated(self, job: Job) -> tuple[int, bytes, int]:
        """Load a whole minibatch; it goes into the slot, pickle and buffers, if there is room."""
        slot = self._memory.at(job.slot)
        samples = fetch(self._dataset, _indices(slot, job), _seed(job))
        minibatch = collate(self._collate_fn, samples, _seed(job), job.minibatch, self._shard)
        buffers: list[memoryview] = []
        try:
            pickled = dumps(minibatch, lambda buffer: buffers.append(buffer.raw()))
        except Exception as error:
            raise _unpicklable(
                "the minibatch of `collate_fn`", minibatch, "minibatch", error
            ) from error
        head_nbytes = write_collated(slot, job.row_count, pickled, buffers)
        if head_nbytes:
            return WRITTEN, b"", head_nbytes
        return SPILLED, pickle.dumps((pickled, [bytes(buffer) for buffer in buffers])), 0

    def _layout(self, job: Job) -> Layout | None:
        if job.layout_id == 0:
            return None
        layout = self._layouts.get(job.layout_id)
        if layout is None:
            pickled = self._memory.at(job.layout)
            layout = self._layouts[job.layout_id] = pickle.loads(pickled.data)
            if len(self._layouts) > _LAYOUTS_KNOWN:
                with contextlib.suppress(KeyError):  # Another thread was faster.
                    del self._layouts[min(list(self._layouts))]
        return layout


def _dumps_samples(samples: dict[int, Any], indices: list[int], first_row: int) -> bytes:
    try:
        return dumps(samples)
    except Exception as error:
        for row, sample in samples.items():
            if not _is_picklable(sample):
                index = indices[row - first_row]
                raise _unpicklable(f"sample {index}", sample, "sample", error) from error
        raise


def _unpicklable(what: str, tree: Any, name: str, error: Exception) -> TypeError:
    structure = structure_of(tree)
    leaves = columns(structure, [tree], key_order=False)
    for path, (leaf,) in zip(leaf_paths(structure), leaves, strict=True):
        if not _is_picklable(leaf):
            kind = type(leaf).__name__
            return TypeError(
                f"{what} cannot leave its worker process: {name}{path} is a {kind}, and {error}"
            )
    return TypeError(f"{what} cannot leave its worker process: {error}")


def _is_picklable(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True


def _indices(slot: NDArray[np.uint8], job: Job) -> list[int]:
    chosen: list[int] = indices_of(slot, job.row_count)[job.first_row : job.last_row].tolist()
    return chosen


def _seed(job: Job) -> int | None:
    return job.shuffle_seed if job.seeded else None


class _Memory:
    """The arena as this process maps it, chunk by chunk on first use."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._chunks: dict[int, NDArray[np.uint8]] = {}

    def at(self, extent: Extent) -> NDArray[np.uint8]:
        """Returns the bytes of an extent."""
        chunk = self._chunks.get(extent.chunk)
        if chunk is None:
            mapped = mmap.mmap(self._fd, extent.chunk_nbytes, offset=extent.chunk)
            chunk = self._chunks[extent.chunk] = np.frombuffer(mapped, np.uint8)
        return chunk[extent.start : extent.start + extent.nbytes]
