"""Images out: grids of them, and PNG files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.pictures import grid, interpolate, pairs, write_png

BLOCKS = np.kron([[10, 80], [150, 240]], np.ones((8, 8))).astype(np.uint8)
BYTES = np.random.default_rng(2).integers(0, 256, (4, 6), dtype=np.uint8)


def test_grid_places_every_image_and_leaves_white_between():
    images = torch.tensor([0.0, 0.2, 0.6])[:, None, None, None].expand(3, 1, 2, 3)
    picture = grid(images, scale=2, gap=1)  # two columns of 3, two rows of 2
    assert picture.mode == "L"
    assert picture.size == (2 * (2 * 4 + 1), 2 * (2 * 3 + 1))
    expected = np.full((7, 9), 255, np.uint8)
    expected[1:3, 1:4] = 0
    expected[1:3, 5:8] = 51
    expected[4:6, 1:4] = 153
    np.testing.assert_array_equal(np.asarray(picture), np.kron(expected, np.ones((2, 2))))


def test_grid_of_colours_in_the_columns_asked_for():
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    picture = grid(images, columns=5, scale=1, gap=2)
    assert picture.mode == "RGB"
    assert picture.size == (5 * 6 + 2, 8)
    last = np.asarray(picture)[2:6, 26:30]
    np.testing.assert_array_equal(last, (images[4] * 255).round().byte().permute(1, 2, 0))


@pytest.mark.parametrize(("n", "columns", "rows"), [(1, 1, 1), (4, 2, 2), (5, 3, 2), (10, 4, 3)])
def test_grid_is_nearly_square(n: int, columns: int, rows: int):
    assert grid(torch.zeros(n, 1, 1, 1), scale=1, gap=0).size == (columns, rows)


def test_pairs_put_each_row_over_what_was_made_of_it():
    originals, rebuilt = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]]).reshape(2, 3, 1, 1, 1)
    got = pairs(originals, rebuilt, columns=2).flatten().tolist()
    assert got == pytest.approx([0.1, 0.2, 0.5, 0.6, 0.3, 1.0, 0.7, 1.0])


def test_pairs_of_full_rows_have_no_blanks():
    zeros = torch.zeros(4, 1, 2, 2)
    assert pairs(zeros, zeros, columns=2).shape == (8, 1, 2, 2)
    assert not pairs(zeros, zeros, columns=2).any()


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_interpolate_goes_straight_and_includes_both_ends(shape: tuple[int, ...]):
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, *shape, generator=generator)
    codes = interpolate(start, end, 5)
    assert codes.shape == (5, *shape)
    assert torch.equal(codes[0], start)
    torch.testing.assert_close(codes[4], end)
    torch.testing.assert_close(codes[1], 0.75 * start + 0.25 * end)
    torch.testing.assert_close(codes.diff(dim=0), ((end - start) / 4).expand(4, *shape))


def test_png_has_the_pixels_and_makes_its_folder(tmp_path: Path):
    path = tmp_path / "new" / "folders" / "x.png"
    write_png(Image.fromarray(BYTES.copy()), path)
    with Image.open(path) as written:
        assert written.format == "PNG"
        np.testing.assert_array_equal(np.asarray(written), BYTES)


def test_png_replaces_the_old_one_in_one_step(tmp_path: Path):
    path = tmp_path / "x.png"
    write_png(Image.fromarray(BLOCKS), path)
    with path.open("rb") as reader:  # has to go on with the old file, whole
        old = path.read_bytes()
        write_png(Image.fromarray(255 - BLOCKS), path)
        assert reader.read() == old
    with Image.open(path) as written:
        np.testing.assert_array_equal(np.asarray(written), 255 - BLOCKS)
    assert list(tmp_path.iterdir()) == [path]


def test_png_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "x.png"
    write_png(Image.fromarray(BLOCKS), path)
    old = path.read_bytes()
    with pytest.raises(OSError, match="cannot write mode"):
        write_png(Image.new("HSV", (4, 4)), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
