"""The leaderboard: exactly what metrics.json has, and what is better stands out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import zoo
from zoo.cli import main
from zoo.errors import InputError
from zoo.folder import read_json
from zoo.report import figures, leaderboard
from zoo.sources import weights_folder
from zoo.spec import Metric, ModelSpec, Weights


def run(*arguments):
    return CliRunner().invoke(main, ["leaderboard", *map(str, arguments)])


def test_figures_are_exactly_those_of_metrics_json():
    boards = json.loads(run("--json").stdout)
    assert [board["dataset"] for board in boards] == sorted(board["dataset"] for board in boards)
    seen = set()
    for board in boards:
        for row in board["rows"]:
            if row["parameters"] is None:
                continue
            seen.add(row["name"])
            folder = weights_folder(row["name"])
            measured = {
                m["name"]: m["value"]
                for m in read_json(folder / "metrics.json")["metrics"]
                if m["dataset"] == board["dataset"]
            }
            assert row["figures"] == {c: measured[c] for c in board["columns"] if c in measured}
            config = read_json(folder / "config.json")
            assert row["parameters"] == config["parameters"]
            assert row["seconds"] == config["training"]["seconds"]
    names = zoo.list_models(pretrained=True)
    assert seen == {name for name in names if zoo.info(name).weights[0].metrics}


HEAVY = {"torch", "torchvision", "numpy", "sklearn", "timm", "huggingface_hub"}


@pytest.mark.parametrize("option", [[], ["--json"], ["--markdown"]], ids=str)
def test_needs_no_heavy_library(option):
    code = f"""
import sys
from zoo.cli import main
try:
    main()
finally:
    print(sorted({HEAVY} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code, "leaderboard", *option], capture_output=True, text=True
    )
    assert "deep_ae.mnist" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


# -- on models made up -----------------------------------------------------------------------------


def metric(name, value, dataset="mnist", **more):
    return Metric(
        name=name, value=value, dataset=dataset, split="test", protocol="so", samples=10, **more
    )


def weights(*metrics, **more):
    """A record of weights with these figures."""
    facts = {"tag": "x", "sha256": "0" * 64, "parameters": 1234, "dataset": "mnist"}
    return Weights(**{**facts, "licence": "MIT", "metrics": metrics, **more})


@pytest.fixture
def measured(monkeypatch):
    """``measured(a=[figures], b=...)``: the only models that there are, with these figures.

    Those of ``labels`` have learnt with labels.
    """

    def give(labels=(), **models):
        specs = {
            f"{name}.x": ModelSpec(
                name=name, family="f", builder="m:C", summary="s", image_shape=(1, 1, 1),
                code_shape=(1,),
                weights=(weights(*metrics, labels=name in labels),),
            )
            for name, metrics in models.items()
        }  # fmt: skip
        monkeypatch.setattr(leaderboard, "list_models", lambda pretrained: sorted(specs))
        monkeypatch.setattr(leaderboard, "info", specs.__getitem__)

    return give


def table():
    """The rows of the only board, as the command prints them."""
    (board,) = leaderboard.leaderboard()
    lines = leaderboard.markdown([board]).splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_best_of_each_column(measured):
    measured(
        a=[metric("sse", 2.0), metric("probe", 0.9)],
        b=[metric("sse", 3.0), metric("probe", 0.95), metric("frechet", 4.0)],
        c=[metric("probe", 0.95)],
    )
    assert table() == [
        ["weights", "error ↓", "probe ↑", "Fréchet ↓", "parameters", "minutes"],
        ["---", "--:", "--:", "--:", "--:", "--:"],
        ["`a.x`", "**2.00**", "0.900", "-", "1,234", "-"],
        ["`b.x`", "3.00", "**0.950**", "**4.00**", "1,234", "-"],
        ["`c.x`", "-", "**0.950**", "-", "1,234", "-"],
    ]


def test_the_time_of_learning(monkeypatch):
    took = {"a.x": weights(metric("sse", 2.0), seconds=5340), "b.x": weights(metric("sse", 3.0))}
    monkeypatch.setattr(leaderboard, "measured_weights", lambda: took)
    said = leaderboard.markdown(leaderboard.leaderboard())
    rows = [line.split("|")[-2].strip() for line in said.splitlines() if line.startswith("|")]
    assert rows == ["minutes", "--:", "89", "-"]
    assert said.endswith("Learning took all of these together 1.5 hours by the clock.")


def test_baselines_on_which_all_agree(measured):
    baselines = {"pixels": 0.845, "pca": 0.832}
    measured(
        a=[metric("probe", 0.8, baselines={**baselines, "untrained": 0.7})],
        b=[metric("probe", 0.9, baselines={**baselines, "untrained": 0.6})],
    )
    assert [row[:2] for row in table()[2:]] == [
        ["`a.x`", "0.800"], ["`b.x`", "**0.900**"], ["raw pixels", "0.845"], ["PCA", "0.832"],
    ]  # fmt: skip


def test_baseline_that_not_all_have_is_none(measured):
    measured(a=[metric("sse", 5.0, baselines={"pca": 13.87})], b=[metric("sse", 6.0)])
    assert len(table()) == 4


def test_a_baseline_can_be_the_best_but_not_the_training_images(measured):
    measured(
        a=[
            metric("probe", 0.8, baselines={"pixels": 0.9}),
            metric("frechet", 7.0, baselines={"train_set": 1.5, "pca": 40.0}),
        ]
    )
    assert [row[:3] for row in table()[2:]] == [
        ["`a.x`", "0.800", "**7.00**"],
        ["raw pixels", "**0.900**", "-"],
        ["PCA", "-", "40.00"],
        ["training images", "-", "1.50"],
    ]


