"""Functions for what operating systems do in different ways, or not at all.

Linux is what the zoo is tested on. macOS has no ``posix_fallocate``, no ``sched_getaffinity``, and
older ones no ``preadv``; Windows has none of them, nor ``sysconf``. Locks are in :mod:`zoo.locks`.
"""

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

from zoo.optional import optional


def reserve(file: BinaryIO, path: Path, size: int) -> None:
    """Reserve disk space for ``size`` bytes of a file that is open for writing, where possible.

    The free space is checked first: a file system that is asked for more than it has may fill up
    before it refuses, and other programs fail meanwhile. Where the system or the file system can
    reserve nothing, that is all.

    Raises:
        OSError: there is not enough space, or the file may not become so large.
    """
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV, errno.ENOSYS):
                raise


def read_at(file: BinaryIO, part: memoryview, offset: int) -> int:
    """Read bytes from ``offset`` on into ``part``; how many, 0 at the end.

    One call may give fewer than ``part`` holds. Several threads may read one file, but where the
    system has no such call: there it moves the file's own position.
    """
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [part], offset)
    if hasattr(os, "pread"):
        data = os.pread(file.fileno(), len(part), offset)
        part[: len(data)] = data
        return len(data)
    file.seek(offset)
    data = file.read(len(part))
    part[: len(data)] = data
    return len(data)


def memory() -> int:
    """Bytes of memory that the machine has.

    Raises:
        MissingDependency: the system itself does not say it, and psutil is not installed.
    """
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        pages = size = -1
    if pages > 0 and size > 0:
        return pages * size
    return int(optional("psutil", "psutil", "train").virtual_memory().total)


def processors() -> int:
    """How many processors this process may use, which a batch system may limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpp_compiler() -> str:
    """The command of the C++ compiler that torch.compile calls."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return os.environ.get("CXX") or usual
