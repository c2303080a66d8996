"""Pictures that are made by procedure, without end: colour, shapes and texture to learn from.

Networks learn features of photographs from such pictures alone, as was found by Baradad et al. 2021
("Learning to see by looking at noise"), Baradad et al. 2022 ("Procedural image programs") and
Kataoka et al. 2020 (fractals). Drawings are added, since what people collect is often drawn: shapes
with outlines, mostly on white. A picture is a function of its part and its index, and of nothing
else.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw

from zoo.data.source import Part, Source
from zoo.images import chunk_size
from zoo.spec import Preprocessing

PROCEDURAL = "procedural"
"""The name of the data set."""

COUNTS = {"train": 40_000, "test": 2_000}
_VERSION = 2
"""To be raised when a picture gets other pixels, so that old files are not reused."""
_GREY = np.array([0.299, 0.587, 0.114])


def open_procedural(split: str, preprocessing: Preprocessing, data_dir: Path | None) -> Source:
    """The pictures of a part, in the model's size; the labels are the kinds."""
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    count, size = COUNTS[split], chunk_size(preprocessing)

    def parts() -> Iterator[Part]:
        for start in range(0, count, size):
            indices = range(start, min(start + size, count))
            images = np.stack([picture(split, index, *shape) for index in indices])
            yield Part(torch.from_numpy(images), [kind_of(index) for index in indices], [])

    return Source(
        name=PROCEDURAL,
        path=Path(PROCEDURAL),
        split=split,
        most=count,
        shape=shape,
        key=f"{PROCEDURAL} {_VERSION} {split}",
        parts=parts,
        classes=tuple(KINDS),
        licence="CC0-1.0 (made by latentzoo)",
    )


