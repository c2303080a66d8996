"""Copies of pictures as people's folders hold them: turned, mirrored, cropped, resized, re-saved.

The same seed makes the same copies. Used by benchmarks/collection_peers.py and by the tests of
duplicates; each kind is named, so that what is found can be counted by kind.
"""

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

_TURN = Image.Transpose
TURNS = {
    "mirrored": _TURN.FLIP_LEFT_RIGHT,
    "turned 180": _TURN.ROTATE_180,
    "upside down": _TURN.FLIP_TOP_BOTTOM,
    "transposed": _TURN.TRANSPOSE,
    "turned 270": _TURN.ROTATE_270,
    "transversed": _TURN.TRANSVERSE,
    "turned 90": _TURN.ROTATE_90,
}
_EXIF = {3: _TURN.ROTATE_180, 6: _TURN.ROTATE_90, 8: _TURN.ROTATE_270}  # undone by a viewer
SIDES = ("left", "top", "right", "bottom")


def upright(path: Path) -> Image.Image:
    """The picture of a file as RGB, over white where it is transparent."""
    from PIL import ImageOps

    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image)
    if "A" in turned.getbands() or "transparency" in turned.info:
        layer = turned.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        turned = Image.alpha_composite(white, layer)
    return turned.convert("RGB")


def cropped(image: Image.Image, sides: set[str], share: float = 0.05) -> Image.Image:
    """Without ``share`` of the width or height at each of ``sides``."""
    width, height = image.size
    across, down = max(1, round(width * share)), max(1, round(height * share))
    return image.crop(
        (
            across if "left" in sides else 0,
            down if "top" in sides else 0,
            width - (across if "right" in sides else 0),
            height - (down if "bottom" in sides else 0),
        )
    )


def resized(image: Image.Image, factor: float) -> Image.Image:
    width, height = image.size
    size = (max(8, round(width * factor)), max(8, round(height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _jpeg(image: Image.Image, quality: int = 90) -> bytes:
    return _saved(image, "JPEG", quality=quality)


def _by_exif(image: Image.Image, orientation: int) -> bytes:
    """A JPEG whose pixels lie turned, and whose EXIF says how to turn them back."""
    exif = Image.Exif()
    exif[274] = orientation
    turned = image.transpose(_EXIF[orientation])
    return _saved(turned, "JPEG", quality=90, exif=exif)


def copies(image: Image.Image, seed: int = 0) -> Iterator[tuple[str, str, bytes]]:
    """Each copy of ``image``: its kind, the ending of its file, and the bytes."""
    rng = random.Random(seed)
    for kind, turn in TURNS.items():
        yield kind, ".jpg", _jpeg(image.transpose(turn))
    for side in SIDES:
        yield f"cropped {side}", ".jpg", _jpeg(cropped(image, {side}))
    yield "cropped all round", ".jpg", _jpeg(cropped(image, set(SIDES)))
    yield "half size", ".jpg", _jpeg(resized(image, 0.5))
    yield "larger", ".jpg", _jpeg(resized(image, 1.5))
    for quality in (30, 60, 95):
        yield f"quality {quality}", ".jpg", _jpeg(image, quality)
    yield "webp", ".webp", _saved(image, "WEBP", quality=75)
    yield "png", ".png", _saved(image, "PNG")
    for orientation in _EXIF:
        yield f"EXIF {orientation}", ".jpg", _by_exif(image, orientation)
    turn = rng.choice(list(TURNS.values()))
    few = set(rng.sample(SIDES, 2))
    mixed = cropped(resized(image, rng.uniform(0.5, 0.9)), few, rng.uniform(0.02, 0.05))
    yield "turned, cropped, smaller", ".jpg", _jpeg(mixed.transpose(turn), rng.randint(50, 90))
    few = set(rng.sample(SIDES, 1))
    yield "cropped, quality 40", ".jpg", _jpeg(cropped(image, few), 40)


def write_copies(
    originals: list[Path], out: Path, seed: int = 0, keep: Callable[[str], bool] | None = None
) -> list[tuple[Path, Path, str]]:
    """Write the copies of each file of ``originals``; gives (original, copy, kind) for each."""
    made = []
    out.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(originals):
        for kind, ending, data in copies(upright(path), seed + number):
            if keep is None or keep(kind):
                copy = out / f"{number:04}-{kind.replace(' ', '_').replace(',', '')}{ending}"
                copy.write_bytes(data)
                made.append((path, copy, kind))
    return made
