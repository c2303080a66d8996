"""Lists the files of a folder of pictures, and what is left out of the list and why.

Nothing heavy is imported here, and no file is opened but ``run.json``.
"""

import contextlib
import errno
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.files import path_text
from zoo.manifest import MANIFEST, is_of_run, read_manifest

__all__ = ["Listing", "is_hidden", "list_folder"]

SYSTEM = frozenset((
    # Windows
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.000",
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini",
    # macOS (most of what it writes begins with a dot), and what its archives bring elsewhere
    "__macosx", "icon\r", "network trash folder", "temporary items", "thevolumesettingsfolder",
    # Linux, Android
    "lost+found", "lost.dir",
    # network storage: thumbnails, recycle bins and snapshots
    "@eadir", "@tmp", "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "@__thumb",
    # Python
    "__pycache__",
))  # fmt: skip
"""Names, in small letters, of what systems and other programs put among a user's files."""

_ICLOUD = re.compile(r"\..+\.icloud")  # what macOS leaves of a file that it has put into iCloud

_Identity = tuple[int, int]  # device and inode: what a folder is, whatever its paths
_Link = tuple[str, frozenset[_Identity]]  # its name, and the folders on the way to it


@dataclass
class Listing:
    """The files below a folder, and what was left out of them.

    ``names`` are relative to ``folder``, in the order of names, a folder's own files before those
    of its subfolders. A file that has several names (by hard or symbolic links) is there under each
    of them: each is a picture of its own name. A folder's files are there once.
    """

    folder: Path
    names: list[str] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    """What cannot be read, and why: folders, links to nowhere, pipes."""
    hidden: list[str] = field(default_factory=list)
    """Hidden files and folders, and those of other programs; of a folder only its own name."""
    repeated: list[str] = field(default_factory=list)
    """Links to folders whose files are there already, under another name."""
    of_runs: list[str] = field(default_factory=list)
    """What a training run wrote, by its ``run.json`` (:mod:`zoo.manifest`)."""

    @property
    def notes(self) -> list[str]:
        """What a user should know of it: a sentence for each kind of thing left out on purpose."""
        kinds = (
            (self.hidden, "hidden or system files and folders left out"),
            (self.repeated, "links left out, to folders that are read already"),
            (self.of_runs, "files of training runs left out"),
        )
        return [f"{len(names)} {what}: {_some(names)}" for names, what in kinds if names]


def list_folder(folder: Path) -> Listing:
    """All files below ``folder``, also in linked folders, which are read once.

    Hidden files and folders (whose names begin with a dot) and those of other programs
    (:data:`SYSTEM`) are left out; ``folder`` itself may be one. Links are followed after all real
    folders, so that a folder keeps its own name whatever the links to it are called.

    Raises:
        OSError: ``folder`` itself cannot be listed. What is below it is in ``skipped`` instead.
    """
    walk = _Walk(Listing(folder))
    links = walk.through("", frozenset())
    while links:
        links = [link for name, around in sorted(links) for link in walk.through(name, around)]
    return walk.finished()


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or one of a system or another program."""
    return name.startswith(".") or name.lower() in SYSTEM


class _Walk:
    """A listing under way: what it has seen, and the files of each folder."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.seen: set[_Identity] = set()
        self.found: list[tuple[list[str], list[str]]] = []  # the parts of a folder's name, files

    def through(self, top: str, around: frozenset[_Identity]) -> list[_Link]:
        """Take the folder ``top`` and all real folders below it; the links to others in them.

        ``around``: the folders that hold the ones on the way here. A link to one would lead out of
        what the user named, and back in again.
        """
        folder, skipped = self.listing.folder, self.listing.skipped
        links: list[str] = []
        waiting = [top]
        while waiting:
            at = waiting.pop()
            path = folder / at
            try:
                identity = _identity(path)
                if identity in self.seen and identity[1]:  # some file systems number nothing
                    self.listing.repeated.append(at)
                elif identity in around:
                    skipped.append((path, "a link to a folder that contains this one"))
                else:
                    self.seen.add(identity)
                    inside, linked = self._inside(at, path)
                    waiting += inside
                    links += linked
            except OSError as error:
                if not at:
                    raise
                skipped.append((path, f"the folder cannot be read: {error.strerror}"))
        around |= _around(folder / top)
        return [(link, around) for link in links]

    def _inside(self, at: str, path: Path) -> tuple[list[str], list[str]]:
        """Keep the files of the folder ``at``; its real and its linked folders."""
        files: list[str] = []
        folders: list[str] = []
        links: list[str] = []
        with os.scandir(path) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        for entry in entries:
            name = os.path.join(at, entry.name)
            if _ICLOUD.fullmatch(entry.name):
                reason = "it is in iCloud alone; type: brctl download, or open it once"
                self.listing.skipped.append((self.listing.folder / name, reason))
            elif is_hidden(entry.name):
                self.listing.hidden.append(name)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif reason := _no_file(entry):
                self.listing.skipped.append((self.listing.folder / name, reason))
            elif entry.is_dir():
                links.append(name)
            else:
                files.append(entry.name)
        self.found.append((at.split(os.sep) if at else [], files))
        return folders, links

    def finished(self) -> Listing:
        runs = self._runs()
        for parts, files in sorted(self.found):
            above = [(at, runs[at]) for i in range(len(parts) + 1) if (at := (*parts[:i],)) in runs]
            for file in files:
                whole = [*parts, file]
                its = any(is_of_run(run, os.path.join(*whole[len(at) :])) for at, run in above)
                (self.listing.of_runs if its else self.listing.names).append(os.path.join(*whole))
        kept = self.listing
        for each in (kept.skipped, kept.hidden, kept.repeated, kept.of_runs):
            each.sort()
        return self.listing

    def _runs(self) -> dict[tuple[str, ...], dict[str, Any]]:
        """The folders of training runs, and what each run wrote."""
        runs = {}
        for parts, files in self.found:
            if MANIFEST in files:
                manifest = read_manifest(Path(self.listing.folder, *parts))
                if manifest is not None:
                    runs[(*parts,)] = manifest
        return runs


def _no_file(entry: os.DirEntry[str]) -> str:
    """Why an entry is neither a file nor a link to a file or a folder; empty if it is one."""
    if entry.is_file(follow_symlinks=False):  # which costs no call of the system
        return ""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link that leads back to itself"
        if error.errno == errno.ENOENT:
            return f"there is no such file: {_nowhere(entry.path)}"
        return f"cannot be read: {error.strerror}"
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "a pipe, a socket or a device"


def _nowhere(link: str) -> str:
    """What a link to nowhere is."""
    with contextlib.suppress(OSError):
        if "/annex/objects/" in os.readlink(link).replace(os.sep, "/"):
            return "it is in git-annex; type in its repository's folder: git annex get ."
    return "a link to nowhere"


def _identity(folder: Path) -> _Identity:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _around(folder: Path) -> frozenset[_Identity]:
    """The folders that really hold ``folder``, as far as they can be looked at."""
    identities = set()
    for parent in Path(os.path.realpath(folder)).parents:
        with contextlib.suppress(OSError):
            identities.add(_identity(parent))
    return frozenset(identities)


def _some(names: list[str]) -> str:
    return ", ".join(map(path_text, names[:3])) + (", ..." if len(names) > 3 else "")
