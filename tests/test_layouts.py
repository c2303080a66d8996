"""The layouts of data sets that users of the Hub and of torchvision have, as real folders."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from PIL import Image

from zoo.cli import main
from zoo.data import load_data
from zoo.errors import DataError, ImageError
from zoo.spec import Preprocessing

GREY = Preprocessing(channels=1, height=8, width=8)


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def put(folder: Path, *names: str) -> Path:
    """A grey picture under each name: the first 0, the second 1, and so on."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    return folder


def load(folder: object, split: str = "train", **more):
    """The greys of the images, their labels, their part."""
    data = load_data(str(folder), split, GREY, **more)
    labels = None if data.labels is None else data.labels.tolist()
    return data.images[:][:, 0, 0, 0].tolist(), labels, data.split, data


# -- folders of pictures -------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN", "training"])
@pytest.mark.parametrize("test", ["test", "Test", "val", "Validation", "valid", "dev"])
def test_parts_in_any_case_and_by_any_of_their_names(tmp_path, train, test):
    put(tmp_path, f"{train}/cat/0.png", f"{train}/dog/1.png", f"{test}/dog/2.png",
        f"{test}/owl/3.png")  # fmt: skip
    greys, labels, split, data = load(tmp_path)
    assert (greys, labels, split, data.notes) == ([0, 1], [0, 1], "train", [])
    assert data.classes == ("cat", "dog", "owl")
    greys, labels, split, data = load(tmp_path, "test")
    assert (greys, labels, split) == ([2, 3], [1, 2], "test")
    named = [f"{tmp_path} has no part test: its validation part is taken for it"]
    assert data.notes == ([] if test.lower() == "test" else named)


def test_flat_parts_are_no_classes(tmp_path):
    for folder, names in (
        ("tv", ("train/0.png", "train/1.png", "val/2.png")),
        ("tt", ("Train/0.png", "Train/1.png", "Test/2.png")),
        ("tvt", ("train/0.png", "train/1.png", "test/2.png", "val/3.png")),
    ):
        put(tmp_path / folder, *names)
        assert load(tmp_path / folder)[:3] == ([0, 1], None, "train")
        assert load(tmp_path / folder, "test")[:3] == ([2], None, "test")
        notes = load(tmp_path / folder)[3].notes
        assert notes == ([f"the part validation of {tmp_path / folder} is not read"]
                         if folder == "tvt" else [])  # fmt: skip


def test_parts_one_folder_deeper(tmp_path):
    put(tmp_path, "my set/data/train/a/0.png", "my set/data/train/b/1.png",
        "my set/data/test/b/2.png")  # fmt: skip
    (tmp_path / "README.md").write_text("about")
    assert load(tmp_path)[:3] == ([0, 1], [0, 1], "train")
    assert load(tmp_path, "test")[:3] == ([2], [1], "test")


def test_classes_one_folder_deeper(tmp_path):
    put(tmp_path, "pictures/cat/0.png", "pictures/dog/1.png")
    greys, labels, split, data = load(tmp_path)
    assert (greys, labels, split, data.classes) == ([0, 1], [0, 1], "all", ("cat", "dog"))


def test_a_part_alone_is_the_whole_set(tmp_path):
    put(tmp_path, "train/cat/0.png", "train/dog/1.png")
    for split in ("train", "test"):
        assert load(tmp_path, split)[:3] == ([0, 1], [0, 1], "all")


def test_a_class_that_is_called_as_a_part_is_a_class(tmp_path):
    put(tmp_path, "bus/0.png", "car/1.png", "train/2.png")
    _, labels, split, data = load(tmp_path)
    assert (labels, split, data.classes) == ([0, 1, 2], "all", ("bus", "car", "train"))


def test_a_part_without_pictures_or_not_there(tmp_path):
    put(tmp_path, "train/0.png", "val/1.png")
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        load(tmp_path, "test")
    (tmp_path / "test").rmdir()
    (tmp_path / "train").rename(tmp_path / "eval")
    with pytest.raises(DataError, match="has no part train; its files are called eval, val"):
        load(tmp_path)
    assert load(tmp_path, "test")[:3] == ([0], None, "test")


def test_pictures_outside_of_the_parts_are_counted(tmp_path):
    put(tmp_path, "train/a/0.png", "train/b/1.png", "test/a/2.png", "extra/3.png", "logo.png")
    greys, labels, _, data = load(tmp_path)
    assert (greys, labels) == ([0, 1], [0, 1])
    assert data.notes == ["2 pictures outside of the parts left out: extra/3.png, logo.png"]


