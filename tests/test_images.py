"""Pictures in: real files of every kind, whole and damaged."""

import io
import random
import re
import struct
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.errors import ImageError, InputError
from zoo.images import (
    ENDINGS,
    chunk_size,
    decode_many,
    fit_all,
    in_order,
    read_pictures,
    to_images,
)
from zoo.spec import Preprocessing

SIZE = 16
GREY = Preprocessing(channels=1, height=SIZE, width=SIZE)
COLOUR = Preprocessing(channels=3, height=SIZE, width=SIZE, background=0.25)
BLOCKS = np.kron([[10, 80], [150, 240]], np.ones((8, 8))).astype(np.uint8)
"""Four flat blocks of 8 x 8, which JPEG at its best quality keeps to the last bit."""
NOISE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 4), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (SIZE, SIZE)).astype(np.uint16)
INDICES = (NOISE[:, :, 0] % 3).astype(np.uint8)
PALETTE = np.array([[200, 10, 30], [20, 190, 40], [50, 60, 180]], dtype=np.uint8)


def colour_first(values: np.ndarray) -> np.ndarray:
    """H x W or H x W x 3 bytes as 3 x H x W in [0, 1]."""
    values = np.stack([values] * 3, axis=2) if values.ndim == 2 else values
    return values.transpose(2, 0, 1).astype(np.float32) / 255


def palette_picture() -> Image.Image:
    picture = Image.fromarray(INDICES, "L")
    picture.putpalette(PALETTE.tobytes())
    return picture


