"""Strips a picture's file to its pixels, and finds out which way up it is.

Cameras, scanners and programs write much into a picture's file besides its pixels (EXIF, XMP,
colour profiles, comments, previews), often damaged. None of it may decide whether the pixels can be
read, so Pillow never sees it: neither does it fail on it, nor warn of it without naming the file.
Only the orientation is read, here, and where it cannot be, the picture is upright as it is.
"""

import bisect
import io
import itertools
import os
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

__all__ = ["Bare", "bare", "orientation"]

_ORIENTATION, _XMP = 274, 700  # tags of EXIF and TIFF
_TEXT = 1 << 20  # bytes of XMP or packed EXIF that are looked through


class Bare(NamedTuple):
    """A file that has what pixels need, and the EXIF orientation (1 to 8) if it was found."""

    file: BinaryIO
    orientation: int | None


def bare(file: BinaryIO) -> Bare:
    """``file`` (of any kind, at any position) as Pillow shall see it, from its beginning.

    What is damaged where its pixels are described is left for Pillow to say.
    """
    file.seek(0)
    head = file.read(16)
    for begins, strip in _KINDS.items():
        if head.startswith(begins):
            try:
                pieces, found = strip(file)
            except (struct.error, ValueError, OverflowError, OSError):
                break
            file.seek(0)
            whole = file if pieces is None else io.BufferedReader(_Pieces(file, pieces), 1 << 16)
            return Bare(whole, found)
    file.seek(0)
    return Bare(file, None)


def orientation(info: dict[Any, Any], tags: Any = None) -> int:
    """Which way up an opened picture is: 1 to 8 as in EXIF, 1 if nothing says.

    Args:
        info: Pillow's, of any image.
        tags: ``tag_v2`` of a TIFF.
    """
    exif = info.get("exif")
    found = _of_exif(exif) if isinstance(exif, bytes) else None
    if found is None and isinstance(packed := info.get("Raw profile type exif"), str):
        found = _of_exif(_unpacked(packed.encode("latin-1", "replace")))
    if found is None and tags is not None:
        try:
            found = _valid(tags.get(_ORIENTATION))
        except Exception:  # Pillow decodes a tag only now, which fails in as many ways as it reads
            found = None
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp")
    if found is None and isinstance(xmp, str | bytes):
        found = _of_xmp(xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp)
    return found or 1


# -- the orientation -----------------------------------------------------------------------------


def _of_exif(exif: bytes) -> int | None:
    """The orientation in EXIF, whatever else is in it."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}L", exif, 4)
    if start + 2 > len(exif):
        return None
    (entries,) = struct.unpack_from(f"{order}H", exif, start)
    for at in range(start + 2, min(len(exif) - 11, start + 2 + 12 * entries), 12):
        tag, kind, count = struct.unpack_from(f"{order}HHL", exif, at)
        if tag == _ORIENTATION and count == 1 and kind in (1, 3, 4):
            return _valid(
                struct.unpack_from(order + {1: "B", 3: "H", 4: "L"}[kind], exif, at + 8)[0]
            )
    return None


def _of_xmp(xmp: bytes) -> int | None:
    found = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp[:_TEXT])
    return _valid(int(found[1])) if found else None


def _unpacked(text: bytes) -> bytes:
    """EXIF as ImageMagick packs it into a text: a name, a length, hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text[:_TEXT].decode("ascii").split("\n")[3:]))
    except ValueError:
        return b""


def _valid(value: Any) -> int | None:
    return value if isinstance(value, int) and 1 <= value <= 8 else None


# -- the kinds of files --------------------------------------------------------------------------

_Piece = tuple[int, int] | bytes  # from where to where in the file, or bytes in its place
_Stripped = tuple[list[_Piece] | None, int | None]  # None: the file as it is


_BARE_MARKERS = (0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE), 0xFF)
"""Filling, and the markers of JPEG that have no length, for Pillow."""


def _jpeg(file: BinaryIO) -> _Stripped:
    """A JPEG without application segments and comments, except those that describe its colours."""
    pieces, dropped = [], False
    exif, xmp = b"", b""
    begin, at = 0, 2
    while True:
        file.seek(at)
        marker = file.read(4)
        if len(marker) < 4:
            break
        if marker[0] != 0xFF or marker[1] == 0:  # junk, which Pillow steps over
            junk = marker + file.read(1 << 16)
            pieces.append((begin, at))
            begin = at = at + (junk.find(b"\xff", 1) if b"\xff" in junk[1:] else len(junk))
            dropped = True
            continue
        kind, size = marker[1], max(4, 2 + int.from_bytes(marker[2:], "big"))
        if kind in _BARE_MARKERS:
            at += 1 if kind == 0xFF else 2
            continue
        if kind < 0xC0 or kind == 0xDA:
            break  # it is damaged, or the pixels begin
        if 0xE0 <= kind <= 0xEF or kind == 0xFE:
            data = file.read(size - 4)
            keeps = (kind, data[:4]) == (0xE0, b"JFIF") and len(data) >= 7
            keeps |= (kind, data[:5]) == (0xEE, b"Adobe") and len(data) >= 7
            if not keeps:
                if kind == 0xE1 and data.startswith(b"Exif\0\0"):
                    exif += data[6:]  # long ones go on in another segment
                elif kind == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                    xmp = data
                pieces.append((begin, at))
                begin, dropped = at + size, True
        at += size
    found = _of_exif(exif)
    found = _of_xmp(xmp) if found is None else found
    return ([*pieces, (begin, file.seek(0, os.SEEK_END))] if dropped else None), found


