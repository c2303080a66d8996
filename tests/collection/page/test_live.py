"""The page of a real collection: its pictures, what is decided, what is searched, the command."""

import io
import json
import re
import shutil
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from zoo.cli import main
from zoo.collection import derived
from zoo.collection.duplicates import alike, find, same_file
from zoo.collection.indexing import update
from zoo.collection.opened import Opened
from zoo.collection.page import live, mapping, tiles
from zoo.collection.page.data import PageData
from zoo.collection.page.live import Page
from zoo.collection.page.serving import Decided
from zoo.collection.store import Store
from zoo.errors import CollectionError, ImageError
from zoo.model import ZooModel

TREE = Path(__file__).resolve().parents[3]


class Means(ZooModel):
    """Features are the means of quarters."""

    image_shape = (3, 8, 8)
    name = "means"

    def _features(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def picture(number: int) -> Image.Image:
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> Path:
    """A collection of twenty files, an archive with two more, and a broken one."""
    top = tmp_path_factory.mktemp("collection")
    (top / "in").mkdir()
    for i in range(20):
        picture(i).save(top / "in" / f"{i:02}.png")
    picture(0).save(top / "in" / "copy.png")
    (top / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with zipfile.ZipFile(top / "in" / "more.zip", "w") as archive:
        for i in (30, 31):
            buffer = io.BytesIO()
            picture(i).save(buffer, "PNG")
            archive.writestr(f"{i}.png", buffer.getvalue())
    with Store.writing(top / "index"):
        update(top / "index", Means(), [str(top / "in")])
    return top


@pytest.fixture(autouse=True)
def no_umap(monkeypatch):
    """UMAP takes seconds to begin; its places are tested in test_mapping."""
    monkeypatch.setattr(mapping, "_embedded", lambda vectors, seed: vectors[:, :2])


@pytest.fixture
def folder(indexed: Path, tmp_path: Path) -> Path:
    shutil.copytree(indexed / "index", tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def page(folder: Path) -> Page:
    opened = Opened(folder)
    opened.__dict__["model"] = Means()
    return Page(opened)


def number_of(page: Page, name: str) -> int:
    return next(i for i, path in enumerate(page.data.paths) if path.endswith(name))


def test_all_that_is_known_is_shown(page: Page):
    data = page.data
    assert len(data) == 23
    assert data.title == "in"
    assert [Path(path).name for path, _ in data.unread] == ["broken.png"]
    assert data.neighbours is not None
    assert data.neighbours.shape == (23, 12)
    assert data.places is not None
    assert data.widths.tolist() == [12] * 23


def test_the_map_is_made_once(page: Page, folder: Path, monkeypatch):
    first = page.data.places
    monkeypatch.setattr(mapping, "_embedded", lambda vectors, seed: pytest.fail("was made"))
    assert (Page(Opened(folder)).data.places == first).all()
    monkeypatch.setattr(mapping, "_embedded", lambda vectors, seed: vectors[:, 2:4])
    np.savez(folder / "map.npz", places=first, fingerprint=np.array("of other pictures"))
    assert (Page(Opened(folder)).data.places != first).any()
    (folder / "map.npz").write_bytes(b"damaged")
    assert (Page(Opened(folder)).data.places != first).any()


def test_thumbnails_of_files_and_archives(page: Page):
    assert page.missing() == 22  # a copy is the same picture
    made = page.make_thumbnails()
    assert (made.made, made.failed, page.missing()) == (22, [], 0)
    for name in ("05.png", "30.png", "copy.png"):
        with Image.open(io.BytesIO(page.thumbnail(number_of(page, name)))) as small:
            assert small.size == (12, 10)


def test_one_that_is_gone_or_another_now(indexed: Path, tmp_path: Path):
    shutil.copytree(indexed, tmp_path / "there")
    store_of = tmp_path / "there" / "index"
    text = (store_of / "collection.json").read_text()
    moved = text.replace(str(indexed / "in"), str(tmp_path / "there" / "in"))
    (store_of / "collection.json").write_text(moved)
    page = Page(Opened(store_of))
    (tmp_path / "there" / "in" / "05.png").unlink()
    picture(99).save(tmp_path / "there" / "in" / "06.png")
    failed = dict(page.make_thumbnails().failed)
    assert len(failed) == 2
    gone = number_of(page, "05.png")
    assert "No such file" in failed[page.data.hashes[gone]]
    assert "changed" in failed[page.data.hashes[number_of(page, "06.png")]]
    assert page.thumbnail(gone) is None
    with pytest.raises(OSError, match="No such file"):
        page.picture(gone)


def test_what_is_decided_is_shown_at_once_and_by_the_next_page(page: Page, folder: Path):
    first = number_of(page, "03.png")
    after = page.decide([Decided(kind="name", pictures=[first], value=" cat ")])
    assert (after.names[first], after.given[first]) == ("cat", "cat")
    assert page.data is after
    again = Page(Opened(folder)).data
    assert (again.names[first], again.given[first]) == ("cat", "cat")


def test_names_that_take_long_to_spread_are_told_later(page: Page, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    spread = Page._spread

    def slowly(data: PageData, opened: Opened) -> PageData:
        begun.set()
        assert go.wait(10)
        return spread(data, opened)

    first, copy = number_of(page, "00.png"), number_of(page, "copy.png")
    monkeypatch.setattr(live, "SOON", 0.01)
    monkeypatch.setattr(Page, "_spread", staticmethod(slowly))
    after = page.decide([Decided(kind="name", pictures=[3], value="cat")])
    assert begun.wait(10)
    assert (page.settled, after.names[3], after.given[3]) == (False, "cat", "cat")
    after = page.decide([Decided(kind="name", pictures=[first], value="dog")])
    assert (after.names[3], after.names[first]) == ("cat", "dog")
    assert page.changed(0.01).names[first] == "dog"
    go.set()
    after = page.changed(10)
    assert page.settled
    assert (after.names[3], after.names[first], after.names[copy]) == ("cat", "dog", "dog")


def bands(data: PageData) -> list[tuple[str, int]]:
    return [(each.band, len(each.pictures)) for each in data.duplicates]


def test_duplicates_are_shown_until_they_are_kept_or_set_apart(page: Page):
    assert bands(page.data) == [("same file", 2)]
    (found,) = page.data.duplicates
    pictures = list(found.pictures)
    assert bands(page.decide([Decided(kind="keep_both", pictures=pictures)])) == []
    back = Decided(kind="keep_both", pictures=pictures, value=False)
    assert bands(page.decide([back])) == [("same file", 2)]


def test_the_same_pictures_are_shown_once_they_were_looked_for(folder: Path, page: Page):
    picture(40).resize((480, 400)).save(folder.parent / "large.png")
    picture(40).resize((480, 400)).transpose(Image.Transpose.ROTATE_90).save(
        folder.parent / "turned.png"
    )
    with Store.writing(folder):
        update(folder, Means(), [str(folder.parent / f"{n}.png") for n in ("large", "turned")])
    find(Opened(folder))
    opened = Opened(folder)
    opened.__dict__["model"] = Means()
    again = Page(opened)
    assert bands(again.data) == [("same file", 2), ("same picture", 2)]
    pictures = list(again.data.duplicates[1].pictures)
    after = again.decide([Decided(kind="not_duplicate", pictures=pictures)])
    assert bands(after) == [("same file", 2)]


def test_alike_pictures_are_those_of_the_command(page: Page):
    opened = page.opened
    known = same_file(opened.pictures)
    for threshold in (0.5, 0.99):
        wanted = alike(opened.graph, opened.pictures, threshold, known)
        found = page.alike(threshold)
        assert [each.pictures for each in found.sets] == [each.members for each in wanted]
        assert (found.count, found.extra) == (len(wanted), sum(len(x.members) - 1 for x in wanted))
    found = page.alike(0.5)
    assert found.extra > page.alike(0.99).extra
    pictures = list(found.sets[0].pictures)
    page.decide([Decided(kind="keep_both", pictures=pictures)])
    assert page.alike(0.5).count == found.count - 1


def test_a_picture_finds_itself_first(page: Page):
    buffer = io.BytesIO()
    picture(7).save(buffer, "PNG")
    found = page.find_picture(buffer.getvalue())
    assert page.data.paths[found[0][0]].endswith("07.png")
    assert found[0][1] > 0.99


def test_very_many_are_numbered_by_their_groups(page: Page, folder: Path, monkeypatch):
    pytest.importorskip("sknetwork")
    derived.regroup(folder, number=3)
    few = page.data
    monkeypatch.setattr(tiles, "TILED", 10)
    opened = Opened(folder)
    opened.__dict__["model"] = Means()
    many = Page(opened)
    data = many.data
    assert [*data.paths] != [*few.paths]
    labels = data.layers[data.default_layer].labels
    assert (np.diff(labels) >= 0).all()
    ours, theirs = number_of(many, "07.png"), number_of(page, "07.png")
    assert many.picture(ours) == page.picture(theirs)
    assert many.thumbnail(ours) == page.thumbnail(theirs)
    near = [data.paths[i] for i in data.neighbours[ours]]
    assert near == [few.paths[i] for i in few.neighbours[theirs]]
    buffer = io.BytesIO()
    picture(7).save(buffer, "PNG")
    assert many.find_picture(buffer.getvalue())[0][0] == ours
    told, known = many.alike(0.5), page.alike(0.5)
    assert {data.paths[i] for each in told.sets for i in each.pictures} == {
        few.paths[i] for each in known.sets for i in each.pictures
    }
    assert {data.paths[each.keep] for each in told.sets} == {
        few.paths[each.keep] for each in known.sets
    }

    many.decide([Decided(kind="name", pictures=[ours], value="seven")])
    assert many.data.given.index("seven") == ours
    many.decide([Decided(kind="split", pictures=[ours])])
    after = many.changed(10)
    assert many.settled
    assert [*after.paths] == [*data.paths]
    assert after.places is data.places
    of_its_own = after.layers[after.default_layer].labels == labels.max() + 1
    assert np.flatnonzero(of_its_own).tolist() == [ours]
    faults = [f for f in after.faults if f.kind == live.WRONG_GROUP]
    assert ours in [f.picture for f in faults], "it is held against the groups of now"


def test_what_is_no_picture_finds_nothing(page: Page):
    bomb = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(bomb, "PNG")
    for data, why in ((b"x", "not a picture"), (bomb.getvalue(), "pixels; make it smaller")):
        with pytest.raises(ImageError, match=why):
            page.find_picture(data)


def test_words_find_what_their_vector_is_near_to(page: Page, monkeypatch):
    assert not page.words
    features = page.opened.store.features(page.opened.pictures.rows)
    model = SimpleNamespace(
        capabilities=("embed_text",), embed_text=lambda texts: torch.tensor(features[4:5])
    )
    page.opened.__dict__["model"] = model
    assert page.find_words("a cat")[0][0] == 4


# -- the command -----------------------------------------------------------------------------------


def run(*args: Any) -> Any:
    return CliRunner().invoke(main, ["browse", *map(str, args)])


def test_the_page_is_exported(folder: Path, tmp_path: Path):
    result = run(folder, "--export", tmp_path / "page.html", "--json")
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    assert (counts["pictures"], counts["files"], counts["thumbnails"]) == (23, 1, 22)
    assert "placing 23 pictures on a map" in result.stderr
    assert counts["bytes"] == (tmp_path / "page.html").stat().st_size
    again = run(folder, "--export", tmp_path / "page.html")
    assert again.exit_code == 0
    assert "Open" in again.output
    assert again.stderr == ""
    result = run(folder, "--export", tmp_path / "page")
    assert result.exit_code == 0
    assert (tmp_path / "page" / "index.html").is_file()


@pytest.mark.slow
def test_the_guide(tmp_path: Path, monkeypatch):
    """What docs/browse.md tells to type; the two that wait for a browser but for the waiting."""
    from zoo.collection.page import serving

    monkeypatch.chdir(tmp_path)
    waits_for_none = SimpleNamespace(run=lambda sockets: None)
    monkeypatch.setattr(serving, "server", lambda page, listener, token: waits_for_none)
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        picture(i).save(tmp_path / "pictures" / f"{i}.png")
    text = (TREE / "docs" / "browse.md").read_text("utf-8")
    blocks = re.findall(r"^```(?:sh|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    typed = [line.split() for block in blocks for line in block.splitlines()]
    for zoo, *args in typed:
        result = CliRunner().invoke(main, args)
        assert (zoo, result.exit_code) == ("zoo", 0), result.output
    assert len(typed) == 5
    assert (tmp_path / "page" / "index.html").is_file()


def test_mistakes_are_one_message_each(folder: Path, tmp_path: Path):
    (tmp_path / "mine.html").write_text("<p>mine")
    for args, message in {
        (tmp_path,): "is no collection",
        (folder, "--export", tmp_path / "mine.html"): "is not a page of zoo browse",
        (folder, "--export", folder / "page.html"): "lies in the folder of the collection",
        (folder, "--export", tmp_path): "is no empty folder",
        (folder, "--host", "example.org"): "in numbers, such as 127.0.0.1",
    }.items():
        result = run(*args)
        assert (result.exit_code, message in result.stderr) == (2, True), result.output
        assert len(result.stderr.strip().splitlines()) == 1
    assert (tmp_path / "mine.html").read_text() == "<p>mine"


def test_the_address_is_said_before_it_is_served(folder: Path, monkeypatch):
    from zoo.collection.page import serving

    def server(page, listener, token):
        assert listener.getsockname()[0] == "127.0.0.1"

        def run(sockets):
            assert sockets == [listener]
            while page.missing():  # thumbnails are made meanwhile
                time.sleep(0.01)
            raise KeyboardInterrupt

        return SimpleNamespace(run=run)

    monkeypatch.setattr(serving, "server", server)
    result = run(folder, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["address"].startswith("http://127.0.0.1:")
    assert "what was decided is kept" in result.stderr
    assert "other machines" not in result.stderr
    assert len(list((folder / "thumbnails").iterdir())) == 1


def test_a_collection_that_is_damaged_is_said(folder: Path):
    (folder / "features-00000.npy").write_bytes(b"")
    with pytest.raises(CollectionError, match="damaged"):
        assert Page(Opened(folder)).data
