"""What evaluate chooses, keeps and refuses, on a small model and small data."""

import json
import re
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo import weights
from zoo.cli import main
from zoo.errors import (
    CapabilityError,
    DataError,
    InputError,
    InvalidConfig,
    MissingDependency,
    WeightsError,
)
from zoo.evaluation import PROTOCOLS, evaluate, verify
from zoo.evaluation.protocol import Figure, Protocol, ProtocolSkipped
from zoo.folder import read_json
from zoo.spec import Metric

CHEAP = ["reconstruction", "knn"]


@pytest.fixture
def data(tmp_path):
    """tiny.npz: 80 and 40 images of 12 pixels squared in two classes."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 80), ("test", 40)):
        labels = rng.integers(2, size=n)
        images = rng.integers(120, size=(n, 12, 12))
        images[labels == 1, :6] += 60
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels}
    np.savez(tmp_path / "tiny.npz", **arrays)
    return tmp_path / "tiny.npz"


@pytest.fixture
def unlabelled(data):
    with np.load(data) as file:
        arrays = {k: file[k] for k in file.files if k.endswith("images")}
    np.savez(data.with_name("bare.npz"), **arrays)
    return data.with_name("bare.npz")


@pytest.fixture
def strangers(data):
    """The same images, the test part of classes that are not in train, as of people's faces."""
    with np.load(data) as file:
        arrays = dict(file)
    arrays["test_labels"] = arrays["test_labels"] + 100
    np.savez(data.with_name("strangers.npz"), **arrays)
    return data.with_name("strangers.npz")


@pytest.fixture
def folder(tmp_path, data):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = zoo.create("ae", size=12, latent_dim=6)
    weights.save(
        model,
        tmp_path / "mine",
        images=torch.rand(4, 1, 12, 12),
        plugin="latentzoo-ae",
        facts={"dataset": str(data), "licence": "x", "training": {"recipe": {"lr": 0.1}}},
    )
    return tmp_path / "mine"


@pytest.fixture
def inject(monkeypatch):
    """``inject(name, function, ...)``: one more protocol, the last."""

    def add(name, measure, **fields):
        module = ModuleType(f"injected_{name}")
        module.measure = measure
        monkeypatch.setitem(sys.modules, module.__name__, module)
        fields = {"gives": (name,), "summary": "a test's own"} | fields
        protocol = Protocol(name=name, measure=f"{module.__name__}:measure", **fields)
        monkeypatch.setitem(PROTOCOLS, name, protocol)

    return add


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def names(result):
    return [m["name"] for m in result["metrics"]]


# -- what is measured --------------------------------------------------------------------------


def test_what_tells_classes_needs_some_of_them_in_both_parts(folder, strangers):
    result = evaluate(f"local-dir:{folder}", data=strangers)
    reasons = {out["protocol"]: out["reason"] for out in result["left_out"]}
    for protocol in ("probe", "knn", "few", "robustness"):
        assert reasons[protocol] == "no class of the test part of strangers is in its train part"
    assert "kmeans_acc" in names(result), "grouping needs no train part"


def test_result_is_what_metrics_json_holds(folder, data):
    lines = []
    result = evaluate(
        f"local-dir:{folder}", data=data, protocols=CHEAP, seed=4, progress=lines.append
    )
    assert names(result) == ["sse", "mse", "psnr", "ssim", "knn1", "knn20"]
    assert read_json(folder / "metrics.json") == result
    assert (result["data"], result["seed"], result["left_out"]) == ("tiny", 4, [])
    assert {"latentzoo", "torch", "python", "scikit-learn", "torchmetrics"} <= set(
        result["versions"]
    )
    first = result["metrics"][0]
    assert first.pop("seconds") >= 0
    metric = Metric.from_dict(first)
    assert (metric.dataset, metric.split, metric.samples) == ("tiny", "test", 40)
    assert metric.baselines["mean_image"] > metric.baselines["pca"]
    assert [line.split(":")[0] for line in lines] == CHEAP
    (record,) = [m for m in weights_of(folder) if m.name == "sse"]
    assert record == metric


def weights_of(folder):
    from zoo.folder import weights_record

    return weights_record(folder, "mine").metrics