def truncated(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()[: len(buffer.getvalue()) * 6 // 10]


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def extra_memory(call: Callable[[], object]) -> int:
    """Bytes that ``call`` took at its peak, Pillow's and torch's too (tracemalloc sees neither)."""

    def resident(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith(key)))

    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    except OSError:
        pytest.skip("the peak of resident memory can be reset on Linux alone")
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def write_rgba(path: Path) -> np.ndarray:
    Image.fromarray(NOISE, "RGBA").save(path)
    opacity = NOISE[:, :, 3:].astype(np.float32) / 255
    laid = NOISE[:, :, :3] / 255 * opacity + COLOUR.background * (1 - opacity)
    return laid.transpose(2, 0, 1).astype(np.float32)


def write_deep(path: Path) -> np.ndarray:
    Image.fromarray(DEEP).save(path)
    return np.stack([DEEP.astype(np.float32) / 65535] * 3)


def write_bits(path: Path) -> np.ndarray:
    bits = NOISE[:, :, 0] > 127
    Image.fromarray(bits).convert("1").save(path)
    return colour_first(bits * np.uint8(255))


def write_palette(path: Path) -> np.ndarray:
    palette_picture().save(path)
    return colour_first(PALETTE[INDICES])


def write_palette_clear(path: Path) -> np.ndarray:
    palette_picture().save(path, transparency=1)
    laid = PALETTE[INDICES] / 255
    laid[INDICES == 1] = COLOUR.background
    return laid.transpose(2, 0, 1).astype(np.float32)


def write_animated(path: Path) -> np.ndarray:
    other = Image.new("P", (SIZE, SIZE), 2)
    other.putpalette(PALETTE.tobytes())
    palette_picture().save(path, save_all=True, append_images=[other], duration=100)
    with Image.open(path) as written:
        assert written.n_frames == 2
    return colour_first(PALETTE[INDICES])


def write_grey_jpeg(path: Path) -> np.ndarray:
    Image.fromarray(BLOCKS).save(path, quality=100)
    return colour_first(BLOCKS)


def write_cmyk_jpeg(path: Path) -> np.ndarray:
    inks = np.stack([BLOCKS, BLOCKS.T, 255 - BLOCKS, BLOCKS[::-1] // 4], axis=2)
    Image.fromarray(np.ascontiguousarray(inks), "CMYK").save(path, quality=100, subsampling=0)
    light = 255 - inks.astype(np.float32)
    return colour_first(light[:, :, :3] * light[:, :, 3:] / 255)


def write_rotated_jpeg(path: Path) -> np.ndarray:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn it 90 degrees clockwise to show it"
    Image.fromarray(np.rot90(BLOCKS).copy()).save(path, quality=100, exif=exif)
    return colour_first(BLOCKS)


def write_plain(path: Path) -> np.ndarray:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(NOISE[:, :, :3].copy()).save(path)
    return colour_first(NOISE[:, :, :3])


READABLE = {  # file: (what writes it and says what it should be read as, by how much it may differ)
    "animated.gif": (write_animated, 0),
    "bits.png": (write_bits, 0),
    "cmyk.jpg": (write_cmyk_jpeg, 2.5 / 255),
    "deep.png": (write_deep, 0),
    "deep.tif": (write_deep, 0),
    "grey.jpg": (write_grey_jpeg, 0),
    "palette.gif": (write_palette, 0),
    "palette_clear.gif": (write_palette_clear, 0),
    "palette_clear.png": (write_palette_clear, 0),
    "plain.BMP": (write_plain, 0),
    "rgba.png": (write_rgba, 1e-6),
    "rgba.tiff": (write_rgba, 1e-6),
    "rotated.jpg": (write_rotated_jpeg, 0),
    "sub/plain.png": (write_plain, 0),
}
_COLOUR_NOISE = Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8))
UNREADABLE = {  # file: (its bytes, why it is skipped)
    "README.txt": (b"my holidays", "ending of a picture"),
    "empty.png": (b"", "not a picture of a known kind"),
    "huge.png": (png_that_claims(50_000, 50_000), "pixels; make it smaller"),
    "text.png": (b"this is no picture\n" * 50, "not a picture of a known kind"),
    "truncated.jpg": (truncated(_COLOUR_NOISE, "JPEG"), "damaged, or not readable"),
    "truncated.png": (truncated(_COLOUR_NOISE, "PNG"), "damaged, or not readable"),
}


@pytest.fixture
def bad_folder(tmp_path: Path) -> Path:
    for name, (data, _) in UNREADABLE.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("name", READABLE)
def test_each_kind_of_picture_is_read_right(tmp_path: Path, name: str):
    write, tolerance = READABLE[name]
    expected = write(tmp_path / name)
    got = to_images(tmp_path / name, COLOUR)
    assert got.dtype == torch.float32
    assert got.shape == (1, 3, SIZE, SIZE)
    np.testing.assert_allclose(got[0].numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", UNREADABLE)
def test_each_damaged_picture_is_refused_by_name(bad_folder: Path, name: str):
    with pytest.raises(ImageError) as refused:
        read_pictures([bad_folder / name], COLOUR, strict=True)
    assert str(refused.value).startswith(f"{bad_folder / name}: ")
    assert UNREADABLE[name][1] in str(refused.value)


def test_folder_reads_what_can_be_read_and_names_the_rest(bad_folder: Path):
    expected = {name: write(bad_folder / name) for name, (write, _) in READABLE.items()}
    pictures = read_pictures([bad_folder], COLOUR)
    # In the order of names; a folder's own files before those of its subfolders.
    assert [str(path.relative_to(bad_folder)) for path in pictures.paths] == list(READABLE)
    for (name, wanted), got in zip(expected.items(), pictures.images, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=READABLE[name][1], err_msg=name)
    reasons = {path.name: reason for path, reason in pictures.skipped}
    assert list(reasons) == list(UNREADABLE)
    for name, (_, reason) in UNREADABLE.items():
        assert reason in reasons[name]
        assert str(bad_folder) not in reasons[name]  # the path stands beside it


def test_strict_stops_at_the_first_picture_that_cannot_be_read(bad_folder: Path):
    write_plain(bad_folder / "a_plain.png")
    no_picture = "ending of a picture"
    first = min(name for name, (_, reason) in UNREADABLE.items() if no_picture not in reason)
    assert first > "README.txt"  # which comes before it, and is no picture
    with pytest.raises(ImageError, match=re.escape(str(bad_folder / first))):
        read_pictures([bad_folder], COLOUR, strict=True)


def test_folder_without_a_readable_picture_names_each(bad_folder: Path):
    with pytest.raises(ImageError) as refused:
        read_pictures([bad_folder], COLOUR)
    text = str(refused.value)
    assert f"out of {len(UNREADABLE)} files" in text
    for name, (_, reason) in UNREADABLE.items():
        assert any(name in line and reason in line for line in text.splitlines())


def test_many_unreadable_files_are_counted(tmp_path: Path):
    for i in range(13):
        (tmp_path / f"{i:02}.png").write_bytes(b"x")
    with pytest.raises(
        ImageError, match=r"out of 13 files[\s\S]*09\.png[\s\S]*and 3 more$"
    ) as error:
        read_pictures([tmp_path], GREY)
    assert "10.png" not in str(error.value)


def test_sources_keep_their_order_and_have_to_exist(tmp_path: Path):
    for name in ("a.png", "b.png"):
        write_plain(tmp_path / name)
    both = [tmp_path / "b.png", tmp_path / "a.png"]
    assert read_pictures(both, GREY).paths == both
    with pytest.raises(ImageError, match=r"gone\.png: there is no such file or folder"):
        read_pictures([*both, tmp_path / "gone.png"], GREY)


def test_progress_sees_every_file(bad_folder: Path):
    write_plain(bad_folder / "a.png")
    seen: list[Path] = []

    def progress(paths: list[Path]) -> list[Path]:
        seen.extend(paths)
        return paths

    read_pictures([bad_folder], GREY, progress=progress)
    assert len(seen) == len(UNREADABLE) + 1


def test_picture_that_claims_to_be_huge_costs_no_memory(bad_folder: Path):
    def read() -> None:
        with pytest.raises(ImageError, match="pixels"):
            to_images(bad_folder / "huge.png", COLOUR)

    read()  # Pillow's own imports do not count
    tracemalloc.start()
    try:
        taken = extra_memory(read)
        _, traced = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert traced < 1_000_000
    assert taken < 20_000_000


def test_picture_over_pillows_bound_is_refused_though_pillow_would_only_warn(tmp_path: Path):
    (tmp_path / "large.png").write_bytes(png_that_claims(10_000, 9_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a program may have it
        with pytest.raises(ImageError, match=r"large\.png: more than 89,478,485 pixels"):
            to_images(tmp_path / "large.png", GREY)


def test_sixteen_bits_survive_in_every_byte_order(tmp_path: Path):
    # Netpbm is big-endian, TIFF little-endian; 8 bits would leave 256 of these values.
    for name in ("deep.pgm", "deep.tif", "deep.png"):
        Image.fromarray(DEEP).save(tmp_path / name)
        got = to_images(tmp_path / name, GREY)[0, 0].numpy()
        np.testing.assert_array_equal(got, DEEP.astype(np.float32) / 65535, err_msg=name)


UPRIGHT = np.kron([[10, 80, 120], [150, 240, 200]], np.ones((8, 8))).astype(np.uint8)  # 16 x 24
STORED = {  # EXIF orientation: how the camera stores what is to be seen
    1: UPRIGHT,
    2: np.fliplr(UPRIGHT),
    3: np.rot90(UPRIGHT, 2),
    4: np.flipud(UPRIGHT),
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: np.rot90(UPRIGHT, 2).T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    stored.save(tmp_path / "x.jpg", quality=100, exif=exif)
    wide = Preprocessing(channels=1, height=16, width=24)
    expected = UPRIGHT.astype(np.float32) / 255
    np.testing.assert_array_equal(to_images(tmp_path / "x.jpg", wide)[0, 0], expected)
    with Image.open(tmp_path / "x.jpg") as opened:
        np.testing.assert_array_equal(to_images(opened, wide)[0, 0], expected)


def test_damaged_exif_is_an_image_error(tmp_path: Path):
    # A width that is a text, beside an orientation: Pillow fails when it writes the tags back.
    tags = [(256, 2, 4, b"abc\0"), (274, 3, 1, b"\6\0\0\0")]
    entries = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    Image.fromarray(BLOCKS).save(tmp_path / "bad.jpg", exif=exif)
    write_plain(tmp_path / "good.png")
    pictures = read_pictures([tmp_path], GREY)  # read or skipped, but not the end of all
    assert tmp_path / "good.png" in pictures.paths
    assert len(pictures.paths) + len(pictures.skipped) == 2


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((SIZE, SIZE), 200, np.float32), "[0, 1]"),
        (np.full((SIZE, SIZE), np.nan, np.float32), "[0, 1]"),
        (np.full((SIZE, SIZE), 70_000, np.int32), "16 bits"),
        (np.full((SIZE, SIZE), -1, np.int32), "16 bits"),
    ],
    ids=["float beyond 1", "NaN", "17 bits", "negative"],
)
def test_picture_with_values_out_of_range_is_skipped_by_name(
    tmp_path: Path, values: np.ndarray, reason: str
):
    Image.fromarray(values).save(tmp_path / "odd.tif")
    write_plain(tmp_path / "plain.png")
    pictures = read_pictures([tmp_path], GREY)
    assert [path.name for path in pictures.paths] == ["plain.png"]
    assert reason in pictures.skipped[0][1]
    with pytest.raises(ImageError, match=r"odd\.tif: "):
        read_pictures([tmp_path], GREY, strict=True)


def test_float_and_32_bit_pictures_within_range_are_read(tmp_path: Path):
    unit = NOISE[:, :, 0].astype(np.float32) / 255
    Image.fromarray(unit).save(tmp_path / "unit.tif")
    Image.fromarray(DEEP.astype(np.int32)).save(tmp_path / "deep.tif")
    np.testing.assert_array_equal(to_images(tmp_path / "unit.tif", GREY)[0, 0], unit)
    expected = DEEP.astype(np.float32) / 65535
    np.testing.assert_array_equal(to_images(tmp_path / "deep.tif", GREY)[0, 0], expected)


def test_opened_but_damaged_picture_is_an_image_error():
    damaged = Image.open(io.BytesIO(UNREADABLE["truncated.png"][0]))  # Pillow reads pixels late
    with pytest.raises(ImageError, match="damaged"):
        to_images(damaged, GREY)


def test_random_damage_gives_images_or_image_errors(tmp_path: Path):
    whole = [write_and_read(tmp_path, name) for name in READABLE if "/" not in name]
    rng = random.Random(0)
    path = tmp_path / "damaged.png"
    read, refused = 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on damaged EXIF
        for _ in range(400):
            data = bytearray(rng.choice(whole))
            for _ in range(rng.choice([1, 2, 8])):
                data[rng.randrange(min(len(data), rng.choice([64, 10_000])))] = rng.randrange(256)
            path.write_bytes(data)
            try:
                got = to_images(path, COLOUR)
            except ImageError as error:
                refused.append(str(error))
            else:
                assert got.shape == (1, 3, SIZE, SIZE)
                assert got.min() >= 0
                assert got.max() <= 1
                read += 1
    assert min(read, len(refused)) > 50  # or this tries nothing
    assert all(str(path) in text for text in refused)


def write_and_read(folder: Path, name: str) -> bytes:
    READABLE[name][0](folder / name)
    return (folder / name).read_bytes()


# -- many at once --------------------------------------------------------------------------------


def in_parallel(sources: list, preprocessing: Preprocessing, size: int = 4):
    chunks = [sources[i : i + size] for i in range(0, len(sources), size)]
    parts = list(decode_many(chunks, preprocessing))
    return torch.cat([images for images, _ in parts]), [r for _, reasons in parts for r in reasons]


@pytest.mark.parametrize("wanted", [COLOUR, GREY, Preprocessing(channels=3, height=9, width=12)])
def test_decode_many_gives_the_images_of_to_images(tmp_path: Path, wanted: Preprocessing):
    for name, (write, _) in READABLE.items():
        write(tmp_path / name)
    rng = np.random.default_rng(3)
    for i in range(20):
        shape = tuple(rng.integers(5, 60, 2)) if i % 2 else (33, 21)
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"noise{i:02}.png")
    paths = sorted(path for path in tmp_path.rglob("*.*") if path.is_file())
    got, reasons = in_parallel([str(path) for path in paths], wanted)
    assert reasons == [""] * len(paths)
    expected = (to_images(paths, wanted) * 255).round()
    assert torch.equal(got.float(), expected)
    again, _ = in_parallel([path.read_bytes() for path in paths], wanted, size=1)
    assert torch.equal(again, got)


def test_decode_many_keeps_the_order_and_says_why_not(bad_folder: Path):
    threads = torch.get_num_threads()
    whole = [bad_folder / f"{i}.png" for i in range(30)]
    for i, path in enumerate(whole):
        Image.fromarray(np.full((SIZE, SIZE), i, np.uint8)).save(path)
    damaged = [bad_folder / name for name in UNREADABLE if Path(name).suffix in ENDINGS]
    paths = [path for i in range(30) for path in (whole[i], damaged[i % len(damaged)])]
    got, reasons = in_parallel([str(path) for path in paths], GREY, size=7)
    assert got[:, 0, 0, 0].tolist() == list(range(30))
    for path, reason in zip(paths, reasons, strict=True):
        assert reason == "" if path in whole else UNREADABLE[path.name][1] in reason
        assert str(path) not in reason
    assert torch.get_num_threads() == threads


def test_decode_many_takes_no_more_than_it_needs():
    taken = []

    def chunks():
        for i in range(100):
            taken.append(i)
            yield [b""]

    parts = decode_many(chunks(), GREY)
    next(parts)
    assert len(taken) < 100
    parts.close()


def test_large_jpegs_are_not_decoded_whole(tmp_path: Path):
    pixels = np.kron(BLOCKS, np.ones((250, 250))).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.jpg", quality=95)
    assert extra_memory(lambda: to_images(tmp_path / "large.jpg", GREY)) < pixels.size / 4
    got = to_images(tmp_path / "large.jpg", GREY)[0, 0].numpy() * 255
    for inner in (np.s_[2:6, 2:6], np.s_[2:6, 10:14], np.s_[10:14, 2:6], np.s_[10:14, 10:14]):
        np.testing.assert_allclose(got[inner], BLOCKS[inner], atol=1)


def test_chunks_are_bounded_by_bytes():
    sizes = [chunk_size(Preprocessing(channels=3, height=s, width=s)) for s in (8, 32, 128, 1024)]
    assert sizes == [256, 40, 2, 1]


# -- other sizes ---------------------------------------------------------------------------------


def fitted(array: np.ndarray, fit: str, height: int, width: int, background: float = 0.25):
    wanted = Preprocessing(channels=1, height=height, width=width, fit=fit, background=background)
    return to_images(array, wanted)[0, 0].numpy()


WIDE = np.zeros((8, 16), np.float32)
WIDE[:, 4:12] = np.linspace(0.2, 0.9, 8, dtype=np.float32)  # the middle square


@pytest.mark.parametrize("turn", [np.asarray, np.transpose], ids=["wide", "tall"])
def test_crop_keeps_the_middle(turn: Callable[[np.ndarray], np.ndarray]):
    picture = np.ascontiguousarray(turn(WIDE))
    got = fitted(picture, "crop", 8, 8)
    np.testing.assert_allclose(got, turn(WIDE[:, 4:12]), atol=1e-6)


@pytest.mark.parametrize("turn", [np.asarray, np.transpose], ids=["wide", "tall"])
def test_pad_frames_with_the_background(turn: Callable[[np.ndarray], np.ndarray]):
    expected = np.full((16, 16), 0.25, np.float32)
    expected[4:12] = WIDE
    got = fitted(np.ascontiguousarray(turn(WIDE)), "pad", 16, 16)
    np.testing.assert_allclose(got, turn(expected), atol=1e-6)


@pytest.mark.parametrize("turn", [np.asarray, np.transpose], ids=["wide", "tall"])
def test_stretch_distorts_as_pillow_would(turn: Callable[[np.ndarray], np.ndarray]):
    picture = np.ascontiguousarray(turn(WIDE))
    resized = Image.fromarray(picture).resize((8, 8), Image.Resampling.BICUBIC)
    expected = np.asarray(resized).clip(0, 1)
    np.testing.assert_allclose(fitted(picture, "stretch", 8, 8), expected, atol=1e-4)


def test_each_fit_gives_another_image():
    got = [fitted(WIDE, fit, 8, 8) for fit in ("crop", "pad", "stretch")]
    for i, one in enumerate(got):
        assert all(np.abs(one - other).max() > 0.1 for other in got[i + 1 :])


def test_model_that_is_not_square_crops_to_its_own_proportions():
    picture = np.tile(np.arange(12, dtype=np.float32) / 12, (12, 1))  # grows to the right
    got = fitted(picture, "crop", 12, 6)
    np.testing.assert_allclose(got, picture[:, 3:9], atol=1e-6)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_extreme_proportions_still_give_the_models_size(fit: str, shape: tuple[int, int]):
    got = fitted(np.full(shape, 0.5, np.float32), fit, 8, 12, background=0.5)
    assert got.shape == (8, 12)
    np.testing.assert_allclose(got, 0.5, atol=1e-5)


def test_padding_a_thin_picture_costs_no_memory():
    # Framed before it is made smaller, 1 x 12,000 would become 12,000 x 12,000: 576 MB.
    thin = np.full((1, 12_000), 0.5, np.float32)
    fitted(thin[:, :100], "pad", 8, 8)
    assert extra_memory(lambda: fitted(thin, "pad", 8, 8)) < 50_000_000


def test_fine_detail_is_averaged_and_not_aliased():
    checks = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    got = to_images(checks.astype(np.uint8), Preprocessing(channels=1, height=16, width=16))
    np.testing.assert_allclose(got, 0.5, atol=0.02)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16"])
def test_large_pictures_are_made_smaller_faithfully(tmp_path: Path, mode: str):
    blocks = np.kron(np.array([[0, 60], [120, 250]]), np.ones((400, 400)))
    if mode == "I;16":
        picture = Image.fromarray((blocks * 257).astype(np.uint16))
    else:
        picture = Image.fromarray(blocks.astype(np.uint8)).convert(mode)
    picture.save(tmp_path / "large.png")
    got = to_images(tmp_path / "large.png", GREY)[0, 0].numpy()
    inner = [got[2:6, 2:6], got[2:6, 10:14], got[10:14, 2:6], got[10:14, 10:14]]
    for part, value in zip(inner, (0, 60, 120, 250), strict=True):
        np.testing.assert_allclose(part, value / 255, atol=0.005)


def test_colour_becomes_grey_by_its_luma():
    for colour, luma in (((255, 0, 0), 0.299), ((0, 255, 0), 0.587), ((0, 0, 255), 0.114)):
        got = to_images(Image.new("RGB", (SIZE, SIZE), colour), GREY)
        np.testing.assert_allclose(got, luma, atol=1e-6)


def test_transparent_picture_is_laid_over_the_background_before_it_is_made_smaller():
    values = np.zeros((64, 64, 4), np.uint8)
    values[:, 32:] = 255  # left: black, and wholly transparent
    clear = Preprocessing(channels=1, height=8, width=8, background=1.0)
    np.testing.assert_allclose(to_images(values, clear), 1, atol=1e-6)


# -- arrays and tensors --------------------------------------------------------------------------

BYTES = NOISE[:, :, :3]
LUMA = np.array([0.299, 0.587, 0.114])


def as_grey(values: np.ndarray) -> np.ndarray:
    """... x C floats in [0, 1] as ... in [0, 1]."""
    return values[..., 0] if values.shape[-1] == 1 else values @ LUMA


@pytest.mark.parametrize(
    ("array", "expected"),  # expected: N x H x W in [0, 1], grey
    [
        (NOISE[:, :, 0], NOISE[None, :, :, 0] / 255),
        (NOISE[:, :, :1], NOISE[None, :, :, 0] / 255),
        (BYTES, as_grey(BYTES[None] / 255)),
        (np.stack([BLOCKS, BLOCKS.T, BLOCKS]), np.stack([BLOCKS, BLOCKS.T, BLOCKS]) / 255),
        (np.stack([BYTES, BYTES[::-1]]), as_grey(np.stack([BYTES, BYTES[::-1]]) / 255)),
        (NOISE[None, :, :, :1], NOISE[None, :, :, 0] / 255),
        (NOISE, as_grey(BYTES[None] / 255 * (NOISE[None, :, :, 3:] / 255))),
        (NOISE[None], as_grey(BYTES[None] / 255 * (NOISE[None, :, :, 3:] / 255))),
    ],
    ids=["HW", "HW1", "HW3", "NHW", "NHW3", "NHW1", "HW4", "NHW4"],
)
def test_layouts_of_arrays_and_tensors(array: np.ndarray, expected: np.ndarray):
    got = to_images(array, GREY)
    assert got.shape == (len(expected), 1, SIZE, SIZE)
    np.testing.assert_allclose(got[:, 0], expected, atol=1e-6)
    if array.shape == (3, SIZE, SIZE):
        return  # as a tensor it is one picture of three channels
    channels_first = array if array.ndim == 2 else np.moveaxis(array, -1, -3)
    tensor = to_images(torch.from_numpy(np.ascontiguousarray(channels_first)), GREY)
    torch.testing.assert_close(tensor, got, rtol=0, atol=0)


def test_three_channels_first_are_one_picture_as_a_tensor_and_three_as_an_array():
    three = np.stack([BLOCKS, BLOCKS.T, BLOCKS])
    assert to_images(three, COLOUR).shape == (3, 3, SIZE, SIZE)
    one = to_images(torch.from_numpy(three), COLOUR)
    np.testing.assert_allclose(one[0], three / np.float32(255), atol=1e-7)


UNIT = DEEP / 65535


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (BLOCKS, BLOCKS / 255),
        (DEEP, UNIT),
        (BLOCKS > 100, BLOCKS > 100),
        (UNIT.astype(np.float16), UNIT.astype(np.float16)),
        (UNIT.astype(np.float32), UNIT),
        (UNIT, UNIT),
        (UNIT[:, ::-1], UNIT[:, ::-1]),
        (DEEP.astype(">u2"), UNIT),
        (UNIT.astype(">f8"), UNIT),
    ],
    ids=["uint8", "uint16", "bool", "float16", "float32", "float64", "reversed", ">u2", ">f8"],
)
def test_types_of_arrays(values: np.ndarray, expected: np.ndarray):
    got = to_images(values, GREY)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got[0, 0], expected.astype(np.float32), rtol=0, atol=1e-7)


