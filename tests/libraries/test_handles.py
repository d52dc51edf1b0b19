"""What cannot be sent to workers is named, and the error says what to do instead."""

import mmap
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from fifteen_data_loaders import DataLoader
from pyarrow import parquet


class Holds:
    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 4


def _hdf5(path: Path) -> h5py.File:
    file = h5py.File(path, "w")
    file["x"] = np.arange(4)
    return file


def _parquet(path: Path) -> parquet.ParquetFile:
    parquet.write_table(pa.table({"x": [1, 2]}), path)
    return parquet.ParquetFile(path)


def _npz(path: Path) -> Any:
    np.savez(path.with_suffix(".npz"), x=np.arange(4))
    return np.load(path.with_suffix(".npz"))


def _mapping(path: Path) -> mmap.mmap:
    with open(path, "wb+") as file:
        file.truncate(100)
        return mmap.mmap(file.fileno(), 0)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (_hdf5, "`dataset.handle` (a h5py._hl.files.File)"),
        (lambda path: _hdf5(path)["x"], "`dataset.handle` (a h5py._hl.dataset.Dataset)"),
        (_parquet, "`dataset.handle.reader` (a pyarrow._parquet.ParquetReader)"),
        (_npz, "`dataset.handle.zip.fp` (a _io.BufferedReader)"),
        (_mapping, "`dataset.handle` (a mmap.mmap)"),
        (lambda path: path.open("wb"), "`dataset.handle` (a _io.BufferedWriter)"),
        (sqlite3.connect, "`dataset.handle` (a sqlite3.Connection)"),
        (lambda path: sqlite3.connect(path).cursor(), "`dataset.handle` (a sqlite3.Cursor)"),
        (lambda path: threading.local(), "`dataset.handle` (a _thread._local)"),
        (lambda path: threading.Lock(), "`dataset.handle` (a _thread.lock)"),
    ],
)
def test_a_handle_is_named_with_the_pattern(
    tmp_path: Path, make: Callable[[Path], Any], named: str
) -> None:
    dataset = Holds(make(tmp_path / "file"))
    with pytest.raises(TypeError) as raised:
        DataLoader(dataset, 2, num_workers=1)
    start, _, rest = str(raised.value).partition(f"but {named} is not: ")
    assert start == "`dataset` must be picklable to be sent to worker processes, "
    assert rest.endswith(
        ". Open files, connections and locks on first use in the worker instead, or leave them out "
        "with `__getstate__`; `num_threads` needs no pickling"
    )
    if hasattr(dataset.handle, "close"):
        dataset.handle.close()
