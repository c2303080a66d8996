"""The precision of a run is the machine's, in the optimiser too, and stays what it began with."""

import json
import threading

import accelerate
import pytest
import safetensors.torch
import timm.optim
import torch
from timm.optim.muon import _COEFFICIENTS, get_lr_scale, zeropower_via_newtonschulz
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.errors import SettingsError, TrainingError
from zoo.model import Phase, Recipe
from zoo.training import checkpoint, make_recipe
from zoo.training.loop import PhaseOptimizers
from zoo.training.precision import Float32, computes_in_bf16, orthogonalises, resolve_precision

CPU = torch.device("cpu")
HERE = "bf16" if computes_in_bf16(CPU) else "fp32"
OTHER = {"bf16": "fp32", "fp32": "bf16"}[HERE]


class Seen(TorchDispatchMode):
    """Notes the precisions of all that is computed within."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.dtypes.add(result.dtype)
        return result


def network():
    made = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Flatten(), nn.Linear(8, 6))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made


def loss(made):
    images = torch.rand(16, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    return made(images).square().sum()


def stepped(optimizer, muon_precision, steps=3):
    """The network after some steps of the loop's own players, and which precisions they took."""
    made = network()
    phase = Phase("one", 1, {"net": made}, lambda images, step: {})
    recipe = Recipe(optimizer=optimizer, muon_precision=muon_precision, lr=0.1)
    players = PhaseOptimizers(phase, recipe, steps, accelerate.Accelerator(cpu=True))
    for _ in range(steps):
        value = loss(made)
        with Seen() as seen:
            players.update("net", value)
    return made.state_dict(), seen.dtypes


@pytest.mark.parametrize("optimizer", ["muon", "nmuon", "adamuon", "nadamuon"])
def test_muon_in_float32_where_it_is_asked_for(optimizer):
    start = network().state_dict()
    narrow, in_bf16 = stepped(optimizer, "bf16")
    wide, in_float32 = stepped(optimizer, "fp32")
    assert in_bf16 == {torch.bfloat16, torch.float32}
    assert in_float32 == {torch.float32}
    for key in narrow:
        assert torch.isfinite(wide[key]).all()
        moved = (wide[key] - start[key]).norm()
        assert (wide[key] - narrow[key]).norm() < 0.5 * moved, "much the same way"
    weights = [key for key in narrow if key.endswith("weight")]
    assert not any(torch.equal(wide[key], narrow[key]) for key in weights)


def test_torchs_own_muon_too():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("since torch 2.9")
    made = network()[2]
    optimizer = torch.optim.Muon([made.weight])
    made(torch.ones(3, 8)).square().sum().backward()
    with Seen() as seen, Float32():
        optimizer.step()
    assert seen.dtypes == {torch.float32}
    with Seen() as seen:
        optimizer.step()
    assert torch.bfloat16 in seen.dtypes


def test_the_update_is_that_of_newton_schulz_in_float32():
    """By hand: rate .1 times timm's scale times the orthogonalised momentum, of one step."""
    made = network()
    loss(made).backward()
    before, momentum = made[2].weight.detach().clone(), made[2].weight.grad * 0.05
    orthogonal = zeropower_via_newtonschulz(
        momentum, 5, _COEFFICIENTS["quintic"], dtype=torch.float32
    )
    expected = before - 0.1 * get_lr_scale(orthogonal.shape) * orthogonal
    phase = Phase("one", 1, {"net": network()}, lambda images, step: {})
    recipe = Recipe(optimizer="muon", muon_precision="fp32", lr=0.1, schedule="constant")
    players = PhaseOptimizers(phase, recipe, 3, accelerate.Accelerator(cpu=True))
    players.update("net", loss(phase.players["net"]))
    got = phase.players["net"][2].weight.detach()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_muon_in_bf16_is_timms_to_the_bit():
    made = network()
    optimizer = timm.optim.create_optimizer_v2(
        list(made.parameters()), opt="muon", lr=0.1, weight_decay=0.0, betas=(0.9, 0.999)
    )
    for _ in range(3):
        optimizer.zero_grad()
        loss(made).backward()
        optimizer.step()
    got, _ = stepped("muon", "bf16")
    assert all(torch.equal(got[k], v) for k, v in made.state_dict().items())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb"])
def test_other_optimisers_do_not_look_at_it(optimizer):
    wide, narrow = (stepped(optimizer, precision)[0] for precision in ("fp32", "bf16"))
    assert all(torch.equal(wide[k], narrow[k]) for k in wide)
    assert not orthogonalises(optimizer)


