"""Repair and compression by a model's weights, beside what knows nothing of the data.

Restoration: missing pixels and noise, PSNR and SSIM of the damaged images, of the models'
reconstruction, and of a median filter and non-local means (scikit-image), whose settings are those
of the best PSNR on held-out images of train, for each damage. Where pixels are missing they know no
more than the model, which is not told where; beside them is inpainting that is told (biharmonic),
and the models with the pixels that are not missing put back.

Compression: bits a pixel (all channels together) against PSNR and SSIM. Of a vq_vae its numbers, at
the same bits each and as an arithmetic coder takes them that follows its prior; of any other
autoencoder the numbers of its code, each quantised, at the same bits each and at their entropy
under their frequencies in train (without a file format: there is no header). Cells are

range      equal steps between the least and the greatest value in train
quantiles  as many training codes in each

and are decoded as the mean of the training codes in them. JPEG and WebP (Pillow) have at each rate
the lowest quality that takes no fewer bits, or their lowest if even that takes more. They are
counted in three ways:

file   an image a file, headers and all (JPEG with tables of its own: optimize)
data   of an image a file only the coded data, as if all shared one header
sheet  1,024 images tiled in one file, each filled up to whole blocks, all of it counted; also of
       images a half and a quarter as wide and high, which reach the rates that quality alone does
       not, bicubic both ways

JPEG of colours is measured with and without subsampling. Of all that reach a rate the best PSNR is
shown. The weights are not counted, and neither are the programs of JPEG and WebP.

The test part of the data that the weights were trained on is used; all of MNIST takes about ten
minutes.
"""

import argparse
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor
from torch.nn import functional as F

import zoo
from zoo.cli.shared import new_table, print_table, printable
from zoo.corruption import corrupt
from zoo.data import Dataset, load_data, split_validation, to_float
from zoo.errors import DataError, InputError, ZooError
from zoo.evaluation.protocol import ProtocolSkipped
from zoo.evaluation.reconstruction import means
from zoo.folder import read_config
from zoo.model import ZooModel
from zoo.optional import optional
from zoo.sources import has_folder, weights_folder
from zoo.spec import Preprocessing
from zoo.training import VALIDATION

DAMAGES = (("mask", 0.25), ("mask", 0.5), ("noise", 0.1), ("noise", 0.2), ("noise", 0.4))
DEFAULTS = ("denoising_ae.*", "conv_ae.*", "vq_vae.*")
FALLBACK = "deep_ae.fashion_mnist"
HELD_OUT = 100
"""Images of train that the filters' settings are chosen on."""
CODES = 10_000
"""Images of train whose codes fit the quantisers."""

Axes = list[list[dict[str, Any]]]
"""What may be chosen: for each axis its settings, the first ones to start from."""


@dataclass(frozen=True)
class Parts:
    """The images that are used of a data set, N x C x H x W in [0, 1]."""

    name: str
    train: Tensor
    held_out: Tensor
    test: Tensor


def measured(images: Tensor, made: Tensor) -> dict[str, float]:
    """PSNR and SSIM, means over the images."""
    return means(zip(images.split(500), made.split(500), strict=True), ("psnr", "ssim"))


# -- restoration -------------------------------------------------------------------------------


