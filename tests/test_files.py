"""Files that take another's place: through links, with the permissions that were there."""

import os
import stat
import subprocess
import sys

import pytest

from zoo.files import replacing, write_atomically


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("kept", [0o600, 0o640, 0o644, 0o755, 0o666])
def test_the_permissions_of_what_is_replaced_are_kept(tmp_path, kept):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(kept)
    write_atomically(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", kept)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_new_files_obey_the_umask(tmp_path, umask):
    code = (
        f"import os, pathlib; os.umask({umask}); from zoo.files import write_atomically as w; "
        "w(pathlib.Path('x'), b'new')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert mode(tmp_path / "x") == 0o666 & ~umask


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_links_stay_and_are_written_through(tmp_path, there, relative):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    real, link, second = tmp_path / "a" / "real", tmp_path / "b" / "link", tmp_path / "second"
    if there:
        real.write_bytes(b"old")
        real.chmod(0o600)
    link.symlink_to("../a/real" if relative else real)
    second.symlink_to(link)
    write_atomically(second, b"new", tmp_path / "b")
    assert second.is_symlink()
    assert link.is_symlink()
    assert not real.is_symlink()
    assert real.read_bytes() == b"new"
    assert not there or mode(real) == 0o600
    assert sorted(os.listdir(tmp_path / "a")) == ["real"]
    assert sorted(os.listdir(tmp_path / "b")) == ["link"]


def test_a_link_that_leads_to_itself_is_left_alone(tmp_path):
    link = tmp_path / "loop"
    link.symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        write_atomically(link, b"new")
    assert os.listdir(tmp_path) == ["loop"]
    assert link.is_symlink()


def test_devices_and_pipes_are_written_into(tmp_path):
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    code = (
        "import pathlib; from zoo.files import write_atomically as w; "
        "w(pathlib.Path('/dev/stdout'), b'new')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"new"


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(NotADirectoryError) as caught, replacing(tmp_path / "file" / "x"):
        pass
    assert caught.value.filename == str(tmp_path / "file" / "x")
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as caught:
        write_atomically(folder, b"new")
    assert caught.value.filename == str(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
