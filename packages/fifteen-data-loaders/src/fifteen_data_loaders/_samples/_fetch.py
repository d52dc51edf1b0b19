"""Loading samples: the same code in the calling process, in its threads and in worker processes."""

import sys
from collections.abc import Mapping
from typing import Any

from fifteen_data_loaders._errors import add_note
from fifteen_data_loaders._sample_rng import MinibatchScope, SampleScope


def fetch(dataset: Any, indices: list[int], shuffle_seed: int | None) -> list[Any]:
    """Load samples, in the order of ``indices``.

    Args:
        dataset: asked through ``__getitems__`` if it has that, else sample by sample.
        indices: plain Python integers, at least one.
        shuffle_seed: of the epoch, for `sample_rng`.

    Raises:
        Exception: what the dataset raised, with a note that names the sample.
    """
    if is_batched(dataset):
        return _fetch_together(dataset, indices, shuffle_seed)
    samples: list[Any] = []
    try:
        with SampleScope(shuffle_seed) as scope:
            for index in indices:
                scope.index = index
                samples.append(dataset[index])
    except StopIteration as error:
        raise _noted(_stop_iteration("__getitem__"), indices[len(samples)]) from error
    except BaseException as error:
        _noted(error, indices[len(samples)])
        raise
    return samples


def is_batched(dataset: object) -> bool:
    """Whether a dataset loads several samples in one call.

    Its class must say so. An attribute may be that of another dataset, to which a wrapper passes on
    what it does not know, and then it knows nothing of what the wrapper does to samples.

    That of a PyTorch ``Subset`` asks the dataset below, which may only know single samples. Then it
    is asked for those here, since each has random numbers of its own.
    """
    own: Any = getattr(type(dataset), "__getitems__", None)
    if own is None:
        return False
    torch = sys.modules.get("torch.utils.data")
    if torch is not None and own is getattr(torch.Subset, "__getitems__", None):
        return is_batched(dataset.dataset)  # type: ignore[attr-defined] # A Subset has one.
    return True


def _fetch_together(dataset: Any, indices: list[int], shuffle_seed: int | None) -> list[Any]:
    try:
        with SampleScope(shuffle_seed):
            # A copy, since the dataset may keep or change the list that it gets.
            together = dataset.__getitems__(list(indices))
            samples = list(together)
    except StopIteration as error:
        raise _noted(_stop_iteration("__getitems__"), *indices) from error
    except BaseException as error:
        _noted(error, *indices)
        raise
    if isinstance(together, Mapping):
        raise TypeError(
            f"`dataset.__getitems__` must return a sequence of samples, got a "
            f"{type(together).__name__} with the keys {list(together)}"
        )
    if len(samples) != len(indices):
        raise ValueError(
            f"`dataset.__getitems__` must return one sample for each index, got {len(samples)} "
            f"samples for the {len(indices)} indices {abbreviated(indices)}"
        )
    return samples


def collate(
    collate_fn: Any, samples: list[Any], shuffle_seed: int | None, number: int, shard: int
) -> Any:
    """Call a custom ``collate_fn`` for minibatch ``number`` of an epoch."""
    try:
        with MinibatchScope(shuffle_seed, number, shard):
            return collate_fn(samples)
    except StopIteration as error:
        raise _stop_iteration("collate_fn") from error


def abbreviated(indices: list[int]) -> str:
    """Write out indices, in short where there are many."""
    if len(indices) <= 8:
        return str(indices)
    return f"[{', '.join(map(str, indices[:6]))}, ..., {indices[-1]}]"


def _stop_iteration(name: str) -> RuntimeError:
    return RuntimeError(
        f"`{name}` raised StopIteration, which would end the epoch early without a word"
    )


def _noted(error: BaseException, *indices: int) -> BaseException:
    which = f"sample {indices[0]}" if len(indices) == 1 else f"samples {abbreviated([*indices])}"
    add_note(error, f"Raised while loading {which} of the dataset.")
    return error
