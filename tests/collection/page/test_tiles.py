"""The page of very many pictures, which has only what is seen first and reads the rest."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pagemaking import HOSTILE, Kept, Served, made, serve, small_picture

from zoo.collection.page import tiles
from zoo.collection.page.static import export


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pictures count as many."""
    monkeypatch.setattr(tiles, "TILED", 500)
    monkeypatch.setattr(tiles, "POINTS", 100)


def test_every_picture_is_one_point_of_the_square_it_lies_in(small):
    places = np.random.default_rng(0).random((3000, 2)) ** 3
    places[:300] = 1  # many at one place
    seen = np.zeros(len(places), int)
    for name, numbers in tiles._tiles(places):
        zoom, x, y = map(int, name.removeprefix("map-").split("-"))
        assert len(numbers) <= 100
        inside = places[numbers] * 2**zoom
        assert (inside >= (x, y)).all()
        assert (inside <= (x + 1, y + 1)).all()
        seen[numbers] += 1
    assert (seen == 1).all()


def test_what_is_seen_first_is_small_and_all_pictures_are_beside_it(small, tmp_path: Path):
    data = made(600)
    done = export(data, small_picture, tmp_path / "page")
    assert done.files == len([*(tmp_path / "page").iterdir()])
    first = (tmp_path / "page" / "index.html").read_text()
    assert "/pictures/of a kind/" not in first
    details = (tmp_path / "page" / "details-0.js").read_text()
    value = json.loads(details.removeprefix('zooPart("details-0",').strip().removesuffix(")"))
    assert sorted(value["paths"]) == sorted(data.paths)
    assert HOSTILE not in details
    assert not [*tmp_path.glob("page/order-1-*")]  # the pictures' own order


def test_as_many_as_before_are_in_the_page_itself(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tiles, "TILED", 600)
    export(made(600), small_picture, tmp_path / "page")
    assert not [*tmp_path.glob("page/details-*")]


@pytest.fixture
def many(small, tmp_path: Path) -> Iterator[Served]:
    """A server of six hundred pictures, which count as many; their numbers are by their groups."""
    data = made(600)
    live = Kept(data.reordered(data.by_group()))
    live.begin(tmp_path / "decisions.jsonl")
    yield from serve(live)


def asked(served: Served, path: str, body: Any = None) -> Any:
    """What a server says, which has to be no mistake."""
    how = {} if body is None else {"method": "POST", "Content_Type": "application/json"}
    status, said, _ = served.ask(path, body=body and json.dumps(body).encode(), **how)
    assert status == 200, said
    return json.loads(said)


def test_a_server_gives_the_parts_that_an_export_has(many: Served, tmp_path: Path):
    export(many.live.data, small_picture, tmp_path / "page")
    first = asked(many, "collection")
    assert first.pop("can") == {"words": True, "pictures": True}
    assert first == tiles.Parts(many.live.data).first
    assert "paths" not in first
    names = [path.stem for path in (tmp_path / "page").glob("*.js")]
    parts = [name for name in names if not name.startswith("thumbnails")]
    assert len(parts) > 10
    for name in parts:
        text = (tmp_path / "page" / f"{name}.js").read_text().strip()
        value = json.loads(text.removeprefix(f'zooPart("{name}",').removesuffix(")"))
        assert asked(many, f"part/{name}") == value
    for name in ("details-1", "order-1-0", "map-0-0-1", "..%2Fpage.js", "details-00"):
        assert many.ask(f"part/{name}")[0] == 404


def test_after_a_split_the_order_of_the_groups_is_told(many: Served):
    before = asked(many, "collection")
    assert before["ordered"] == 1
    split = {"kind": "split", "pictures": [200, 100, 300]}
    after = asked(many, "decide", {"decisions": [split]})
    assert after["ordered"] == -1
    assert after["tiles"] == before["tiles"]
    labels = many.live.data.layers[1].labels
    ordered = np.frombuffer(base64.b64decode(asked(many, "part/order-1-0")), "<i4")
    assert sorted(ordered) == list(range(600))
    assert (np.diff(labels[ordered]) >= 0).all()
    details = asked(many, "part/details-0")
    told = np.frombuffer(base64.b64decode(details["layers"][1]["labels"]), "<i4")
    assert (told == labels).all()