def test_parts_are_what_the_file_calls_them(folder, data, inject):
    """What a protocol gets as train and test, and what the record says that it was measured on."""
    with np.load(data) as file:
        arrays = dict(file)
    seen = {}

    def measure(context):
        for split in ("train", "test"):
            part = context.data(split)
            seen[split] = (part.split, part.images[:, 0].numpy(), context.labels(split).numpy())
        yield Figure(name="own", value=1.0, protocol="-", samples=len(context.test))

    inject("own", measure)
    result = evaluate(f"local-dir:{folder}", data=data, protocols=["own", "knn"])
    for split, (called, images, labels) in seen.items():
        assert called == split
        assert np.array_equal(images, arrays[f"{split}_images"])
        assert np.array_equal(labels, arrays[f"{split}_labels"])
    assert {(m["split"], m["samples"]) for m in result["metrics"]} == {("test", 40)}
    knn1 = next(m for m in result["metrics"] if m["name"] == "knn1")
    train, test = (arrays[f"{split}_images"].reshape(-1, 144) / 255 for split in ("train", "test"))
    nearest = ((test[:, None] - train[None]) ** 2).sum(2).argmin(1)
    right = arrays["train_labels"][nearest] == arrays["test_labels"]
    assert knn1["baselines"]["pixels"] == pytest.approx(right.mean())


def test_data_are_those_of_the_weights_by_default(folder, data):
    assert evaluate(f"local-dir:{folder}", protocols=["knn"])["data"] == "tiny"


def test_every_standard_protocol_runs_or_says_why_not(folder, unlabelled):
    result = evaluate(f"local-dir:{folder}", data=unlabelled)
    reasons = {out["protocol"]: out["reason"] for out in result["left_out"]}
    assert reasons["probe"] == reasons["knn"] == "bare has no labels"
    standard = {p.name: p for p in PROTOCOLS.values() if p.standard}
    for name, protocol in standard.items():
        given = any(map(protocol.has_given, names(result)))
        assert given != (name in reasons), name
    assert not set(reasons) - set(standard), "nobody asked for the others"
    assert str(folder) not in json.dumps(result), "no path of this machine is published"
    assert {"sse", "repair_mask_0.5_psnr"} <= set(names(result))


def test_a_model_is_not_asked_for_what_it_cannot(folder, data, monkeypatch):
    import dataclasses

    from zoo import api

    original = api.loaded

    def loaded(name):
        found = original(name)
        found.model.spec = dataclasses.replace(found.model.spec, capabilities=("features",))
        return found

    monkeypatch.setattr(api, "loaded", loaded)
    result = evaluate(f"local-dir:{folder}", data=data, protocols=CHEAP)
    assert names(result) == ["knn1", "knn20"]
    assert result["left_out"][0]["protocol"] == "reconstruction"
    assert result["left_out"][0]["reason"] == "ae cannot reconstruct"


def test_nothing_at_all(folder, unlabelled):
    with pytest.raises(CapabilityError, match=r"nothing of .*\n  knn: bare has no labels"):
        evaluate(f"local-dir:{folder}", data=unlabelled, protocols=["knn"])
    assert not (folder / "metrics.json").exists()


def test_unknown_protocol(folder, data):
    with pytest.raises(InputError, match=r"no protocol 'prob'; did you mean probe\?"):
        evaluate(f"local-dir:{folder}", data=data, protocols=["prob"])
    with pytest.raises(InputError, match="There are: reconstruction, repair, probe"):
        evaluate(f"local-dir:{folder}", data=data, protocols="xyz")


def test_all_means_all(folder, data, monkeypatch, inject):
    cheap = {name: PROTOCOLS[name] for name in CHEAP}
    # Not an entry at a time: they would come back in another order.
    monkeypatch.setattr("zoo.evaluation.protocols.PROTOCOLS", cheap)
    monkeypatch.setitem(globals(), "PROTOCOLS", cheap)  # which inject adds to
    figure = Figure(name="own", value=1.0, protocol="-", samples=1)
    inject("own", lambda context: iter([figure]), standard=False)
    standard = evaluate(f"local-dir:{folder}", data=data)
    assert "own" not in names(standard)
    assert "own" in names(evaluate(f"local-dir:{folder}", data=data, protocols="all"))