def read_only(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


def unaligned(values: np.ndarray) -> np.ndarray:
    data = bytearray(b"x" + values.tobytes())
    return np.frombuffer(data, values.dtype, values.size, offset=1).reshape(values.shape)


LAYOUTS = {
    "rows reversed": lambda a: a[::-1],
    "columns reversed": lambda a: a[:, ::-1],
    "turned": np.rot90,
    "every second from the end": lambda a: np.repeat(a, 2, 0)[::-2],
    "transposed": lambda a: a.T,
    "column by column": np.asfortranarray,
    "repeated without memory": lambda a: np.broadcast_to(a[0], a.shape),
    "every second": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
    "one channel of three": lambda a: np.stack([a, a, a], 2)[:, :, 1],
    "read-only": read_only,
    "unaligned": unaligned,
    "masked": np.ma.masked_array,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["<f4", ">f4", "f2", "f8", ">f8", "u1", "<u2", ">u2", "?"])
def test_arrays_however_they_lie_in_memory(layout: str, kind: str):
    whole = {"u1": BLOCKS, "?": BLOCKS > 100}.get(kind, DEEP if "u2" in kind else UNIT)
    array = LAYOUTS[layout](whole.astype(kind))
    before = array.copy()
    got = to_images(array, GREY)
    assert torch.equal(got, to_images(np.array(before, copy=True, order="C"), GREY))
    expected = before / {"u1": 255.0}.get(kind, 65535.0 if "u2" in kind else 1.0)
    np.testing.assert_allclose(got[0, 0], np.asarray(expected), rtol=0, atol=1e-7)
    got.fill_(0)
    np.testing.assert_array_equal(array, before)  # nothing is shared


@pytest.mark.parametrize(
    "array",
    [
        UNIT[None].astype(np.float32)[::-1],
        UNIT[:, :, None].astype(np.float32)[:, :, ::-1],
        UNIT[None, :, :, None].astype(np.float32)[::-1, :, :, ::-1],
    ],
    ids=["one image", "one channel", "both"],
)
def test_negative_strides_of_one_step_are_no_obstacle(array: np.ndarray):
    assert array.flags.c_contiguous  # for numpy, but torch refuses it
    with pytest.raises(ValueError, match="strides"):
        torch.from_numpy(array)
    np.testing.assert_array_equal(to_images(array, GREY)[0, 0], UNIT.astype(np.float32))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(16, 32)[:, ::2],
        torch.rand(16, 16).T,
        torch.rand(1, 3, 16, 16).to(memory_format=torch.channels_last),
        torch._neg_view(-torch.rand(16, 16)),
        torch.rand(1, 1, 1).expand(1, 16, 16),
        torch.rand(3, 16, 16)[1:2],
    ],
    ids=["every second", "transposed", "channels last", "negated", "expanded", "a part"],
)
def test_tensors_however_they_lie_in_memory(tensor: torch.Tensor):
    plain = torch.tensor(tensor.tolist())
    assert torch.equal(to_images(tensor, COLOUR), to_images(plain, COLOUR))


