"""Training on pictures that stay in their files: the order, the ends, the processes."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from PIL import Image

from zoo.collection.indexing import update
from zoo.data import load_data, split_validation, stream, tar
from zoo.data.feed import feed_of
from zoo.data.stream import Stream
from zoo.errors import DataError, ImageError, RunStopped, TrainingError
from zoo.model import ZooModel
from zoo.sample import sample
from zoo.spec import Preprocessing

SIZE = Preprocessing(height=28, width=28, channels=1)
COUNT = 150
BAD = (3, 77, 78)
"""Rows that are no pictures, in the sets that have some."""


def encoded(i: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(sample()[0][i]).save(file, "PNG")
    return file.getvalue()


def of_parquet(folder: Path, bad: tuple[int, ...] = ()) -> Path:
    """Two files of row groups of nine; the label of a picture is its number."""
    folder.mkdir()
    for shard, rows in enumerate((range(70), range(70, COUNT))):
        pictures = [{"bytes": b"x" if i in bad else encoded(i), "path": None} for i in rows]
        table = pyarrow.table({"image": pictures, "label": list(rows)})
        path = folder / f"train-{shard:05}-of-00002.parquet"
        pyarrow.parquet.write_table(table, path, row_group_size=9)
    return folder


def of_files(folder: Path, bad: tuple[int, ...] = ()) -> Path:
    folder.mkdir()
    for i in range(COUNT):
        (folder / f"{i:03}.png").write_bytes(b"x" if i in bad else encoded(i))
    return folder


def of_tars(folder: Path, bad: tuple[int, ...] = ()) -> Path:
    """Two shards as WebDataset writes them: a class and a caption beside each picture."""
    folder.mkdir()
    for shard, rows in enumerate((range(70), range(70, COUNT))):
        with tarfile.open(folder / f"train-{shard:06}.tar", "w") as archive:
            for i in rows:
                add(archive, f"{i:03}.cls", str(i).encode())
                add(archive, f"{i:03}.png", b"x" if i in bad else encoded(i))
                add(archive, f"{i:03}.json", b"{}")
    return folder


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


KINDS = {"parquet": of_parquet, "files": of_files, "tars": of_tars}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    return KINDS[request.param](tmp_path_factory.mktemp("shards") / "good")


@pytest.fixture(scope="module", params=KINDS)
def damaged(request, tmp_path_factory):
    return KINDS[request.param](tmp_path_factory.mktemp("shards") / "bad", BAD)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 40)


def streamed(folder, **more):
    data = load_data(str(folder), "train", SIZE, memory=0, stream=True, **more)
    assert isinstance(data.images, Stream)
    return data


def numbers(images):
    """Which of the sample's pictures these are."""
    known = {pixels.tobytes(): i for i, pixels in enumerate(sample()[0][:COUNT])}
    return [known[image.numpy().tobytes()] for image in images]