def test_learnt_with_labels_is_said_and_out_of_competition(measured):
    measured(a=[metric("probe", 0.9)], b=[metric("probe", 0.99)], labels=["b"])
    assert [row[:2] for row in table()[2:4]] == [
        ["`a.x`", "**0.900**"],
        ["`b.x` (labels)", "0.990"],
    ]
    assert leaderboard.LABELS in run("--markdown").stdout
    assert ["b.x", "(labels)", "0.990", "1,234", "-"] in map(str.split, run().stdout.splitlines())
    assert [row["labels"] for row in json.loads(run("--json").stdout)[0]["rows"]] == [False, True]
    measured(a=[metric("probe", 0.9)])
    assert "(labels):" not in run("--markdown").stdout


def test_one_board_for_each_data_set(measured):
    measured(
        a=[metric("sse", 5.0), metric("sse", 50.0, "fashion_mnist"), metric("my_own", 1.0, "mine")],
        b=[metric("sse", 6.0), metric("my_own", 2.0)],
    )
    assert [b.dataset for b in leaderboard.leaderboard()] == ["fashion_mnist", "mnist"]
    (board,) = leaderboard.leaderboard("mnist", ["my_own", "sse"])
    assert board.columns == ("my_own", "sse")
    assert [dict(row.figures) for row in board.rows] == [{"sse": 5.0}, {"my_own": 2.0, "sse": 6.0}]
    assert board.best("my_own") is None, "nobody knows which direction is better"
    (board,) = leaderboard.leaderboard("mine", ["my_own"])
    assert [row.name for row in board.rows] == ["a.x"]


def test_not_finite(measured):
    measured(a=[metric("sse", float("nan"))], b=[metric("sse", 6.0)])
    assert [row[1] for row in table()[2:]] == ["not finite", "**6.00**"]


def test_shell(measured):
    measured(
        a=[metric("sse", 5.0), metric("a[b]|\x1b", 1.0)],
        b=[metric("sse", 6.0, baselines={"mean_image": 52.9})],
    )
    lines = run().stdout.splitlines()
    assert any(line.split() == ["a.x", "*5.00", "1,234", "-"] for line in lines)
    assert "a[b]|" in run("--metric", "a[b]|\x1b").stdout
    assert "\x1b" not in run("--metric", "a[b]|\x1b").stdout
    measured()
    assert "Nothing was measured yet. Type: zoo evaluate" in run().stdout
    measured(a=[])
    assert "Nothing was measured yet" in run().stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnits"], "nothing was measured on 'mnits'; there is: mnist"),
        (["--metric", "ssse"], "no weights have a figure 'ssse'; there is: sse"),
        (["--into", "nowhere.md"], "does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_of_a_user(measured, arguments, message):
    measured(a=[metric("sse", 5.0)])
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_into_a_file(measured, tmp_path):
    measured(a=[metric("sse", 5.0)])
    file = tmp_path / "page.md"
    file.write_text("# Mine\n\n<!-- figures: here -->\nold\n<!-- end -->\n\nEnd\n")
    assert run("--into", file).exit_code == 0
    before, after = "# Mine\n\n<!-- figures: here -->\n", "\n<!-- end -->\n\nEnd\n"
    assert file.read_text("utf-8") == before + run("--markdown").stdout.rstrip("\n") + after
    once = file.read_bytes()
    run("--into", file)
    assert file.read_bytes() == once
    file.write_text("# Mine\n")
    assert "write the lines\n<!-- figures: " in run("--into", file).stderr
    with pytest.raises(InputError, match="cannot be read"):
        leaderboard.write_into(Path("nowhere.md"), "")


# -- what figures mean -----------------------------------------------------------------------------

HIGHER = (
    *("psnr", "ssim", "repair_noise_0.3_psnr", "repair_mask_0.5_ssim", "probe", "knn1", "knn20"),
    *("few10", "kmeans_acc", "kmeans_nmi", "kmeans_ari", "n2d_acc", "n2d_nmi", "n2d_ari"),
    *("oneclass_auroc", "oneclass_auroc_0", "precision", "recall", "density", "coverage"),
    *("generated_1nn", "classes_covered", "class_entropy", "inception_score", "robust_noise"),
    *("robust_mask", "robust_longtail"),
)
LOWER = ("sse", "mse", "frechet", "kernel", "inception_frechet", "inception_kernel", "nll")


def test_every_figure_of_the_evaluator_has_a_meaning():
    meanings = [figures.meaning(name) for name in (*HIGHER, *LOWER)]
    assert all(m.kind in figures.KINDS[:-1] for m in meanings)
    assert len({m.title for m in meanings}) == len({m.column for m in meanings}) == len(meanings)
    assert {name for name in HIGHER if figures.meaning(name).better == figures.HIGHER} == {*HIGHER}
    assert {name for name in LOWER if figures.meaning(name).better == figures.LOWER} == {*LOWER}


@pytest.mark.parametrize("name", ["mine", "repair_", "repair_x", "repair__sse", "_", "oneclass"])
def test_any_other_figure_has_its_name(name):
    assert figures.meaning(name) == (name, "other", figures.NEITHER, name, 3)


def test_columns_have_meanings():
    assert all(figures.meaning(column).better for column in leaderboard.COLUMNS)