@pytest.mark.parametrize(
    "kind", [torch.uint8, torch.uint16, torch.bool, torch.bfloat16, torch.float16, torch.float64]
)
def test_types_of_tensors(kind: torch.dtype):
    high = {torch.uint8: 255, torch.uint16: 65535}.get(kind, 1)
    values = (torch.from_numpy(BLOCKS > 100).float() * high).to(kind)
    got = to_images(values, GREY)
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(got[0, 0], (BLOCKS > 100).astype(np.float32))


def test_tensor_with_gradients_is_taken_and_not_changed():
    tensor = torch.full((1, SIZE, SIZE), 0.5, requires_grad=True)
    got = to_images(tensor, GREY)
    assert not got.requires_grad
    got.fill_(0)
    assert tensor.min() == 0.5


def test_result_does_not_share_memory_with_an_array():
    array = np.full((SIZE, SIZE), 0.5, np.float32)
    to_images(array, GREY).fill_(0)
    assert array.min() == 0.5


def test_read_only_array_gives_no_warning():
    array = np.full((SIZE, SIZE), 0.5, np.float32)
    array.flags.writeable = False
    torch.set_warn_always(True)  # torch says most things once
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert to_images(array, GREY).min() == 0.5
    finally:
        torch.set_warn_always(False)