def epoch(feed, seed, size=10, start=0, process=0, processes=1):
    rng = torch.Generator().manual_seed(seed)
    return [numbers(x) for x, _ in feed.epoch(rng, size, start, process, processes)]


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_every_picture_once_an_epoch(folder, processes):
    data = streamed(folder)
    feed = feed_of(data.images, torch.arange(COUNT))
    parts = [epoch(feed, 0, process=i, processes=processes) for i in range(processes)]
    assert {len(part) for part in parts} == {COUNT // 10}
    assert all(len(batch) == 10 // processes for part in parts for batch in part)
    seen = [i for part in parts for batch in part for i in batch]
    assert sorted(seen) == list(range(COUNT))
    again = [epoch(feed, 0, process=i, processes=processes) for i in range(processes)]
    assert parts == again
    assert parts != [epoch(feed, 1, process=i, processes=processes) for i in range(processes)]


def test_the_rest_that_is_no_whole_batch_waits(folder):
    feed = feed_of(streamed(folder).images, torch.arange(COUNT))
    batches = epoch(feed, 0, size=32)
    assert [len(batch) for batch in batches] == [32] * 4
    assert len({i for batch in batches for i in batch}) == 128
    assert sorted(numbers(torch.cat(list(feed.once())))) == list(range(COUNT))


@pytest.mark.parametrize("processes", [1, 2])
def test_it_goes_on_at_any_step(folder, processes):
    feed = feed_of(streamed(folder).images, torch.arange(10, COUNT))
    for process in range(processes):
        whole = epoch(feed, 4, 10, 0, process, processes)
        for start in (1, 3, 4, 5, 13, 14):  # around the end of a window
            assert epoch(feed, 4, 10, start, process, processes) == whole[start:]


def test_an_order_is_mixed(folder):
    """Neighbours in a batch come from several blocks, and every window from the whole set."""
    batches = epoch(feed_of(streamed(folder).images, torch.arange(COUNT)), 0)
    assert np.mean([np.abs(np.diff(batch)).min() == 1 for batch in batches]) < 0.7
    assert np.mean([len({i // 16 for i in batch}) for batch in batches]) > 2.5


def test_what_cannot_be_read_is_named_and_replaced(damaged):
    data = streamed(damaged)
    feed = feed_of(data.images, torch.arange(COUNT), torch.arange(COUNT))
    rng = torch.Generator().manual_seed(0)
    batches = list(feed.epoch(rng, 10, 0, 0, 1))
    seen = sorted(i for x, _ in batches for i in numbers(x))
    good = [i for i in range(COUNT) if i not in BAD]
    assert seen == sorted([*good, 4, 79, 79]), "the next ones take their places"
    assert all(numbers(x) == y.tolist() for x, y in batches), "with their own labels"
    assert sorted(reason[:20] for _, reason in data.skipped) == ["not a picture of a k"] * 3
    named = {path.name for path, _ in data.skipped}
    assert named in ({"003.png", "077.png", "078.png"}, {"row 3", "row 7", "row 8"})
    held = load_data(str(damaged), "train", SIZE)
    assert sorted(held.skipped) == sorted(data.skipped)
    assert numbers(held.images) == good
    rng = torch.Generator().manual_seed(0)
    rest = list(feed_of(streamed(damaged).images, torch.arange(COUNT)).epoch(rng, 10, 7, 0, 1))
    assert [numbers(x) for x, _ in rest] == [numbers(x) for x, _ in batches[7:]]


def test_strict_refuses_what_cannot_be_read(damaged):
    feed = feed_of(streamed(damaged, strict=True).images, torch.arange(COUNT))
    with pytest.raises(ImageError, match="not a picture of a known kind"):
        list(feed.epoch(torch.Generator(), 10, 0, 0, 1))


def test_nothing_that_can_be_read(tmp_path):
    folder = of_files(tmp_path / "bad", tuple(range(COUNT)))
    feed = feed_of(streamed(folder).images, torch.arange(COUNT))
    with pytest.raises(ImageError, match="no picture could be read out of 150 files"):
        next(feed.epoch(torch.Generator(), 10, 0, 0, 1))


def test_files_that_vanish(tmp_path):
    folder = of_files(tmp_path / "files")
    feed = feed_of(streamed(folder).images, torch.arange(COUNT))
    folder.rename(tmp_path / "away")
    with pytest.raises(DataError, match="was there when the run began, and is not any more"):
        next(feed.epoch(torch.Generator(), 10, 0, 0, 1))


def test_images_are_those_of_memory(folder):
    data = streamed(folder)
    held = load_data(str(folder), "train", SIZE)
    assert torch.equal(data.images_at(torch.arange(COUNT)), held.images)
    assert (data.name, len(data), data.split) == (held.name, len(held), held.split)
    if held.labels is not None:
        assert torch.equal(data.labels, held.labels)


def test_the_validation_part(folder):
    data = streamed(folder)
    chosen, held_out = split_validation(data, 0.2, 3)
    assert len(held_out) == 30
    assert sorted([*chosen.tolist(), *held_out.tolist()]) == list(range(COUNT))
    assert torch.equal(held_out, split_validation(data, 0.2, 3)[1])
    assert not torch.equal(held_out, split_validation(data, 0.2, 4)[1])
    assert numbers(data.images_at(held_out)) == held_out.tolist()


def test_no_thread_is_left(folder):
    feed = feed_of(streamed(folder).images, torch.arange(COUNT))
    batches = feed.epoch(torch.Generator(), 10, 0, 0, 1)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name in ("stream", "decode")]


def test_labels_that_are_missing(tmp_path):
    of_parquet(tmp_path / "set")
    path = tmp_path / "set" / "train-00000-of-00002.parquet"
    table = pyarrow.parquet.read_table(path)
    labels = [i if i % 2 else None for i in range(70)]
    pyarrow.parquet.write_table(table.set_column(1, "label", [labels]), path, row_group_size=9)
    data = streamed(tmp_path / "set").labelled()
    assert len(data) == COUNT - 35
    feed = feed_of(data.images, torch.arange(len(data)), data.labels)
    batches = list(feed.epoch(torch.Generator(), 5, 0, 0, 1))
    assert all(numbers(x) == y.tolist() for x, y in batches)
    assert len(batches) == (COUNT - 35) // 5


def test_samples_of_several_pictures(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for i in range(4):
            add(archive, f"a/{i}.left.png", encoded(i))
            add(archive, f"a/{i}.right.png", encoded(10 + i))
    with pytest.raises(DataError, match=r"several pictures: left\.png, right\.png.*tar#left\.png"):
        load_data(str(tmp_path / "a.tar"), "train", SIZE)
    data = load_data(f"{tmp_path / 'a.tar'}#right.png", "train", SIZE)
    assert numbers(data.images) == [10, 11, 12, 13]
    assert data.notes == ["4 members of tar files are no pictures: left out"]


def test_a_tar_is_read_once(tmp_path, monkeypatch):
    """It would take hours to look each block up in a shard of a hundred thousand pictures."""
    folder, read, following = of_tars(tmp_path / "set", BAD), [], tarfile.TarFile.next
    monkeypatch.setattr(tarfile.TarFile, "next", lambda self: read.append(1) or following(self))
    monkeypatch.setattr(tar, "BLOCK", 4)
    data = streamed(folder)
    members = 3 * COUNT + 2 * 2  # tarfile asks for the first twice, and for what is after the last
    assert len(read) == members
    list(feed_of(data.images, torch.arange(COUNT)).epoch(torch.Generator(), 10, 0, 0, 1))
    assert {path.name for path, _ in data.skipped} == {"003.png", "077.png", "078.png"}
    assert len(read) <= 3 * members, "and once more for the names"


@pytest.mark.parametrize("damage", ["cut off", "compressed", "none"])
def test_tars_that_are_none(tmp_path, damage):
    path = of_tars(tmp_path / "set") / "train-000000.tar"
    data = path.read_bytes()
    bad = {"cut off": data[:50_000], "compressed": gzip.compress(data), "none": b"x" * 2000}
    path.write_bytes(bad[damage])
    with pytest.raises(DataError, match=r"train-000000\.tar is damaged"):
        load_data(str(tmp_path / "set"), "train", SIZE)


def test_classes_that_are_no_numbers(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "1.png", encoded(1))
        add(archive, "1.cls", b"cat")
    data = load_data(str(tmp_path / "a.tar"), "train", SIZE)
    assert data.labels is None
    assert "1.cls should hold a whole number, it holds b'cat'" in data.notes[-1]


class Means(ZooModel):
    """A model for a collection."""

    image_shape = (1, 28, 28)
    name = "means"

    def _features(self, images):
        return images.mean((2, 3))


def test_a_collection(tmp_path):
    """Of files and an archive; without what is gone or no picture."""
    files, archives = of_files(tmp_path / "files", BAD), tmp_path / "archives"
    of_tars(archives)
    for path in sorted(files.iterdir())[20:]:
        path.unlink()
    (tmp_path / "c").mkdir()
    update(tmp_path / "c", Means(), [files, archives])
    data = streamed(tmp_path / "c")
    assert len(data) == 19 + COUNT
    held = load_data(str(tmp_path / "c"), "train", SIZE)
    for skipped in (data.skipped, held.skipped):
        assert [path for path, _ in skipped] == [files / "003.png"]
        assert skipped[0][1].startswith("not a picture")
    feed = feed_of(data.images, torch.arange(len(data)))
    expected = sorted([*(i for i in range(20) if i != 3), *range(COUNT)])
    assert sorted(i for part in feed.once() for i in numbers(part)) == expected
    assert torch.equal(held.images, data.images[:])
    (files / "007.png").unlink()
    with pytest.raises(DataError, match=r"007\.png was there when the run began"):
        list(feed.once())


# -- runs ------------------------------------------------------------------------------------------


def tensors(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_that_stops_anywhere_goes_on(tmp_path, train, damaged):
    model = "deep_ae"
    more = {"data": str(damaged), "data_dir": None, "memory": 0}
    whole = train(model, tmp_path / "whole", **more)
    facts = json.loads((whole / "config.json").read_text())["training"]
    assert facts["skipped"] == 3
    assert facts["images"] + facts["validation"] in (COUNT - 3, COUNT - 2, COUNT - 1, COUNT)
    steps = 0

    def stop():
        nonlocal steps
        steps += 1
        return 15 if steps in (4, 9) else None

    for _ in range(2):
        with pytest.raises(RunStopped):
            train(model, tmp_path / "run", stop=stop, resume=steps > 0, **more)
    resumed = train(model, tmp_path / "run", resume=True, **more)
    assert same(tensors(whole), tensors(resumed))
    assert json.loads((resumed / "config.json").read_text())["training"]["skipped"] == 3


def test_memory_decides_and_another_order_is_another_run(tmp_path, train, folder):
    more = {"data": str(folder), "data_dir": None}
    held = train("ae", tmp_path / "held", **more)
    assert same(tensors(held), tensors(train("ae", tmp_path / "enough", memory=10**6, **more)))
    with pytest.raises(RunStopped):
        train("ae", tmp_path / "run", stop=iter([None, None, 15]).__next__, memory=0, **more)
    with pytest.raises(TrainingError, match=r"were decoded on the way, now decoded before the run"):
        train("ae", tmp_path / "run", resume=True, **more)
    assert not list((tmp_path / "run").rglob("*.npy"))


def test_a_run_says_that_it_decodes_anew(folder):
    said = [note for note in streamed(folder).remarks if "decoded" in note]
    assert said == [
        "decoded, 150 images would take 0.1 MB, more than --memory: each epoch decodes them anew"
    ]
    assert not [note for note in load_data(str(folder), "train", SIZE).remarks if "decode" in note]


def test_a_collection_that_was_updated_is_another_run(tmp_path, train):
    """Also when it has as many pictures as before."""
    files = of_files(tmp_path / "files", BAD)
    (tmp_path / "c").mkdir()
    update(tmp_path / "c", Means(), [files])
    more = {"data": str(tmp_path / "c"), "data_dir": None, "memory": 0}
    with pytest.raises(RunStopped):
        train("ae", tmp_path / "run", stop=iter([None, None, 15]).__next__, **more)
    (files / "150.png").write_bytes(encoded(150))
    update(tmp_path / "c", Means(), [files])
    with pytest.raises(TrainingError, match="its data are 147 images of c, now 148 of c"):
        train("ae", tmp_path / "run", resume=True, **more)
    (files / "020.png").unlink()
    update(tmp_path / "c", Means(), [files])
    with pytest.raises(TrainingError, match="now 147 of c: the first that differ"):
        train("ae", tmp_path / "run", resume=True, **more)


RUN = """
import itertools, os, signal, sys, zoo
from zoo.data import stream

data, out, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
stream.WINDOW, asked = 40, itertools.count()

def stop():
    if next(asked) == last:
        os.kill(os.getpid(), signal.SIGKILL)

zoo.train(
    "deep_ae", data=data, out=out, memory=0, device="cpu", config={"hidden": [16, 8]},
    settings={"epochs": 4, "batch_size": 32, "precision": "fp32"},
    checkpoint_every=0, stop=stop, resume=os.path.isdir(out),
)
"""
"""A run with a checkpoint after each step, which is killed after its ``last`` step."""


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path, preloaded):
    """Two real kills of a real process; benchmarks/kills.py does more, at any moment."""
    data = of_tars(tmp_path / "set", BAD)
    for run, kills in (("whole", ()), ("run", (6, 3))):
        for last in (*kills, -1):  # four steps an epoch, 16 in all
            done = preloaded.run("-c", RUN, data, tmp_path / run, str(last), timeout=300)
            assert done.returncode == (0 if last < 0 else -signal.SIGKILL), done.stderr
    whole, resumed = (tensors(tmp_path / name / "weights") for name in ("whole", "run"))
    assert same(whole, resumed)


@pytest.mark.slow
def test_two_processes_share_the_shards(tmp_path):
    """Each decodes its own part, and the first one names what any of them could not read."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         "-m", "zoo.cli", "train", "deep_ae", "--data", str(of_tars(tmp_path / "set", BAD)),
         "--out", str(tmp_path / "run"), "--memory", "1kB", "--device", "cpu", "--epochs", "2",
         "--set", "batch_size=32", "--config", "hidden=[32,16]"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 x cpu" in done.stderr
    assert "142 images (3 files skipped)" in done.stdout
    assert {name for name in ("003.png", "077.png", "078.png") if name in done.stderr} == {
        "003.png", "077.png", "078.png"
    }  # fmt: skip
