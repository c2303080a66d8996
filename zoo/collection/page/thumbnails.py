"""Small pictures for the page: WebP in shards, known by content hash, made when they are needed.

A shard is a zip archive that compresses nothing, with an entry ``<hash>.webp`` for each picture, so
that any program can look into it. A shard is written whole and never changed.
"""

import contextlib
import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from zoo.collection import remote
from zoo.collection.pipeline import as_bytes
from zoo.errors import CollectionError, ImageError
from zoo.files import replacing
from zoo.images import decode, in_order
from zoo.spec import Preprocessing

__all__ = ["EDGE", "Made", "Thumbnails", "webp"]

EDGE = 176
"""Pixels of a thumbnail's longer side: sharp at 88 to 176 of the page's own pixels."""
SHARD = 1024
"""Pictures of a shard: some 5 MB, so that a kill costs seconds."""
_NAME = re.compile(r"thumbnails-(\d{5,})\.zip")
_ENTRY = re.compile(r"[0-9a-f]{64}\.webp")


Source = Path | bytes
"""A picture's file, or its bytes."""
Place = Source | str
"""The same, or a picture's address on a store."""


class Made(NamedTuple):
    """What making thumbnails came to.

    Attributes:
        made: how many are new.
        failed: the hash and the reason of each picture that can no longer be read.
    """

    made: int
    failed: list[tuple[str, str]]


def webp(source: Source, edge: int, quality: int = 75) -> bytes:
    """A picture as WebP, upright, with no side longer than ``edge`` and none of its metadata.

    Raises:
        ImageError: it cannot be read.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    # What is decoded is up to four times as large as is said here.
    wanted = Preprocessing(channels=3, height=edge // 2, width=edge // 2)
    pixels = as_bytes(decode(file, wanted).pixels)
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()


class Thumbnails:
    """The thumbnails in a folder, by content hash.

    What is damaged there counts as not there, and is made again. Any thread may read.

    Args:
        folder: made with the first thumbnail.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.Lock()
        self._archives: list[zipfile.ZipFile] = []
        self._entries: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        for path in sorted(folder.glob("thumbnails-*.zip")):
            if _NAME.fullmatch(path.name):
                self._add(path)

    def __contains__(self, content: str) -> bool:
        return content in self._entries

    def known(self) -> set[str]:
        """The hashes of all that are there."""
        return set(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, content: str) -> bytes:
        """The WebP of the picture with this hash. Raises: KeyError if there is none."""
        archive, entry = self._entries[content]
        try:
            return archive.read(entry)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError):
            with self._lock:
                self._entries.pop(content, None)
            raise KeyError(content) from None

    def make(
        self,
        sources: Iterable[tuple[str, Place]],
        progress: Callable[[int], object] = lambda done: None,
    ) -> Made:
        """Make the thumbnails of pictures that have none, in threads.

        Args:
            sources: hash and source of each, taken a few at a time.
            progress: told how many are done, now and then.
        """
        made, failed = 0, []
        with contextlib.closing(in_order(_made, sources)) as results:
            while batch := list(islice(results, SHARD)):
                whole = {content: data for content, data, _ in batch if data}
                failed += [(content, reason) for content, data, reason in batch if not data]
                if whole:
                    self._write(whole)
                made += len(whole)
                progress(made + len(failed))
        return Made(made, failed)

    def _write(self, whole: Mapping[str, bytes]) -> None:
        """A new shard of these, and none that was there before is touched."""
        self.folder.mkdir(exist_ok=True)
        taken = [int(m[1]) for p in self.folder.iterdir() if (m := _NAME.fullmatch(p.name))]
        path = self.folder / f"thumbnails-{max(taken, default=-1) + 1:05}.zip"
        with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for content, data in whole.items():
                archive.writestr(zipfile.ZipInfo(f"{content}.webp"), data)
        self._add(path)

    def _add(self, path: Path) -> None:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError):
            return  # its pictures are made again, into another shard
        with self._lock:
            self._archives.append(archive)
            for entry in archive.infolist():
                if _ENTRY.fullmatch(entry.filename) and entry.file_size < 1 << 20:
                    self._entries[entry.filename.removesuffix(".webp")] = archive, entry

    def close(self) -> None:
        for archive in self._archives:
            with contextlib.suppress(OSError):
                archive.close()


def _made(item: tuple[str, Place]) -> tuple[str, bytes, str]:
    """A picture's hash, its thumbnail, and why there is none."""
    content, source = item
    try:
        data = _read(source)
        if hashlib.sha256(data).hexdigest() != content:
            return content, b"", "it has changed since it was indexed"
        return content, webp(data, EDGE), ""
    except (ImageError, CollectionError) as error:
        return content, b"", str(error)
    except OSError as error:
        return content, b"", error.strerror or str(error)


def _read(source: Place) -> bytes:
    if isinstance(source, bytes):
        return source
    return remote.read(source) if isinstance(source, str) else source.read_bytes()
