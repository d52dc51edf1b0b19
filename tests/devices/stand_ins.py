"""Inputs that stand in for a data loader's, and say what was asked of them."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

WAIT_SECONDS = 60


class Counter:
    """An iterator over ``start, start + 1, ...`` with a state, whose pulls can be waited for."""

    def __init__(self, stop: int = 1_000_000) -> None:
        self.stop = stop
        self.step = 0
        self.closed = 0
        self._pulled = threading.Condition()

    def __iter__(self) -> "Counter":
        return self

    def __next__(self) -> int:
        with self._pulled:
            if self.step == self.stop:
                raise StopIteration
            self.step += 1
            self._pulled.notify_all()
            return self.step - 1

    def get_state(self) -> dict[str, Any]:
        return {"step": self.step}

    def set_state(self, state: dict[str, Any], /) -> None:
        self.step = state["step"]

    def close(self) -> None:
        self.closed += 1

    def wait_for(self, count: int) -> None:
        """Wait until ``count`` numbers were pulled."""
        with self._pulled:
            assert self._pulled.wait_for(lambda: self.step >= count, WAIT_SECONDS)


class Minibatches:
    """The rows of one shard, with the attributes of a data loader's minibatches."""

    def __init__(
        self,
        sample_count: int,
        minibatch_size: int,
        shard_index: int = 0,
        shard_count: int = 1,
    ) -> None:
        self.sample_count = sample_count
        self.minibatch_size = minibatch_size
        self.shard_index = shard_index
        self.shard_count = shard_count
        self.started = list[MinibatchRun]()

    def __len__(self) -> int:
        return -(-self.sample_count // self.minibatch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.started.append(MinibatchRun(self))
        return self.started[-1]

    def __getitem__(self, index: int | slice, /) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        rows = np.arange(self.sample_count)[index * self.minibatch_size :][: self.minibatch_size]
        first, last = (
            len(rows) * shard // self.shard_count
            for shard in (self.shard_index, self.shard_index + 1)
        )
        rows = rows[first:last]
        return {"x": rows[:, None] * np.ones(4, np.float32), "y": rows.astype(np.int32)}


class MinibatchRun:
    """One iteration over minibatches."""

    def __init__(self, minibatches: Minibatches) -> None:
        self.shard_index = minibatches.shard_index
        self.shard_count = minibatches.shard_count
        self.minibatch_size = minibatches.minibatch_size
        self.closed = 0
        self._minibatches = minibatches
        self._step = 0

    def __iter__(self) -> "MinibatchRun":
        return self

    def __next__(self) -> dict[str, Any]:
        if self._step == len(self._minibatches):
            raise StopIteration
        self._step += 1
        return self._minibatches[self._step - 1]

    def get_state(self) -> dict[str, Any]:
        return {"step": self._step}

    def set_state(self, state: dict[str, Any], /) -> None:
        self._step = state["step"]

    def close(self) -> None:
        self.closed += 1
