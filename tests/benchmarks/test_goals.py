"""The goals of the zoo: what answers one, how far it is missed, and the script that says so."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from zoo.report import figures
from zoo.spec import Metric, Weights

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "goals.py"
_spec = importlib.util.spec_from_file_location("goals", SCRIPT)
goals = importlib.util.module_from_spec(_spec)
sys.modules["goals"] = goals  # dataclasses look there for their own module
_spec.loader.exec_module(goals)


def metric(name, value, dataset="mnist", **more):
    return Metric(
        name=name, value=value, dataset=dataset, split="test", protocol="so", samples=10, **more
    )


def weights(*metrics, **more):
    """A record of weights with these figures."""
    facts = {"tag": "x", "sha256": "0" * 64, "parameters": 1234, "dataset": "mnist"}
    return Weights(**{**facts, "licence": "MIT", "metrics": metrics, **more})


def standing(what, dataset, **measured):
    """How these weights stand to one goal; ``a__x`` is named ``a.x``."""
    named = {name.replace("__", "."): record for name, record in measured.items()}
    (found,) = (s for s in goals.judge(named) if (s.goal.what, s.goal.dataset) == (what, dataset))
    return found


def test_best_of_the_zoo_is_judged():
    a, b = weights(metric("probe", 0.97)), weights(metric("probe", 0.98, baselines={"pixels": 0.9}))
    missed = standing("linear probe", "mnist", a__x=a, b__x=b)
    assert (missed.name, missed.metric.value, missed.baseline) == ("b.x", 0.98, ("pixels", 0.9))
    assert missed.missed_by == pytest.approx(0.005)
    assert missed.to_dict()["met"] is False
    met = standing("linear probe", "mnist", a__x=weights(metric("probe", 0.985)))
    assert (met.missed_by, met.to_dict()["met"]) == (0, True)
    nothing = standing("linear probe", "mnist")
    assert (nothing.missed_by, nothing.to_dict()["met"], nothing.to_dict()["best"]) == (None,) * 3


def test_lower_is_better_where_it_is():
    net = {"config": {"hidden": [1000, 500, 250], "latent_dim": 30}}
    a, b = weights(metric("sse", 2.0), **net), weights(metric("sse", 1.9), **net)
    found = standing("squared error, 784-1000-500-250-30", "mnist", deep_ae__a=a, deep_ae__b=b)
    assert found.name == "deep_ae.b"
    assert found.missed_by == pytest.approx(0.15)
    better = weights(metric("sse", 1.0), **net)
    assert not standing(found.goal.what, "mnist", deep_ae__a=better).missed_by


@pytest.mark.parametrize(
    "answer",
    [
        {"conv_ae__x": weights(metric("sse", 1.0), config={"latent_dim": 32})},
        {"other__x": weights(metric("sse", 1.0), config={"latent_dim": 30})},
        {"conv_ae__x": weights(metric("sse", 1.0), config={"latent_dim": 30}, dataset="usps")},
        {"conv_ae__x": weights(metric("sse", 1.0, "usps"), config={"latent_dim": 30})},
        {"conv_ae__x": weights(metric("sse", 1.0), config={"latent_dim": 30}, labels=True)},
        {"conv_ae__x": weights(metric("mse", 1.0), config={"latent_dim": 30})},
        {"conv_ae__x": weights(metric("sse", float("nan")), config={"latent_dim": 30})},
    ],
    ids=["config", "model", "learnt from", "measured on", "labels", "figure", "not finite"],
)
def test_what_is_no_answer_to_a_goal(answer):
    assert standing("squared error, code of 30 numbers", "mnist", **answer).name is None


def test_a_goal_for_generators_of_classes_is_for_them_alone():
    figure = metric("generated_1nn", 0.98, baselines={"train_set": 0.968})
    without, classes = weights(figure), weights(figure, labels=True)
    found = standing("1-NN of generated digits", "mnist", dcgan__a=without, dcgan__b=classes)
    assert found.name == "dcgan.b"
    assert found.baseline == ("train_set", 0.968), "there is no other"


def test_best_baseline():
    beside = {"mean_image": 52.9, "pca": 12.6, "ablated": 2.4, "train_set": 0.1, "my own": 0.0}
    net = {"config": {"hidden": [1000, 500, 250], "latent_dim": 30}}
    found = standing(
        "squared error, 784-1000-500-250-30",
        "mnist",
        deep_ae__x=weights(metric("sse", 2.0, baselines=beside), **net),
    )
    assert found.baseline == ("pca", 12.6)


@pytest.fixture
def measured(monkeypatch):
    """``measured(a=[figures], b=...)``: the only weights that there are, named ``a.x``, ``b.x``."""

    def give(**models):
        found = {f"{name}.x": weights(*metrics) for name, metrics in models.items()}
        monkeypatch.setattr(goals.leaderboard, "measured_weights", lambda: found)

    return give


def test_goals_in_the_shell(measured, capsys):
    measured(a=[metric("probe", 0.97, baselines={"pixels": 0.9}), metric("knn20", 0.99)])

    def said(*arguments):
        goals.main(arguments)
        return capsys.readouterr().out

    rows = {
        line.strip("| ").partition(" |")[0]: line
        for line in said().splitlines()
        if line.startswith("| ")
    }
    probe = "| MNIST: linear probe | ≥ 0.985 | 0.97 a.x | missed by 0.015 | raw pixels 0.9 | - |"
    assert rows["MNIST: linear probe"] == probe
    assert "| **met** | - | ACN 0.97 |" in rows["MNIST: 20 nearest neighbours"]
    assert "| - | not measured yet |" in rows["CIFAR-10: linear probe"]
    assert "CIFAR-10" not in said("--data", "mnist")
    chosen = json.loads(said("--json", "--metric", "knn20"))
    assert [(goal["dataset"], goal["met"]) for goal in chosen] == [
        ("mnist", True), ("fashion_mnist", None),
    ]  # fmt: skip
    assert chosen[0]["best"]["name"] == "a.x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "usps"], "no goal is on 'usps'; there is: cifar10, fashion_mnist, "),
        (["--metric", "mse"], "no goal is judged by 'mse'; there is: few10, "),
        (["--into", "x.md", "--data", "mnist"], "leave --data and --metric out"),
        (["--into", "no/where.md"], "no/where.md cannot be read"),
    ],
    ids=str,
)
def test_mistakes_in_the_shell(measured, capsys, arguments, message):
    measured(a=[metric("sse", 5.0)])
    with pytest.raises(SystemExit, match="2"):
        goals.main(arguments)
    assert message in capsys.readouterr().err


def test_into_a_file(measured, tmp_path):
    measured(a=[metric("probe", 0.97)])
    file = tmp_path / "page.md"
    file.write_text("<!-- figures: here -->\nold\n<!-- end -->\n")
    goals.main(["--into", str(file)])
    written = file.read_text("utf-8")
    assert written.index("### MNIST") < written.index("`a.x`") < written.index("### Goals")
    assert "old" not in written


def test_goals_are_of_figures_and_data_that_there_are():
    for goal in goals.GOALS:
        assert goal.dataset in figures.DATASETS
        assert {figures.meaning(name).better for name in goal.metrics} in (
            {figures.HIGHER},
            {figures.LOWER},
        )
    assert {who for goal in goals.GOALS for who in goal.published} == set(goals.SOURCES)
    assert len({(g.what, g.dataset) for g in goals.GOALS}) == len(goals.GOALS)
