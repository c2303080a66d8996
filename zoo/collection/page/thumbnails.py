"""Small pictures for the page: WebP in shards, known by content hash, made when they are needed.

A shard is a zip archive that compresses nothing, with an entry ``<hash>.webp`` for each picture, so
that any program can look into it. A shard is written whole and never changed.
"""

import contextlib
import io
import re
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from zoo.errors import ImageError
from zoo.files import replacing
from zoo.system import processors

__all__ = ["EDGE", "Made", "Thumbnails", "webp"]

EDGE = 176
"""Pixels of a thumbnail's longer side: sharp at 88 to 176 of the page's own pixels."""
SHARD = 1024
"""Pictures of a shard: some 5 MB, so that a kill costs seconds."""
_NAME = re.compile(r"thumbnails-(\d{5,})\.zip")
_ENTRY = re.compile(r"[0-9a-f]{64}\.webp")

Open = Callable[[int], Image.Image]
"""Gives an upright picture by its number; raises ImageError if it cannot be read any more."""


class Made(NamedTuple):
    """What making thumbnails came to.

    Attributes:
        made: how many are new.
        failed: the number and the reason of each picture that can no longer be read.
    """

    made: int
    failed: list[tuple[int, str]]


def webp(picture: Image.Image, edge: int, quality: int = 75) -> bytes:
    """``picture`` as WebP with no side longer than ``edge``, and without any of its metadata."""
    if picture.mode not in ("RGB", "RGBA"):
        clear = "a" in picture.mode.lower() or "transparency" in picture.info
        picture = picture.convert("RGBA" if clear else "RGB")
    if max(picture.size) > edge:
        picture = picture.copy()
        picture.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=3, exif=b"", icc_profile=None)
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
        hashes: Mapping[int, str],
        opened: Open,
        progress: Callable[[int], object] = lambda done: None,
    ) -> Made:
        """Make what is missing of ``hashes`` (by a picture's number), in threads.

        Args:
            opened: gives the picture by number.
            progress: told how many are done, now and then.
        """
        wanted = {content: i for i, content in hashes.items() if content not in self._entries}
        made, failed = 0, []
        results = _in_threads(lambda i: webp(opened(i), EDGE), list(wanted.items()))
        while batch := list(islice(results, SHARD)):
            whole = {}
            for content, i, result in batch:
                try:
                    whole[content] = result.result()
                except (ImageError, OSError) as error:
                    failed.append((i, str(error)))
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


def _in_threads(
    work: Callable[[int], bytes], items: Iterable[tuple[str, int]]
) -> Iterator[tuple[str, int, Future[bytes]]]:
    """``work`` of each number, in order, by a thread a core and with few results in store."""
    threads = processors()
    with ThreadPoolExecutor(threads, "zoo-thumbnails") as pool:
        left = iter(items)
        waiting = [(c, i, pool.submit(work, i)) for c, i in islice(left, 8 * threads)]
        while waiting:
            first = waiting.pop(0)
            first[2].exception()  # waits
            yield first
            waiting += [(c, i, pool.submit(work, i)) for c, i in islice(left, 1)]