@pytest.mark.slow
def test_a_person_finds_in_it_what_is_in_every_page(small, tab: Any, tmp_path: Path):
    data = made(1500)
    export(data, small_picture, tmp_path / "page")
    address = (tmp_path / "page" / "index.html").as_uri()
    tab.goto(address)
    tab.wait_for_selector("body.ready")
    counts = np.bincount(data.layers[1].labels + 1)[1:]
    assert tab.locator(".group .title").nth(0).text_content() == "Group 0"
    assert f"{counts[0]:,} pictures" in tab.locator(".group").nth(0).text_content()
    tab.wait_for_function("() => document.querySelector('.strip img')?.naturalWidth > 0")

    tab.keyboard.press("Enter")
    tab.evaluate("location.hash = '#/group/0'")
    # Rows that wait for the same file are all drawn.
    tab.wait_for_function("() => document.querySelectorAll('main .cell').length > 30")
    tab.get_by_role("gridcell").first.click()
    tab.get_by_role("dialog").get_by_text("/pictures/of a kind/").wait_for()
    tab.locator(".near button").first.wait_for()
    tab.keyboard.press("Escape")

    tab.keyboard.press("4")
    tab.locator(".oddity .file").first.wait_for()
    worst = data.paths[int(np.argmax(data.odd))]
    assert tab.locator(".oddity .file").first.text_content() == worst.rpartition("/")[2]
    tab.keyboard.press("3")
    tab.get_by_text("2 sets of duplicates").wait_for()
    assert tab.locator(".copy").count() == 5
    tab.keyboard.press("5")
    tab.get_by_text("/pictures/broken.png").wait_for()

    tab.get_by_role("searchbox").fill("001234")
    tab.keyboard.press("Enter")
    tab.get_by_text("1 picture by name or path").wait_for()

    tab.get_by_label("How fine the groups are").select_option("0")
    tab.evaluate("location.hash = '#/group/0'")
    coarse = int((data.layers[0].labels == 0).sum())
    tab.get_by_text(f"{coarse:,} pictures, 0 named").wait_for()
    tab.get_by_role("gridcell").first.wait_for()


SEEN = """() => {
    const canvas = document.querySelector("canvas.map");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let seen = 0;
    for (let i = 3; i < data.length; i += 4) seen += data[i] > 0;
    return seen;
}"""


@pytest.mark.slow
def test_the_map_reads_the_squares_that_are_seen(small, tab: Any, tmp_path: Path):
    asked = []
    tab.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    export(made(3000), small_picture, tmp_path / "page")
    tab.goto((tmp_path / "page" / "index.html").as_uri() + "#/map")
    tab.wait_for_selector("body.ready")
    tab.wait_for_function(f"() => ({SEEN})() > 1000")
    there = {path.name for path in tmp_path.glob("page/map-*")}
    before = {name for name in asked if name.startswith("map-")}
    assert before < there
    for _ in range(6):
        tab.keyboard.press("+")
        tab.wait_for_timeout(300)
    assert before < {name for name in asked if name.startswith("map-")} < there


@pytest.mark.slow
def test_a_person_names_merges_and_splits_very_many_that_are_served(many: Served, tab: Any):
    tab.goto(many.address)
    tab.wait_for_selector("body.ready")
    tab.get_by_label("Name of Group 0").fill("cats")
    tab.keyboard.press("Enter")
    tab.get_by_role("link", name="cats").first.wait_for()
    sizes = np.bincount(many.live.data.layers[1].labels + 1)[1:]
    assert many.live.data.names.count("cats") == sizes[0]
    assert tab.evaluate("document.activeElement.dataset.key") == "name 1", "on to the next group"
    tab.get_by_role("button", name="Undo").click()
    tab.get_by_role("link", name="Group 0").first.wait_for()
    assert "cats" not in many.live.data.names

    for label in (1, 2):
        tab.get_by_label(f"Choose Group {label}", exact=True).check()
    tab.keyboard.press("m")
    tab.get_by_text("2 groups are one now.").first.wait_for()
    tab.get_by_text(f"{sizes[1] + sizes[2]:,} pictures").first.wait_for()

    tab.evaluate("location.hash = '#/group/1'")
    cells = tab.get_by_role("gridcell")
    cells.first.wait_for()
    assert tab.get_by_role("row").count() > 1
    cells.first.press("Space")
    tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("s")
    tab.get_by_text("2 pictures are a group of their own.").first.wait_for()
    tab.get_by_text(f"{sizes[1] + sizes[2] - 2:,} pictures, 0 named").wait_for()
    assert (np.bincount(many.live.data.layers[1].labels + 1)[1:] == 2).sum() == 1

    cells.first.click()
    tab.get_by_role("dialog").get_by_text("/pictures/of a kind/").wait_for()
    tab.keyboard.press("n")
    tab.keyboard.type("one cat")
    tab.keyboard.press("Enter")
    tab.get_by_role("dialog").get_by_text("named by a person").wait_for()
    tab.keyboard.press("Escape")
    tab.keyboard.press("3")
    tab.get_by_role("button", name="Keep all").first.click()
    tab.get_by_text("1 set of duplicates").wait_for()