def test_what_the_hub_says_of_pictures_is_not_read_and_refuses_nothing(tmp_path):
    put(tmp_path, "train/a/0.png", "train/b/1.png", "test/a/2.png")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\na/0.png,1\n")
    (tmp_path / "train" / "metadata.jsonl").write_text("{}")
    greys, labels, _, data = load(tmp_path, strict=True)
    assert (greys, labels, data.skipped) == ([0, 1], [0, 1], [])
    assert data.notes == [
        "train/metadata.csv, train/metadata.jsonl not read: classes are the names of folders"
    ]


# -- Parquet: which column -----------------------------------------------------------------------


def table(path: Path, /, metadata: dict | None = None, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = pyarrow.table(columns)
    if metadata is not None:
        noted = json.dumps({"info": {"features": metadata}}).encode()
        made = made.replace_schema_metadata({b"huggingface": noted})
    pyarrow.parquet.write_table(made, path)
    return path


def pictures(*greys: int) -> list[dict]:
    return [{"bytes": png(grey), "path": f"{grey}.png"} for grey in greys]


def plain(*greys: int) -> list[bytes]:
    return [png(grey) for grey in greys]


DIGESTS = [b"\x01\x02\x03\x04", b"\x05\x06\x07\x08"]


@pytest.mark.parametrize(
    "columns",
    [
        {"sha": DIGESTS, "image": pictures(7, 8)},
        {"sha": DIGESTS, "picture": plain(7, 8)},
        {"audio": [{"bytes": b"RIFF1234WAVE", "path": "a"}] * 2, "x": pictures(7, 8)},
        {"sha": [None, DIGESTS[0]], "x": [None, png(7)], "y": [1, 2]},
        {"embedding": [b"", b"\0" * 8], "photo": [{"bytes": p} for p in plain(7, 8)]},
    ],
)
def test_a_binary_column_is_not_taken_for_pictures(tmp_path, columns):
    data = load(table(tmp_path / "a.parquet", **columns))[3]
    assert data.images[0, 0, 0, 0] == 7
    assert data.notes == []


def test_of_two_columns_of_pictures_the_usual_one_is_taken_and_said(tmp_path):
    path = table(tmp_path / "a.parquet", mask=pictures(1, 2), image=pictures(7, 8), label=[3, 4])
    greys, labels, _, data = load(path)
    assert (greys, labels, data.name) == ([7, 8], [3, 4], "a")
    assert data.notes == [
        "pictures are taken from the column image; for one of the others (mask), type: "
        f"--data '{path}#mask'"
    ]
    greys, labels, _, data = load(f"{path}#mask")  # as it says
    assert (greys, labels, data.notes, data.name) == ([1, 2], [3, 4], [], "a#mask")
    cached = [load(f"{path}{which}", memory=0, cache=tmp_path / "cache")[0]
              for which in ("", "#mask", "")]  # fmt: skip
    assert cached == [[7, 8], [1, 2], [7, 8]]


def test_of_two_columns_of_pictures_none_of_which_is_usual_one_has_to_be_named(tmp_path):
    path = table(tmp_path / "set" / "train-00000-of-00001.parquet", left=plain(1), right=plain(2))
    with pytest.raises(DataError, match="several columns of pictures: left, right") as caught:
        load(tmp_path / "set")
    assert f"--data '{tmp_path / 'set'}#left'" in str(caught.value)
    assert load(f"{tmp_path / 'set'}#right")[0] == load(f"{path}#right")[0] == [2]
    with pytest.raises(DataError, match=r"has no column middle: its columns are left \(binary\)"):
        load(f"{path}#middle")
    with pytest.raises(DataError, match=r"one column of pictures and one of labels.*left, right"):
        load(f"{path}#left,right")


IMAGE, KINDS = {"_type": "Image"}, {"_type": "ClassLabel", "names": ["cat", "dog"]}
"""What ``datasets`` writes into the schema."""


def test_columns_and_classes_are_those_that_datasets_notes(tmp_path):
    path = table(tmp_path / "a.parquet", {"x": IMAGE, "raw": {"_type": "Value", "dtype": "binary"},
                 "kind": KINDS}, raw=plain(1, 2), x=pictures(7, 8), kind=[1, 0])  # fmt: skip
    greys, labels, _, data = load(path)
    assert (greys, labels, data.classes, data.notes) == ([7, 8], [1, 0], ("cat", "dog"), [])


def test_of_several_columns_of_labels_one_is_taken_and_said(tmp_path):
    coarse = {"_type": "ClassLabel", "names": ["animal"]}
    path = table(tmp_path / "a.parquet", {"img": IMAGE, "fine_label": KINDS, "coarse": coarse},
                 img=pictures(7, 8), fine_label=[1, 0], coarse=[0, 0])  # fmt: skip
    greys, labels, _, data = load(path)
    assert (labels, data.classes) == ([1, 0], ("cat", "dog"))
    assert data.notes == [
        "labels are taken from the column fine_label, of fine_label, coarse; for others, type: "
        f"--data '{path}#coarse'"
    ]
    for asked in ("#coarse", "#img,coarse", "#coarse, img"):
        greys, labels, _, data = load(f"{path}{asked}")
        assert (greys, labels, data.classes, data.notes) == ([7, 8], [0, 0], ("animal",), [])


@pytest.mark.parametrize(
    "noted", [b"", b"[]", b'{"info": 1}', b'{"info": {"features": []}}', b"[" * 100_000, b"\xff"]
)
def test_notes_of_datasets_that_are_none_do_no_harm(tmp_path, noted):
    made = pyarrow.table({"image": pictures(7), "label": [1]})
    made = made.replace_schema_metadata({b"huggingface": noted})
    pyarrow.parquet.write_table(made, tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet")[:2] == ([7], [1])


def test_files_that_are_not_of_one_data_set(tmp_path):
    table(tmp_path / "a.parquet", image=pictures(1), label=[0])
    table(tmp_path / "b.parquet", image=pictures(2))
    greys, labels, _, data = load(tmp_path)
    assert (greys, labels) == ([1, 2], None)
    assert data.notes == [
        f"the labels are left out: {tmp_path / 'b.parquet'} has others than "
        f"{tmp_path / 'a.parquet'}"
    ]
    table(tmp_path / "b.parquet", img=pictures(2))
    with pytest.raises(DataError, match="not of one data set"):
        load(tmp_path)


# -- Parquet: which files ------------------------------------------------------------------------


def test_shards_beside_a_picture_are_the_data(tmp_path):
    table(tmp_path / "data" / "train-00000-of-00001.parquet", image=pictures(7, 8))
    put(tmp_path, "assets/example.png")
    greys, _, split, data = load(tmp_path)
    assert (greys, split) == ([7, 8], "train")
    assert data.notes == [
        f"the Parquet files of {tmp_path} are read, and not its 1 pictures beside them; for these, "
        "name their folder: assets/example.png"
    ]
    assert load(tmp_path / "assets")[0] == [0]


@pytest.mark.parametrize(
    "columns",
    [
        {"path": ["0.png"], "codes": [[1.0, 2.0]]},
        {"path": ["0.png"], "sha": [b"\1\2\3"]},
        {"text": ["an image"]},
    ],
)
def test_a_table_beside_pictures_is_not_the_data(tmp_path, columns):
    put(tmp_path, "0.png", "1.png")
    table(tmp_path / "codes.parquet", **columns)
    greys, _, _, data = load(tmp_path)
    assert greys == [0, 1]
    assert [path.name for path, _ in data.skipped] == ["codes.parquet"]


def test_a_damaged_table_beside_pictures_refuses_nothing_but_a_damaged_shard_does(tmp_path):
    put(tmp_path, "0.png", "1.png")
    (tmp_path / "codes.parquet").write_bytes(b"PAR1 cut off")
    assert load(tmp_path)[0] == [0, 1]
    (tmp_path / "train-00000-of-00002.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match=r"train-00000-of-00002\.parquet is damaged"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("Train.parquet", "Eval.parquet"),
        ("my-train-set/training_0.parquet", "my-train-set/test_0.parquet"),
        ("training-2020.PARQUET", "validation-2020.PARQUET"),
        ("year=2020/train.parquet", "year=2021/test.parquet"),
        ("default/partial-train/0000.parquet", "default/partial-validation/0000.parquet"),
    ],
)
def test_parts_of_parquet_files(tmp_path, train, test):
    table(tmp_path / train, image=pictures(1, 2))
    table(tmp_path / test, image=pictures(3))
    assert (load(tmp_path)[0], load(tmp_path)[2]) == ([1, 2], "train")
    greys, _, split, data = load(tmp_path, "test")
    assert (greys, split) == ([3], "test")
    assert bool(data.notes) == ("validation" in test)


def test_several_configurations_are_not_mixed(tmp_path):
    for name, grey in (("full", 1), ("small", 5)):
        table(tmp_path / name / "train-00000-of-00001.parquet", image=pictures(grey))
        table(tmp_path / name / "test-00000-of-00001.parquet", image=pictures(grey + 1))
    with pytest.raises(DataError, match="several configurations of a data set: full, small") as e:
        load(tmp_path)
    assert f"type: --data '{tmp_path}#full'" in str(e.value)
    assert load(f"{tmp_path}#full")[0] == load(tmp_path / "full")[0] == [1]
    greys, _, _, data = load(f"{tmp_path}#small", "test")
    assert (greys, data.name) == ([6], f"{tmp_path.name}#small")
    assert load(f"{tmp_path}#small,image")[0] == [5]
    (tmp_path / "full").rename(tmp_path / "default")
    greys, _, _, data = load(tmp_path)
    assert greys == [1]
    assert data.notes == [
        f"the default configuration of {tmp_path} is read; for one of small, type: "
        f"--data '{tmp_path}#small'"
    ]


def test_files_in_no_folder_beside_a_configuration(tmp_path):
    table(tmp_path / "a.parquet", image=pictures(1))
    table(tmp_path / "default" / "b.parquet", image=pictures(2))
    greys, _, _, data = load(tmp_path)
    assert greys == [2]
    assert data.notes[0].startswith(f"the default configuration of {tmp_path} is read; for one of")
    (tmp_path / "default").rename(tmp_path / "more")
    with pytest.raises(DataError, match=r"\(files in no folder\), more. Choose one.*#more'"):
        load(tmp_path)


README = """---
license: mit
configs:
- config_name: plain
  default: true
  data_files:
  - split: train
    path: data/plain-a-*
  - split: test
    path: ["data/plain-b-*"]
- config_name: turned
  data_files: data/turned*
---
# A data set
"""


def test_configurations_of_the_readme(tmp_path):
    for name, grey in (("plain-a-0", 1), ("plain-b-0", 2), ("turned", 3), ("other", 4)):
        table(tmp_path / "data" / f"{name}.parquet", image=pictures(grey))
    (tmp_path / "README.md").write_text(README)
    greys, _, split, data = load(tmp_path)
    assert (greys, split) == ([1], "train")
    assert data.notes == [
        f"the default configuration of {tmp_path} is read; for one of plain, turned, type: "
        f"--data '{tmp_path}#plain'",
        "1 files of no configuration left out: data/other.parquet",
    ]
    assert load(tmp_path, "test")[0] == [2]
    assert load(f"{tmp_path}#turned")[:3] == ([3], None, "all")
    (tmp_path / "README.md").write_text(README.replace("  default: true\n", ""))
    with pytest.raises(DataError, match="several configurations of a data set: plain, turned"):
        load(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "# no front matter", "---\n[\n---\n", "---\nconfigs: 3\n---\n", "---\n- a\n---\n",
     "---\nconfigs:\n- config_name: [x]\n- 5\n- config_name: a\n  data_files: 7\n---\n"],
)  # fmt: skip
def test_a_readme_that_says_nothing_of_use(tmp_path, text):
    table(tmp_path / "data" / "train-00000-of-00001.parquet", image=pictures(1))
    (tmp_path / "README.md").write_text(text)
    assert load(tmp_path)[:3] == ([1], None, "train")


