"""Training on pictures that stay in their files: the order, the ends, the processes."""

import io
import json
import threading
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from PIL import Image

from zoo.data import load_data, split_validation, stream
from zoo.data.feed import feed_of
from zoo.data.stream import Stream
from zoo.errors import DataError, ImageError, RunStopped, TrainingError
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


KINDS = {"parquet": of_parquet, "files": of_files}


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
        for start in range(len(whole) + 1):
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


# -- runs ------------------------------------------------------------------------------------------


def tensors(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("model", ["deep_ae", "ae"])
def test_a_run_that_stops_anywhere_goes_on(tmp_path, train, damaged, model):
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
