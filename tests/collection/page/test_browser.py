"""What a person does with the page, in a real Chromium: by mouse and by keyboard."""

import csv
import dataclasses
import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pagemaking import HOSTILE, Kept, Served, made, serve, small_picture

from zoo.collection.page.static import export


def opened(tab: Any, address: str, where: str = "") -> Any:
    tab.goto(address + where)
    tab.wait_for_selector("body.ready")
    return tab


def group_titles(tab: Any) -> list[str]:
    return tab.locator(".group .title").all_text_contents()


def test_a_group_is_named_and_that_is_kept(tab: Any, served: Served):
    opened(tab, served.address)
    assert group_titles(tab)[0] == "Group 0"
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("n")
    tab.keyboard.type("cats  of mine")
    tab.keyboard.press("Enter")
    tab.get_by_role("link", name="cats of mine").wait_for()
    (kept,) = served.live.decisions.read().decisions
    assert (kept.kind, kept.value, kept.group) == ("name", "cats of mine", 0)
    labels = served.live.base.layers[1].labels
    assert len(kept.hashes) == (labels == 0).sum()


slow = pytest.mark.slow


@slow
def test_naming_goes_on_to_the_next_group_and_is_taken_back(tab: Any, served: Served):
    opened(tab, served.address)
    tab.get_by_label("Name of Group 0").fill("one")
    tab.keyboard.press("Enter")
    tab.get_by_role("link", name="one", exact=True).wait_for()
    focused = "document.activeElement.getAttribute('aria-label')"
    tab.wait_for_function(f"() => {focused} === 'Name of Group 1'")
    tab.keyboard.type("two")
    tab.keyboard.press("Enter")
    tab.get_by_role("link", name="two", exact=True).wait_for()
    tab.get_by_role("button", name="Undo").click()
    tab.get_by_role("link", name="Group 1", exact=True).wait_for()
    state = served.live.decisions.state()
    assert state.names == ["one"]
    tab.get_by_role("button", name="Named", exact=True).click()
    assert group_titles(tab) == ["one"]


@slow
def test_groups_are_merged_and_the_merge_is_taken_back(tab: Any, served: Served):
    opened(tab, served.address)
    sizes = np.bincount(served.live.base.layers[1].labels + 1)[1:]
    tab.get_by_label("Choose Group 0").check()
    tab.get_by_label("Choose Group 1").check()
    tab.keyboard.press("m")
    tab.get_by_text("2 groups are one now.").first.wait_for()
    assert "Group 1" not in group_titles(tab)
    assert (served.live.data.layers[1].labels == 0).sum() == sizes[0] + sizes[1]
    tab.get_by_role("button", name="Undo").click()
    tab.get_by_role("link", name="Group 1", exact=True).wait_for()
    assert (served.live.data.layers[1].labels == served.live.base.layers[1].labels).all()


@slow
def test_pictures_are_split_off_and_named_by_keyboard(tab: Any, served: Served):
    opened(tab, served.address, "#/group/0")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Space")
    tab.keyboard.press("Shift+ArrowRight")
    tab.get_by_text("2 of").wait_for()
    tab.keyboard.press("n")
    tab.keyboard.type("dog")
    tab.keyboard.press("Enter")
    tab.get_by_text("“dog”: 2 pictures.").first.wait_for()
    tab.locator(".cell").nth(0).click(modifiers=["Control"])
    tab.keyboard.press("s")
    tab.get_by_text("of their own").first.wait_for()
    named, split = served.live.decisions.read().decisions
    assert (named.kind, named.value, len(named.hashes)) == ("name", "dog", 2)
    assert (split.kind, len(split.hashes)) == ("split", 1)
    assert split.hashes[0] in named.hashes


