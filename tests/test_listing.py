"""The walk over a folder: real folders with what real systems put into them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.data import load_data
from zoo.errors import DataError, ImageError
from zoo.images import read_pictures
from zoo.listing import is_hidden, list_folder
from zoo.spec import Preprocessing

GREY = Preprocessing(channels=1, height=8, width=8)


def put(folder: Path, *names: str) -> Path:
    """A small picture under each name, each of another grey."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 10 * i, np.uint8)).save(path, "PNG")
    return folder


def reasons(listing) -> dict[str, str]:
    return {str(path.relative_to(listing.folder)): reason for path, reason in listing.skipped}


def test_the_order_is_by_names_a_folders_own_files_first(tmp_path):
    put(tmp_path, "b/z.png", "b.png", "a/2.png", "a/b/1.png", "a b/1.png", "A.png", "a/10.png")
    assert list_folder(tmp_path).names == [
        "A.png", "b.png", "a/10.png", "a/2.png", "a/b/1.png", "a b/1.png", "b/z.png",
    ]  # fmt: skip
    assert list_folder(tmp_path).notes == []


HIDDEN = [
    ".ipynb_checkpoints/0-checkpoint.png", ".cache/0.png", "._0.png", ".thumbnails/large/0.png",
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "#recycle/0.png", "__MACOSX/._0.png",
    "$RECYCLE.BIN/$R1.png", "System Volume Information/0.png", "lost+found/0.png", "Thumbs.db",
    "desktop.ini", ".DS_Store", "Icon\r", "cat/._0.png", "cat/@eaDir/0.png", "cat/Thumbs.DB",
]  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_and_system_files_are_left_out_and_counted(tmp_path, name):
    put(tmp_path, "cat/0.png", "dog/0.png", name)
    listing = list_folder(tmp_path)
    assert listing.names == ["cat/0.png", "dog/0.png"]
    assert listing.skipped == []
    top = next(p for p in [*reversed(Path(name).parents), Path(name)] if is_hidden(p.name))
    assert listing.hidden == [str(top)]
    (note,) = listing.notes
    assert note == f"1 hidden or system files and folders left out: {top}"
    # They are no class, shift no label and refuse nothing, even where everything has to be read.
    data = load_data(str(tmp_path), "train", GREY, strict=True)
    assert (data.classes, data.labels.tolist()) == (("cat", "dog"), [0, 1])
    assert data.notes == [note]
    pictures = read_pictures([tmp_path], GREY, strict=True)
    assert [path.parent.name for path in pictures.paths] == ["cat", "dog"]
    assert (pictures.notes, pictures.skipped) == ([note], [])


def test_all_hidden_ones_are_counted_together(tmp_path):
    listing = list_folder(put(tmp_path, "0.png", *HIDDEN))
    assert listing.names == ["0.png"]
    assert listing.notes == [
        "17 hidden or system files and folders left out: #recycle, $RECYCLE.BIN, .DS_Store, ..."
    ]


def test_names_that_only_look_like_those_are_read(tmp_path):
    names = ["Icon.png", "a.b/0.png", "cache/0.png", "recycle/0.png", "thumbs.db.png"]
    assert list_folder(put(tmp_path, *names)).names == [names[0], names[4], *names[1:4]]


@pytest.mark.parametrize("name", [".cache", "@eaDir", "lost+found"])
def test_a_hidden_folder_or_file_that_is_named_itself_is_read(tmp_path, name):
    folder = put(tmp_path / name, "0.png", "._1.png")
    assert list_folder(folder).names == ["0.png"]
    assert len(load_data(str(folder), "train", GREY)) == 1
    assert [p.name for p in read_pictures([folder / "._1.png"], GREY).paths] == ["._1.png"]


def test_nothing_but_hidden_files_says_so(tmp_path):
    put(tmp_path, ".cache/0.png")
    said = "1 hidden or system files and folders left out: .cache"
    with pytest.raises(ImageError, match=f"out of 0 files\n{said}"):
        read_pictures([tmp_path], GREY)
    with pytest.raises(DataError, match=f"holds no images\n{said}"):
        load_data(str(tmp_path), "train", GREY)


# -- links ---------------------------------------------------------------------------------------


