"""What ships is what was learnt and what was shown: averages, ends of phases, rounding."""

import contextlib
import json

import accelerate
import pytest
import safetensors.torch
import torch
from torch import nn
from zoo_ae.ae import AE

import zoo
from zoo.data import load_data, split_validation, to_float
from zoo.model import Phase, Recipe, Step
from zoo.training.loop import PhaseOptimizers
from zoo.training.rng import seeded

AVERAGED = {
    "ae": ({"hidden": 8, "latent_dim": 4}, {"epochs": 3}, ""),
    "vae": ({"hidden": 8, "latent_dim": 4}, {"epochs": 3, "optimizer": "adam"}, ""),
    "dcgan": ({"width": 2, "latent_dim": 3}, {"epochs": 3, "encoder_epochs": 1}, "generator."),
    "bigan": ({"latent_dim": 3, "hidden": 16}, {"epochs": 3}, "encoder."),
}
"""Config, recipe, and where the average is, of models whose phases ask for one."""


def learnt(folder, under=""):
    """The learnt tensors of a weights folder, widened."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    left_out = ("density", "running_", "num_batches")
    return {
        k: t.float()
        for k, t in tensors.items()
        if k.startswith(under) and not any(part in k for part in left_out)
    }


def distance(a, b):
    return sum(float((a[k] - b[k]).square().sum()) for k in a) ** 0.5


def players(network, steps=1, **recipe):
    phase = Phase("one", 1, {"net": network}, lambda images, step: {}, averaged=network)
    made = PhaseOptimizers(phase, Recipe(**recipe), steps, accelerate.Accelerator(cpu=True))
    return phase, made


@pytest.mark.parametrize(
    "model", ["ae", "vae", "bigan", pytest.param("dcgan", marks=pytest.mark.slow)]
)
def test_a_short_run_ships_what_it_learnt(tmp_path, train, model):
    """24 steps, of which an average at a constant .999 would be initial weights by 98 parts of 100.

    The average has no part in learning, so the weights that learnt are those of a run without it.
    """
    config, settings, under = AVERAGED[model]
    runs = {}
    for average in (0.0, 0.999):
        said = []
        settings = {**settings, "average": average}
        out = tmp_path / str(average)
        folder = train(model, out, config=config, settings=settings, report=said.append)
        runs[average] = learnt(folder, under)
        assert not [line for line in said if "warning" in line]
    with seeded(0):
        start = zoo.create(model, **config).state_dict()
    moved = distance(runs[0.0], start)
    assert moved > 0.05
    assert 0.5 * moved < distance(runs[0.999], start) < moved
    assert 0 < distance(runs[0.999], runs[0.0]) < 0.5 * moved


@pytest.mark.parametrize(("n", "average"), [(1, 1.0), (2, 1.0), (24, 1.0), (300, 1.0)])
def test_initial_weights_have_no_part_in_the_average(n, average):
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    _, made = players(network, average=0.999)
    nn.init.ones_(network.weight)  # all that is ever learnt, in the first step
    for done in range(n):
        made.after_step(done + 1)
    made.ship()
    assert network.weight.item() == pytest.approx(average, abs=1e-6)


@pytest.mark.parametrize(
    ("average", "step", "decay"),
    [
        (0.999, 1, 0.0),
        (0.999, 2, 1 - 2**-0.75),
        (0.999, 101, 1 - 101**-0.75),
        (0.999, 10_001, 0.999),  # as without warm-up from here on
        (0.999, 10**6, 0.999),
        (0.99, 465, 0.99),
        (0.9, 23, 0.9),
    ],
)
def test_the_decay_at_each_step(average, step, decay):
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    _, made = players(network, average=average)
    nn.init.ones_(network.weight)
    made.average.update(nn.Linear(1, 1, bias=False).requires_grad_(False), step=1)
    nn.init.zeros_(made.average.module.weight)
    made.after_step(step)
    made.ship()
    assert network.weight.item() == pytest.approx(1 - decay, abs=1e-6)


def test_shown_is_what_would_ship_and_learning_goes_on_where_it_was():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    _, made = players(network, average=0.9)
    for done in range(5):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += done
        network.train()(torch.rand(8, 2))
        made.after_step(done + 1)
    live = {k: v.clone() for k, v in network.state_dict().items()}
    average = made.average.module.state_dict()
    storages = [p.data_ptr() for p in network.parameters()]
    with made.shipped():
        assert all(torch.equal(v, average[k]) for k, v in network.state_dict().items())
        assert not torch.equal(network[0].weight, live["0.weight"])
    assert all(torch.equal(v, live[k]) for k, v in network.state_dict().items())
    with contextlib.suppress(ZeroDivisionError), made.shipped():
        raise ZeroDivisionError
    assert all(torch.equal(v, live[k]) for k, v in network.state_dict().items())
    assert [p.data_ptr() for p in network.parameters()] == storages, "the optimiser's own tensors"


@pytest.mark.parametrize("model", ["ae", "vae"])
def test_the_logged_validation_is_of_the_weights_that_ship(tmp_path, train, data, model):
    config, settings, _ = AVERAGED[model]
    run = tmp_path / "run"
    folder = train(model, run, config=config, settings={**settings, "average": 0.99})
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    shipped = zoo.load(f"local-dir:{folder}")
    dataset = load_data("mnist", "train", shipped.preprocessing, data_dir=data)
    held_out = to_float(dataset.images[split_validation(dataset, 0.05, 0)[1]])
    (phase,) = shipped.phases(shipped.recipe())
    with torch.no_grad():
        losses = phase.validate(held_out, Step(held_out, shipped.recipe(), progress=1.0))
    for name, value in losses.items():
        assert last[f"val_{name}"] == pytest.approx(float(value), rel=2e-3), name
        assert f"live_val_{name}" in last
    name = next(iter(losses))
    assert last[f"live_val_{name}"] != pytest.approx(float(losses[name]), rel=2e-3)


def test_without_an_average_there_is_one_validation(tmp_path, train):
    train("ae", tmp_path / "run")
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert "val_sse" in last
    assert "live_val_sse" not in last


# -- whatever lies between the last figure shown and the tensors stored ----------------------------


def spoil(model):
    with torch.no_grad():
        model.decoder[0].bias.add_(1)


def by_fit(self, images, seed, fit=AE.fit):
    fit(self, images, seed)
    spoil(self)


def by_rounding(self, images, seed, fit=AE.fit):
    """The same function, but all codes are 3,000 more, which float16 has in steps of two."""
    with torch.no_grad():
        self.encoder[2].bias.add_(3000)
        self.decoder[0].bias.sub_(3000 * self.decoder[0].weight.sum(1))
    fit(self, images, seed)


def by_finish(self, recipe, phases=AE.phases):
    (phase,) = phases(self, recipe)
    phase.finish = lambda: spoil(self)
    return [phase]


@pytest.mark.parametrize(
    ("method", "broken"), [("fit", by_fit), ("fit", by_rounding), ("phases", by_finish)]
)
def test_a_difference_is_said_where_one_looks(tmp_path, train, monkeypatch, method, broken):
    monkeypatch.setattr(AE, method, broken)
    said = []
    folder = train(
        "ae", tmp_path / "run", report=said.append,
        config={"hidden": 32, "latent_dim": 32}, settings={"epochs": 30, "lr": 0.01},
    )  # fmt: skip
    (warning,) = (line["warning"] for line in said if "warning" in line)
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert f"and was {last['val_sse']:.5g}" in warning
    assert "the saved model differs from the trained one: val_sse is " in warning
    recorded = json.loads((folder / "config.json").read_text())["training"]
    assert recorded["differs from what training showed"] in warning
    assert "differs from what training showed: val_sse is" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_pictures_that_differ_are_said(tmp_path, train, monkeypatch):
    """A generator's phase has no validation: its pictures tell."""
    from zoo_gan.dcgan import DCGAN

    phases = DCGAN.phases

    def spoiled(self, recipe):
        game, inversion = phases(self, recipe)
        finish = game.finish

        def white():
            finish()
            with torch.no_grad():
                self.generator.layers[-2].bias.fill_(5)

        game.finish = white
        return [game, inversion]

    monkeypatch.setattr(DCGAN, "phases", spoiled)
    said = []
    folder = train("dcgan", tmp_path / "run", report=said.append)
    (warning,) = (line["warning"] for line in said if "warning" in line)
    assert "the pictures of generate differ from game-0002.png by " in warning
    assert "game-0002.png" in (folder / "README.md").read_text()


