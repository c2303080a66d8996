"""Metadata never decide over pixels: real files whose metadata are damaged, odd, or huge.

Each is read to the last bit, upright, without a warning, by one file and by many at once.
"""

import io
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from zoo.errors import ImageError
from zoo.images import decode_many, read_pictures, to_images
from zoo.picturefile import bare, orientation
from zoo.spec import Preprocessing

UPRIGHT = np.kron([[10, 80, 120], [150, 240, 200]], np.ones((8, 8))).astype(np.uint8)  # 16 x 24
LYING = np.ascontiguousarray(np.rot90(UPRIGHT))  # as a camera stores it with orientation 6
WIDE = Preprocessing(channels=1, height=16, width=24)
JUNK = bytes(range(200))


def exif(
    *entries: tuple[int, int, int, bytes], order: str = "<", count: int | None = None
) -> bytes:
    """EXIF of these tags: number, type, count, and four bytes or what lies behind the directory."""
    start = 8 + 2 + 12 * len(entries) + 4
    head, behind = b"", b""
    for tag, kind, many, value in entries:
        place = value
        if len(value) > 4:
            place = struct.pack(f"{order}L", start + len(behind))
            behind += value
        head += struct.pack(f"{order}HHL", tag, kind, many) + place.ljust(4, b"\0")
    number = len(entries) if count is None else count
    magic = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", number) + head + bytes(4)
    return magic + struct.pack(f"{order}L", 8) + directory + behind


TURN = (274, 3, 1, struct.pack("<H", 6))
BAD_RATIONAL = (282, 10, 1, struct.pack("<ll", -1, 0))
BEHIND_THE_END = (270, 2, 5000, struct.pack("<L", 60_000))
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def jpeg(
    *segments: tuple[int, bytes], pixels: np.ndarray = LYING, drop_jfif: bool = False
) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100)
    data = buffer.getvalue()
    assert data[2:4] == b"\xff\xe0"
    rest = data[20:] if drop_jfif else data[2:]
    added = b"".join(struct.pack(">BBH", 0xFF, kind, len(d) + 2) + d for kind, d in segments)
    return data[:2] + added + rest


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", crc)


def png(*chunks: bytes, after: bytes = b"", pixels: np.ndarray = LYING) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    return data[:33] + b"".join(chunks) + data[33:-12] + after + data[-12:]


def webp(metadata: bytes, pixels: np.ndarray = LYING) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, exif=metadata)
    return buffer.getvalue()