@pytest.mark.parametrize(
    "error", [ProtocolSkipped("no such thing"), MissingDependency("pip install x")]
)
def test_one_that_cannot_run_leaves_the_others_alone(folder, data, inject, error):
    def measure(context):
        raise error
        yield

    inject("broken", measure)
    result = evaluate(f"local-dir:{folder}", data=data, protocols=["broken", "knn"])
    assert result["left_out"] == [{"protocol": "broken", "reason": str(error)}]
    assert names(result) == ["knn1", "knn20"]
    assert read_json(folder / "metrics.json") == result


def test_a_figure_that_is_no_number_is_left_out(folder, data, inject):
    figure = Figure(name="own", value=float("nan"), protocol="-", samples=1)
    inject("own", lambda context: iter([figure]))
    result = evaluate(f"local-dir:{folder}", data=data, protocols=["own", "knn"])
    assert result["left_out"] == [{"protocol": "own", "reason": "own came out as nan"}]


# -- what is kept ------------------------------------------------------------------------------


def test_figures_of_other_protocols_and_data_stay(folder, data, unlabelled):
    name = f"local-dir:{folder}"
    old = {
        "dataset": "tiny", "split": "test", "protocol": "-", "samples": 1, "value": 7.0
    }  # fmt: skip
    kept = [
        {"name": "of_another_hand", **old},
        {"name": "knn1", **old},
        {"name": "sse", **old, "dataset": "elsewhere"},
    ]
    left_out = [{"protocol": p, "reason": "-"} for p in ("likelihood", "reconstruction")]
    record = {
        "metrics": [*kept, {"name": "sse", **old}],
        "left_out": left_out,
        "versions": {"abacus": "1"},
    }
    (folder / "metrics.json").write_text(json.dumps(record))
    result = evaluate(name, data=data, protocols=["reconstruction"])
    after = read_json(folder / "metrics.json")
    assert after["metrics"] == [*kept, *result["metrics"]]
    assert after["versions"]["abacus"] == "1"
    assert after["left_out"] == left_out[:1]
    evaluate(name, data=data, protocols=["knn"])
    after = read_json(folder / "metrics.json")
    values = {(m["name"], m["dataset"]): m["value"] for m in after["metrics"]}
    assert len(values) == len(after["metrics"]), "each once"
    assert values["knn1", "tiny"] != 7.0
    assert values["sse", "tiny"] == result["metrics"][0]["value"]


def test_without_baselines(folder, data):
    name = f"local-dir:{folder}"
    protocols = [*CHEAP, "repair", "probe", "few", "robustness"]
    bare, whole = (
        evaluate(name, data=data, protocols=protocols, with_baselines=with_baselines, write=False)[
            "metrics"
        ]
        for with_baselines in (False, True)
    )
    assert [(m["name"], m["value"]) for m in bare] == [(m["name"], m["value"]) for m in whole]
    assert not any(m["baselines"] for m in bare)
    assert all(m["baselines"] for m in whole)


def test_nothing_is_written_when_told_so(folder, data):
    evaluate(f"local-dir:{folder}", data=data, protocols=["knn"], write=False)
    assert not (folder / "metrics.json").exists()


def test_a_damaged_record_is_refused_before_anything_is_measured(folder, data):
    (folder / "metrics.json").write_text('{"metrics": [{"name": 3}]}')
    lines = []
    with pytest.raises(zoo.ZooError):
        evaluate(f"local-dir:{folder}", data=data, protocols=["knn"], progress=lines.append)
    assert lines == []
    for text, message in (
        ('{"left_out": ["x"]}', "left_out should be a list of objects"),
        ('{"versions": 3}', "versions should be an object"),
    ):
        (folder / "metrics.json").write_text(text)
        with pytest.raises(InvalidConfig, match=message):
            evaluate(f"local-dir:{folder}", data=data, protocols=["knn"])
    (folder / "metrics.json").write_text('{"metrics": ')
    with pytest.raises(InvalidConfig, match="not valid JSON"):
        evaluate(f"local-dir:{folder}", data=data, protocols=["knn"])