def test_lists_of_everything_in_their_order(tmp_path: Path):
    write_grey_jpeg(tmp_path / "0.jpg")
    things = [
        str(tmp_path / "0.jpg"),
        tmp_path / "0.jpg",
        Image.fromarray(BLOCKS),
        (BLOCKS, torch.from_numpy(BLOCKS)),
        np.stack([BLOCKS, 255 - BLOCKS]),
    ]
    got = to_images(things, GREY)[:, 0].numpy()
    expected = np.stack([BLOCKS] * 6 + [255 - BLOCKS]).astype(np.float32) / 255
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("x", "parts"),
    [
        (np.zeros((8, 8), np.int32), ["expected uint8, uint16, bool or floating", "got int32"]),
        (torch.zeros(8, 8, dtype=torch.int64), ["expected uint8, uint16, bool", "got int64"]),
        (np.zeros((8, 8), np.complex64), ["got complex64"]),
        (np.array([["a", "b"]]), ["expected uint8", "got <U1"]),
        (np.full((8, 8), 255.0), ["in [0, 1]", "got 255 to 255", "divide by 255"]),
        (torch.full((1, 8, 8), 128.0), ["in [0, 1]", "got 128 to 128", "divide by 255"]),
        (np.full((8, 8), np.nan), ["in [0, 1]", "got nan"]),
        (np.full((8, 8), np.inf), ["in [0, 1]", "got inf"]),
        (np.full((8, 8), -0.5), ["in [0, 1]", "got -0.5 to -0.5"]),
        (np.zeros((0, 8, 8), np.uint8), ["at least one image", "(0, 8, 8)"]),
        (np.zeros((8, 0), np.uint8), ["at least one image", "(8, 0)"]),
        (torch.zeros(0, 1, 8, 8), ["expected a tensor", "got 0 x 1 x 8 x 8"]),
        (np.zeros((1, 1, 8, 8, 1)), ["H x W, H x W x C, N x H x W", "got 1 x 1 x 8 x 8 x 1"]),
        (torch.zeros(1, 1, 1, 8, 8), ["C x H x W", "got 1 x 1 x 1 x 8 x 8"]),
        (np.zeros((2, 8, 8, 2)), ["with C 1, 3 or 4", "got 2 x 8 x 8 x 2"]),
        (np.zeros(8), ["expected an array", "got 8"]),
        (torch.tensor(0.5), ["expected a tensor", "a single number"]),
        (torch.zeros(2, 8, 8), ["with C 1, 3 or 4", "got 2 x 8 x 8"]),
        ([], ["at least one picture", "an empty list"]),
        ((), ["at least one picture"]),
        (None, ["expected a path, a PIL image, an array, a tensor", "NoneType"]),
        ([[0.5, 0.5]], ["expected a path, a PIL image", "float"]),
        (b"bytes", ["expected a path, a PIL image", "bytes"]),
        (Image.new("L", (0, 5)), ["at least one image"]),
    ],
)
def test_what_is_no_picture_is_refused(x: object, parts: list[str]):
    with pytest.raises(InputError) as refused:
        to_images(x, GREY)
    for part in parts:
        assert part in str(refused.value)