def picture(split: str, index: int, channels: int, height: int, width: int) -> np.ndarray:
    """One picture, C x H x W uint8."""
    rng = np.random.default_rng([list(COUNTS).index(split), index])
    pixels = list(KINDS.values())[kind_of(index)](rng, height, width)
    if channels == 1:
        pixels = (pixels @ _GREY)[..., None]
    pixels = np.clip(np.round(pixels * 255), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def kind_of(index: int) -> int:
    """The position in :data:`KINDS`: every second picture is a drawing, the others take turns."""
    return len(KINDS) - 1 if index % 2 else index // 2 % (len(KINDS) - 1)


def dead_leaves(rng: Generator, height: int, width: int) -> np.ndarray:
    """Discs, squares and bars that cover each other, small ones far more often than large ones."""
    y, x = _grid(height, width)
    image = np.broadcast_to(rng.random(3), (height, width, 3)).copy()
    for _ in range(int(rng.integers(15, 90))):
        radius = 0.04 / (0.08 + 0.92 * rng.random())
        angle, long = rng.random() * np.pi, 1 + 2 * rng.random()
        dy, dx = y - rng.random(), x - rng.random()
        u = (dx * np.cos(angle) + dy * np.sin(angle)) / long
        v = dy * np.cos(angle) - dx * np.sin(angle)
        round_ = rng.random() < 0.5
        inside = u * u + v * v < radius**2 if round_ else np.maximum(abs(u), abs(v)) < radius
        shade = 1 + (rng.random() - 0.5) * (u + v)[inside][:, None] / radius
        image[inside] = rng.random(3) * shade
    return image


def fractal(rng: Generator, height: int, width: int) -> np.ndarray:
    """The points that a few random contracting maps lead to, on a plain ground."""
    maps = int(rng.integers(2, 7))
    turns = rng.random((maps, 2)) * 2 * np.pi
    scales = 0.25 + 0.6 * rng.random((maps, 2))
    shifts = 2 * rng.random((maps, 2)) - 1
    left, right = _rotations(turns[:, 0]), _rotations(turns[:, 1])
    matrices = left @ (scales[:, :, None] * right)
    points = 2 * rng.random((1500, 2)) - 1
    seen = []
    for step in range(24):
        chosen = rng.integers(0, maps, len(points))
        points = np.einsum("nij,nj->ni", matrices[chosen], points) + shifts[chosen]
        if step >= 12:
            seen.append(points)
    all_ = np.concatenate(seen)
    low, high = np.quantile(all_, 0.01, axis=0), np.quantile(all_, 0.99, axis=0)
    cells = ((all_ - low) / np.maximum(high - low, 1e-6) * 0.9 + 0.05) * [height, width]
    rows, columns = cells.astype(int).T
    inside = (cells >= 0).all(1) & (rows < height) & (columns < width)
    counts = np.zeros((height, width))
    np.add.at(counts, (rows[inside], columns[inside]), 1)
    covered = (counts / (counts + counts.mean()))[..., None]
    image: np.ndarray = (1 - covered) * rng.random(3) + covered * rng.random(3)
    return image


def waves(rng: Generator, height: int, width: int) -> np.ndarray:
    """A random program of sines, products and foldings, as shaders are written."""
    y, x = _grid(height, width)
    layers = [x - rng.random(), y - rng.random()]
    layers.append(np.hypot(*layers))
    for _ in range(int(rng.integers(3, 9))):
        first = int(rng.integers(0, len(layers)))
        # Another one: the difference of a layer from itself is blank.
        second = (first + 1 + int(rng.integers(0, len(layers) - 1))) % len(layers)
        a, b = layers[first], layers[second]
        kind = int(rng.integers(0, 3))
        if kind == 0:
            layers.append(np.sin((2 + 18 * rng.random()) * a + 4 * b))
        elif kind == 1:
            layers.append(a * b * 2)
        else:
            layers.append(abs(a - b) * 2 - rng.random())
    mixed = np.tensordot(np.stack(layers[-3:], 2), 2 * rng.random((3, 3)) - 1, 1)
    return 0.5 + 0.5 * np.sin(3 * mixed + 2 * np.pi * rng.random(3))


def clouds(rng: Generator, height: int, width: int) -> np.ndarray:
    """Noise whose spectrum falls as that of photographs, sometimes cut into a few tones."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    stretch = 0.3 + 1.4 * rng.random(2)
    frequency = np.maximum(np.hypot(fy * stretch[0], fx * stretch[1]), 1 / max(height, width))
    spectrum = np.fft.rfft2(rng.random((3, height, width)) - 0.5) / frequency ** (
        0.7 + 1.5 * rng.random()
    )
    noise = np.fft.irfft2(spectrum, (height, width)).transpose(1, 2, 0)
    noise = (noise - noise.mean((0, 1))) / np.maximum(noise.std((0, 1)), 1e-6)
    noise = noise @ (rng.random((3, 3)) - 0.3)
    if rng.random() < 0.3:
        noise = np.round(noise * 1.5) / 1.5
    image: np.ndarray = rng.random(3) + 0.3 * noise
    return image


def drawing(rng: Generator, height: int, width: int) -> np.ndarray:
    """A few shapes with outlines on a plain ground, which is mostly white, as clip art has it."""
    fine = 3  # drawn larger, and averaged: edges are smooth
    tall, wide = fine * height, fine * width
    ground = np.ones(3) if rng.random() < 0.65 else rng.random(3)
    canvas = Image.new("RGB", (wide, tall), _colour(ground))
    pen = ImageDraw.Draw(canvas)
    palette = rng.random((int(rng.integers(2, 6)), 3)) ** rng.choice([0.6, 1, 2])
    ink = _colour(np.zeros(3) if rng.random() < 0.6 else 0.5 * rng.random(3))
    thick = round(int(rng.integers(0, 4)) * max(tall, wide) / 64)
    symmetric, radius = rng.random() < 0.5, (0.35 + 0.55 * rng.random()) * min(tall, wide) / 2
    middle = np.array([wide, tall]) / 2
    for part in range(int(rng.integers(1, 9))):
        spread, size = (0.4, 0.08 + 0.55 * rng.random() ** 2) if part else (0.08, 1.0)
        shape = _turned(rng, _shape(rng)) * size * radius
        shape += middle + spread * radius * rng.normal(size=2)
        colour, filled = _colour(palette[int(rng.integers(len(palette)))]), rng.random() < 0.8
        for mirrored in (False, True) if symmetric and part else (False,):
            points = [wide, 0] + shape * [-1, 1] if mirrored else shape
            outline = [(float(u), float(v)) for u, v in points]
            if filled:
                pen.polygon(outline, fill=colour)
            if thick or not filled:
                line = ink if filled else colour
                pen.line([*outline, outline[0]], fill=line, width=max(thick, fine), joint="curve")
    pixels = np.asarray(canvas, np.float64).reshape(height, fine, width, fine, 3) / 255
    image: np.ndarray = pixels.mean((1, 3))
    if rng.random() < 0.5:
        y, x = _grid(height, width)
        angle = rng.random() * 2 * np.pi
        light = 0.8 * rng.random() * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
        painted = abs(image - ground).max(2) > 0.02
        image = np.where(painted[..., None], image * (1 + light)[..., None], image)
    return image


def _shape(rng: Generator) -> np.ndarray:
    """The corners of a star, polygon, rectangle, ellipse or blob around (0, 0), N x 2."""
    kind = int(rng.integers(0, 4))
    if kind == 0:
        return np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    corners = int(rng.integers(3, 9))
    star = rng.random() < 0.4
    count = (1 + star) * corners if kind == 1 else 48
    angles = 2 * np.pi * (np.arange(count) / count + rng.random())
    radii = np.ones(count)
    if kind == 1 and star:
        radii[1::2] = 0.3 + 0.5 * rng.random()
    if kind == 3:
        for wave in range(2, 6):
            radii += rng.normal() / (2 * wave) * np.cos(wave * angles + 2 * np.pi * rng.random())
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _turned(rng: Generator, points: np.ndarray) -> np.ndarray:
    """Made narrower in one direction, and in half of all cases turned; N x 2."""
    stretch = np.exp(0.5 * rng.normal(size=2))
    angle = rng.random() * 2 * np.pi * (rng.random() < 0.5)
    turned: np.ndarray = points * (stretch / stretch.max()) @ _rotations(np.array([angle]))[0].T
    return turned


def _colour(values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(255 * value) for value in values)
    return red, green, blue


KINDS: dict[str, Callable[[Generator, int, int], np.ndarray]] = {
    "dead leaves": dead_leaves,
    "fractal": fractal,
    "waves": waves,
    "clouds": clouds,
    "drawing": drawing,
}
"""All kinds, the drawing last."""


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The middles of the pixels, from 0 to 1: rows and columns."""
    y, x = np.mgrid[:height, :width]
    return (y + 0.5) / height, (x + 0.5) / width


def _rotations(angles: np.ndarray) -> np.ndarray:
    """N x 2 x 2."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
