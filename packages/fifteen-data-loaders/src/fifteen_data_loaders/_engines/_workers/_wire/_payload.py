"""The payload: dataset and ``collate_fn``, pickled once into memory that all workers map.

The parent writes it while workers start, and each of them reads it.

Large buffers are not copied into the pickle but laid beside it, each worker's arrays are private
copy-on-write views of them: a dataset of any size is in memory once, whatever the worker count.
"""

import functools
import io
import marshal
import mmap
import os
import pickle
import random
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, Self

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from fifteen_data_loaders._engines._workers._wire._pickler import FaithfulPickler
from fifteen_data_loaders._engines._workers._wire._shared_classes import share_class
from fifteen_data_loaders._samples._buffers import aligned

_TRAILER = struct.Struct("=qq")
"""At the end of the file: where its table begins, and its length. The table holds start and length
of the pickle, and of each buffer."""


_LOCK = threading.RLock()
"""What is pickled by value is known to the whole process. A dataset may construct a loader of its
own while it is pickled."""


_MEMMAP_FIELDS = {"_mmap", "filename", "offset", "mode"}


class Pickled(NamedTuple):
    """A payload that was written, and what was noticed on the way."""

    random_states: list[str]
    """Classes of random number generators in the dataset, which every worker would repeat."""
    classes: list[type]
    """Classes that were pickled by value."""


def pickle_payload(fd: int, dataset: Any, collate_fn: Any) -> Pickled:
    """Write a payload into a file.

    Raises:
        TypeError: naming the attribute that cannot be pickled.
    """
    stream = io.BytesIO()
    buffers: list[memoryview] = []
    pickler = _Pickler(stream, lambda buffer: buffers.append(buffer.raw()))
    with _LOCK, pickler:
        try:
            # The classes last: by then the dict holds those that were met on the way.
            pickler.dump((dataset, collate_fn, pickler.classes))
        except Exception as error:
            raise _unpicklable(dataset, collate_fn, error) from error
    extents, end = [], 0
    for part in [stream.getbuffer(), *buffers]:
        extents.append((end, part.nbytes))
        _write(fd, part, end)
        end += aligned(part.nbytes)
    table = marshal.dumps(extents)
    _write(fd, memoryview(table + _TRAILER.pack(end, len(table))), end)
    return Pickled(pickler.random_states, list(pickler.classes.values()))


def unpickle_payload(fd: int) -> tuple[Any, Any]:
    """Load dataset and ``collate_fn`` in a worker, over private copy-on-write memory."""
    memory = memoryview(mmap.mmap(fd, os.fstat(fd).st_size, access=mmap.ACCESS_COPY))
    start, nbytes = _TRAILER.unpack(memory[-_TRAILER.size :])
    extents = marshal.loads(memory[start : start + nbytes])
    parts = [memory[start : start + nbytes] for start, nbytes in extents]
    dataset, collate_fn, classes = pickle.loads(parts[0], buffers=parts[1:])
    for token, kind in classes.items():
        share_class(kind, token)
    return dataset, collate_fn


def _write(fd: int, part: memoryview, start: int) -> None:
    part = part.cast("B")
    # Writing into a fresh file is much faster than copying through a mapping, page fault by page
    # fault. One call writes at most 2 GiB.
    while part.nbytes:
        written = os.pwrite(fd, part, start)
        start += written
        part = part[written:]


class _Pickler(FaithfulPickler):
    """Pickles by value what is of a module that a worker could not import."""

    classes: dict[str, type]
    """Classes that were pickled by value, by their tokens."""

    def __init__(self, stream: io.BytesIO, buffer_callback: Callable[[Any], None]) -> None:
        super().__init__(stream, protocol=5, buffer_callback=buffer_callback)
        self.random_states: list[str] = []
        self.classes = {}
        self._importable: dict[str, bool] = {}
        self._registered: list[ModuleType] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for module in self._registered:
            cloudpickle.unregister_pickle_by_value(module)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType):
            self._pickle_by_value_if_needed(obj.__module__)
        elif isinstance(obj, np.ndarray):
            mapped = _reduce_memmap(obj)
            if mapped is not None:
                return mapped
        elif isinstance(obj, functools.cached_property):
            # Before Python 3.12 it holds a lock.
            return functools.cached_property, (obj.func,), {"attrname": obj.attrname}
        elif isinstance(obj, _LRU_CACHE) and self._is_unknown_to_workers(obj):
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        elif isinstance(obj, random.Random | np.random.Generator | np.random.RandomState):
            self.random_states.append(f"{type(obj).__module__}.{type(obj).__qualname__}")
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented and isinstance(obj, type):
            self.classes[share_class(obj)] = obj
        return reduced

    def _is_unknown_to_workers(self, function: Any) -> bool:
        name = function.__module__
        self._pickle_by_value_if_needed(name)
        return (
            name == "__main__"
            or name in cloudpickle.list_registry_pickle_by_value()
            or "<locals>" in function.__qualname__
        )

    def _pickle_by_value_if_needed(self, name: str | None) -> None:
        """Have a module pickled by value if it exists here but no interpreter could find it."""
        module = sys.modules.get(name or "__main__")
        if name is None or module is None or name in self._importable:
            return
        self._importable[name] = name == "__main__" or _is_importable(name)
        if not self._importable[name] and name not in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(module)
            self._registered.append(module)