def tiff(*entries: tuple[int, int, int, bytes], behind: bytes = b"", order: str = "<",
         count: int | None = None, pixels: np.ndarray = LYING) -> bytes:  # fmt: skip
    """A TIFF of grey pixels with these tags over and beside the ones that it needs."""
    height, width = pixels.shape
    needed = {
        256: (3, 1, width), 257: (3, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
        273: (4, 1, 8), 277: (3, 1, 1), 278: (3, 1, height), 279: (4, 1, pixels.size),
    }  # fmt: skip
    rows = {
        tag: (kind, many, struct.pack(order + ("H" if kind == 3 else "L"), value).ljust(4, b"\0"))
        for tag, (kind, many, value) in needed.items()
    }
    place = 8 + pixels.size
    for tag, kind, many, value in entries:
        if len(value) > 4:
            behind, value = behind + value, struct.pack(f"{order}L", place + len(behind))
        rows[tag] = (kind, many, value.ljust(4, b"\0"))
    directory = b"".join(
        struct.pack(f"{order}HHL", tag, kind, many) + value
        for tag, (kind, many, value) in sorted(rows.items())
    )
    start = place + len(behind)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    number = struct.pack(f"{order}H", len(rows) if count is None else count)
    return (magic + struct.pack(f"{order}L", start) + pixels.tobytes() + behind + number
            + directory + (bytes(4) if count is None else b""))  # fmt: skip


EXIF, XAP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
PACKED = b"\nexif\n%8d\n%s\n" % (len(exif(TURN)), exif(TURN).hex().encode())
BOMB = zlib.compress(bytes(80_000_000))

LYING_FILES = {  # of a picture that lies on its side, and says so somewhere
    "plain.jpg": jpeg((0xE1, EXIF + exif(TURN))),
    "rational.jpg": jpeg((0xE1, EXIF + exif(TURN, BAD_RATIONAL))),
    "behind.jpg": jpeg((0xE1, EXIF + exif(BEHIND_THE_END, TURN))),
    "count.jpg": jpeg((0xE1, EXIF + exif(TURN, count=900)), drop_jfif=True),
    "text-width.jpg": jpeg((0xE1, EXIF + exif((256, 2, 4, b"abc\0"), TURN))),
    "big-endian.jpg": jpeg((0xE1, EXIF + exif((274, 3, 1, b"\0\6"), order=">"))),
    "two-segments.jpg": jpeg((0xE1, EXIF + exif(TURN)[:20]), (0xE1, EXIF + exif(TURN)[20:])),
    "xmp.jpg": jpeg((0xE1, XAP + XMP)),
    "photoshop.jpg": jpeg((0xED, b"Photoshop 3.0\x008BIM\0\1"), (0xE1, EXIF + exif(TURN))),
    "icc.jpg": jpeg((0xE2, b"ICC_PROFILE\0"), (0xE1, EXIF + exif(TURN))),
    "jfif.jpg": jpeg((0xE0, b"JFIF\0\1"), (0xE1, EXIF + exif(TURN)), drop_jfif=True),
    "mpo.jpg": jpeg((0xE2, b"MPF\0" + JUNK), (0xE1, EXIF + exif(TURN))),
    "junk-between.jpg": jpeg((0xE1, EXIF + exif(TURN))).replace(
        b"\xff\xe0", b"\0\1\xff\xff\xff\0\xff\xe0", 1),
    "short-segment.jpg": jpeg((0xE1, EXIF + exif(TURN))).replace(
        b"\xff\xe0", b"\xff\xe5\0\1\xff\xe0", 1),
    "comment.jpg": jpeg((0xFE, b"\xff\xff" * 400), (0xE1, EXIF + exif(TURN))),
    "exif.png": png(chunk(b"eXIf", exif(TURN))),
    "rational.png": png(chunk(b"eXIf", exif(TURN, BAD_RATIONAL))),
    "at-the-end.png": png(after=chunk(b"eXIf", exif(TURN))),
    "packed.png": png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(PACKED))),
    "packed-text.png": png(chunk(b"tEXt", b"Raw profile type exif\0" + PACKED)),
    "xmp.png": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "xmp-packed.png": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
    "junk-beside.png": png(chunk(b"eXIf", JUNK),
                           chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "exif.webp": webp(exif(TURN)),
    "rational.webp": webp(EXIF + exif(TURN, BAD_RATIONAL)),
    "plain.tif": tiff(TURN),
    "old-order.tif": tiff((274, 3, 1, b"\0\6"), order=">").replace(b"MM\0*", b"MM*\0"),
    "behind.tif": tiff(TURN, (305, 2, 999_999, struct.pack("<L", 8))),
    "big-endian.tif": tiff((274, 3, 1, b"\0\6"), (305, 2, 9, b"\0\xff\0\0"), order=">"),
    "xmp.tif": tiff((700, 1, len(XMP), XMP)),
    "broken-exif.tif": tiff(TURN, (34665, 4, 1, struct.pack("<L", 9_999_999))),
    "exif-is-pixels.tif": tiff(TURN, (34665, 4, 1, struct.pack("<L", 8))),
}  # fmt: skip
STANDING_FILES = {  # of one that stands, with metadata that say nothing or nonsense
    "junk-exif.jpg": jpeg((0xE1, EXIF + JUNK), pixels=UPRIGHT),
    "no-exif.jpg": jpeg((0xE1, EXIF), pixels=UPRIGHT),
    "orientation-9.jpg": jpeg((0xE1, EXIF + exif((274, 3, 1, b"\x09\0"))), pixels=UPRIGHT),
    "orientation-text.jpg": jpeg((0xE1, EXIF + exif((274, 2, 4, b"6\0\0\0"))), pixels=UPRIGHT),
    "far-directory.jpg": jpeg((0xE1, EXIF + b"II*\0\xff\xff\xff\xff" + JUNK), pixels=UPRIGHT),
    "junk-exif.png": png(chunk(b"eXIf", JUNK), pixels=UPRIGHT),
    "empty-exif.png": png(chunk(b"eXIf", b""), pixels=UPRIGHT),
    "icc-bomb.png": png(chunk(b"iCCP", b"x\0\0" + BOMB), pixels=UPRIGHT),
    "text-bomb.png": png(chunk(b"zTXt", b"x\0\0" + BOMB), pixels=UPRIGHT),
    "exif-bomb.png": png(chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB), pixels=UPRIGHT),
    "xmp-bomb.png": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB), pixels=UPRIGHT),
    "text-flood.png": png(*[chunk(b"tEXt", b"x\0" + bytes(900_000))] * 80, pixels=UPRIGHT),
    "short-phys.png": png(chunk(b"pHYs", b"\0"), pixels=UPRIGHT),
    "short-gama.png": png(chunk(b"gAMA", b""), chunk(b"cHRM", b"\0"), pixels=UPRIGHT),
    "wrong-crc.png": png(chunk(b"tEXt", b"x\0y", crc=7), pixels=UPRIGHT),
    "apng.png": png(chunk(b"acTL", bytes(8)), chunk(b"acTL", bytes(8)), pixels=UPRIGHT),
    "frames.png": png(chunk(b"acTL", struct.pack(">LL", 3, 0)), chunk(b"fcTL", bytes(26)),
                      after=chunk(b"fdAT", JUNK), pixels=UPRIGHT),
    "junk.webp": webp(JUNK, pixels=UPRIGHT),
    "many-samples.tif": tiff((277, 3, 3, struct.pack("<3H", 1, 1, 1)), pixels=UPRIGHT),
    "many-orders.tif": tiff((266, 3, 2, struct.pack("<2H", 1, 1)), pixels=UPRIGHT),
    "cut-directory.tif": tiff(count=40, pixels=UPRIGHT),
    "odd-tags.tif": tiff((33723, 4, 70_000, bytes(4)), (34675, 7, 3, b"abc"),
                         (50341, 99, 3, b"abc"), pixels=UPRIGHT),
    "resolution.tif": tiff((282, 5, 1, struct.pack("<LL", 1, 0)),
                           (296, 3, 4, bytes(8)), pixels=UPRIGHT),
}  # fmt: skip
FILES = LYING_FILES | STANDING_FILES


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    for name, data in FILES.items():
        (made / name).write_bytes(data)
    return made


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("error")
def test_pixels_are_read_whatever_surrounds_them(folder, name):
    expected = UPRIGHT.astype(np.float32) / 255
    # WebP has no grey: what it gives is made grey again.
    np.testing.assert_allclose(to_images(folder / name, WIDE)[0, 0], expected, atol=1e-6)
    paths = [str(folder / name)] * 3
    for chunks in ([paths], [[Path(path).read_bytes() for path in paths]]):
        ((images, reasons),) = decode_many(chunks, WIDE)
        assert reasons == [""] * 3
        assert torch.equal(images[:, 0], torch.from_numpy(UPRIGHT).expand(3, -1, -1))