def median(damaged: Tensor, *, shape: str, side: int) -> Tensor:
    """Of a square or a disk that is ``side`` pixels wide."""
    filters = optional("skimage.filters", "scikit-image", "dev")
    morphology = optional("skimage.morphology", "scikit-image", "dev")
    square = shape == "square"
    around = np.ones((side, side), np.uint8) if square else morphology.disk(side // 2)
    return _each(damaged, lambda image: filters.median(image, around[..., None]))


def nonlocal_means(damaged: Tensor, **settings: Any) -> Tensor:
    restoration = optional("skimage.restoration", "scikit-image", "dev")
    return _each(damaged, partial(restoration.denoise_nl_means, channel_axis=-1, **settings))


def biharmonic(damaged: Tensor, missing: Tensor) -> Tensor:
    """``missing``: N x H x W, whether the pixel is."""
    restoration = optional("skimage.restoration", "scikit-image", "dev")
    masks = iter(missing.numpy())
    return _each(
        damaged, lambda image: restoration.inpaint_biharmonic(image, next(masks), channel_axis=-1)
    )


def _each(images: Tensor, repair: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """``repair`` of each image as H x W x C, clamped to [0, 1]."""
    arrays = images.permute(0, 2, 3, 1).numpy()
    repaired = np.stack([repair(image) for image in arrays]).reshape(arrays.shape)
    return torch.from_numpy(repaired).float().permute(0, 3, 1, 2).clamp(0, 1).contiguous()


MEDIAN_AXES: Axes = [
    [{"shape": shape, "side": side} for side in (3, 5, 7) for shape in ("square", "disk")]
]


def nonlocal_axes(kind: str, strength: float) -> Axes:
    """``h``, and the deviation of the noise where there is any: told, or not used."""
    if kind == "noise":
        factors = (0.8, 0.2, 0.4, 0.6, 1.0, 1.3, 1.7)
        pairs = [(round(f * strength, 3), sigma) for sigma in (strength, 0.0) for f in factors]
    else:
        pairs = [(h, 0.0) for h in (0.2, 0.05, 0.1, 0.15, 0.3, 0.4, 0.6, 0.8)]
    return [
        [{"h": h, "sigma": sigma} for h, sigma in pairs],
        [{"patch_size": side} for side in (5, 3, 7)],
        [{"patch_distance": distance} for distance in (6, 11)],
        [{"fast_mode": fast} for fast in (True, False)],
    ]


def best_settings(
    repair: Callable[..., Tensor], axes: Axes, images: Tensor, damaged: Tensor
) -> dict[str, Any]:
    """Those of the best PSNR, sought along one axis after the other, twice over."""

    @cache
    def score(settings: tuple[tuple[str, Any], ...]) -> float:
        return means([(images, repair(damaged, **dict(settings)))], ("psnr",))["psnr"]

    best = {name: value for axis in axes for name, value in axis[0].items()}
    for axis in axes if len(axes) == 1 else axes * 2:
        tried = [{**best, **settings} for settings in axis]
        best = max(tried, key=lambda settings: score(tuple(sorted(settings.items()))))
    return best


def restoration(
    parts: Parts, models: Mapping[str, ZooModel], say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """A row for each damage and method."""
    for kind, strength in DAMAGES:
        say(f"{parts.name}: {kind} {strength:g}")
        damaged, missing = _damaged(parts.test, kind, strength, seed=0)
        held_out, _ = _damaged(parts.held_out, kind, strength, seed=1)
        made: dict[str, Callable[[], Tensor]] = {"damaged": lambda d=damaged: d}
        settings = {}
        for name, repair, axes in (
            ("median", median, MEDIAN_AXES),
            ("non-local means", nonlocal_means, nonlocal_axes(kind, strength)),
        ):
            settings[name] = best_settings(repair, axes, parts.held_out, held_out)
            made[name] = partial(repair, damaged, **settings[name])
        if missing is not None:
            made["biharmonic (is told where)"] = partial(biharmonic, damaged, missing)
        for name, model in models.items():
            rebuilt = model.reconstruct(damaged).cpu()
            made[name] = lambda rebuilt=rebuilt: rebuilt
            if missing is not None:
                kept = torch.where(missing[:, None], rebuilt, damaged)
                made[f"{name} (is told where)"] = lambda kept=kept: kept
        for name, make in made.items():
            yield {
                "data": parts.name,
                "images": len(parts.test),
                "held_out": len(parts.held_out),
                "damage": f"{kind} {strength:g}",
                "method": name,
                "settings": settings.get(name, {}),
                **measured(parts.test, make()),
            }


def _damaged(
    images: Tensor, kind: str, strength: float, *, seed: int
) -> tuple[Tensor, Tensor | None]:
    """The damaged images and, where pixels are missing, which: N x H x W."""
    damaged = corrupt(images, kind, strength, torch.Generator().manual_seed(seed))
    if kind != "mask":
        return damaged, None
    # The same random draws on images without black shows what became of each pixel.
    white = corrupt(torch.ones_like(images), kind, strength, torch.Generator().manual_seed(seed))
    return damaged, white[:, 0] == 0


# -- compression: codes ------------------------------------------------------------------------


class Quantiser:
    """Cells for each number of a code, F of them, fitted on training codes N x F."""

    def __init__(self, codes: Tensor, bits: int, kind: str):
        cells = 2**bits
        steps = torch.arange(1, cells) / cells
        columns = codes.T.contiguous()  # F x N
        if kind == "range":
            low, high = columns.aminmax(dim=1, keepdim=True)
            self.edges = low + (high - low) * steps  # F x cells - 1
        else:
            ranked = columns.sort(dim=1).values
            self.edges = ranked[:, (steps * len(codes)).long()].contiguous()
        which = torch.searchsorted(self.edges, columns)  # F x N
        counts = torch.zeros(len(columns), cells).scatter_add_(1, which, torch.ones_like(columns))
        sums = torch.zeros(len(columns), cells).scatter_add_(1, which, columns)
        border = torch.cat([self.edges[:, :1], self.edges], 1)
        self.centres = torch.where(counts > 0, sums / counts.clamp(min=1), border)
        smoothed = counts + 1 / cells  # so that no cell takes infinitely many bits
        self.bits = -(smoothed / smoothed.sum(1, keepdim=True)).log2()

    def __call__(self, codes: Tensor) -> tuple[Tensor, float]:
        """The codes as they are decoded, N x F, and their bits at the entropy, mean over N."""
        which = torch.searchsorted(self.edges, codes.T.contiguous())
        bits = self.bits.gather(1, which).double().sum() / len(codes)
        return self.centres.gather(1, which).T.contiguous(), float(bits)


def coded(model: ZooModel, parts: Parts) -> Iterator[dict[str, Any]]:
    """How the model codes the test images: ``code``, bits an image, PSNR and SSIM.

    Raises:
        ProtocolSkipped: the code has more numbers than makes sense.
    """
    if hasattr(model, "code_bits"):  # what a model with discrete codes has
        figures = measured(parts.test, model.reconstruct(parts.test).cpu())
        yield {"code": "numbers, fixed", "bits": model.fixed_bits, **figures}
        followed = float(model.code_bits(parts.test).double().mean())
        yield {"code": "numbers, prior", "bits": followed, **figures}
        return
    numbers = math.prod(model.code_shape)
    channels = model.image_shape[0]
    most = [b for b in range(2, 9) if b * numbers < 8 * channels * _pixels(parts.test)]
    if not most:
        raise ProtocolSkipped(
            f"its code of {numbers:,} numbers takes at 2 bits each no less than the image itself"
        )
    train, codes = (model.encode(x).cpu().flatten(1) for x in (parts.train, parts.test))

    def decoded(codes: Tensor) -> dict[str, float]:
        return measured(parts.test, model.decode(codes.reshape(-1, *model.code_shape)).cpu())

    for kind in ("range", "quantiles"):
        for bits in most:
            again, entropy = Quantiser(train, bits, kind)(codes)
            figures = decoded(again)
            yield {"code": f"{kind} {bits} bits, fixed", "bits": float(bits * numbers), **figures}
            if kind == "range":  # of quantiles it is nearly the same as fixed
                yield {"code": f"{kind} {bits} bits, entropy", "bits": entropy, **figures}
    yield {"code": "float32", "bits": 32.0 * numbers, **decoded(codes)}


def _pixels(images: Tensor) -> int:
    return images.shape[2] * images.shape[3]


# -- compression: JPEG and WebP ----------------------------------------------------------------

COUNTED = ("file", "data", "sheet")
SHEET = 32
"""Images to a side of a sheet."""


@dataclass
class Codec:
    """One format on the images N x C x H x W, counted in one of the three ways."""

    format: str
    counted: str
    images: Tensor
    options: Mapping[str, Any]
    smaller: int = 1
    """How many times less wide and high the images are while they are coded."""
    _measured: dict[int, dict[str, float]] = field(default_factory=dict, repr=False)

    def at(self, rate: float) -> dict[str, float]:
        """With the lowest quality that takes ``rate`` bits a pixel; the highest if none does."""
        low, high = 1, 100
        while low < high:
            middle = (low + high) // 2 if low > 1 or 1 in self._measured else 1
            if self._with(middle)["rate"] >= rate:
                high = middle
            else:
                low = middle + 1
        return self._with(low)

    def _with(self, quality: int) -> dict[str, float]:
        if quality not in self._measured:
            bits, made = self._coded(quality)
            self._measured[quality] = {
                "quality": quality,
                "smaller": self.smaller,
                "rate": bits / (len(self.images) * _pixels(self.images)),
                **measured(self.images, made),
            }
        return self._measured[quality]

    def _coded(self, quality: int) -> tuple[int, Tensor]:
        """All bits that count, and what is decoded."""
        small = _resized(self.images, [n // self.smaller for n in self.images.shape[2:]])
        arrays = small.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
        count, made = 0, []
        for picture in _sheets(arrays) if self.counted == "sheet" else arrays:
            file = io.BytesIO()
            mode = "L" if picture.shape[2] == 1 else "RGB"
            whole = {"optimize": True} if self.format == "JPEG" and self.counted != "data" else {}
            # An optimised JPEG is written at once, and Pillow makes room for a byte a pixel only.
            ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 2 * picture.nbytes)
            Image.fromarray(picture.squeeze(-1) if mode == "L" else picture).save(
                file, self.format, quality=quality, **self.options, **whole
            )
            data = file.getvalue()
            count += len(data) - (_HEADER[self.format](data) if self.counted == "data" else 0)
            pixels = np.asarray(Image.open(file).convert(mode))
            made.append(pixels.reshape(picture.shape))
        if self.counted == "sheet":
            made = list(_unsheeted(made, arrays.shape))
        again = to_float(torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2))
        return 8 * count, _resized(again, self.images.shape[2:])


def _resized(images: Tensor, size: Sequence[int]) -> Tensor:
    """Bicubic, of the mean of what becomes one pixel."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size=tuple(size), mode="bicubic", antialias=True).clamp(0, 1)


def _jpeg_header(data: bytes) -> int:
    """Bytes of a JPEG file that are not coded pixels."""
    start = 2
    while data[start + 1] != 0xDA:  # the start of the scan; each segment has its length
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") + 2  # and the end's mark


def _webp_header(data: bytes) -> int:
    """Bytes of a WebP file before its partitions: RIFF, the chunk's and the frame's header."""
    if data[12:16] != b"VP8 ":
        raise RuntimeError(f"expected a plain lossy WebP file, got the chunk {data[12:16]!r}")
    return 12 + 8 + 10


_HEADER: dict[str, Callable[[bytes], int]] = {"JPEG": _jpeg_header, "WEBP": _webp_header}


def _cell(height: int, width: int) -> tuple[int, int]:
    return -(-height // 8) * 8, -(-width // 8) * 8


def _sheets(arrays: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures of up to 32 x 32 images N x H x W x C, each filled up with its border."""
    n, height, width, channels = arrays.shape
    rows, columns = _cell(height, width)
    filled = np.pad(arrays, ((0, 0), (0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    across = min(SHEET, n)
    for start in range(0, n, SHEET * across):
        part = filled[start : start + SHEET * across]
        down = -(-len(part) // across)
        sheet = np.zeros((down * across, *part.shape[1:]), np.uint8)
        sheet[: len(part)] = part
        grid = sheet.reshape(down, across, rows, columns, channels).swapaxes(1, 2)
        yield np.ascontiguousarray(grid.reshape(down * rows, across * columns, channels))


def _unsheeted(sheets: Iterable[np.ndarray], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The images of ``shape`` N x H x W x C out of their sheets."""
    n, height, width, channels = shape
    rows, columns = _cell(height, width)
    for sheet in sheets:
        down, across = sheet.shape[0] // rows, sheet.shape[1] // columns
        cells = sheet.reshape(down, rows, across, columns, channels).swapaxes(1, 2)
        part = cells.reshape(-1, rows, columns, channels)[:n, :height, :width]
        n -= len(part)
        yield from part


def codecs(images: Tensor) -> dict[str, list[Codec]]:
    """``"JPEG file"`` and so on to the codecs of which the best counts."""
    found = {}
    grey = images.shape[1] == 1
    jpeg = [{}] if grey else [{"subsampling": "4:2:0"}, {"subsampling": "4:4:4"}]
    for name, options in (("JPEG", jpeg), ("WEBP", [{"method": 6}])):
        for counted in COUNTED:
            found[f"{name} {counted}"] = [
                Codec(name, counted, images, o, smaller)
                for smaller in ((1, 2, 4) if counted == "sheet" else (1,))
                for o in options
            ]
    return found


def best_at(rate: float, ways: Iterable[Codec]) -> dict[str, float]:
    """What the best of ``ways`` gives that has ``rate``; if none has, that of the fewest bits.

    Whether it has: at its lowest quality it takes no more.
    """
    found = [way.at(rate) for way in ways]
    reached = [f for f in found if f["quality"] > 1 or f["rate"] <= rate]
    if reached:
        return max(reached, key=lambda f: f["psnr"])
    return min(found, key=lambda f: f["rate"])


def compression(
    parts: Parts, models: Mapping[str, ZooModel], left_out: list[str], say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """A row for each model and way to code, with JPEG and WebP at its rate."""
    beside = codecs(parts.test)
    for name, model in models.items():
        say(f"{parts.name}: codes of {name}")
        try:
            for row in coded(model, parts):
                rate = row.pop("bits") / _pixels(parts.test)
                yield {
                    "data": parts.name,
                    "images": len(parts.test),
                    "weights": name,
                    "rate": rate,
                    **row,
                    "beside": {}
                    if row["code"] == "float32"
                    else {way: best_at(rate, ways) for way, ways in beside.items()},
                }
        except ProtocolSkipped as error:
            left_out.append(f"compression, {name}: {error}")


# -- weights and data --------------------------------------------------------------------------


def default_weights() -> list[str]:
    found = [name for pattern in DEFAULTS for name in zoo.list_models(pattern, pretrained=True)]
    return found or [FALLBACK]


def grouped(
    names: Iterable[str], data: str | None
) -> dict[tuple[str, Preprocessing], dict[str, ZooModel]]:
    """The models by the data and the kind of images that they are measured on.

    Raises:
        InputError: weights do not say what they were trained on.
        ZooError: as :func:`zoo.load`.
    """
    groups: dict[tuple[str, Preprocessing], dict[str, ZooModel]] = {}
    for name in names:
        model = zoo.load(name)
        own = data
        if own is None and has_folder(name):
            # A name of the Hub was resolved to a commit once; its branch may move meanwhile.
            same = model.name if name.startswith("hf-hub:") else name
            own = read_config(weights_folder(same)).dataset
        if not isinstance(own, str):
            raise InputError(f"{name} does not say what it was trained on; add --data SET")
        groups.setdefault((own, model.preprocessing), {})[name] = model
    return groups


def load_parts(data: str, preprocessing: Preprocessing, images: int | None) -> Parts:
    """Raises: DataError: the data cannot be read, or have no test part."""
    test = load_data(data, "test", preprocessing)
    if test.split != "test":
        raise DataError(f"{data} has no test part: expected folders train and test in it")
    train = load_data(data, "train", preprocessing)
    chosen, held_out = split_validation(train, VALIDATION, 0)
    part = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:images]
    return Parts(
        test.name,
        _images(train, chosen[:CODES]),
        _images(train, held_out[:HELD_OUT]),
        _images(test, part.sort().values),
    )


def _images(data: Dataset, indices: Tensor) -> Tensor:
    return to_float(data.images[indices])


def able(
    models: Mapping[str, ZooModel], needs: set[str], table: str, left_out: list[str]
) -> dict[str, ZooModel]:
    """Those that can do what the table needs; the others are named in ``left_out``."""
    chosen = {}
    for name, model in models.items():
        if missing := needs - set(model.capabilities):
            left_out.append(f"{table}, {name}: it cannot {' and '.join(sorted(missing))}")
        else:
            chosen[name] = model
    return chosen


def measure(
    names: list[str],
    data: str | None,
    images: int | None,
    only: str | None,
    say: Callable[[str], None],
) -> dict[str, list]:
    """Both tables' rows, and what was left out of them with the reason."""
    result: dict[str, list] = {"restoration": [], "compression": [], "left_out": []}
    left_out = result["left_out"]
    for (own, preprocessing), models in grouped(names, data).items():
        parts = load_parts(own, preprocessing, images)
        if only != "compression":
            chosen = able(models, {"reconstruct"}, "restoration", left_out)
            result["restoration"] += restoration(parts, chosen, say)
        if only != "restoration":
            chosen = able(models, {"encode", "decode"}, "compression", left_out)
            result["compression"] += compression(parts, chosen, left_out, say)
    return result


# -- tables ------------------------------------------------------------------------------------


def print_restoration(rows: list[dict[str, Any]]) -> None:
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data]
        print(
            f"Restoration, {own[0]['images']:,} test images of {data}; settings chosen on "
            f"{own[0]['held_out']} held-out images of train"
        )
        table = new_table("damage", "method", "PSNR", "SSIM", "settings")
        for damage in dict.fromkeys(row["damage"] for row in own):
            for i, row in enumerate(r for r in own if r["damage"] == damage):
                words = ", ".join(f"{k} {v}" for k, v in row["settings"].items())
                table.add_row(
                    "" if i else damage,
                    printable(row["method"]),
                    f"{row['psnr']:.2f}",
                    f"{row['ssim']:.4f}",
                    words,
                )
        print_table(table)


def print_compression(rows: list[dict[str, Any]]) -> None:
    ways = [f"{name} {counted}" for name in ("JPEG", "WEBP") for counted in COUNTED]
    for weights in dict.fromkeys((row["data"], row["weights"]) for row in rows):
        own = [row for row in rows if (row["data"], row["weights"]) == weights]
        print(
            printable(f"Compression, {own[0]['images']:,} test images of {' by '.join(weights)}; ")
            + "PSNR, and for JPEG and WebP the bits a pixel that it took"
        )
        table = new_table("code", "bits/pixel", "PSNR", "SSIM", *ways)
        for row in own:
            found = [row["beside"].get(way) for way in ways]
            table.add_row(
                row["code"],
                f"{row['rate']:.3f}",
                f"{row['psnr']:.2f}",
                f"{row['ssim']:.4f}",
                *(f"{f['psnr']:.2f} @{f['rate']:.2f}" if f else "-" for f in found),
            )
        print_table(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "weights", nargs="*", default=[],
        help="names or folders; by default all there are of denoising_ae, conv_ae and vq_vae",
    )  # fmt: skip
    parser.add_argument("--data", help="instead of what the weights were trained on")
    parser.add_argument("--images", type=int, help="of the test part; all by default")
    parser.add_argument("--only", choices=("restoration", "compression"))
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    arguments = parser.parse_args()
    if arguments.images is not None and arguments.images < 1:
        parser.error(f"--images: expected a number from 1, got {arguments.images}")
    names = [f"local-dir:{n}" if Path(n).is_dir() else n for n in arguments.weights]
    try:
        result = measure(
            names or default_weights(), arguments.data, arguments.images, arguments.only,
            lambda line: print(printable(line), file=sys.stderr),
        )  # fmt: skip
    except ZooError as error:
        print(printable(f"Error: {error}"), file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    print_restoration(result["restoration"])
    print_compression(result["compression"])
    for line in result["left_out"]:
        print(printable(f"left out: {line}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