def test_values_that_no_division_mends_get_no_such_advice():
    for values in (np.full((8, 8), 70_000.0), np.array([[-1.0, 200.0]])):
        with pytest.raises(InputError, match=r"in \[0, 1\]") as refused:
            to_images(values, GREY)
        assert "divide" not in str(refused.value)


def test_paths_that_are_no_files(tmp_path: Path):
    with pytest.raises(ImageError, match=r"gone\.png: there is no such file"):
        to_images(str(tmp_path / "gone.png"), GREY)
    with pytest.raises(ImageError, match=r"is a folder; zoo\.images\.read_pictures"):
        to_images(str(tmp_path), GREY)
    with pytest.raises(ImageError):
        to_images("nul\0byte.png", GREY)


def test_what_blocks_for_ever_holds_nobody(monkeypatch):
    """As opening a pipe does that nobody writes into, in a thread that cannot be interrupted."""
    monkeypatch.setattr("zoo.images.PATIENCE", 0.1)
    monkeypatch.setattr("zoo.images.processors", lambda: 2)
    held, begun = threading.Event(), []

    def call(item: int) -> int:
        begun.append((item, threading.current_thread().daemon))
        return item if item == 0 else held.wait() and item

    results = in_order(call, range(10))
    assert next(results) == 0
    results.close()  # as Ctrl-C does on its way out
    before = len(begun)
    held.set()
    assert before in (2, 3)
    assert all(daemon for _, daemon in begun), "the process can end without them"
    assert list(in_order(lambda item: -item, range(5))) == [0, -1, -2, -3, -4]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // item, [1, 0, 1]))
    assert len(begun) == before, "nothing more began"


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_in_bytes_is_nearly_the_same(channels: int, fit: str):
    p = Preprocessing(channels=channels, height=24, width=32, fit=fit, background=0.3)
    rng = np.random.default_rng(0)
    sizes = [(90, 70), (24, 32), (10, 12), (200, 20), (90, 70)]
    # Without the darkest and brightest values nothing overshoots, which bytes could not hold.
    read = [
        rng.integers(60, 196, (*size, depth), np.uint8) for size in sizes for depth in (1, 3, 4)
    ]
    read += [rng.random((40, 50, 3), np.float32)]
    exact, quick = fit_all(read, p), fit_all(read, p, in_bytes=True)
    assert 0 < (exact - quick).abs().max() <= 2 / 255
    harsh = [rng.integers(0, 2, (90, 70, 3), np.uint8) * 255 for _ in range(4)]
    exact_harsh, quick_harsh = fit_all(harsh, p), fit_all(harsh, p, in_bytes=True)
    assert (exact_harsh - quick_harsh).abs().mean() < 2 / 255
    same = [i for i, pixels in enumerate(read) if pixels.shape[:2] == (24, 32)]
    assert torch.equal(exact[same], quick[same])