# -- the syntax ----------------------------------------------------------------------------------


def test_a_name_with_the_mark_in_it_is_a_name(tmp_path):
    put(tmp_path / "a#b", "0.png")
    put(tmp_path / "a", "0.png", "1.png")
    assert load(tmp_path / "a#b")[0] == [0]
    with pytest.raises(DataError, match="has no c: it is a folder of pictures"):
        load(tmp_path / "a#c")
    with pytest.raises(DataError, match="no data set"):
        load(tmp_path / "c#d")
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"has no y: only Parquet"):
        load(tmp_path / "x.npz#y")


def test_the_commands_say_what_was_chosen(tmp_path):
    path = table(tmp_path / "a.parquet", mask=pictures(*range(8)), image=pictures(*range(8)))
    arguments = ["train", "ae", "--data", str(path), "--out", str(tmp_path / "run"), "--config",
                 "size=8", "--config", "latent_dim=2", "--set", "batch_size=4", "--epochs", "1",
                 "--device", "cpu"]  # fmt: skip
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("pictures are taken from the column image; for one of the others")
    table(path, left=pictures(1), right=pictures(2))
    done = CliRunner().invoke(main, [*arguments[:5], str(tmp_path / "other")])
    assert done.exit_code == 2
    assert "Choose one; type: --data" in done.stderr


def test_unreadable_subfolders_of_shards_are_named(tmp_path):
    table(tmp_path / "train-00000-of-00001.parquet", image=pictures(1))
    (tmp_path / "more").symlink_to("more")
    ((path, reason),) = load(tmp_path)[3].skipped
    assert (path.name, reason) == ("more", "a link that leads back to itself")
    with pytest.raises(ImageError, match="more: a link that leads back"):
        load(tmp_path, strict=True)
