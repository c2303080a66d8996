"""--strict: every picture is read, and what is no picture by its name is none."""

import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.data import load_data
from zoo.errors import ImageError
from zoo.images import ENDINGS, NO_PICTURE, OTHER_ENDINGS, read_pictures
from zoo.spec import Preprocessing

GREY = Preprocessing(channels=1, height=28, width=28)
NOTES = ("README", "README.md", "notes.txt", "table.tsv", "LICENSE", "model.onnx", "a.png.txt")


@pytest.fixture
def folder(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(12):
        Image.new("L", (28, 28), 20 * i).save(pictures / f"{i:02}.png")
    for name in (*NOTES, ".DS_Store", "labels.csv", "Thumbs.db"):
        (pictures / name).write_text("nothing to see")
    return pictures


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def commands(folder, at):
    return (
        ("encode", "ae.mnist", folder, "--strict", "--out", at / "codes.npz"),
        ("reconstruct", "ae.mnist", folder, "--strict", "--out", at / "out.png"),
        ("train", "ae", "--data", folder, "--strict", "--out", at / "run", "--epochs", 1,
         "--set", "batch_size=4", "--set", "optimizer=adamw"),
    )  # fmt: skip


@pytest.mark.parametrize("command", [0, 1, 2], ids=["encode", "reconstruct", "train"])
def test_notes_and_tables_are_no_pictures(folder, tmp_path, command):
    result = run(*commands(folder, tmp_path)[command])
    assert result.exit_code == 0, result.output
    assert "files skipped" in result.stderr + result.stdout  # they are counted all the same


@pytest.mark.parametrize("command", [0, 1, 2], ids=["encode", "reconstruct", "train"])
@pytest.mark.parametrize("name", ["bad.png", "bad.JPG", "bad.tiff", "link.webp"])
def test_pictures_that_cannot_be_read_are_refused(folder, tmp_path, command, name):
    if name.startswith("link"):
        (folder / name).symlink_to(tmp_path / "nowhere")
    else:
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    result = run(*commands(folder, tmp_path)[command])
    assert (result.exit_code, name in result.stderr) == (2, True), result.output
    assert {p.name for p in tmp_path.iterdir()} <= {"pictures"}


def test_all_readers_leave_out_the_same(folder):
    data = load_data(str(folder), "train", GREY, strict=True)
    read = read_pictures([folder], GREY, strict=True)
    assert len(data) == len(read.paths) == 12
    assert {p.name for p, reason in data.skipped if reason == NO_PICTURE} >= set(NOTES)
    assert {p.name for p, reason in read.skipped if reason == NO_PICTURE} >= set(NOTES)


def test_decoded_in_a_file_too(folder, tmp_path):
    for _ in range(2):  # anew, and from the cache
        data = load_data(str(folder), "train", GREY, strict=True, memory=1, cache=tmp_path / "c")
        assert len(data) == 12
    (folder / "bad.png").write_bytes(b"no")
    for strict in (False, True, True):
        arguments = {"strict": strict, "memory": 1, "cache": tmp_path / "c"}
        if strict:
            with pytest.raises(ImageError, match=r"bad\.png"):
                load_data(str(folder), "train", GREY, **arguments)
        else:
            assert len(load_data(str(folder), "train", GREY, **arguments)) == 12


@pytest.mark.parametrize("name", NOTES[:3])
def test_what_a_user_names_is_meant(folder, name):
    model = zoo.load("ae.mnist")
    with pytest.raises(ImageError, match=NO_PICTURE):
        read_pictures([folder / "00.png", folder / name], model.preprocessing, strict=True)
    read = read_pictures([folder / "00.png", folder / name], model.preprocessing)
    assert [(p.name, why) for p, why in read.skipped] == [(name, NO_PICTURE)]


@pytest.mark.parametrize("name", ["photo.heic", "photo.JXL", "drawing.svg", "raw.CR2"])
def test_pictures_of_kinds_that_are_not_read_are_refused_as_such(folder, name, monkeypatch):
    monkeypatch.setattr("zoo.otherkinds.installed", lambda module: False)
    (folder / name).write_bytes(b"a picture of some other kind")
    says = f"{name}: pictures of the kind .{name.split('.')[1].lower()} are not read"
    for data in (read_pictures([folder], GREY), load_data(str(folder), "train", GREY)):
        assert len(data.images) == 12
        assert says in [f"{path.name}: {why}".partition(";")[0] for path, why in data.skipped]
    with pytest.raises(ImageError, match=says):
        read_pictures([folder], GREY, strict=True)
    with pytest.raises(ImageError, match=says):
        load_data(str(folder), "train", GREY, strict=True)


def test_no_ending_is_both_read_and_not():
    assert not set(ENDINGS) & set(OTHER_ENDINGS)
