"""The branches that only other systems take, tried by removing what they lack."""

import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import psutil  # noqa: F401 - its own Linux part needs what is removed here
import pytest
import torch

from zoo import system
from zoo.data import imagefile
from zoo.data.imagefile import ImageFile
from zoo.errors import DataError

MISSING = {
    "linux": (),
    "macos": ("posix_fallocate",),
    "old macos": ("posix_fallocate", "preadv"),
    "windows": (
        *("posix_fallocate", "preadv", "pread", "sysconf", "O_NOFOLLOW", "O_CLOEXEC"),
        *("getuid", "geteuid", "chown", "fchmod", "mkfifo", "sched_getaffinity"),
    ),
}
"""What the os module of a system has not."""


@pytest.fixture(params=MISSING, ids=str)
def another_system(request, monkeypatch):
    for name in MISSING[request.param]:
        monkeypatch.delattr(os, name)
    return request.param


IMAGES = torch.arange(5 * 3 * 4 * 4, dtype=torch.uint8).reshape(5, 3, 4, 4)


def test_decoded_images_are_written_and_read_everywhere(another_system, tmp_path):
    path = tmp_path / "images.npy"
    imagefile.write(iter([IMAGES[:2], IMAGES[2:]]), 7, (3, 4, 4), path)
    assert np.array_equal(np.load(path), IMAGES.numpy())  # cut to what came
    images = ImageFile(path)
    assert torch.equal(images[1:4], IMAGES[1:4])
    assert torch.equal(images[torch.tensor([4, 0, 4])], IMAGES[[4, 0, 4]])
    assert torch.equal(images[-1], IMAGES[-1])


def test_a_file_that_was_cut_off_is_seen_everywhere(another_system, tmp_path):
    path = tmp_path / "images.npy"
    imagefile.write(iter([IMAGES]), 5, (3, 4, 4), path)
    images = ImageFile(path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DataError, match="cut off"):
        images[4]


def test_too_little_room_shows_before_the_work_everywhere(another_system, tmp_path):
    most = shutil.disk_usage(tmp_path).free // 48 + 1_000_000

    def decoded():
        raise AssertionError("work was begun")
        yield

    path = tmp_path / "images.npy"
    with pytest.raises(DataError, match=r"cannot be written: .*make room"):
        imagefile.write(decoded(), most, (3, 4, 4), path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV])
def test_a_file_system_that_cannot_take_room_is_asked_how_much_there_is(
    tmp_path, monkeypatch, code
):
    def refuse(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with (tmp_path / "file").open("wb") as file:
        system.reserve(file, tmp_path / "file", 1000)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
            system.reserve(file, tmp_path / "file", 10**18)
    assert caught.value.errno == errno.ENOSPC


def test_a_disk_is_not_filled_before_it_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: pytest.fail("asked for the space"))
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="No space left"):
        system.reserve(file, tmp_path / "file", shutil.disk_usage(tmp_path).free + 10**9)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EBADF])
def test_other_errors_of_taking_room_are_errors(tmp_path, monkeypatch, code):
    def refuse(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError) as caught:  # noqa: PT011
        system.reserve(file, tmp_path / "file", 10)
    assert caught.value.errno == code


def test_the_memory_is_the_same_however_it_is_asked_for(another_system):
    assert system.memory() == os_memory()


def test_a_system_that_does_not_know_the_names_is_asked_otherwise(monkeypatch):
    def refuse(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", refuse)
    assert system.memory() == os_memory()


def os_memory() -> int:
    """What a process in which nothing was removed says."""
    script = 'import os; print(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))'
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(run.stdout)


REMOVED = """
import os, sys
for name in {names!r}:
    delattr(os, name)
for module in {modules!r}:
    sys.modules[module] = None  # as if it were not there
from zoo.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("system_name", ["macos", "windows"])
def test_the_main_path_needs_nothing_that_another_system_lacks(system_name, tmp_path):
    """Train on more pictures than fit into the memory allowed, go on, generate, encode."""
    modules = ("fcntl", "resource", "termios", "pwd", "grp") if system_name == "windows" else ()
    # subprocess and tempfile of the standard library itself are of the real system.
    kept = {"getuid", "geteuid", "chown"}
    names = tuple(name for name in MISSING[system_name] if name not in kept)
    script = REMOVED.format(names=names, modules=modules)

    def zoo(*arguments):
        run = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        return run

    pixels = torch.randint(256, (40, 12, 12), generator=torch.Generator().manual_seed(0))
    np.savez(tmp_path / "data.npz", images=pixels.numpy().astype(np.uint8))
    train = ("train", "ae", "--data", "data.npz", "--out", "run", "--memory", "1K", "--config",
             "size=12", "--epochs", "1", "--set", "batch_size=8")  # fmt: skip
    zoo(*train)
    zoo(*train, "--resume")  # it went to its end: the lock was given back, nothing is lost
    zoo("generate", "local-dir:run", "--out", "made.png")
    zoo("encode", "local-dir:run", "made.png", "--out", "codes.npz")
    assert np.load(tmp_path / "codes.npz")["codes"].shape == (1, 32)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert "weights" in left
    assert not [name for name in left if name.startswith(("data-", ".zoo-"))]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux limits a process so")
def test_processors_are_those_that_the_process_may_use():
    code = (
        "import os\nfrom zoo.system import processors\n"
        "assert processors() == len(os.sched_getaffinity(0))\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "assert processors() == 1\n"
        "del os.sched_getaffinity  # as on macOS\nassert processors() == os.cpu_count()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
