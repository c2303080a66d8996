"""Pictures of every kind, in any size: what an encoder learns from that is to serve any picture."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from zoo.data.named import NAMED, find_named
from zoo.data.procedural import COUNTS as PROCEDURAL_COUNTS
from zoo.data.procedural import open_procedural
from zoo.data.source import UNKNOWN, Part, Source
from zoo.errors import DataError
from zoo.images import chunk_size
from zoo.spec import Preprocessing

GENERAL = "general"
"""The name of the data set."""

PHOTOGRAPHS = "cifar10"
_VERSION = 1
"""To be raised when a picture gets other pixels, so that old files are not reused."""


def open_general(split: str, preprocessing: Preprocessing, data_dir: Path | None) -> Source:
    """CIFAR-10's photographs, brought to the model's size, with their labels; to learn from, the
    pictures of :mod:`zoo.data.procedural` beside them, without labels.

    Raises:
        DataError: CIFAR-10 was not found, or the model's images have no colours.
    """
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    if shape[0] != 3:
        raise DataError(
            f"the images of {GENERAL} have 3 channels, the model takes {shape[0]}; "
            "set them: --config channels=3"
        )
    photographs, labels, found = find_named(PHOTOGRAPHS, split, data_dir)
    made = open_procedural(split, preprocessing, data_dir) if split == "train" else None

    def parts() -> Iterator[Part]:
        size = chunk_size(preprocessing)
        for images, known in zip(photographs.split(size), labels.split(size), strict=True):
            yield Part(_resized(images, *shape[1:]), known.tolist(), [])
        if made:
            for part in made.parts():
                yield Part(part.images, [UNKNOWN] * len(part.images), [])

    return Source(
        name=GENERAL,
        path=found,
        split=split,
        most=len(photographs) + (PROCEDURAL_COUNTS["train"] if made else 0),
        shape=shape,
        key=f"{GENERAL} {_VERSION} {split} {found} {made.key if made else ''}",
        parts=parts,
        licence=f"{PHOTOGRAPHS}: {NAMED[PHOTOGRAPHS].licence}; made pictures: CC0-1.0",
    )


def _resized(images: Tensor, height: int, width: int) -> Tensor:
    """N x C x H x W uint8."""
    if images.shape[2:] == (height, width):
        return images
    larger = F.interpolate(images.float(), (height, width), mode="bicubic", antialias=True)
    return larger.round_().clamp_(0, 255).byte()