@slow
def test_one_picture_its_facts_and_its_neighbours(tab: Any, served: Served):
    opened(tab, served.address, "#/group/0")
    tab.locator(".cell").nth(1).click()
    dialog = tab.get_by_role("dialog")
    dialog.wait_for()
    tab.wait_for_function("() => document.querySelector('.near img')?.naturalWidth > 0")
    assert tab.locator(".near button").count() == 8
    before = tab.locator("#picture-title").text_content()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function(
        f"() => document.querySelector('#picture-title').textContent !== {json.dumps(before)}"
    )
    tab.keyboard.press("n")
    tab.keyboard.type("bird")
    tab.keyboard.press("Enter")
    tab.get_by_text("bird (named by a person)").wait_for()
    tab.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert tab.evaluate("document.activeElement.className") == "cell"
    assert served.live.decisions.state().names == ["bird"]


PRESSING = """keys => {
    for (const key of keys) {
        const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
        (document.activeElement ?? document.body).dispatchEvent(event);
    }
}"""
"""Presses keys faster than the browser tells the page of a new address."""


@slow
def test_a_key_goes_to_the_view_that_the_key_before_it_asked_for(tab: Any, served: Served):
    opened(tab, served.address, "#/map")
    tab.evaluate(PRESSING, ["1", "End"])
    assert tab.evaluate("document.activeElement.className") == "title"
    tab.evaluate(PRESSING, ["3", "1", "Home"])
    assert tab.evaluate("document.activeElement.textContent") == group_titles(tab)[0]
    tab.goto("about:blank")
    opened(tab, served.address, "#/group/0")
    tab.evaluate(PRESSING, ["]", "]", "[", "ArrowRight"])
    assert tab.locator("main h1").text_content() == "Group 1"
    tab.locator(".cell").nth(0).click()
    at = "zooPage.list.indexOf(zooPage.dialog.picture)"
    tab.evaluate(PRESSING, ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"])
    assert tab.evaluate(at) == 2
    tab.wait_for_timeout(50)  # what the browser tells of the addresses meanwhile changes nothing
    assert tab.evaluate(at) == 2


@slow
def test_duplicates_are_kept_or_are_none(tab: Any, served: Served):
    opened(tab, served.address, "#/duplicates")
    assert tab.locator(".copy").count() == 5
    assert tab.locator(".copy.keep .file").all_text_contents() == [
        "of a kind/000001.png",
        "of a kind/000009.png",
    ]
    tab.get_by_role("button", name="Keep both").click()
    tab.get_by_text("1 set of duplicates").wait_for()
    tab.get_by_role("button", name="Not duplicates").click()
    tab.get_by_text("No duplicates are known here").wait_for()
    assert [d.kind for d in served.live.decisions.read().decisions] == [
        "keep_both",
        "not_duplicate",
    ]


@slow
def test_alike_pictures_by_a_threshold(tab: Any, served: Served):
    opened(tab, served.address, "#/duplicates")
    tab.get_by_role("button", name="Alike").click()
    tab.get_by_role("heading", name="2 sets of alike pictures").wait_for()
    assert tab.locator(".copy").count() == 5
    tab.get_by_text("3 pictures besides those to keep").wait_for()
    tab.get_by_label("Least similarity").fill("0.8")
    tab.get_by_role("heading", name="3 sets of alike pictures").wait_for()
    tab.get_by_text("the first 2 sets are shown").wait_for()
    tab.get_by_role("button", name="Not duplicates").nth(1).click()
    tab.get_by_text("They are no duplicates.").first.wait_for()
    (kept,) = served.live.decisions.read().decisions
    assert kept.hashes == tuple(served.live.base.hashes[22:25])
    # The threshold stays, and so does the band, when the page is drawn anew.
    tab.get_by_role("heading", name="3 sets of alike pictures").wait_for()
    tab.get_by_role("button", name="All", exact=True).click()
    tab.get_by_role("heading", name="2 sets of duplicates").wait_for()


@slow
def test_odd_ones_with_their_kinds_and_unread_files(tab: Any, served: Served):
    opened(tab, served.address, "#/odd")
    first = tab.locator(".oddity .file").first.text_content()
    base = served.live.base
    assert first == base.paths[int(np.argmax(base.odd))].split("/")[-1]
    tab.get_by_role("button", name="Blurred").click()
    assert tab.locator(".oddity .file").all_text_contents() == ["000007.png", "000005.png"]
    tab.keyboard.press("5")
    tab.get_by_text("damaged, or not readable: cut off").wait_for()


@slow
def test_searches_by_name_words_and_a_dropped_picture(tab: Any, served: Served):
    opened(tab, served.address)
    tab.keyboard.press("/")
    tab.keyboard.type("00004")
    tab.keyboard.press("Enter")
    tab.get_by_text("11 pictures by name or path").wait_for()
    assert tab.locator(".cell").count() == 13
    assert served.live.searched == ["00004"]
    tab.locator("#chooser").set_input_files(
        {"name": "mine.webp", "mimeType": "image/webp", "buffer": small_picture(1)}
    )
    tab.get_by_role("heading", name="Most alike to mine.webp").wait_for()
    assert tab.locator(".cell .caption").all_text_contents() == ["90%", "80%"]
    drop = """(bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "dropped.webp", {type: "image/webp"}));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
    }"""
    tab.evaluate(drop, list(small_picture(2)))
    tab.get_by_role("heading", name="Most alike to dropped.webp").wait_for()
    assert served.live.searched[1:] == [small_picture(1), small_picture(2)]


@slow
def test_the_map_opens_the_picture_under_the_pointer(tab: Any, served: Served):
    opened(tab, served.address, "#/map")
    tab.wait_for_timeout(200)
    box = tab.locator("canvas").bounding_box()
    side = min(box["width"], box["height"]) * 0.92
    x, y = served.live.base.places[20]
    tab.mouse.click(
        box["x"] + (box["width"] - side) / 2 + x * side,
        box["y"] + (box["height"] - side) / 2 + y * side,
    )
    tab.get_by_role("dialog").wait_for()
    shown = int(tab.locator("#picture-title").text_content().partition(".")[0])
    distances = np.hypot(*(served.live.base.places - (x, y)).T)
    assert distances[shown] * side < 14
    tab.keyboard.press("Escape")
    tab.keyboard.press("+")
    tab.keyboard.press("ArrowLeft")


@slow
def test_names_of_files_are_never_markup(tab: Any, served: Served):
    opened(tab, served.address)
    hostile = HOSTILE.split("/")[-1]
    served.live.data = dataclasses.replace(
        served.live.data,
        names=[HOSTILE] * 100,
        title=HOSTILE,
        unread=[(f"/{HOSTILE}", HOSTILE)],
    )
    opened(tab, served.address, "#/group/0")
    tab.reload()
    for where in ("#/groups", "#/group/0", "#/unread", "#/duplicates", "#/map", "#/groups!3"):
        tab.evaluate(f"location.hash = '{where}'")
        tab.wait_for_timeout(100)
    assert tab.locator("#picture-title").text_content() == hostile
    assert "100 pictures" in tab.title()
    assert tab.locator("img[src=x]").count() == 0
    assert tab.title().startswith("<img")


@slow
def test_the_browser_itself_forbids_html_and_other_hosts(browser: Any, served: Served):
    page = opened(browser.new_page(), served.address)
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    with pytest.raises(Exception, match="Failed to fetch"):
        page.evaluate("fetch('http://127.0.0.2:1/')")
    page.close()


@slow
def test_a_server_that_is_gone_is_said(browser: Any, tmp_path: Path):
    live = Kept(made(50))
    live.begin(tmp_path / "decisions.jsonl")
    running = serve(live)
    served = next(running)
    page = opened(browser.new_page(), served.address)
    list(running)
    page.get_by_label("Name of Group 0").fill("late")
    page.keyboard.press("Enter")
    page.get_by_text("does not answer any more").first.wait_for()
    assert group_titles(page)[0] == "Group 0"
    page.close()


@slow
@pytest.mark.parametrize("out", ["page.html", "page"])
def test_an_export_opens_from_the_disk(tab: Any, tmp_path: Path, out: str):
    data = dataclasses.replace(made(600), names=["cat"] * 300 + [""] * 300)
    export(data, small_picture, tmp_path / out)
    path = tmp_path / out / "index.html" if out == "page" else tmp_path / out
    opened(tab, path.as_uri())
    tab.wait_for_function("() => [...document.images].filter((i) => i.naturalWidth).length > 20")
    assert tab.locator("input.name").count() == 0  # nothing would keep what is typed
    tab.locator(".group .title").first.click()
    tab.locator(".cell").nth(3).click()
    tab.wait_for_function("() => document.querySelector('.near img')?.naturalWidth > 0")
    tab.keyboard.press("Escape")
    for key in "12345":
        tab.keyboard.press(key)
        tab.wait_for_timeout(100)
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save table").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8"))))
    assert len(rows) == 601
    by_path = {row["path"]: row for row in rows}
    row = by_path[data.paths[7]]
    assert (row["hash"], row["name"], row["group"]) == (
        data.hashes[7],
        "cat",
        str(data.layers[1].labels[7]),
    )
    assert by_path["/pictures/broken.png"]["unread"].startswith("damaged")


