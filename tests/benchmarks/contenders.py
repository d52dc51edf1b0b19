"""The loaders, at the best settings known for each: all are used in the same way.

A contender is a function that constructs a loader of a dataset and returns its epochs: a function
from a number, the seed, to an iterator over shuffled minibatches. Iterators of some loaders go on
with the next epoch by themselves and never end.

Imports are made when a loader is constructed, so that each is measured without the others, and so
that the processes that peers start, which import this module, need not import them all.
"""

import importlib
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Epochs = Callable[[int], Iterator[Any]]


@dataclass(frozen=True)
class Trial:
    """A contender with a dataset to load."""

    contender: Callable[[Any, int, int, int], Epochs]
    dataset: Any
    minibatch_size: int
    num_workers: int
    num_threads: int

    def open(self) -> Epochs:
        """Construct the loader."""
        return self.contender(self.dataset, self.minibatch_size, self.num_workers, self.num_threads)

    def import_loader(self) -> None:
        """Import what `open` would import."""
        family = self.contender.__name__.partition("_")[0]
        importlib.import_module(_MODULES[family])


_MODULES = {"fifteen": "fifteen_data_loaders", "pytorch": "torch.utils.data", "grain": "grain"}


def endless(epochs: Epochs) -> Iterator[Any]:
    """Epoch after epoch, by iterating anew."""
    return itertools.chain.from_iterable(map(epochs, itertools.count()))


def fifteen(dataset: Any, minibatch_size: int, num_workers: int, num_threads: int) -> Epochs:
    """Our own loader with its default settings."""
    from fifteen_data_loaders import DataLoader

    loader = DataLoader(dataset, minibatch_size, num_workers, num_threads=num_threads)
    return lambda seed: iter(loader.minibatches(seed))


def fifteen_cycled(dataset: Any, minibatch_size: int, num_workers: int, num_threads: int) -> Epochs:
    """The same, the epochs in one iteration without end."""
    from fifteen_data_loaders import DataLoader, cycled_minibatches

    loader = DataLoader(dataset, minibatch_size, num_workers, num_threads=num_threads)
    return lambda seed: cycled_minibatches(loader, seed)


def fifteen_collate_fn(
    dataset: Any, minibatch_size: int, num_workers: int, num_threads: int
) -> Epochs:
    """The same, with a `collate_fn` of the user's."""
    from fifteen_data_loaders import DataLoader

    loader = DataLoader(
        dataset, minibatch_size, num_workers, num_threads=num_threads, collate_fn=_numpy_collate
    )
    return lambda seed: iter(loader.minibatches(seed))


def pytorch_forkserver(*arguments: Any) -> Epochs:
    """PyTorch with workers that may be used beside JAX."""
    return _pytorch("forkserver", *arguments)


def pytorch_spawn(*arguments: Any) -> Epochs:
    """PyTorch with fresh interpreters for workers."""
    return _pytorch("spawn", *arguments)


def pytorch_fork(*arguments: Any) -> Epochs:
    """PyTorch with forked workers, which JAX warns of: the fastest to start."""
    return _pytorch("fork", *arguments)


def pytorch_documented(*arguments: Any) -> Epochs:
    """PyTorch with the collation that the documentation of JAX gives for it."""
    dataset, minibatch_size, num_workers, num_threads = arguments
    return _pytorch(
        "forkserver", dataset, minibatch_size, num_workers, num_threads, _documented_collate
    )


def pytorch_tensors(*arguments: Any) -> Epochs:
    """PyTorch's own collation into shared memory, and NumPy views of its tensors."""
    from torch.utils._pytree import tree_map
    from torch.utils.data import default_collate

    dataset, minibatch_size, num_workers, num_threads = arguments
    epochs = _pytorch(
        "forkserver", dataset, minibatch_size, num_workers, num_threads, default_collate
    )
    return lambda seed: (tree_map(np.asarray, minibatch) for minibatch in epochs(seed))


def grain_iter_dataset(
    dataset: Any, minibatch_size: int, num_workers: int, num_threads: int
) -> Epochs:
    """Grain's dataset API; its iterators repeat the dataset without end."""
    grain = _grain()
    return lambda seed: iter(
        grain.MapDataset.source(dataset)
        .seed(seed)
        .shuffle()
        .repeat()
        .to_iter_dataset(grain.ReadOptions(0, 0))
        .batch(minibatch_size)
        .mp_prefetch(grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=2))
    )


def grain_data_loader(
    dataset: Any, minibatch_size: int, num_workers: int, num_threads: int
) -> Epochs:
    """Grain's older ``DataLoader``; its iterators repeat the dataset without end."""
    grain = _grain()
    return lambda seed: iter(
        grain.DataLoader(
            data_source=dataset,
            sampler=grain.samplers.IndexSampler(len(dataset), shuffle=True, seed=seed),
            operations=[grain.transforms.Batch(minibatch_size, drop_remainder=True)],
            worker_count=num_workers,
            worker_buffer_size=2,
            read_options=grain.ReadOptions(0, 0),
        )
    )


def bare(dataset: Any, minibatch_size: int, num_workers: int, num_threads: int) -> Epochs:
    """No loader: ``dataset[index]`` again and again, which yields ``None`` for a minibatch."""

    def epoch(seed: int) -> Iterator[None]:
        order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
        for position, index in enumerate(order, 1):
            dataset[index]
            if position % minibatch_size == 0:
                yield None

    return epoch


def _pytorch(
    start_method: str,
    dataset: Any,
    minibatch_size: int,
    num_workers: int,
    num_threads: int,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> Epochs:
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        dataset,
        minibatch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        collate_fn=collate_fn or _numpy_collate,
        persistent_workers=True,
        multiprocessing_context=multiprocessing.get_context(start_method),
    )
    return lambda seed: iter(loader)


def _numpy_collate(samples: Sequence[Any]) -> Any:
    """Stacks arrays and tuples of them, as tutorials of JAX do with PyTorch's loader."""
    if isinstance(samples[0], tuple):
        return tuple(map(_numpy_collate, zip(*samples, strict=True)))
    return np.stack(samples) if isinstance(samples[0], np.ndarray) else np.array(samples)


def _documented_collate(samples: list[Any]) -> Any:
    from torch.utils._pytree import tree_map
    from torch.utils.data import default_collate

    return tree_map(np.asarray, default_collate(samples))


def _grain() -> Any:
    import absl.flags
    import grain

    # Its worker processes take their settings from absl's flags, which must have been parsed.
    absl.flags.FLAGS.mark_as_parsed()
    return grain