_PNG = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def _png(file: BinaryIO) -> _Stripped:
    """A PNG without optional chunks except transparency, so that an APNG is its first picture."""
    pieces: list[_Piece] = []
    dropped = False
    found: dict[str, int | None] = {}
    begin = at = 8
    end = file.seek(0, os.SEEK_END)
    while at < end:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            break
        size, kind = struct.unpack(">L4s", head)
        after = at + 12 + size
        if kind not in _PNG and kind[0] & 0x20:  # a small first letter: optional
            if name := _PNG_METADATA.get(kind):
                found.setdefault(*_of_chunk(name, file.read(min(size, _TEXT))))
            pieces.append((begin, at))
            begin, dropped = after, True
        at = after
        if kind == b"IEND":
            break
    pieces.append((begin, end))
    which = next((found[k] for k in ("exif", "packed", "xmp") if found.get(k) is not None), None)
    return ([(0, 8), *pieces] if dropped else None), which


_PNG_METADATA = {b"eXIf": "eXIf", b"tEXt": "tEXt", b"zTXt": "zTXt", b"iTXt": "iTXt"}


def _of_chunk(kind: str, data: bytes) -> tuple[str, int | None]:
    """The kind of data in which an optional PNG chunk has the orientation, and the orientation."""
    key, _, rest = data.partition(b"\0")
    if kind == "eXIf":
        return "exif", _of_exif(data)
    if kind == "iTXt" and key == b"XML:com.adobe.xmp":
        text = rest[2:].split(b"\0", 2)[-1]
        return "xmp", _of_xmp(_inflated(text) if rest[:1] == b"\1" else text)
    if kind != "iTXt" and key == b"Raw profile type exif":
        return "packed", _of_exif(_unpacked(_inflated(rest[1:]) if kind == "zTXt" else rest))
    return "", None


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _TEXT)
    except zlib.error:
        return b""


_TIFF_ONE = frozenset((
    254, 255, 256, 257, 259, 262, 263, 266, 274, 277, 278, 284, 292, 293, 317, 322, 323, 332, 334,
    512, 513, 514, 515, 531,
))  # fmt: skip
_TIFF_MANY = frozenset((
    258, 273, 279, 320, 324, 325, 333, 336, 338, 339, 340, 341, 347, 517, 518, 519, 520, 521, 529,
    530, 532, 50674,
))  # fmt: skip
"""The tags that pixels need, of one value and of several."""
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
               16: 8, 17: 8, 18: 8}  # fmt: skip


def _tiff(file: BinaryIO) -> _Stripped:
    """A TIFF with a new directory that has only the tags which the pixels of page one need."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    entry, number, word = (20, "Q", 8) if big else (12, "L", 4)
    end = file.seek(0, os.SEEK_END)
    (start,) = struct.unpack_from(order + number, head, 8 if big else 4)
    file.seek(start)
    # Cut off before its directory, the file gets an empty one, of which Pillow will not warn.
    counted = file.read(8 if big else 2).ljust(8 if big else 2, b"\0")
    (count,) = struct.unpack(order + ("Q" if big else "H"), counted)
    data = file.read(entry * min(count, 4096))
    kept: list[bytes] = []
    seen: set[int] = set()
    xmp, used = None, 0
    for at in range(0, len(data) - entry + 1, entry):
        tag, kind, many = struct.unpack_from(f"{order}HH{number}", data, at)
        value = data[at + entry - word : at + entry]
        size = _TIFF_SIZES.get(kind, 0)
        if tag == _XMP and size * many > word:
            file.seek(struct.unpack(order + number, value)[0])
            xmp = _of_xmp(file.read(min(size * many, _TEXT)))
        if tag in seen or not size * many or tag not in _TIFF_ONE | _TIFF_MANY:
            continue
        seen.add(tag)
        if size * many > word:
            (where,) = struct.unpack(order + number, value)
            used += size * many
            if where + size * many > end or used > end:
                continue  # its values are behind the end of the file, or are repeated
            if tag in _TIFF_ONE and size <= word:  # some programs write one for each channel
                file.seek(where)
                value = file.read(size).ljust(word, b"\0")
        if tag in _TIFF_ONE:
            many = 1
        kept.append(struct.pack(f"{order}HH{number}", tag, kind, many) + value)
    place = end + end % 2
    if not big and place >= 1 << 32:
        return None, None
    directory = struct.pack(order + ("Q" if big else "H"), len(kept)) + b"".join(kept)
    directory = b"\0" * (place - end) + directory + bytes(word)
    first = head[: 8 if big else 4] + struct.pack(order + number, place)
    return [first, (len(first), end), directory], None if _ORIENTATION in seen else xmp


_KINDS: dict[bytes, Callable[[BinaryIO], _Stripped]] = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM*\0": _tiff,
    b"II\0*": _tiff,
    # BigTIFF of this order: Pillow reads it as something else, and warns of what it finds there.
    b"MM\0+": lambda file: ([(0, 2)], None),
}


class _Pieces(io.RawIOBase):
    """Parts of a file one after the other, as one file that is read and closed with it."""

    def __init__(self, file: BinaryIO, pieces: list[_Piece]):
        self._file = file
        self._pieces = [piece for piece in pieces if _length(piece) > 0]
        ends = list(itertools.accumulate(map(_length, self._pieces)))
        self._begins, self._size = [0, *ends], ends[-1] if ends else 0
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        which = bisect.bisect_right(self._begins, self._at) - 1
        piece, inside = self._pieces[which], self._at - self._begins[which]
        count = min(len(buffer), _length(piece) - inside)
        if isinstance(piece, bytes):
            data = piece[inside : inside + count]
        else:
            self._file.seek(piece[0] + inside)
            data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _length(piece: _Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