def test_linked_folders_are_read_once(tmp_path):
    elsewhere = put(tmp_path / "elsewhere", "0.png", "sub/1.png", "sub/.cache/2.png")
    folder = put(tmp_path / "pictures", "real/0.png")
    (folder / "link").symlink_to(elsewhere)
    (folder / "zlink").symlink_to(elsewhere)  # the same again
    (folder / "inner").symlink_to(elsewhere / "sub")  # a part of it
    (folder / "a link").symlink_to("real")  # the real folder keeps its name
    listing = list_folder(folder)
    assert listing.names == ["inner/1.png", "link/0.png", "real/0.png"]
    assert listing.repeated == ["a link", "link/sub", "zlink"]
    assert (listing.skipped, listing.hidden) == ([], ["inner/.cache"])
    assert listing.notes[1] == (
        "3 links left out, to folders that are read already: a link, link/sub, zlink"
    )
    data = load_data(str(folder), "train", GREY, strict=True)
    assert data.classes == ("inner", "link", "real")
    assert len(read_pictures([folder], GREY, strict=True).paths) == 3


@pytest.mark.parametrize(
    ("target", "repeated", "skipped"),
    [
        (".", ["cat/loop"], None),
        ("..", ["cat/loop"], None),
        ("../..", [], "a link to a folder that contains this one"),
        ("/", [], "a link to a folder that contains this one"),
        ("loop", [], "a link that leads back to itself"),
        ("nowhere", [], "there is no such file: a link to nowhere"),
        ("0.png/x", [], "cannot be read: Not a directory"),
        ("x" * 300, [], "cannot be read: File name too long"),
    ],
)
def test_loops_end_and_cost_only_themselves(tmp_path, target, repeated, skipped):
    folder = put(tmp_path / "pictures", "cat/0.png", "dog/0.png")
    put(tmp_path, "beside.png")
    (folder / "cat" / "loop").symlink_to(target)
    listing = list_folder(folder)
    assert listing.names == ["cat/0.png", "dog/0.png"]
    assert listing.repeated == repeated
    assert reasons(listing) == ({"cat/loop": skipped} if skipped else {})
    data = load_data(str(folder), "train", GREY)
    assert data.labels.tolist() == [0, 1]
    assert data.skipped == listing.skipped == read_pictures([folder], GREY).skipped
    if skipped:
        for strictly in (load_data, read_pictures):
            how = (str(folder), "train", GREY) if strictly is load_data else ([folder], GREY)
            with pytest.raises(ImageError, match=f"loop: {skipped}"):
                strictly(*how, strict=True)


def test_a_loop_through_a_linked_folder_does_not_lead_out(tmp_path):
    put(tmp_path / "disk", "private.png", "shared/0.png")
    (tmp_path / "disk" / "shared" / "up").symlink_to("..")
    folder = put(tmp_path / "pictures", "1.png")
    (folder / "link").symlink_to(tmp_path / "disk" / "shared")
    listing = list_folder(folder)
    assert listing.names == ["1.png", "link/0.png"]
    assert reasons(listing) == {"link/up": "a link to a folder that contains this one"}


def test_two_links_to_a_folder_and_to_one_inside_it_are_no_loop(tmp_path):
    put(tmp_path / "disk", "0.png", "sub/1.png")
    folder = put(tmp_path / "pictures", "2.png")
    (folder / "a").symlink_to(tmp_path / "disk" / "sub")
    (folder / "b").symlink_to(tmp_path / "disk")
    assert list_folder(folder).names == ["2.png", "a/1.png", "b/0.png"]


def test_a_file_is_there_under_each_of_its_names(tmp_path):
    put(tmp_path, "cat/0.png", "dog/1.png")
    (tmp_path / "cat" / "soft.png").symlink_to("0.png")
    os.link(tmp_path / "cat" / "0.png", tmp_path / "cat" / "hard.png")
    assert list_folder(tmp_path).names == ["cat/0.png", "cat/hard.png", "cat/soft.png", "dog/1.png"]


def test_files_that_are_kept_elsewhere_are_named_with_how_to_fetch_them(tmp_path):
    put(tmp_path, "0.png")
    (tmp_path / ".1.png.icloud").write_bytes(b"bplist00")
    key = "MD5E-s4--0cc175b9c0f1b6a831c399e269772661.png"
    (tmp_path / "2.png").symlink_to(f".git/annex/objects/0J/4W/{key}/{key}")
    listing = list_folder(tmp_path)
    assert (listing.names, listing.hidden) == (["0.png"], [])
    assert reasons(listing) == {
        ".1.png.icloud": "it is in iCloud alone; type: brctl download, or open it once",
        "2.png": "there is no such file: it is in git-annex; type in its repository's folder: "
        "git annex get .",
    }
    assert read_pictures([tmp_path], GREY).skipped == listing.skipped


# -- what cannot be read -------------------------------------------------------------------------