_LRU_CACHE = type(functools.cache(lambda: None))


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    """Have a cached function cached again, with nothing in its cache."""
    return functools.lru_cache(**parameters)(function)


def _is_importable(name: str) -> bool:
    if name in sys.builtin_module_names:
        return True
    parent, _, _ = name.rpartition(".")
    path: Sequence[str] | None = None
    if parent:
        if not _is_importable(parent):
            return False
        path = getattr(sys.modules.get(parent), "__path__", None)
        if path is None:
            return True  # A module that made itself a namespace, such as os.path.
    # Not importlib.util.find_spec: that is content with what is in sys.modules.
    return any(finder.find_spec(name, path) for finder in sys.meta_path)


def _reduce_memmap(array: NDArray[Any]) -> tuple[Any, ...] | None:
    """Have a file-backed memory map opened again by each worker, instead of copied."""
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or root.mode == "c" or root.filename is None:
        return None
    memory = root.base
    if not isinstance(memory, mmap.mmap) or not os.path.exists(root.filename):
        return None
    if array.dtype.hasobject or array.size == 0:
        return None
    # Views keep the `offset` of the array that they were taken of, so go by the addresses. The
    # mapping begins at a multiple of the granularity before the offset.
    low, high = np.lib.array_utils.byte_bounds(array)
    mapped_from = root.offset - root.offset % mmap.ALLOCATIONGRANULARITY
    map_address = np.frombuffer(memory, np.uint8).ctypes.data
    file_start = mapped_from + low - map_address
    first = array.__array_interface__["data"][0] - low
    # "w+" would empty the file.
    mode = "r" if root.mode == "r" else "r+"
    return _open_memmap, (
        os.path.abspath(root.filename),
        mode,
        file_start,
        high - low,
        first,
        array.dtype,
        array.shape,
        array.strides,
        type(array),
        _own_fields(getattr(array, "__dict__", {})),
    )


def _own_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns what a subclass knows beside its memory, such as the mask of a masked array.

    The fields of a memmap, of which masked arrays keep copies, are those of the one that is opened.
    """
    return {
        name: _own_fields(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if name not in _MEMMAP_FIELDS
    }


def _open_memmap(
    filename: str,
    mode: Any,
    start: int,
    nbytes: int,
    first: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    kind: type[NDArray[Any]],
    fields: dict[str, Any],
) -> NDArray[Any]:
    memory = np.memmap(filename, np.uint8, mode, start, (nbytes,))
    item = memory[first : first + dtype.itemsize].view(dtype)
    array = np.lib.stride_tricks.as_strided(item, shape, strides, subok=kind is not np.ndarray)
    if type(array) is not kind:
        array = array.view(kind)
    if fields:
        vars(array).update(fields)
    return array


def _unpicklable(dataset: Any, collate_fn: Any, error: Exception) -> TypeError:
    for name, value in (("dataset", dataset), ("collate_fn", collate_fn)):
        path = _find_unpicklable(value, name, depth=4)
        if path is not None:
            where, culprit = path
            return TypeError(
                f"`{name}` must be picklable to be sent to worker processes, but `{where}` (a "
                f"{type(culprit).__module__}.{type(culprit).__qualname__}) is not: {error}. Open "
                f"files, connections and locks on first use in the worker instead, or leave them "
                f"out with `__getstate__`; `num_threads` needs no pickling"
            )
    return TypeError(f"`dataset` must be picklable to be sent to worker processes: {error}")


def _find_unpicklable(value: Any, path: str, depth: int) -> tuple[str, Any] | None:
    """Find what lies at the bottom of a failure, as a path such as ``dataset.files[0]``."""
    if _is_picklable(value):
        return None
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        parts = [(f"{path}[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{path}[{index}]", part) for index, part in enumerate(value)]
    elif isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        for name, cell in cells:
            with suppress(ValueError):  # Empty, since the variable has no value yet.
                parts.append((f"{path}, variable {name!r}", cell.cell_contents))
    elif hasattr(value, "__dict__"):
        parts = [(f"{path}.{name}", part) for name, part in vars(value).items()]
    for part_path, part in parts if depth else []:
        found = _find_unpicklable(part, part_path, depth - 1)
        if found is not None:
            return found
    return path, value


def _is_picklable(value: Any) -> bool:
    # Buffers are dropped: this is about kinds, and copying gigabytes would not help.
    pickler = _Pickler(io.BytesIO(), lambda _: None)
    with pickler:
        try:
            pickler.dump(value)
        except Exception:
            return False
    return True
