"""Atomic writing: a file is either the old one or the new one, whatever happens in between."""

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

HALF_WRITTEN = re.compile(r"\.zoo-[0-9a-f]{16}\.tmp")
"""Names of files and folders that are not complete yet; each is new and unique."""


def _new_name() -> str:
    return f".zoo-{os.urandom(8).hex()}.tmp"


@contextlib.contextmanager
def replacing(path: Path, workspace: Path | None = None) -> Iterator[BinaryIO]:
    """A new file to write, which takes the place of ``path`` once the block has ended well.

    However the block ends otherwise, the new file is removed, and nothing else is touched. The
    permissions of a file that is replaced are kept; a new one has those that the umask leaves.

    Args:
        path: old or new, never half. A link stays: what it leads to is written. A device or a pipe
            stays what it is: it is written into.
        workspace: the folder it is in until then, on the file system of ``path``; by default that
            of ``path``.
    """
    target, workspace = _through_links(path, workspace)
    mode = _mode(target)
    if mode is not None and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        with target.open("wb") as file:  # a pipe or a device, such as /dev/stdout
            yield file
        return
    temporary = (workspace or target.parent) / _new_name()
    with _speaking_of(path, temporary):
        file = temporary.open("xb")  # never a file that was there before
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                temporary.chmod(stat.S_IMODE(mode))
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _through_links(path: Path, workspace: Path | None) -> tuple[Path, Path | None]:
    """The file that ``path`` leads to, there or not, and a workspace on its file system."""
    mode = _mode(path)
    if not path.is_symlink() or (mode is not None and not stat.S_ISREG(mode)):
        return path, workspace
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    return target, None


def _mode(path: Path) -> int | None:
    """Kind and permissions of what ``path`` leads to; None if there is nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


@contextlib.contextmanager
def _speaking_of(path: Path, temporary: Path) -> Iterator[None]:
    """Make errors of the system name ``path``, which the user knows, and not the temporary file."""
    try:
        yield
    except OSError as error:
        if error.filename is None or os.fspath(error.filename) == os.fspath(temporary):
            error.filename, error.filename2 = os.fspath(path), None
        raise


@contextlib.contextmanager
def new_folder(target: Path, workspace: Path | None = None) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``target`` once the block has ended well.

    However the block ends otherwise, the new folder is removed, and nothing else is touched.

    Args:
        target: not there yet, or an empty folder.
        workspace: the folder it is in until then, on the file system of ``target``; by default
            that of ``target``.
    """
    import shutil

    temporary = (workspace or target.parent) / _new_name()
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_atomically(path: Path, data: bytes, workspace: Path | None = None) -> None:
    """Write ``data`` so that a kill at any moment leaves the old file or the new one."""
    with replacing(path, workspace) as file:
        file.write(data)


def write_json(path: Path, value: Any, workspace: Path | None = None) -> None:
    """``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    # Half a surrogate, which UTF-8 has no bytes for, as JSON writes it in ASCII: nothing is lost.
    write_atomically(path, text.encode("utf-8", "backslashreplace"), workspace)


def path_text(path: str | os.PathLike[str]) -> str:
    r"""``path`` as text that any file, stream and table can hold: odd bytes become ``\udcNN``.

    Python keeps the bytes of a name that is not UTF-8 as surrogates, which neither JSON in UTF-8
    nor Parquet nor a terminal takes. The result is for people and records, not for opening files.
    """
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")


def below(root: str, name: str) -> str:
    """Where ``name`` lies below a folder, or below an address of a store (``s3://...``).

    A name in a store may begin with a slash; it is no path of this machine for that.
    """
    if not name:
        return root
    return f"{root}/{name}" if "://" in root else os.path.join(root, name)


@contextlib.contextmanager
def openable(path: Path) -> Iterator[str | Path]:
    """``path`` as libraries can open it that take names in UTF-8 only; to be read inside the block.

    Raises:
        OSError: there is no such file, or it may not be read.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"  # macOS and Windows have no such names
    else:
        yield path


_HEAD = 1024
_FETCH = "type in its repository's folder"
_PLACEHOLDERS = (  # how each begins, what it is, what to do
    (
        r"version https?://(git-lfs|hawser)\.github\.com/spec/|version http://git-media\.io/",
        f"a git-LFS pointer and not the file itself; {_FETCH}: git lfs pull",
    ),
    (
        r"# xet version ",
        "a pointer of git-xet and not the file itself; download it from the repository's site",
    ),
    (
        r"/annex/objects/",
        f"a pointer of git-annex and not the file itself; {_FETCH}: git annex get .",
    ),
    (
        r"(\xef\xbb\xbf)?\s*<(!doctype html|html|head)\b",
        "a web page and not the file itself; download the file (on the Hub, its address has "
        "/resolve/ and not /blob/)",
    ),
    (
        r'(Entry|Repository) not found|Invalid (username|credentials)|\{"error": ?"',
        "a server's error message and not the file itself; download it again",
    ),
    (
        r"L\x00\x00\x00\x01\x14\x02\x00|\[InternetShortcut\]|book\x00\x00\x00\x00mark|!<symlink>",
        "a shortcut and not the file itself; put the file that it leads to in its place",
    ),
    (
        r"\x00\x05\x16\x07",
        "what macOS keeps of a file's attributes (AppleDouble) and not the file itself",
    ),
)


def placeholder(head: bytes) -> str:
    """What is stored in place of a file, by its first bytes; empty if it may be the file itself.

    Such as a git-LFS pointer, a saved web page, a shortcut, or nothing at all. The text completes
    "the file is ..." and says what to do.
    """
    if not head:
        return "empty (0 bytes): it was not written or fetched to its end"
    for pattern, what in _PLACEHOLDERS:
        if re.match(pattern.encode(), head, re.IGNORECASE):
            return what
    return ""


def refuse_placeholder(path: Path, error: type[Exception]) -> None:
    """Raise ``error`` with the reason if something else is stored in place of the file ``path``.

    A file that cannot be opened is left to whatever reads it next.
    """
    try:
        with path.open("rb") as file:
            what = placeholder(file.read(_HEAD))
    except (OSError, ValueError):
        return
    if what:
        raise error(f"{path} is {what}")
