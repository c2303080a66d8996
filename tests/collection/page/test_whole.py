"""The whole way: index, group, name and merge in a browser, export; each command sees the same."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pagemaking import serve
from PIL import Image

from zoo.cli import main
from zoo.collection.indexing import update
from zoo.collection.opened import Opened
from zoo.collection.page import mapping
from zoo.collection.page.live import Page
from zoo.collection.store import Store
from zoo.model import ZooModel

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 230)}


class Means(ZooModel):
    """Features are the means of quarters."""

    image_shape = (3, 8, 8)
    name = "means"

    def _features(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def run(*args: Any) -> Any:
    result = CliRunner().invoke(main, [*map(str, args)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Ninety pictures in three colours, indexed and grouped."""
    monkeypatch.setattr(mapping, "_embedded", lambda vectors, seed: vectors[:, :2])
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for colour, middle in COLOURS.items():
        for i in range(30):
            pixels = np.clip(middle + rng.normal(scale=12, size=(2, 2, 3)), 0, 255)
            picture = Image.fromarray(pixels.astype(np.uint8)).resize((40, 30), 0)
            picture.save(tmp_path / "in" / f"{colour}-{i:02}.png")
    with Store.writing(tmp_path / "index"):
        update(tmp_path / "index", Means(), [str(tmp_path / "in")])
    run("group", tmp_path / "index")
    return tmp_path / "index"


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8", newline="")))


@pytest.mark.slow
def test_what_is_named_in_a_browser_is_exported(tab: Any, folder: Path, tmp_path: Path):
    page = Page(Opened(folder))
    layer = page.data.layers[page.data.default_layer]
    reds = [i for i, path in enumerate(page.data.paths) if "red" in path]
    red = Counter(layer.labels[reds].tolist()).most_common(1)[0][0]
    running = serve(page)
    served = next(running)
    tab.goto(served.address)
    tab.wait_for_selector("body.ready")
    tab.get_by_label(f"Name of Group {red}").fill("sunset")
    tab.keyboard.press("Enter")
    tab.get_by_role("link", name="sunset").first.wait_for()
    others = [label for label in np.unique(layer.labels).tolist() if label not in (-1, red)]
    for label in others:
        tab.get_by_label(f"Choose Group {label}", exact=True).check()
    tab.keyboard.press("m")
    tab.get_by_text("groups are one now.").first.wait_for()
    tab.goto("about:blank")
    list(running)
    page.stop()

    run("export", folder, "--out", tmp_path / "table.csv")
    table = {Path(row["path"]).name: row for row in rows(tmp_path / "table.csv")}
    assert len(table) == 90
    of_red = [row for name, row in table.items() if name.startswith("red")]
    assert {row["name"] for row in of_red} == {"sunset"}
    rest = Counter(row["group"] for name, row in table.items() if not name.startswith("red"))
    assert rest.most_common(1)[0][1] >= 58
    assert json.loads(run("name", folder, "--json"))["names"][0]["name"] == "sunset"

    run("browse", folder, "--export", tmp_path / "page")
    tab.goto((tmp_path / "page" / "index.html").as_uri())
    tab.wait_for_selector("body.ready")
    tab.get_by_role("link", name="sunset").first.wait_for()
    tab.wait_for_function(
        "() => [...document.images].filter((image) => image.naturalWidth).length > 8"
    )
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save table").click()
    saved = {Path(row["path"]).name: row for row in rows(Path(download.value.path()))}
    for name, row in table.items():
        ours = saved[name]
        assert (ours["hash"], ours["group"]) == (row["hash"], row["group"])
        assert ours["name"] == row["name"]
