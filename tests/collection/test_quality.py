"""What is measured of each picture, and which faults are made of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from zoo.collection import quality

MEASURES = ("brightness", "contrast", "colours", "sharpness")


def photograph(side: int = 300, seed: int = 0) -> np.ndarray:
    """A picture with the spectrum that photographs have."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*[np.fft.fftfreq(side)] * 2, indexing="ij")
    waves = np.fft.fft2(rng.normal(size=(3, side, side))) / np.maximum(np.hypot(x, y), 1 / side)
    planes = np.fft.ifft2(waves).real.transpose(1, 2, 0)
    low, high = np.percentile(planes, (1, 99))
    return (np.clip((planes - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def measured(pixels: np.ndarray) -> dict[str, float]:
    return quality.measured([pixels])[0]


def collection(*all_pixels: np.ndarray) -> SimpleNamespace:
    """What faults are looked for in."""
    values = [measured(pixels) for pixels in all_pixels]
    return SimpleNamespace(
        widths=np.array([pixels.shape[1] for pixels in all_pixels]),
        heights=np.array([pixels.shape[0] for pixels in all_pixels]),
        measures={name: np.array([of[name] for of in values]) for name in MEASURES},
    )


def found(*all_pixels: np.ndarray) -> dict[str, list[int]]:
    return {
        fault.kind: fault.positions.tolist()
        for fault in quality.faults(collection(*all_pixels))
        if len(fault.positions)
    }


def blurred(pixels: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def test_brightness_and_contrast_are_those_of_the_pixels():
    half = np.zeros((40, 40, 3), np.uint8)
    half[:, 20:] = 255
    assert measured(half)["brightness"] == pytest.approx(0.5)
    assert measured(half)["contrast"] == 1
    assert measured(half // 2 + 60)["contrast"] == pytest.approx(0.5, abs=0.01)
    assert measured(np.full((9, 9, 1), 51, np.uint8))["brightness"] == pytest.approx(0.2)


@pytest.mark.parametrize("row", [60, 61])
def test_one_dark_line_is_enough_not_to_be_blank(row):
    page = np.full((120, 120, 3), 255, np.uint8)
    page[row] = 0
    assert measured(page)["contrast"] == 1
    assert "blank" not in found(page)


@pytest.mark.parametrize("side", [32, 300, 600])
def test_sharpness_falls_with_blur_whatever_the_size(side):
    sharp = photograph(side)
    values = [measured(blurred(sharp, r * max(1, side / 256)))["sharpness"] for r in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.55
    assert values[3] < 0.4


def test_blur_along_one_direction_counts():
    sharp = photograph().astype(np.float32)
    for axis in (0, 1):
        moved = np.mean([np.roll(sharp, step, axis) for step in range(20)], 0).astype(np.uint8)
        assert measured(moved)["sharpness"] < 0.75 * measured(photograph())["sharpness"]


def test_what_is_measured_together_is_as_measured_alone():
    rng = np.random.default_rng(0)
    sizes = (32, 32, 3), (9, 40, 1), (1, 1, 3), (130, 140, 3)
    pictures = [
        rng.integers(low, low + 2 + 50 * low, size, dtype=np.uint8)
        for low in range(4)
        for size in sizes
    ]
    pictures += [photograph(32), np.full((32, 32, 3), 7, np.uint8), photograph(20)[:, :, 0]]
    pictures += [photograph(32, seed) for seed in range(100)]  # more than are taken at once
    assert quality.measured(pictures) == [measured(pixels) for pixels in pictures]
    assert quality.measured([]) == []


def test_pictures_of_one_size_in_all_layouts_are_measured_alike():
    grey = photograph()[:, :, :1]
    opacity = np.full_like(grey, 255)
    layouts = grey[:, :, 0], grey, np.repeat(grey, 3, 2), np.concatenate([grey, opacity], 2)
    first, *others = (measured(pixels) for pixels in layouts)
    assert all(other == pytest.approx(first, abs=1e-3) for other in others)


def test_what_is_transparent_is_white():
    clear = np.zeros((20, 20, 4), np.uint8)
    assert measured(clear)["brightness"] == 1
    assert found(clear) == {"blank": [0]}


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (2, 2, 1), (50, 2, 4)])
def test_the_smallest_pictures_have_measures(shape):
    values = measured(np.full(shape, 200, np.uint8))
    assert set(values) == set(MEASURES)
    assert np.isfinite(list(values.values())).all()


def test_each_kind_of_fault_is_found_and_nothing_else():
    good = photograph(200)
    dot = np.full((200, 200, 3), 255, np.uint8)
    dot[90:106, 90:110] = 0
    grainy = np.random.default_rng(0).integers(118, 124, (200, 200, 3)).astype(np.uint8)
    pictures = good, dot, grainy, blurred(good, 5), good[:15, :15], good[:40], good[:, ::-1]
    assert found(*pictures) == {
        "blank": [2],
        "one colour": [1],
        "blurred": [3],
        "too small": [4],
        "extreme proportions": [5],
    }


def test_small_pictures_among_small_ones_are_of_the_usual_size():
    assert found(*[photograph(32, seed) for seed in range(5)]) == {}


def test_the_worst_are_first():
    good = photograph(200)
    pictures = collection(good, good[:40], blurred(good, 4), good[:20], blurred(good, 8))
    by_kind = {fault.kind: fault for fault in quality.faults(pictures)}
    assert by_kind["extreme proportions"].positions.tolist() == [3, 1]
    assert by_kind["extreme proportions"].values.tolist() == [10, 5]
    assert by_kind["blurred"].positions.tolist() == [4, 2]


def test_an_empty_collection_has_no_faults():
    assert found() == {}
    assert [fault.kind for fault in quality.faults(collection())] == list(quality.LIMITS)
