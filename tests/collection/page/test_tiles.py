"""The page of very many pictures, which has only what is seen first and reads the rest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pagemaking import HOSTILE, made, small_picture

from zoo.collection.page import static, tiles
from zoo.collection.page.static import export


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pictures count as many."""
    monkeypatch.setattr(static, "TILED", 500)
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
    monkeypatch.setattr(static, "TILED", 600)
    export(made(600), small_picture, tmp_path / "page")
    assert not [*tmp_path.glob("page/details-*")]


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
