"""Grids of images as pictures, and pictures as PNG files."""

import io
import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from zoo.boundary import typed
from zoo.files import write_atomically
from zoo.isolation import isolated

__all__ = ["grid", "interpolate", "pairs", "write_png"]


@isolated(grad=False)
def grid(
    images: Tensor, *, columns: int | None = None, scale: int = 3, gap: int = 2
) -> Image.Image:
    """One picture of ``images`` (N x C x H x W in [0, 1]) in rows of ``columns``.

    Args:
        columns: images in a row; a square by default.
        scale: pixels of the picture for one pixel of an image.
        gap: pixels between images, before scaling.
    """
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = torch.ones(channels, rows * (height + gap) + gap, columns * (width + gap) + gap)
    for i, image in enumerate(images.detach().cpu()):
        top = gap + (i // columns) * (height + gap)
        left = gap + (i % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    pixels = (sheet * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def pairs(originals: Tensor, rebuilt: Tensor, columns: int) -> Tensor:
    """Rows of ``columns`` originals, each above the row of what was made of them."""
    rows: list[Tensor] = []
    for above, below in zip(originals.split(columns), rebuilt.split(columns), strict=True):
        missing = columns - len(above)
        blank = above.new_ones(missing, *above.shape[1:])
        rows += [above, blank, below, blank]
    return torch.cat(rows)


@typed()
def write_png(picture: Image.Image, path: Path, workspace: Path | None = None) -> None:
    """Write ``picture`` as a PNG, atomically, making its folder.

    ``workspace`` is the folder it is in until it is complete: see :func:`zoo.files.replacing`.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue(), workspace)


@isolated(grad=False)
def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """``steps`` codes on the straight line from ``start`` to ``end``, both included."""
    at = torch.linspace(0, 1, steps).reshape(-1, *(1 for _ in start.shape))
    return torch.lerp(start[None], end[None], at)
