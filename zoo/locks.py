"""Locks between processes, which the system releases when the process ends, however it ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

try:
    import msvcrt
except ImportError:  # everything else
    msvcrt = None  # type: ignore[assignment]


class Locked(Exception):
    """Somebody else holds the lock."""


class Lock:
    """A lock on a file, whose contents are neither read nor written.

    Args:
        path: made if it is not there. Its folder has to be.

    Raises:
        Locked: another holds it, in this process or in another one.
        OSError: it cannot be opened, or is a link.
    """

    def __init__(self, path: Path):
        self.path = path
        while True:
            self._file, self.made = _opened(path)
            try:
                self.works = _take(self._file)
                if _is_at(self._file, path):
                    return
            except BaseException:
                os.close(self._file)
                raise
            os.close(self._file)  # who had it removed it meanwhile

    def release(self, *, remove: bool = False) -> None:
        """Let others have it; ``remove`` the file, which is then the caller's own."""
        if remove and msvcrt is None:  # Windows removes no open file
            self.path.unlink(missing_ok=True)
        os.close(self._file)
        if remove and msvcrt is not None:
            try:
                self.path.unlink(missing_ok=True)
            except OSError:
                return  # the next one has it open already


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a lock on ``folder`` itself inside the block, after waiting until it is free.

    Where the system cannot lock a folder (Windows, some network drives), there is no waiting.
    """
    file = None
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                file = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        if file is not None:
            os.close(file)


def _opened(path: Path) -> tuple[int, bool]:
    """A descriptor of ``path``, and whether the file is new."""
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, flags), False


def _take(file: int) -> bool:
    """Lock an open file; False where the file system has no locks.

    Raises: Locked.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            return False
    except (BlockingIOError, PermissionError):
        raise Locked from None
    except OSError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False
