"""The page as files: what is written, and where nothing is."""

import re
from pathlib import Path

import pytest
from pagemaking import HOSTILE, made, small_picture

from zoo.collection.page import static
from zoo.collection.page.static import MARK, asset, export
from zoo.errors import InputError

SOURCE = Path(static.__file__).parent / "source"


def test_one_file_has_everything_inside(tmp_path: Path):
    done = export(made(300), small_picture, tmp_path / "new" / "page.html")
    (path,) = (tmp_path / "new").iterdir()
    text = path.read_text("ascii")
    assert done == (1, path.stat().st_size)
    assert text.encode().startswith(MARK)
    assert len(re.findall('id="shard-[0-9]+"', text)) == 2
    assert HOSTILE not in text
    assert "ISC" in text  # the licences of the libraries inside
    assert "src=" not in re.sub("<script.*?</script>", "", text, flags=re.DOTALL)


def test_a_folder_has_shards_beside_the_page(tmp_path: Path):
    done = export(made(600), small_picture, tmp_path / "page")
    names = sorted(path.name for path in (tmp_path / "page").iterdir())
    assert names == ["index.html", *(f"thumbnails-0000{i}.js" for i in range(3))]
    assert done.files == 4
    assert done.bytes == sum(path.stat().st_size for path in (tmp_path / "page").iterdir())


def test_nothing_that_is_there_is_written_over(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="no empty folder"):
        export(made(20), small_picture, tmp_path)
    with pytest.raises(InputError, match="no empty folder"):
        export(made(20), small_picture, tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    export(made(20), small_picture, tmp_path / "page.html")
    export(made(30), small_picture, tmp_path / "page.html")


def test_too_many_for_one_file_are_sent_to_a_folder(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(static, "SINGLE", 19)
    with pytest.raises(InputError, match=r"--export .*page$"):
        export(made(20), small_picture, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing_behind(tmp_path: Path):
    def fails(number: int) -> bytes:
        raise OSError("the disk is gone")

    for out in (tmp_path / "page.html", tmp_path / "page"):
        with pytest.raises(OSError, match="gone"):
            export(made(20), fails, out)
    assert list(tmp_path.iterdir()) == []


def test_the_script_is_made_of_its_sources():
    """Fails after a change of a source: run zoo/collection/page/source/bundle.sh."""
    import hashlib

    names = sorted(p.name for p in SOURCE.glob("*.js"))
    parts = [*names, *sorted(p.name for p in SOURCE.glob("*.css")), "page.html"]
    digest = hashlib.sha256()
    for name in [*parts, "package-lock.json"]:
        digest.update((SOURCE / name).read_bytes())
    assert asset("page.js").startswith(f"/* made by source/bundle.sh of {digest.hexdigest()} */")
    assert asset("page.html") == (SOURCE / "page.html").read_text("utf-8")


def test_no_source_reads_html_and_the_script_asks_no_host():
    for path in SOURCE.glob("*.js"):
        text = path.read_text("utf-8")
        assert not re.search("innerHTML|outerHTML|insertAdjacentHTML|document.write|eval\\(", text)
    addresses = set(re.findall(r"https?://[^\"'` ]+", asset("page.js") + asset("page.css")))
    assert {a for a in addresses if "www.w3.org" not in a} == set()  # names of XML's, not asked
    assert "</script" not in asset("page.js").lower()
    assert "</style" not in asset("page.css").lower()


def test_every_library_inside_has_its_licence():
    import json

    lock = json.loads((SOURCE / "package-lock.json").read_text())["packages"]
    inside = {
        path.removeprefix("node_modules/"): each["version"]
        for path, each in lock.items()
        if path and not each.get("dev")
    }
    licences = asset("LICENSES.txt")
    assert [n for n, v in inside.items() if f"{n} {v}\n" not in licences] == []
    assert licences.count("\n----\n") == len(inside)