@slow
def test_a_screen_reader_hears_what_things_are(tab: Any, served: Served):
    opened(tab, served.address)
    assert tab.get_by_role("navigation", name="Views").get_by_role("link").count() == 5
    assert tab.get_by_role("search").count() == 1
    assert tab.get_by_role("listitem").count() > 2
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    opened(tab, served.address, "#/group/0")
    tab.evaluate("location.hash = '#/group/0'")
    grid = tab.get_by_role("grid", name="Group 0")
    grid.wait_for()
    assert int(grid.get_attribute("aria-rowcount")) >= 1
    cells = grid.get_by_role("gridcell")
    assert [cells.nth(i).get_attribute("tabindex") for i in range(2)] == ["0", "-1"]
    unnamed = """[...document.querySelectorAll("button, input, select, a, [role=gridcell]")].filter(
        (e) => e.checkVisibility() && !e.closest("[aria-hidden]")
            && !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)
    ).map((e) => e.outerHTML)"""
    for where in ("#/groups", "#/group/0", "#/map", "#/duplicates", "#/odd", "#/groups!1"):
        tab.evaluate(f"location.hash = '{where}'")
        tab.wait_for_timeout(100)
        assert tab.evaluate(unnamed) == [], where


@slow
@pytest.mark.parametrize("width", [360, 760, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_and_reads_in_both_schemes(
    tab: Any, served: Served, width: int, scheme: str
):
    tab.set_viewport_size({"width": width, "height": 700})
    tab.emulate_media(color_scheme=scheme)
    opened(tab, served.address)
    back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")
    for where in ("#/groups", "#/group/0", "#/map", "#/duplicates", "#/odd", "#/unread"):
        tab.evaluate(f"location.hash = '{where}'")
        tab.wait_for_timeout(100)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, where
        assert tab.evaluate("document.querySelector('main').scrollWidth") <= width, where


SCROLLING = """async () => {
    const main = document.querySelector("main"), times = [];
    for (let i = 0; i < 60; i++) {
        const begun = performance.now();
        main.scrollTop = (i % 2 ? i / 60 : 1 - i / 60) * main.scrollHeight;
        await new Promise(requestAnimationFrame);
        await new Promise(requestAnimationFrame);
        times.push(performance.now() - begun);
    }
    return times.sort((a, b) => a - b)[30];
}"""
"""The median time of two frames, of which the first draws what was scrolled to."""


@slow
def test_a_hundred_thousand_pictures(tab: Any, tmp_path: Path):
    tab.set_default_timeout(60_000)
    took: dict[str, list[float]] = {}
    for count, groups in ((1_000, 100), (100_000, 400)):
        live = Kept(made(count, groups))
        live.begin(tmp_path / f"{count}.jsonl")
        running = serve(live)
        served = next(running)
        begun = time.monotonic()
        opened(tab, served.address)
        assert time.monotonic() - begun < 20
        for where in ("#/groups", "#/group/0", "#/odd"):
            tab.evaluate(f"location.hash = '{where}'")
            tab.wait_for_timeout(300)
            took.setdefault(where, []).append(tab.evaluate(SCROLLING))
            assert tab.evaluate("document.querySelectorAll('main *').length") < 3000, where
        tab.keyboard.press("2")
        tab.wait_for_timeout(500)
        tab.keyboard.press("+")
        tab.keyboard.press("1")
        tab.keyboard.press("Home")
        tab.get_by_label("Name of Group 0").fill("many")
        tab.keyboard.press("Enter")
        tab.get_by_role("link", name="many", exact=True).wait_for()
        assert served.live.decisions.state().names == ["many"]
        tab.goto("about:blank")
        list(running)
    for where, (few, many) in took.items():
        assert many < 3 * few + 20, where  # milliseconds, of the same machine in the same minute
    out = tmp_path / "page"
    begun = time.monotonic()
    export(live.data, lambda number: b"RIFF", out)
    assert time.monotonic() - begun < 60
    opened(tab, (out / "index.html").as_uri(), "#/group/0")
    tab.keyboard.press("End")
    tab.wait_for_function("() => document.activeElement.getAttribute('role') === 'gridcell'")


@slow
def test_what_was_scrolled_past_is_not_loaded_any_more(tab: Any, tmp_path: Path):
    """Else what is seen waits behind hundreds of thumbnails, or the browser gives up."""
    live = Kept(made(3_000, 2))
    live.begin(tmp_path / "decisions.jsonl")
    running = serve(live)
    served = next(running)
    asked: list[Any] = []
    answers = threading.Event()

    def answer(route: Any) -> None:
        asked.append(route)
        if answers.is_set():
            route.continue_()

    tab.route("**/thumbnail/*", answer)
    for where in ("#/odd", "#/group/0", "#/groups"):
        answers.clear()
        asked.clear()
        opened(tab, served.address, where)
        tab.evaluate(SCROLLING)
        assert 0 < len(asked) <= 12, where
        seen = tab.evaluate("document.querySelectorAll('main img').length")
        answers.set()
        for route in asked[:12]:
            route.continue_()
        tab.wait_for_function(LOADED)
        assert len(asked) <= 12 + seen, where
        tab.goto("about:blank")
    list(running)


LOADED = """() => [...document.querySelectorAll("main img")].every(
    (image) => image.complete && (image.src || image.className === "missing"))"""


@slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_map_is_drawn_for_the_scheme_that_is_seen(tab: Any, served: Served, scheme: str):
    tab.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
    opened(tab, served.address, "#/map")
    tab.emulate_media(color_scheme=scheme)
    tab.wait_for_timeout(300)
    # The names of groups have an outline of the background's colour.
    counted = """() => {
        const canvas = document.querySelector("canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let [white, black] = [0, 0];
        for (let i = 0; i < data.length; i += 4) {
            if (data[i + 3] < 255) continue;
            white += data[i] > 250 && data[i + 1] > 250 && data[i + 2] > 250;
            black += data[i] < 24 && data[i + 1] < 26 && data[i + 2] < 32;
        }
        return white > black ? "light" : "dark";
    }"""
    assert tab.evaluate(counted) == scheme


@slow
def test_names_that_spread_later_disturb_nobody_who_types(tab: Any, served: Served, monkeypatch):
    live, go = served.live, threading.Event()

    def changed(seconds: float) -> Any:
        if go.wait(0.2) and not live.settled:
            live.data = dataclasses.replace(live.data, names=["later"] * 100)
            live.settled = True
        return live.data

    monkeypatch.setattr(live, "settled", False)
    monkeypatch.setattr(live, "changed", changed)
    opened(tab, served.address)
    tab.get_by_label("Name of Group 0").fill("at once")
    tab.keyboard.press("Enter")
    tab.get_by_role("link", name="at once").wait_for()
    tab.get_by_label("Name of Group 2").focus()
    tab.keyboard.type("half a na")
    go.set()
    tab.get_by_role("link", name="later").first.wait_for()
    focused = tab.evaluate("[document.activeElement.value, document.activeElement.type]")
    assert focused == ["half a na", "text"]
