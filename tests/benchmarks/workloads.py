"""The datasets that are loaded.

Their workers import this module, so it imports NumPy alone. Epochs are long: what a loader does
between two of them is an experiment of its own.
"""

import sys
import time
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MANY = 640_000
_PIXEL = np.arange(128, dtype=np.int64)


class ReadyImages:
    """Float32 images that lie in memory, to be stacked and nothing else. 38 MB for 64 of them."""

    def __init__(self, image_count: int = 64) -> None:
        self.images: list[NDArray[np.float32]] = [
            np.full((224, 224, 3), number, np.float32) + np.arange(3).astype(np.float32)
            for number in range(image_count)
        ]

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        return self.images[index % len(self.images)], index

    def __len__(self) -> int:
        return _MANY


class Tokens:
    """128 tokens out of a long text, a view of it, and a label."""

    def __init__(self) -> None:
        self.text = np.arange(1 << 22, dtype=np.int32)

    def __getitem__(self, index: int) -> tuple[NDArray[np.int32], int]:
        start = index * 128 % len(self.text)
        return self.text[start : start + 128], index

    def __len__(self) -> int:
        return _MANY


class TokensTogether(Tokens):
    """The same samples, asked for by the run."""

    def __getitems__(self, indices: list[int]) -> list[tuple[NDArray[np.int32], int]]:
        rows = self.text.reshape(-1, 128)
        return list(zip(rows[np.asarray(indices) % len(rows)], indices, strict=True))


class CompressedImages:
    """Images to inflate, crop, convert and normalise: some 75 us each, and temporary arrays."""

    def __init__(self, sample_count: int = _MANY) -> None:
        self.sample_count = sample_count
        self.compressed = [_compressed_image(number) for number in range(64)]
        self.mean: Any = np.array([123.7, 116.3, 103.5], np.float32)
        self.scale: Any = 1 / np.array([58.4, 57.1, 57.4], np.float32)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        raw = zlib.decompress(self.compressed[index % 64])
        image = np.frombuffer(raw, np.uint8).reshape(128, 128, 3)
        top, left = index % 17, index % 13
        crop = image[top : top + 112, left : left + 112].astype(np.float32)
        return (crop - self.mean) * self.scale, index

    def __len__(self) -> int:
        return self.sample_count


def _compressed_image(number: int) -> bytes:
    down, across = _PIXEL[:, None] // 4 + number, _PIXEL[None, :] // 4
    image = np.stack([down + across, down ^ across, down - across], axis=-1)
    return zlib.compress(image.astype(np.uint8).tobytes())


class Small:
    """A few kilobytes."""

    def __init__(self) -> None:
        self.rows = np.arange(2048, dtype=np.int16).reshape(1024, 2)

    def __getitem__(self, index: int) -> tuple[NDArray[np.int16], int]:
        return self.rows[index], index

    def __len__(self) -> int:
        return len(self.rows)


class Imports(Small):
    """Says of every sample whether the process that loaded it has imported jax."""

    def __getitem__(self, index: int) -> Any:
        return np.int64("jax" in sys.modules)


class Sleeping:
    """Samples that wait, as for a disk or another machine, and need no processor."""

    def __init__(self, sample_count: int, seconds: float) -> None:
        self.sample_count = sample_count
        self.seconds = seconds

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        time.sleep(self.seconds)
        return np.full(16, index, np.float32)

    def __len__(self) -> int:
        return self.sample_count


class Uneven:
    """Samples that keep a processor busy, one in 64 of them for 20 times as long."""

    seconds = 0.25e-3
    sample_count = 64 * 32
    total_seconds = sample_count / 64 * (63 + 20) * seconds

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        end = time.perf_counter() + self.seconds * (20 if index % 64 == 0 else 1)
        while time.perf_counter() < end:
            pass
        return np.full(16, index, np.float32)

    def __len__(self) -> int:
        return self.sample_count


class BigArray:
    """One array of a gibibyte, all of which an epoch reads."""

    def __init__(self) -> None:
        self.rows = np.ones((8192, 1 << 15), np.float32)

    def __getitem__(self, index: int) -> np.float32:
        return self.rows[index].sum()

    def __len__(self) -> int:
        return len(self.rows)


class Paths:
    """As many path strings as ImageNet has images."""

    def __init__(self) -> None:
        self.paths = [
            f"train/n{number // 1300:08d}/n{number // 1300:08d}_{number}.JPEG"
            for number in range(1_280_000)
        ]

    def __getitem__(self, index: int) -> int:
        return len(self.paths[index])

    def __len__(self) -> int:
        return len(self.paths)