# -- a user's own pictures ---------------------------------------------------------------------


def pictures(folder, n, labelled=True):
    for i in range(n):
        pixels = np.full((15, 15), 20 + 190 * (i % 2), np.uint8)
        pixels[i % 15] = 128
        path = folder / (f"class{i % 2}" if labelled else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def test_a_folder_with_parts_and_classes(folder, tmp_path):
    pictures(tmp_path / "own" / "train", 30)
    pictures(tmp_path / "own" / "test", 10)
    result = evaluate(f"local-dir:{folder}", data=tmp_path / "own", protocols=CHEAP)
    found = {m["name"]: m for m in result["metrics"]}
    assert found["knn1"]["samples"] == 10
    assert found["knn1"]["baselines"]["pixels"] == 1
    assert found["knn1"]["dataset"] == "own"


def test_a_folder_without_parts_is_split_by_seed(folder, tmp_path):
    pictures(tmp_path / "own", 50, labelled=False)
    results = [
        evaluate(f"local-dir:{folder}", data=tmp_path / "own", protocols=CHEAP, seed=seed)
        for seed in (0, 0, 1)
    ]
    first, again, other = ([m["value"] for m in result["metrics"]] for result in results)
    assert first == again != other
    assert results[0]["metrics"][0]["samples"] == 10
    assert results[0]["left_out"] == [{"protocol": "knn", "reason": "own has no labels"}]


# -- verify ------------------------------------------------------------------------------------


def test_verify(folder, data):
    name = f"local-dir:{folder}"
    evaluate(name, data=data, protocols=CHEAP)
    before = (folder / "metrics.json").read_bytes()
    rows = verify(name, data=data)
    assert [row["name"] for row in rows] == ["sse", "mse", "psnr", "ssim", "knn1", "knn20"]
    assert all(row["measured"] == pytest.approx(row["recorded"]) for row in rows)
    assert (folder / "metrics.json").read_bytes() == before
    assert [r["name"] for r in verify(name, data=data, protocols=["knn"])] == ["knn1", "knn20"]


def test_verify_lists_every_deviation(folder, data):
    name = f"local-dir:{folder}"
    evaluate(name, data=data, protocols=[*CHEAP, "few"])
    record = read_json(folder / "metrics.json")
    metrics = {m["name"]: m for m in record["metrics"]}
    metrics["sse"]["value"] *= 1.002
    metrics["mse"]["value"] *= 1.0005
    metrics["knn1"]["value"] += 0.1
    metrics["few10"]["value"] += 0.005  # seeded: within its tolerance
    record["metrics"].append({**metrics["ssim"], "name": "repair_rust_9_psnr"})
    (folder / "metrics.json").write_text(json.dumps(record))
    with pytest.raises(WeightsError) as caught:
        verify(name, data=data)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("3 of 8 figures of local-dir:")
    assert [line.split()[0] for line in lines] == ["sse", "knn1", "repair_rust_9_psnr"]
    assert f"recorded {metrics['sse']['value']:.6g}, measured" in lines[0]
    assert "measured nothing" in lines[2]
    result = run("evaluate", name, "--verify", "--data", data)
    assert result.exit_code == 2
    assert "3 of 8 figures" in result.stderr


@pytest.mark.parametrize("protocol", ["few", "kmeans"])
def test_verify_finds_a_seeded_figure_that_is_off(folder, data, protocol):
    """Seeded figures have a wider tolerance, and still one."""
    name = f"local-dir:{folder}"
    evaluate(name, data=data, protocols=[protocol], with_baselines=False)
    record = read_json(folder / "metrics.json")
    figure = record["metrics"][0]
    assert figure["seed"] == 0
    true = figure["value"]
    for off, wrong in ((0.009, False), (-0.009, False), (0.011, True), (-0.011, True), (9, True)):
        figure["value"] = true + off
        (folder / "metrics.json").write_text(json.dumps(record))
        if not wrong:
            verify(name, data=data)
            continue
        with pytest.raises(WeightsError, match=f"1 of {len(record['metrics'])} figures") as caught:
            verify(name, data=data)
        assert figure["name"] in str(caught.value)


def test_verify_without_a_record(folder):
    with pytest.raises(InputError, match=r"records no figure of knn.\nType: zoo evaluate"):
        verify(f"local-dir:{folder}", protocols=["knn"])


def test_verify_measures_with_the_recorded_seed(folder, data):
    name = f"local-dir:{folder}"
    evaluate(name, data=data, protocols=["few"], seed=11)
    (row,) = verify(name, data=data)
    assert row["measured"] == row["recorded"]


# -- the shell ---------------------------------------------------------------------------------


def test_command(folder, data, tmp_path):
    out = tmp_path / "figures.json"
    result = run(
        *("evaluate", f"local-dir:{folder}", "--data", data, "--seed", 2, "--out", out, "--json"),
        *("--protocol", "knn", "--protocol", "reconstruction", "--against", folder),
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == read_json(out)
    assert read_json(out)["seed"] == 2
    assert names(read_json(out))[-1] == "sse_ablated"
    assert "knn: 1 and 20 nearest neighbours" in result.stderr


def test_table(folder, unlabelled):
    result = run(
        *("evaluate", f"local-dir:{folder}", "--data", unlabelled),
        *("--protocol", "knn", "--protocol", "reconstruction"),
    )
    assert result.exit_code == 0, result.stderr
    assert "mean_image" in result.stdout
    assert "left out knn: bare has no labels" in result.stderr


def test_table_of_verify(folder, data):
    evaluate(f"local-dir:{folder}", data=data, protocols=["knn"])
    result = run("evaluate", f"local-dir:{folder}", "--verify", "--data", data)
    assert result.exit_code == 0, result.stderr
    assert "tolerance" in result.stdout


def test_protocols_are_listed_without_torch():
    code = (
        "import sys, zoo.evaluation, zoo.cli.measuring\n"
        "print(len(zoo.evaluation.PROTOCOLS))\n"
        "assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_figure_belongs_to_one_protocol():
    import importlib

    for protocol in PROTOCOLS.values():
        module, _, function = protocol.measure.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
        for pattern in protocol.gives:
            example = pattern.replace("*", "x")
            assert [p.name for p in PROTOCOLS.values() if p.has_given(example)] == [protocol.name]


# -- images without a label ----------------------------------------------------------------------


@pytest.fixture
def partly(data):
    """The data with every fifth label unknown, and the same without those images."""
    with np.load(data) as file:
        arrays = dict(file)
    without = {}
    for split in ("train", "test"):
        labels = arrays[f"{split}_labels"].astype(np.int16)
        labels[::5] = -np.arange(1, len(labels[::5]) + 1)  # -1 is not the only such number
        arrays[f"{split}_labels"] = labels
        without |= {f"{split}_{kind}": arrays[f"{split}_{kind}"][labels >= 0]
                    for kind in ("images", "labels")}  # fmt: skip
    np.savez(data.with_name("partly.npz"), **arrays)
    (data.parent / "other").mkdir()
    np.savez(data.parent / "other" / "partly.npz", **without)
    return data.with_name("partly.npz"), data.parent / "other" / "partly.npz"


def test_images_without_a_label_take_no_part_in_what_needs_labels(folder, partly):
    chosen, said = ["probe", "knn", "few", "robustness", "kmeans"], []
    got, expected = (
        evaluate(f"local-dir:{folder}", data=path, protocols=chosen, write=False,
                 progress=said.append)
        for path in partly
    )  # fmt: skip

    def figures(result):
        return {
            m["name"]: (m["value"], m["samples"], m["baselines"], m.get("spread"))
            for m in result["metrics"]
        }

    assert figures(got) == figures(expected)
    assert {"probe", "knn1", "few10", "kmeans_acc"} <= figures(got).keys()
    assert figures(got)["probe"][1] == 32
    assert said[:2] == [
        "16 of 80 train images of partly have no label: they are left out of what needs labels",
        "8 of 40 test images of partly have no label: they are left out of what needs labels",
    ]
    assert sum("no label" in line for line in said) == 2


def test_images_without_a_label_are_measured_by_what_needs_none(folder, partly, data):
    said = []
    got, expected = (
        evaluate(f"local-dir:{folder}", data=path, protocols="reconstruction", write=False,
                 progress=said.append)["metrics"]
        for path in (partly[0], data)
    )  # fmt: skip
    assert [(m["name"], m["value"], m["samples"]) for m in got] == [
        (m["name"], m["value"], m["samples"]) for m in expected
    ]
    assert got[0]["samples"] == 40
    assert not [line for line in said if "no label" in line]


def test_every_protocol_that_needs_labels_gets_labelled_images_alone(folder, partly, inject):
    """By the one mechanism, whatever the protocol does: also n2d, oneclass and third parties'."""
    seen = {}

    def measure(context):
        seen[len(context.test)] = [context.labels(s).min() >= 0 for s in ("train", "test")]
        assert len(context.features("pixels", "test")) == len(context.test)
        yield Figure(name="own", value=1.0, protocol="-", samples=1)

    inject("own", measure, labels=True)
    evaluate(f"local-dir:{folder}", data=partly[0], protocols="own", write=False)
    assert seen == {32: [True, True]}
    needing = {name for name, p in PROTOCOLS.items() if p.labels and not p.keeps_unlabelled}
    assert needing >= {"probe", "knn", "few", "robustness", "kmeans", "n2d", "oneclass"}


def test_a_protocol_that_keeps_unlabelled_images_cannot_take_them_for_a_class(
    folder, partly, inject
):
    def measure(context):
        assert len(context.test) == 40
        with pytest.raises(DataError, match="8 images of partly have no label"):
            context.labels("test")
        assert len(context.labelled.labels("test")) == 32
        yield Figure(name="own", value=1.0, protocol="-", samples=1)

    inject("own", measure, labels=True, keeps_unlabelled=True)
    result = evaluate(f"local-dir:{folder}", data=partly[0], protocols="own", write=False)
    assert names(result) == ["own"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.full(40, -1), ""),
        (np.full(40, np.nan), ""),
        (np.array(["cat", "dog"] * 20), "labels are left out: .*whole numbers, got <U3 40"),
    ],
)
def test_labels_of_which_none_is_known_are_none(folder, data, labels, said):
    with np.load(data) as file:
        arrays = dict(file) | {"test_labels": labels}
    np.savez(data.with_name("bare.npz"), **arrays)
    heard = []
    with pytest.raises(CapabilityError, match="knn: bare has no labels"):
        evaluate(f"local-dir:{folder}", data=data.with_name("bare.npz"), protocols="knn",
                 write=False, progress=heard.append)  # fmt: skip
    assert bool(said) == bool(re.search(said or "never", "\n".join(heard)))


def test_generated_images_are_judged_by_labelled_ones(folder, partly):
    from zoo.data import load_data
    from zoo.evaluation.generation import _nearest
    from zoo.evaluation.protocol import Context

    model = zoo.load(f"local-dir:{folder}")
    figures = []
    for path in partly:
        parts = [load_data(str(path), s, model.preprocessing) for s in ("train", "test")]
        images, classes = parts[0].images[1:5], torch.tensor([0, 1, 0, 1])
        figures.append(_nearest(Context(model, "ae", *parts), images, classes, "{data}"))
    whole, without = figures
    assert whole.samples == without.samples == 32
    assert whole.baselines == without.baselines


LINKED = ["config.json", "model.safetensors", "metrics.json", "README.md"]


@pytest.mark.parametrize("linked", LINKED)
def test_the_bytes_behind_a_link_of_the_hubs_cache_stay_as_they_are(tmp_path, linked):
    folder, blob = zoo.pull("ae.mnist", to=tmp_path / "snapshot"), tmp_path / "blob"
    (folder / "README.md").write_text("a card")
    (folder / linked).rename(blob)
    (folder / linked).symlink_to(blob)
    before = {path.name: path.read_bytes() for path in (blob, *folder.iterdir())}
    with pytest.raises(InputError, match="is a link, as in a cache of the Hub"):
        zoo.evaluate(f"local-dir:{folder}", data="mnist", protocols=["reconstruction"])
    assert {path.name: path.read_bytes() for path in (blob, *folder.iterdir())} == before
