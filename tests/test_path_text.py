"""Names that are no text: whatever a path goes into, a run, a table or a message, can hold it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors
from PIL import Image
from preloaded import shared

import zoo
from zoo.data import Dataset
from zoo.errors import DataError, MissingDependency, ZooError
from zoo.files import openable, path_text, write_json
from zoo.sample import sample

ODD = os.fsdecode(b"caf\xe9")
TEXT = "caf\\udce9"
MODEL = (
    "--config",
    "hidden=4",
    "--config",
    "latent_dim=2",
    "--set",
    "batch_size=8",
    "--epochs",
    "1",
)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / ODD / ODD
    for name in (f"{ODD}.png", "b.png"):
        for part in ("one", ODD):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(sample()[0][len(name)]).save(folder / part / name)
    for i in range(20):
        Image.fromarray(sample()[0][i]).save(folder / "one" / f"{i}.png")
    (folder / "one" / f"broken-{ODD}.png").write_bytes(b"broken")
    return folder


def run(*arguments):
    code = "from zoo.cli import main; main()"
    done = shared().run("-c", code, *arguments, timeout=300)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr  # all of it is UTF-8


@pytest.mark.slow
def test_a_run_from_and_into_such_a_folder(tmp_path, pictures):
    """It was lost after its last epoch: config.json could not be written."""
    out = tmp_path / ODD / "run-\udcff"
    code, shown, told = run(
        "train", "ae", "--data", str(pictures), "--out", str(out), *MODEL, "--json"
    )
    assert code == 0, told
    assert json.loads(shown)["weights"] == f"{tmp_path}/{TEXT}/run-\\udcff/weights"
    config = json.loads((out / "weights" / "config.json").read_text("utf-8"))
    assert config["dataset"] == TEXT
    assert config["licence"].startswith(f"MIT; trained on {TEXT}: ")
    assert config["training"]["skipped"] == 1
    assert json.loads((out / "run.json").read_text("utf-8"))["facts"]["data"]["name"] == TEXT
    assert len(list((out / "events").iterdir())) == 1
    name = f"local-dir:{out}"
    assert (out / "weights" / "README.md").read_text("utf-8").startswith("---")
    code, shown, told = run("card", name, "--out", str(tmp_path / ODD / "card.md"))
    assert (code, shown) == (0, f"the card of local-dir:{tmp_path}/{TEXT}/run-\\udcff is in "
                            f"{tmp_path}/{TEXT}/card.md\n"), told  # fmt: skip
    metrics = out / "weights" / "metrics.json"
    code, shown, told = run(
        "evaluate", name, "--data", str(pictures), "--protocol", "reconstruction", "--json",
        "--out", str(tmp_path / ODD / "figures.json"),
    )  # fmt: skip
    assert code == 0, told
    for text in (shown, metrics.read_text("utf-8"),
                 (tmp_path / ODD / "figures.json").read_text("utf-8")):  # fmt: skip
        assert {m["dataset"] for m in json.loads(text)["metrics"]} == {TEXT}
    code, shown, told = run("pull", name, "--to", str(tmp_path / ODD / "copy"), "--json")
    assert json.loads(shown)["folder"] == f"{tmp_path}/{TEXT}/copy"
    code, shown, told = run("train", "ae", "--data", str(pictures), "--out", str(out), *MODEL)
    assert code == 2
    assert f"{tmp_path}/{TEXT}/run-" in told


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["parquet", "npz", "safetensors"])
def test_tables_of_codes(tmp_path, pictures, ending):
    out = pictures.parent / f"codes-{ODD}.{ending}"
    code, shown, told = run("encode", "ae.mnist", str(pictures), "--out", str(out), "--json")
    assert code == 0, told
    where = f"{tmp_path}/{TEXT}"
    assert json.loads(shown) == {
        "out": f"{where}/codes-{TEXT}.{ending}",
        "pictures": 24,
        "notes": [],
        "skipped": [{"path": f"{where}/{TEXT}/one/broken-{TEXT}.png",
                     "reason": json.loads(shown)["skipped"][0]["reason"]}],
    }  # fmt: skip
    assert where not in json.loads(shown)["skipped"][0]["reason"]
    if ending == "parquet":
        import pyarrow.parquet

        with out.open("rb") as file:
            paths = pyarrow.parquet.read_table(file)["path"].to_pylist()
    elif ending == "npz":
        with np.load(out) as file:
            paths = file["paths"].tolist()
    else:
        with openable(out) as name, safetensors.safe_open(name, "pt") as file:
            paths = json.loads(file.metadata()["paths"])
    assert len(paths) == 24
    assert f"{where}/{TEXT}/{TEXT}/{TEXT}.png" in paths
    code, shown, told = run("encode", "ae.mnist", str(pictures), "--out", str(out))
    assert shown == f"24 pictures: codes of ae.mnist in {where}/codes-{TEXT}.{ending}\n"
    assert f"broken-{TEXT}.png: " in told


@pytest.mark.parametrize("kind", ["npz", "parquet", "folder"])
def test_data_sets(tmp_path, pictures, kind):
    from zoo.data import load_data

    path = pictures
    if kind == "npz":
        path = tmp_path / f"{ODD}.npz"
        np.savez(path, images=sample()[0][:5])
    elif kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        path = tmp_path / f"{ODD}.parquet"
        rows = [{"bytes": file.read_bytes()} for file in sorted((pictures / "one").glob("?.png"))]
        with path.open("wb") as file:
            pyarrow.parquet.write_table(pyarrow.table({"image": rows}), file)
    data = load_data(str(path), "train", zoo.create("ae").preprocessing)
    assert (data.name, data.source) == (TEXT, path_text(path))
    assert data.classes == ((TEXT, "one") if kind == "folder" else ())


def test_a_data_set_of_ones_own():
    import torch

    data = Dataset(ODD, "all", torch.zeros(2, 1, 2, 2), None, ODD, "none", classes=(ODD,))
    assert (data.name, data.source, data.classes) == (TEXT, TEXT, (TEXT,))


@pytest.mark.slow
def test_messages(tmp_path):
    """The text of every error can be printed, logged and kept."""
    with pytest.raises(ZooError) as caught:
        zoo.load(f"local-dir:{tmp_path / ODD}")
    str(caught.value).encode()
    assert str(DataError(f"no {ODD}")) == f"no {TEXT}"
    assert str(MissingDependency(f"no {ODD}")) == f"no {TEXT}"
    code, _, told = run("encode", "ae.mnist", str(tmp_path / ODD / "none.png"))
    assert code == 2
    assert told == f"Error: {tmp_path}/{TEXT}/none.png: there is no such file or folder\n"


def test_json_holds_any_text(tmp_path):
    """Also what nobody thought of: no record is lost for a half surrogate in it."""
    write_json(tmp_path / "a.json", {"path": ODD})
    (tmp_path / "a.json").read_text("utf-8")
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"path": ODD}
    assert Path(path_text("a/é")) == Path("a/é")