@pytest.mark.filterwarnings("error")
def test_a_whole_folder_is_read_without_a_warning(folder):
    pictures = read_pictures([folder], WIDE, strict=True)
    assert len(pictures.paths) == len(FILES)


def test_pillow_itself_fails_or_warns_on_most_of_these(folder):
    """Or the tests above would show nothing."""
    bad = set()
    for name in FILES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with Image.open(folder / name) as image:
                    ImageOps.exif_transpose(image)
        except Exception:
            bad.add(name)
    assert bad >= {
        "rational.jpg", "rational.png", "rational.webp", "count.jpg", "text-width.jpg",
        "photoshop.jpg", "mpo.jpg", "junk-exif.png", "icc-bomb.png",
        "text-bomb.png", "text-flood.png", "wrong-crc.png", "apng.png", "frames.png", "junk.webp",
        "broken-exif.tif", "many-samples.tif", "cut-directory.tif",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_random_damage_gives_pictures_or_image_errors_and_never_a_warning():
    rng, read, refused = random.Random(0), 0, 0
    whole = [data for data in FILES.values() if len(data) < 20_000]
    for _ in range(3000):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.choice([1, 2, 4])):
            data[rng.randrange(min(len(data), rng.choice([64, 300, 20_000])))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        ((images, (reason,)),) = decode_many([[bytes(data)]], WIDE)
        assert len(images) == (reason == "")
        assert "Warning" not in reason
        read, refused = read + (reason == ""), refused + (reason != "")
    assert min(read, refused) > 500


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "data",
    [
        b"MM\0+\0\x08\0\0" + bytes(8) + JUNK,  # BigTIFF of the order that Pillow does not know
        tiff(order=">").replace(b"MM\0*", b"MM\0+"),
        b"II*\0\xff\xff\xff\x7f" + JUNK,
        b"II*\0",
        b"\xff\xd8\xff\xe1\0\1Exif\0\0" + exif(BEHIND_THE_END),
        FILES["apng.png"][:60],
    ],
)
def test_what_is_no_picture_at_all_gives_no_warning(data):
    ((images, (reason,)),) = decode_many([[data]], WIDE)
    assert len(images) == 0
    assert "Warning" not in reason


