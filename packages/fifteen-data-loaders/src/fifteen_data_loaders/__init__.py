"""Data loaders for JAX training loops: in worker processes, in threads and in memory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fifteen_data_loaders.__about__ import __version__

if TYPE_CHECKING:
    from fifteen_data_loaders._check_resume import check_resume
    from fifteen_data_loaders._cycled import cycled_minibatches
    from fifteen_data_loaders._data_loader import DataLoader
    from fifteen_data_loaders._errors import WorkerDiedError, WorkerError
    from fifteen_data_loaders._in_memory import InMemoryDataLoader
    from fifteen_data_loaders._sample_rng import sample_rng
    from fifteen_data_loaders._samples._collate import CollateFunction, stack_samples

__all__ = [
    "CollateFunction",
    "DataLoader",
    "InMemoryDataLoader",
    "WorkerDiedError",
    "WorkerError",
    "__version__",
    "check_resume",
    "cycled_minibatches",
    "sample_rng",
    "stack_samples",
]

_MODULES = {
    "CollateFunction": "_samples._collate",
    "DataLoader": "_data_loader",
    "InMemoryDataLoader": "_in_memory",
    "WorkerDiedError": "_errors",
    "WorkerError": "_errors",
    "check_resume": "_check_resume",
    "cycled_minibatches": "_cycled",
    "sample_rng": "_sample_rng",
    "stack_samples": "_samples._collate",
}


def __getattr__(name: str) -> Any:
    """Import on first use: worker processes need little of this, and start the sooner."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
