"""What is known before anything is measured, and how far a measurement is while it runs."""

import importlib
import importlib.util
import json
import os
import pty
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo import optional, weights
from zoo.cli import main, measuring
from zoo.data import load_data
from zoo.errors import InputError, MissingDependency, ZooError
from zoo.evaluation import MEASURING, PROTOCOLS, anomaly, evaluate, learnt_from, verify
from zoo.evaluation.protocol import Context
from zoo.sample import sample

SLOW = ("n2d", "oneclass", "inception")
FAST = tuple(name for name in PROTOCOLS if name not in SLOW)
LIBRARIES = sorted({*MEASURING, "accelerate", "matplotlib", "tensorboardX", "timm"})


@pytest.fixture
def without(monkeypatch):
    """``without("sklearn", ...)``: the zoo finds them not installed, whoever imported them before.

    Other libraries still find them: taken out of ``sys.modules``, they would be missing in the
    middle of an import of torchmetrics, which asks the installed distributions for scipy.
    """

    def hide(*libraries):
        def import_module(module):
            if module.partition(".")[0] in libraries:
                raise ModuleNotFoundError(f"No module named {module!r}", name=module)
            return importlib.import_module(module)

        def find_spec(module):
            return None if module in libraries else importlib.util.find_spec(module)

        util = SimpleNamespace(find_spec=find_spec)
        fake = SimpleNamespace(import_module=import_module, util=util)
        monkeypatch.setattr(optional, "importlib", fake)

    return hide


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """As in a process of its own: what was computed of data before is not at hand."""
    monkeypatch.setattr("zoo.evaluation.protocol._OF_DATA", {})


@pytest.fixture
def data(tmp_path):
    """Clothes in two classes, 60 and 40."""
    images, labels = sample()
    rows = np.flatnonzero(labels < 2)
    rows = np.concatenate([rows, rows])[:100]
    arrays = {"train_images": images[rows[:60]], "train_labels": labels[rows[:60]],
              "test_images": images[rows[60:]], "test_labels": labels[rows[60:]]}  # fmt: skip
    np.savez(tmp_path / "clothes.npz", **arrays)
    return tmp_path / "clothes.npz"