@pytest.mark.filterwarnings("error")
def test_transparency_in_a_palette_gives_no_warning(tmp_path):
    picture = Image.fromarray(UPRIGHT // 16, "L")
    picture.putpalette([v for i in range(16) for v in (16 * i, 16 * i, 16 * i)])
    opacity = bytes([255] * 10 + [0] * 6)  # for each entry of the palette, not one clear colour
    for name in ("p.png", "p.webp", "p.gif"):
        picture.save(tmp_path / name, transparency=opacity if name == "p.png" else 0)
    clear = Preprocessing(channels=1, height=16, width=24, background=1.0)
    expected = np.where(UPRIGHT // 16 < 10, UPRIGHT // 16 * 16 / 255, 1).astype(np.float32)
    got = to_images(tmp_path / "p.png", clear)[0, 0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert len(read_pictures([tmp_path], clear, strict=True).paths) == 3


def test_an_opened_picture_with_damaged_metadata_is_read(folder):
    for name in ("rational.jpg", "rational.png", "rational.webp"):
        with Image.open(folder / name) as opened:
            got = to_images(opened, WIDE)[0, 0]
        np.testing.assert_allclose(got, UPRIGHT.astype(np.float32) / 255, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_damaged_pixels_are_still_refused(tmp_path):
    for name in ("rational.jpg", "junk-exif.png", "plain.tif"):
        data = FILES[name]
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match=name):
            to_images(tmp_path / name, WIDE)
    unknown = png(chunk(b"ABCD", b"a critical chunk that nobody knows"))
    (tmp_path / "critical.png").write_bytes(unknown[:40] + b"\xff" + unknown[41:])
    with pytest.raises(ImageError, match=r"critical\.png"):
        to_images(tmp_path / "critical.png", WIDE)


@pytest.mark.parametrize("name", ["rational.jpg", "text-flood.png", "many-samples.tif"])
def test_the_bare_file_is_read_as_a_file(folder, name):
    with (folder / name).open("rb") as opened:
        whole = bare(opened).file
        data = whole.read()
        assert len(data) == whole.seek(0, io.SEEK_END) == whole.tell()
        for place, size in ((0, 5), (3, 100_000), (len(data) - 3, 9), (len(data) + 5, 4), (7, 0)):
            whole.seek(place)
            assert whole.read(size) == data[place : place + size]
    if not name.endswith(".tif"):
        assert len(data) < len(FILES[name])


def test_a_file_without_metadata_is_handed_on_as_it_is():
    for data in (png(), jpeg(drop_jfif=True), b"BM" + JUNK, b"", b"\xff\xd8\xff", b"II*\0"):
        file = io.BytesIO(data)
        assert bare(file).file is file
        assert file.tell() == 0


@pytest.mark.parametrize("order", "<>")
def test_the_orientation_alone_is_read(order):
    for turn in range(1, 9):
        for kind, code in ((1, "B"), (3, "H"), (4, "L")):
            entry = (274, kind, 1, struct.pack(order + code, turn))
            data = exif((271, 2, 9, b"A camera\0"), entry, order=order)
            assert orientation({"exif": data}) == turn
            assert orientation({"exif": EXIF + EXIF + data}) == turn
            for cut in range(len(data)):
                assert orientation({"exif": data[:cut]}) in (1, turn)
    assert orientation({}) == orientation({"exif": "text"}) == orientation({"xmp": b"\0"}) == 1
