"""Public data sets that are known by name.

A set is looked for, in this order, in the folder given (``--data-dir`` or ``ZOO_DATA_DIR``) as
``<name>.npz`` or in its original files; where a Debian package puts it; and in a download of its
original, kept in ``~/.cache/latentzoo/data``.
"""

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.boundary import cache_folder
from zoo.data.npz import Npz, channels_first
from zoo.data.source import to_labels
from zoo.errors import DataError
from zoo.files import refuse_placeholder
from zoo.optional import optional


@dataclass(frozen=True)
class NamedSet:
    """A public data set that is known by name.

    ``torchvision`` is the class of torchvision.datasets that downloads it, ``scale`` the largest
    value of images that are not stored as uint8.
    """

    licence: str
    torchvision: str | None = None
    places: tuple[str, ...] = ()
    scale: int = 255
    hint: str = ""


NAMED = {
    "mnist": NamedSet("CC BY-SA 3.0 (Yann LeCun, Corinna Cortes)", "MNIST"),
    "fashion_mnist": NamedSet(
        "MIT (Zalando SE)",
        "FashionMNIST",
        places=("/usr/share/datasets/fashion-mnist",),
        hint=", or type: apt-get install dataset-fashion-mnist",
    ),
    "cifar10": NamedSet("none stated (Alex Krizhevsky; cite Krizhevsky 2009)"),
    "usps": NamedSet(
        "none stated (US Postal Service; cite Le Cun et al. 1990)", "USPS", scale=2000
    ),
    "olivetti_faces": NamedSet("free with credit to AT&T Laboratories Cambridge"),
}
"""olivetti_faces: the original pixels, 0 to 242; people 0 to 29 are train and 30 to 39 test, as in
Hinton & Salakhutdinov 2006."""

_IDX = {"train": "train", "test": "t10k"}
_CIFAR10 = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
_CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"  # the one without pickles
_CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"


_Found = tuple[Tensor, Tensor]  # images N x C x H x W uint8, labels N int64


def find_named(name: str, split: str, data_dir: Path | None) -> tuple[Tensor, Tensor, Path]:
    """Images, labels, and where they were found.

    Raises:
        DataError: they were not found (the text has all places that were searched), or are damaged.
        MissingDependency: they were not found, and there is no torchvision to download them.
    """
    known = NAMED[name]
    if data_dir is None and os.environ.get("ZOO_DATA_DIR"):
        data_dir = Path(os.environ["ZOO_DATA_DIR"])
    cache = cache_folder("data")
    tried: list[str] = []
    for folder in (*([data_dir] if data_dir else []), *map(Path, known.places), cache):
        for path, read in _layouts(name, folder):
            if found := read(path, split, tried):
                return *found, path
    if name == "cifar10" or known.torchvision:
        try:
            return *_download(name, split, cache), cache
        except (RuntimeError, OSError) as error:
            tried.append(f"torchvision's download to {cache}: {str(error).splitlines()[0]}")
    arrays = (
        "images, labels"
        if name == "olivetti_faces"
        else "train_images, train_labels, test_images, test_labels"
    )
    raise DataError(
        f"the data set {name} was not found. Looked in:\n"
        + "".join(f"  {place}\n" for place in tried)
        + f"Put {name}.npz ({arrays}) or the original files into a folder and name it with "
        f"--data-dir{known.hint}"
    )


def _layouts(name: str, folder: Path) -> Iterator[tuple[Path, Callable[..., _Found | None]]]:
    """The places in ``folder`` where a named set may be, each with the function that reads it."""
    yield folder / f"{name}.npz", partial(_npz, name)
    if name == "cifar10":
        yield folder / "cifar-10-batches-bin", _cifar10
    elif name in ("mnist", "fashion_mnist"):
        yield folder, _idx
        yield folder / str(NAMED[name].torchvision) / "raw", _idx