def test_other_threads_keep_their_bf16():
    inside, done, got = threading.Event(), threading.Event(), []

    def convert():
        inside.wait()
        x = torch.ones(2)
        got.extend((x.bfloat16().dtype, x.to(torch.bfloat16).dtype, x.to(dtype=torch.bfloat16)))
        done.set()

    thread = threading.Thread(target=convert)
    thread.start()
    with Float32():
        inside.set()
        assert done.wait(10)
        x = torch.ones(2)
        here = [x.bfloat16(), x.to(torch.bfloat16), x.to("cpu", torch.bfloat16),
                x.type(torch.bfloat16), x.to(dtype=torch.bfloat16, copy=True)]  # fmt: skip
        assert {tensor.dtype for tensor in here} == {torch.float32}
        assert x.to(torch.float64).dtype == torch.float64
    thread.join()
    assert got[:2] == [torch.bfloat16] * 2
    assert got[2].dtype == torch.bfloat16
    assert torch.ones(2).bfloat16().dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("recipe", "began", "precision", "muon_precision"),
    [
        ({"optimizer": "muon"}, None, HERE, HERE),
        ({"optimizer": "adamuon", "precision": "fp32"}, None, "fp32", HERE),
        ({"optimizer": "muon", "muon_precision": OTHER}, None, HERE, OTHER),
        ({"optimizer": "adamw"}, None, HERE, "auto"),
        ({"optimizer": "muon"}, {"precision": HERE, "muon_precision": OTHER}, HERE, OTHER),
        ({"optimizer": "muon"}, {"precision": OTHER, "muon_precision": OTHER}, OTHER, OTHER),
        ({"optimizer": "adam"}, {"precision": OTHER, "muon_precision": "auto"}, OTHER, "auto"),
        ({"optimizer": "muon", "precision": HERE}, {"precision": OTHER}, HERE, HERE),
        ({"optimizer": "muon"}, {"precision": "of a damaged file"}, HERE, HERE),
    ],
)
def test_what_is_settled(recipe, began, precision, muon_precision):
    got, warning = resolve_precision(Recipe(**recipe), CPU, began)
    assert (got.precision, got.muon_precision) == (precision, muon_precision)
    chose_otherwise = began is not None and OTHER in (
        value for key, value in began.items() if recipe.get(key, "auto") == "auto"
        and (key == "precision" or "muon" in recipe["optimizer"])
    )  # fmt: skip
    wanted = chose_otherwise and OTHER in (
        precision if "precision" not in recipe else None,
        muon_precision if "muon_precision" not in recipe else None,
    )
    assert bool(warning) == wanted
    if wanted:
        assert f"precision={OTHER}, as it began; this machine alone would take {HERE}" in warning


def test_an_unknown_precision_is_refused():
    with pytest.raises(SettingsError, match="muon_precision should be auto, fp32 or bf16, got 'x'"):
        make_recipe(Recipe, {"muon_precision": "x"})


class Stop(Exception):
    pass


@pytest.mark.slow
def test_a_run_goes_on_in_the_precision_that_it_began_with(tmp_path, train, monkeypatch):
    """As on a machine of another kind: it began in what this one would not take."""
    began = {"optimizer": "muon", "precision": OTHER, "muon_precision": OTHER}
    auto = {"optimizer": "muon", "precision": "auto"}
    whole = train("ae", tmp_path / "whole", settings=began)
    write = checkpoint.write

    def dies(*args, **kwargs):
        write(*args, **kwargs)
        if kwargs["position"]["step"] == 5:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", dies)
        with pytest.raises(Stop):
            train("ae", tmp_path / "run", settings=began, checkpoint_every=0)
    with pytest.raises(TrainingError, match="is of another run"):
        train("ae", tmp_path / "run", resume=True, settings={**began, "muon_precision": HERE})
    said = []
    resumed = train("ae", tmp_path / "run", resume=True, settings=auto, report=said.append)
    (warning,) = (line["warning"] for line in said if "warning" in line)
    assert warning == (
        f"goes on with precision={OTHER} and muon_precision={OTHER}, as it began; this machine "
        f"alone would take {HERE}"
    )
    first, second = (
        safetensors.torch.load_file(folder / "model.safetensors") for folder in (whole, resumed)
    )
    assert all(torch.equal(first[k], second[k]) for k in first)
    for path in (tmp_path / "run" / "recipe.json", resumed / "config.json"):
        facts = json.loads(path.read_text())
        recipe = facts.get("training", {}).get("recipe", facts)
        assert (recipe["precision"], recipe["muon_precision"]) == (OTHER, OTHER)