@pytest.fixture
def name(tmp_path):
    """A model that can do everything, and is variational too."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = zoo.create("vae", hidden=8, latent_dim=3)
    weights.save(
        model, tmp_path / "mine", images=torch.rand(4, 1, 28, 28), plugin="latentzoo-vae",
        facts={"dataset": "clothes", "licence": "x"},
    )  # fmt: skip
    return f"local-dir:{tmp_path / 'mine'}"


SHORT = {"epochs": 2, "batch_size": 8}


def context(name, data, called="clothes", **more):
    model = zoo.load(name)
    parts = [
        replace(load_data(str(data), split, model.preprocessing), name=called)
        for split in ("train", "test")
    ]
    return Context(model, "vae", *parts, samples=12, **more)


# -- libraries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "protocol", [*FAST, *(pytest.param(p, marks=pytest.mark.slow) for p in ("n2d", "oneclass"))]
)
def test_a_protocol_says_all_the_libraries_that_it_needs(name, data, monkeypatch, protocol):
    asked = set()

    def import_module(module):
        asked.add(module.partition(".")[0])
        return importlib.import_module(module)

    spy = SimpleNamespace(import_module=import_module, util=importlib.util)
    monkeypatch.setattr(optional, "importlib", spy)
    if protocol == "generation":  # it is for data that the zoo has a classifier of
        assert list(PROTOCOLS[protocol].run(context(name, data, called="fashion_mnist")))
    elif protocol == "oneclass":
        assert list(anomaly.measure(context(name, data), SHORT))
    else:
        more = {"samples": 12} if PROTOCOLS[protocol].samples else {}
        result = evaluate(name, data=data, protocols=[protocol], write=False, **more)
        assert result["left_out"] == []
    declared = {*PROTOCOLS[protocol].libraries, *PROTOCOLS[protocol].baseline_libraries}
    assert asked & set(LIBRARIES) <= declared
    assert declared - {"scipy"} <= asked, "scipy is for features that are wide"


@pytest.mark.parametrize(
    ("hidden", "protocols", "text"),
    [
        (["sklearn"], ["probe"], ["probe needs scikit-learn"]),
        (["umap"], ["n2d"], ["n2d needs umap-learn"]),
        (["torch_fidelity"], ["inception"], ["inception needs torch-fidelity"]),
        (["torchmetrics", "scipy"], ["kmeans", "reconstruction"],
         ["reconstruction needs torchmetrics", "kmeans needs scipy"]),
        (["timm", "matplotlib"], ["oneclass"], ["oneclass needs matplotlib and timm"]),
        (["sklearn"], ["knn", "all"], ["knn needs scikit-learn"]),
    ],
)  # fmt: skip
def test_missing_libraries_of_what_was_named(name, without, hidden, protocols, text):
    """All of them at once, before the data are looked for."""
    without(*hidden)
    said = []
    with pytest.raises(MissingDependency) as caught:
        evaluate(name, data="/no/such", protocols=protocols, progress=said.append)
    assert str(caught.value).splitlines() == [
        "not all libraries are installed that measure what was asked for; nothing was measured:",
        *(f"  {line}" for line in text),
        "Type: pip install 'latentzoo[evaluate]'",
    ]
    assert said == []
    options = [part for protocol in protocols for part in ("--protocol", protocol)]
    result = CliRunner().invoke(main, ["evaluate", name, "--data", "/no/such", *options])
    assert result.exit_code == 2
    assert "pip install 'latentzoo[evaluate]'" in result.stderr


@pytest.mark.parametrize(
    ("hidden", "left_out"),
    [
        (["torchmetrics"], {"reconstruction", "repair", "generation", "distances"}),
        (["sklearn", "scipy"],
         {"probe", "few", "robustness", "kmeans", "generation", "distances"}),
        (["umap"], set()),  # which nothing asks for that runs by default
    ],
)  # fmt: skip
def test_missing_libraries_of_what_was_not_named(name, data, without, hidden, left_out):
    """Said at the start, and the others are measured."""
    without(*hidden)
    said = []
    result = evaluate(name, data=data, progress=said.append, with_baselines=False)
    reasons = {o["protocol"]: o["reason"] for o in result["left_out"] if "needs" in o["reason"]}
    assert set(reasons) == left_out
    for protocol, reason in reasons.items():
        assert reason.endswith("not installed. Type: pip install 'latentzoo[evaluate]'")
        assert said.index(f"left out {protocol}: {reason}") < len(left_out), "before all else"
    assert {"knn1", "nll"} <= {m["name"] for m in result["metrics"]}


def test_libraries_of_the_baselines_alone_are_not_asked_for_without_them(name, data, without):
    without("sklearn")
    result = evaluate(name, data=data, protocols=["knn"], with_baselines=False, write=False)
    assert [m["name"] for m in result["metrics"]] == ["knn1", "knn20"]


def test_what_cannot_be_measured_is_said_before_the_first_that_can(name, tmp_path):
    np.savez(tmp_path / "bare.npz", images=sample()[0][:50])
    said = []
    evaluate(name, data=tmp_path / "bare.npz", progress=said.append, with_baselines=False)
    left_out = [i for i, line in enumerate(said) if line.startswith("left out")]
    started = [i for i, line in enumerate(said) if line.partition(":")[0] in PROTOCOLS]
    assert len(left_out) == 6
    assert max(left_out) < min(started)


@pytest.mark.parametrize("where", ["missing/figures.json", "file/figures.json"])
def test_an_out_that_cannot_be_written_is_refused_at_the_start(name, tmp_path, where):
    (tmp_path / "file").write_text("")
    out = tmp_path / where
    result = CliRunner().invoke(main, ["evaluate", name, "--data", "/no/such", "--out", str(out)])
    assert result.exit_code == 2
    assert "Nothing was measured" in result.stderr


def test_the_weights_to_measure_against_are_loaded_at_the_start(name, tmp_path):
    with pytest.raises(ZooError, match="nowhere"):
        evaluate(name, data="/no/such", against=tmp_path / "nowhere")


# -- how far it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ("reconstruction", ["reconstruction by model, test", "reconstruction by pca, test"]),
        ("repair", ["repair of mask 0.25 by model, test", "repair of blur 0.25 by pca, test"]),
        ("probe", ["probe accuracy", "features of model, train", "features of untrained, test"]),
        ("knn", ["knn", "nearest neighbours", "features of pca, train"]),
        ("few", ["few", "few, draws in model", "few, draws in pixels"]),
        ("robustness", ["robust_noise", "features of pca after mask, test", "robust_longtail"]),
        ("kmeans", ["kmeans", "k-means in model, seeds", "k-means in untrained, seeds"]),
        ("distances", ["generating 12 images", "distances of generated images"]),
        ("likelihood", ["importance samples"]),
    ],
)
def test_everything_tells_how_far_it_is(name, data, protocol, told):
    calls = {}
    more = {"samples": 12} if protocol == "distances" else {}
    evaluate(
        name, data=data, protocols=[protocol], write=False, **more,
        advance=lambda what, done, total: calls.setdefault(what, []).append((done, total)),
    )  # fmt: skip
    assert set(told) <= set(calls)
    for what, steps in calls.items():
        done, total = zip(*steps, strict=True)
        assert steps[-1][0] == total[-1] > 0, f"{what} comes to its end"
        assert what == "reading pictures" or len(set(done)) > total[-1], f"{what}, step by step"


@pytest.mark.slow
def test_the_epochs_of_a_model_for_each_class(name, data):
    calls = []
    figures = anomaly.measure(context(name, data, advance=lambda *c: calls.append(c)), SHORT)
    assert [f.name for f in figures] == [f"oneclass_auroc{c}" for c in ("", "_0", "_1")]
    ends = {what: done / total for what, done, total in calls}
    assert ends["class 0, epochs of bound"] == ends["class 1, epochs of bound"] == 1
    assert ends["classes that a model was trained on"] == 1


def test_lines_where_there_is_no_terminal(monkeypatch, capsys):
    """Nothing of what ends within two seconds; then a line, and another after half a minute."""
    clock = [0.0]
    monkeypatch.setattr(measuring.time, "monotonic", lambda: clock[0])
    with measuring.Meter() as meter:
        for seconds, done in [(0, 0), (1, 1), (1.9, 2), (2.5, 3), (10, 12), (40, 48)]:
            clock[0] = seconds
            meter.advance("probe", done, 60)
        meter.advance("short", 0, 2)
        clock[0] = 41
        meter.advance("short", 2, 2)
    assert capsys.readouterr().err.splitlines() == [
        "  probe: 3 of 60, 48 s left",
        "  probe: 48 of 60, 10 s left",
    ]


def test_bars_on_a_terminal():
    code = (
        "import time\nfrom zoo.cli.measuring import Meter\nwith Meter() as meter:\n"
        "    meter.say('probe: what it is')\n"
        "    for done in range(5):\n"
        "        meter.advance('features of model, train', done, 4); time.sleep(0.15)\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    text = shown.decode(errors="replace")
    assert "features of model, train" in text
    assert "probe: what it is" in text
    assert "50 %" in text
    assert " s left" in text


# -- the data that weights learnt from -------------------------------------------------------------


def make_data(kind, folder):
    images = sample()[0][:60]
    if kind == "npz":
        np.savez(folder / "my.pictures.npz", images=images)
        return folder / "my.pictures.npz"
    place = folder / "mine"
    (place / "train").mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(place / ("train" if kind == "nested" else "") / f"{i:02}.png")
    return place


def train(data, out, **more):
    settings = {"epochs": 1, "batch_size": 16}
    return zoo.train("ae", data=data, out=out, settings=settings, device="cpu", **more)


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_weights_of_a_run_find_what_they_learnt_from(tmp_path, monkeypatch, kind):
    source = make_data(kind, tmp_path)
    monkeypatch.chdir(tmp_path)
    folder = train(source.relative_to(tmp_path), tmp_path / "run")
    monkeypatch.chdir("/")
    run = f"local-dir:{tmp_path / 'run'}"
    assert learnt_from(run, folder) == str(source)
    evaluate(run, protocols=["reconstruction"], with_baselines=False)
    assert len(verify(run)) == 4
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), f"{path.name} may be published"


@pytest.mark.parametrize("kind", ["npz", "folder"])
def test_what_is_gone_is_said_with_its_place(tmp_path, kind):
    source = make_data(kind, tmp_path)
    folder = train(source, tmp_path / "run")
    source.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError) as caught:
        evaluate(f"local-dir:{tmp_path / 'run'}")
    called = json.loads((folder / "config.json").read_text())["dataset"]
    assert str(caught.value) == (
        f"local-dir:{tmp_path / 'run'} learnt from {called}, which is no longer at {source}.\n"
        f"Type: zoo evaluate local-dir:{tmp_path / 'run'} --data FILE_OR_FOLDER"
    )


@pytest.mark.parametrize("how", ["a data set", "moved weights"])
def test_what_nobody_kept_is_said(tmp_path, how):
    source = make_data("npz", tmp_path)
    given = source
    if how == "a data set":
        given = load_data(str(source), "train", zoo.create("ae").preprocessing)
    folder = train(given, tmp_path / "run")
    if how == "moved weights":
        folder = shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(InputError, match=r"learnt from my\.pictures, and where that was"):
        evaluate(f"local-dir:{folder}")


def test_a_named_set_is_found_by_its_name(tmp_path, monkeypatch):
    images, labels = sample()
    parts = {"train_images": images, "train_labels": labels, "test_images": images[:10],
             "test_labels": labels[:10]}  # fmt: skip
    np.savez(tmp_path / "mnist.npz", **parts)
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path))
    folder = train("mnist", tmp_path / "run")
    assert learnt_from("x", folder) == "mnist"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["facts"]["source"] is None