def _download(name: str, split: str, cache: Path) -> _Found:
    known = NAMED[name]
    if name == "cifar10":
        # Not torchvision's class, whose files are pickles.
        utils = optional("torchvision.datasets.utils", "torchvision", "train")
        utils.download_and_extract_archive(_CIFAR10_URL, str(cache), md5=_CIFAR10_MD5)
        found = _cifar10(cache / "cifar-10-batches-bin", split, [])
        if found is None:
            raise DataError(f"{_CIFAR10_URL} does not hold what it should")
        return found
    torchvision = optional("torchvision.datasets", "torchvision", "train")
    kind = getattr(torchvision, str(known.torchvision))
    data = kind(str(cache), train=split == "train", download=True)
    return torch.as_tensor(data.data)[:, None], torch.as_tensor(data.targets)


def _npz(name: str, path: Path, split: str, tried: list[str]) -> _Found | None:
    tried.append(str(path))
    if not path.is_file():
        return None
    scale = NAMED[name].scale
    with Npz(path) as file:
        if f"{split}_residuals" in file.names:
            images = _cifar10_pixels(path, file.array(f"{split}_residuals"))
            labels = file.labels(f"{split}_labels", len(images))
        elif name == "olivetti_faces":
            images, people = file.array("images"), file.array("labels")
            labels = people.tolist()
            if len(images) == len(people) and images.ndim and people.ndim == 1:
                chosen = (people < 30) == (split == "train")
                images, labels = images[chosen], to_labels(people[chosen], int(chosen.sum()))
        else:
            images = file.array(f"{split}_images")
            labels = file.labels(f"{split}_labels", len(images) if images.ndim else 0)
    if scale != 255 and images.dtype == np.uint16 and images.max(initial=0) <= scale:
        images = np.round(images * (255 / scale)).astype(np.uint8)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(labels) != len(images):
        raise DataError(
            f"{path}: expected uint8 images N x H x W (x C) and as many labels, got "
            f"{images.dtype} {images.shape} and {len(labels)} labels"
        )
    return channels_first(images), torch.tensor(labels)


def _cifar10_pixels(path: Path, residuals: np.ndarray) -> np.ndarray:
    """C x N x H x W differences along rows, then columns, red and blue less green: the pixels."""
    if residuals.dtype != np.uint8 or residuals.ndim != 4 or len(residuals) != 3:
        raise DataError(
            f"{path}: expected uint8 residuals 3 x N x H x W, got {residuals.dtype} "
            f"{residuals.shape}"
        )
    planes = np.cumsum(residuals, axis=2, dtype=np.uint8)
    planes = np.cumsum(planes, axis=3, dtype=np.uint8)
    planes[0] += planes[1]
    planes[2] += planes[1]
    return planes.transpose(1, 2, 3, 0)


def _cifar10(folder: Path, split: str, tried: list[str]) -> _Found | None:
    """The binary version: rows of a label, then red, green and blue, 1024 bytes each."""
    rows = []
    for path in (folder / name for name in _CIFAR10[split]):
        if not path.is_file():
            tried.append(str(path))
            return None
        refuse_placeholder(path, DataError)
        data = path.read_bytes()
        if len(data) % 3073 or not data:
            raise DataError(f"{path} has {len(data):,} bytes, expected a multiple of 3,073")
        rows.append(torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(-1, 3073))
    values = torch.cat(rows)
    return values[:, 1:].reshape(-1, 3, 32, 32).contiguous(), values[:, 0].long()


def _idx(folder: Path, split: str, tried: list[str]) -> _Found | None:
    """The idx format of MNIST: a header of big-endian numbers, then the bytes."""
    arrays = []
    for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
        stem = folder / f"{_IDX[split]}-{kind}-ubyte"
        path = next((p for p in (Path(f"{stem}.gz"), stem) if p.is_file()), None)
        if path is None:
            tried.append(f"{stem}[.gz]")
            return None
        refuse_placeholder(path, DataError)
        try:
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            magic, *shape = np.frombuffer(data, ">i4", 1 + dimensions).tolist()
            if magic != 0x800 + dimensions or min(shape) < 0:
                raise ValueError(f"its header is {magic}, {shape}")
            array = np.frombuffer(data, np.uint8, offset=4 * (1 + dimensions))
            arrays.append(torch.from_numpy(array.reshape(shape).copy()))
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(f"{path} is not an idx file: {error}") from None
    images, labels = arrays
    if len(images) != len(labels):
        raise DataError(f"{folder} has {len(images):,} images and {len(labels):,} labels")
    return images[:, None], labels.long()
