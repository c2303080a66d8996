"""``.npz`` files of arrays, read a part at a time."""

import contextlib
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import numpy as np
import torch
from torch import Tensor

from zoo.data.imagefile import read_header
from zoo.data.source import Part, Source, key_of, to_labels
from zoo.errors import DataError
from zoo.files import refuse_placeholder
from zoo.spec import Preprocessing


def open_npz(path: Path, split: str, preprocessing: Preprocessing) -> Source:
    with Npz(path) as file:
        name = next((n for n in (f"{split}_images", "images") if n in file.names), None)
        if name is None:
            raise DataError(
                f"{path} does not hold {split}_images or images, uint8 N x H x W, N x H x W x C or "
                "N x C x H x W; it holds " + (", ".join(file.names[:10]) or "nothing")
            )
        first, shape = file.images_layout(name, preprocessing)
        of_labels = name.removesuffix("images") + "labels"
        labels: list[int] | str = []
        if of_labels in file.names:
            try:
                labels = file.labels(of_labels, shape[0])
            except DataError as error:  # the images are good, and the labels may not be needed
                labels = str(error)

    def parts() -> Iterator[Part]:
        done = 0
        with Npz(path) as file:
            for images in file.images(name, first):
                inside = slice(done, done + len(images))
                yield Part(images, labels if isinstance(labels, str) else labels[inside], [])
                done += len(images)

    return Source(
        name=path.stem,
        path=path,
        split="all" if name == "images" else split,
        most=shape[0],
        shape=shape[1:],
        key=key_of([path]),
        parts=parts,
    )


class Npz:
    """A ``.npz`` file that is read without trust: headers are compared with the bytes that follow.

    ``numpy.load`` would allocate whatever a header claims. All errors become DataError.
    """

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Self:
        refuse_placeholder(self.path, DataError)
        with self._errors("is not a .npz file"):
            self._zip = zipfile.ZipFile(self.path)
        self.names = [n.removesuffix(".npy") for n in self._zip.namelist() if n.endswith(".npy")]
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def images_layout(
        self, name: str, wanted: Preprocessing
    ) -> tuple[bool, tuple[int, int, int, int]]:
        """Whether the channels of uint8 images come before height and width, and N, C, H, W.

        Where both could be, ``wanted`` decides: the size that the model takes.
        """
        with self._open(name) as (_, shape, dtype):
            text = " x ".join(map(str, shape))
            if dtype != np.uint8 or len(shape) not in (3, 4):
                raise DataError(
                    f"{self.path}: expected uint8 images N x H x W, N x H x W x C or N x C x H x W "
                    f"in {name}, got {dtype} {text}"
                )
            if len(shape) == 3:
                n, height, width = shape
                return False, (n, 1, height, width)
            n, height, width, channels = shape
            # With the channels first, what was taken for the height is their number.
            readings = {False: (n, channels, height, width), True: (n, height, width, channels)}
            likely = {first: read for first, read in readings.items() if read[1] in (1, 3, 4)}
            if len(likely) == 2:
                size = (wanted.channels, wanted.height, wanted.width)
                likely = {first: read for first, read in likely.items() if read[1:] == size}
                if len(likely) != 1:
                    raise DataError(
                        f"{self.path}: {name} is {text}, which may be N x H x W x C or N x C x H x "
                        "W: the model's size does not decide which. Set it (--config size=... "
                        "--config channels=...), or save them as N x H x W with one channel"
                    )
            ((first, got),) = (likely or {False: readings[False]}).items()
            return first, got

    def images(self, name: str, first: bool) -> Iterator[Tensor]:
        """The same images in parts n x C x H x W; ``first`` as of :meth:`images_layout`."""
        with self._open(name) as (file, shape, _):
            row = math.prod(shape[1:])
            size = max(1, min(shape[0], 4_000_000 // max(1, row)))
            for start in range(0, shape[0], size):
                count = min(size, shape[0] - start)
                images = self._values(file, (count, *shape[1:]), np.dtype(np.uint8))
                yield torch.from_numpy(images) if first else channels_first(images)

    def labels(self, name: str, count: int) -> list[int]:
        """As many as ``count``: :func:`zoo.data.source.to_labels`. Raises: DataError."""
        try:
            return to_labels(self.array(name), count)
        except ValueError as error:
            raise DataError(
                f"{self.path}: {name} should be as many labels as images: {error}"
            ) from None

    def array(self, name: str) -> np.ndarray:
        """All of an array."""
        with self._open(name) as (file, shape, dtype):
            return self._values(file, shape, dtype)

    def _values(self, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        with self._errors("is damaged"):
            data = bytearray(file.read(math.prod(shape) * dtype.itemsize))
            return np.frombuffer(data, dtype).reshape(shape)

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
        with self._errors(f"does not hold {name}"):
            member = self._zip.getinfo(f"{name}.npy")
            file = self._zip.open(member)
            shape, fortran, dtype = read_header(file)
            if dtype.hasobject or dtype.itemsize == 0 or fortran or min(shape, default=1) < 0:
                raise ValueError(
                    f"expected numbers row by row, as np.ascontiguousarray gives them, got {dtype} "
                    f"{shape}" + (" column by column" if fortran else "")
                )
            if member.file_size - file.tell() != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"it should be {shape}, and has {member.file_size:,} bytes")
        with file:
            yield file, shape, dtype

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (
            OSError, KeyError, ValueError, TypeError, EOFError, RuntimeError, OverflowError,
            MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
        ) as error:  # fmt: skip
            raise DataError(f"{self.path} {what}: {error}") from None


def channels_first(images: np.ndarray) -> Tensor:
    """N x H x W (x C) as N x C x H x W."""
    tensor = torch.from_numpy(images)
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()
