"""Data sets for training and measuring, in memory as one uint8 tensor each.

A named set is looked for, in this order, in the folder given (``--data-dir`` or ``ZOO_DATA_DIR``)
as ``<name>.npz``, as the four idx files, or in torchvision's layout; where a Debian package puts
it; and in torchvision's own download, kept in ``~/.cache/latentzoo/data``.
"""

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo._optional import optional
from zoo.errors import DataError
from zoo.images import read_pictures
from zoo.spec import Preprocessing


@dataclass(frozen=True)
class NamedSet:
    """A public data set that is known by name."""

    torchvision: str
    licence: str
    places: tuple[str, ...] = ()


NAMED = {
    "mnist": NamedSet("MNIST", "CC BY-SA 3.0 (Yann LeCun, Corinna Cortes)"),
    "fashion_mnist": NamedSet(
        "FashionMNIST", "MIT (Zalando SE)", places=("/usr/share/datasets/fashion-mnist",)
    ),
}

_IDX = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class Dataset:
    """Images in memory, N x C x H x W uint8, with labels when the set has them."""

    name: str
    split: str
    images: Tensor
    labels: Tensor | None
    source: str
    licence: str
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int = 500) -> Iterator[Tensor]:
        """All images in order, as float32 in [0, 1]."""
        for part in self.images.split(size):
            yield to_float(part)


def to_float(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]."""
    return images.float().div_(255)


def load_data(
    name: str,
    split: str,
    preprocessing: Preprocessing,
    *,
    data_dir: Path | None = None,
    strict: bool = False,
) -> Dataset:
    """The ``train`` or ``test`` part of a named set, or all pictures in a folder.

    Args:
        name: a key of :data:`NAMED`, or a folder of pictures, which has no split.
        preprocessing: makes the pictures of a folder the model's images.
        data_dir: where to look for a named set first; ``ZOO_DATA_DIR`` by default.
        strict: refuse a folder in which a picture cannot be read.

    Raises:
        DataError: not found, with all places where it was looked for, or not of the model's shape.
        ImageError: no picture of the folder can be read, or (strict) one cannot.
    """
    if name in NAMED:
        data = _named(name, split, data_dir)
    elif Path(name).is_dir():
        pictures = read_pictures([name], preprocessing, strict=strict)
        images = (pictures.images * 255).round().to(torch.uint8)
        data = Dataset(
            name=Path(name).resolve().name,
            split="all",
            images=images,
            labels=None,
            source=str(name),
            licence="of their owner",
            skipped=pictures.skipped,
        )
    else:
        raise DataError(
            f"no data set {name!r}: expected {', '.join(NAMED)}, or a folder of pictures "
            f"(there is none at {Path(name).absolute()})"
        )
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    if tuple(data.images.shape[1:]) != shape:
        raise DataError(
            f"the images of {data.name} are {tuple(data.images.shape[1:])} (C, H, W), the model "
            f"takes {shape}; set its size and channels: --config size={data.images.shape[-1]} "
            f"--config channels={data.images.shape[1]}"
        )
    return data


def _named(name: str, split: str, data_dir: Path | None) -> Dataset:
    known = NAMED[name]
    if data_dir is None and os.environ.get("ZOO_DATA_DIR"):
        data_dir = Path(os.environ["ZOO_DATA_DIR"])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "latentzoo", "data")
    tried: list[str] = []
    for folder in (*([data_dir] if data_dir else []), *map(Path, known.places), cache):
        raw = folder / known.torchvision / "raw"
        for path, read in ((folder / f"{name}.npz", _npz), (folder, _idx), (raw, _idx)):
            if found := read(path, split, tried):
                images, labels = found
                return Dataset(name, split, images, labels, str(path), known.licence)
    torchvision = optional("torchvision.datasets", "torchvision", "train")
    try:
        data = getattr(torchvision, known.torchvision)(
            str(cache), train=split == "train", download=True
        )
    except (RuntimeError, OSError) as error:
        tried.append(f"torchvision's download to {cache}: {str(error).splitlines()[0]}")
        raise DataError(
            f"the data set {name} is not to be had. Looked in:\n"
            + "".join(f"  {place}\n" for place in tried)
            + f"Put {name}.npz (train_images, train_labels, test_images, test_labels) or the four "
            "idx files into a folder and name it with --data-dir"
            + (
                ", or type: apt-get install dataset-fashion-mnist"
                if name == "fashion_mnist"
                else ""
            )
        ) from None
    return Dataset(name, split, data.data[:, None], data.targets, str(cache), known.licence)


def _npz(path: Path, split: str, tried: list[str]) -> tuple[Tensor, Tensor] | None:
    tried.append(str(path))
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file[f"{split}_images"], file[f"{split}_labels"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} does not hold {split}_images and {split}_labels: {error}"
        ) from None
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(labels) != len(images):
        raise DataError(
            f"{path}: expected uint8 images N x H x W (x C) and as many labels, got "
            f"{images.dtype} {images.shape} and {len(labels)} labels"
        )
    tensor = torch.from_numpy(images)
    tensor = tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()
    return tensor, torch.from_numpy(labels.astype(np.int64))


def _idx(folder: Path, split: str, tried: list[str]) -> tuple[Tensor, Tensor] | None:
    """The idx format of MNIST: a header of big-endian numbers, then the bytes."""
    arrays = []
    for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
        stem = folder / f"{_IDX[split]}-{kind}-ubyte"
        path = next((p for p in (Path(f"{stem}.gz"), stem) if p.is_file()), None)
        if path is None:
            tried.append(f"{stem}[.gz]")
            return None
        try:
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            header = np.frombuffer(data, ">i4", 1 + dimensions)
            array = np.frombuffer(data, np.uint8, offset=4 * (1 + dimensions))
            arrays.append(torch.from_numpy(array.reshape(tuple(header[1:])).copy()))
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"{path} is not an idx file: {error}") from None
    images, labels = arrays
    return images[:, None], labels.long()


def split_validation(data: Dataset, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the part to train on and of the validation part, the same for the same seed."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    held_out = round(len(data) * fraction)
    return order[held_out:], order[:held_out]