def test_a_resumed_end_is_compared_too(tmp_path, train, monkeypatch):
    """The run died while it fitted: what it had shown lies in its folder."""

    def dies(self, images, seed):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(AE, "fit", dies)
        with pytest.raises(ZeroDivisionError):
            train("ae", tmp_path / "run")
    monkeypatch.setattr(AE, "fit", by_fit)
    said = []
    train("ae", tmp_path / "run", resume=True, report=said.append)
    warned = [line.get("warning", "") for line in said]
    assert any("the saved model differs from the trained one: val_sse" in text for text in warned)


@pytest.mark.slow
def test_a_small_gan_by_its_default_recipe_ships_no_grey(tmp_path, train):
    """1,425 pictures were 22 steps an epoch; here as many steps on fewer pictures."""
    said = []
    train("dcgan", tmp_path / "run", config={"width": 16, "latent_dim": 100}, report=said.append,
          settings={"epochs": 38, "encoder_epochs": 1})  # fmt: skip
    made = zoo.load(f"local-dir:{tmp_path / 'run'}").generate(64, seed=0)
    assert float(made.std(0).mean()) > 0.1, "pictures differ from each other"
    assert float(made.flatten(1).std(1).mean()) > 0.2, "and have light and dark in them"
    assert not [line for line in said if "warning" in line]