def test_an_unreadable_folder_is_skipped_with_its_reason(tmp_path):
    """Its path is longer than the system takes, which no user's rights can change."""
    folder = put(tmp_path / "pictures", "0.png", "cat/1.png")
    deep, name = os.open(folder / "cat", os.O_RDONLY), "d" * 250
    for _ in range(20):
        os.mkdir(name, dir_fd=deep)
        inside = os.open(name, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inside
    os.close(deep)
    try:
        listing = list_folder(folder)
        assert listing.names == ["0.png", "cat/1.png"]
        (reason,) = reasons(listing).values()
        assert reason == "the folder cannot be read: File name too long"
        assert load_data(str(folder), "train", GREY).skipped == listing.skipped
        assert read_pictures([folder], GREY).skipped == listing.skipped
        with pytest.raises(ImageError, match="File name too long"):
            read_pictures([folder], GREY, strict=True)
    finally:
        shutil.rmtree(folder)


AS_SOMEBODY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from zoo.listing import list_folder
import os
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
listing = list_folder(Path(sys.argv[1]))
print(listing.names, [(path.name, reason) for path, reason in listing.skipped])
try:
    list_folder(Path(sys.argv[1], "shut"))
except PermissionError:
    print("refused")
"""


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="there are no such rights")
def test_a_folder_without_rights_is_skipped_and_as_the_source_refused(tmp_path):
    folder = put(tmp_path / "pictures", "0.png", "shut/1.png")
    for parent in [folder, *folder.parents]:  # pytest's own, up to the system's folder
        if parent.is_relative_to(tempfile.gettempdir()) and parent != Path(tempfile.gettempdir()):
            parent.chmod(0o755)
    (folder / "shut").chmod(0)
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", AS_SOMEBODY, str(folder), root]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "['0.png'] [('shut', 'the folder cannot be read: Permission denied')]",
        "refused",
    ], done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_pipes_and_sockets_are_skipped_and_not_waited_for(tmp_path):
    put(tmp_path, "0.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    (tmp_path / "null.png").symlink_to(os.devnull)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(tmp_path / "socket.png"))
    listing = list_folder(tmp_path)
    assert listing.names == ["0.png"]
    odd = ["link.png", "null.png", "pipe.png", "socket.png"]
    assert reasons(listing) == dict.fromkeys(odd, "a pipe, a socket or a device")
    assert len(read_pictures([tmp_path], GREY).paths) == 1


def test_names_that_are_not_utf8_are_listed_and_can_be_shown(tmp_path):
    odd = os.fsdecode(b"\xff.png")
    try:
        put(tmp_path, odd, "." + odd)
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    listing = list_folder(tmp_path)
    assert listing.names == [odd]
    assert listing.notes == ["1 hidden or system files and folders left out: .\\udcff.png"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        list_folder(tmp_path / "gone")


def test_listing_loads_nothing_heavy():
    code = "import sys, zoo.listing; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_labels_follow_the_listing(tmp_path):
    put(tmp_path, "b/1.png", "a/2.png", ".hidden/0.png", "c/3.png")
    data = load_data(str(tmp_path), "train", GREY)
    assert data.labels.tolist() == [0, 1, 2]
    assert torch.equal(data.images[:, 0, 0, 0], torch.tensor([10, 0, 30], dtype=torch.uint8))


def test_the_commands_say_once_what_was_left_out_and_what_was_skipped(tmp_path):
    folder = put(tmp_path / "pictures", *(f"{i:02}.png" for i in range(8)), ".cache/0.png")
    (folder / "loop").symlink_to("loop")
    note = "1 hidden or system files and folders left out: .cache"
    skip = f"1 files skipped:\n  {folder / 'loop'}: a link that leads back to itself\n"
    out, size = str(tmp_path / "run"), ("--config", "size=8", "--config", "latent_dim=2")
    settings = ("--set", "batch_size=4", "--epochs", "1", "--device", "cpu")
    done = CliRunner().invoke(main, ["train", "ae", "--data", str(folder), "--out", out, *size,
                                     *settings])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(f"{note}\n{skip}ae, ")
    codes = str(tmp_path / "codes.npz")
    encode = ["encode", f"local-dir:{out}", str(folder), "--out", codes]
    done = CliRunner().invoke(main, encode)
    assert (done.exit_code, done.stderr) == (0, f"{note}\n{skip}")
    done = CliRunner().invoke(main, [*encode, "--json"])
    assert json.loads(done.stdout)["notes"] == [note]
    said = []
    zoo.evaluate(f"local-dir:{out}", data=folder, protocols="reconstruction", progress=said.append)
    assert said[:2] == [note, skip.rstrip()]
