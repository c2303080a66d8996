"""The losses are the papers', the encoder is what its docstring says, and the models learn."""

import json
import math
import signal

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F
from zoo_contrastive.simclr import nt_xent
from zoo_contrastive.vicreg import covariance_loss, variance_loss

import zoo
from zoo.cli import main
from zoo.errors import CapabilityError, RunStopped, SettingsError
from zoo.model import Step
from zoo.sample import sample

MODELS = ("simclr", "vicreg")


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_nt_xent_is_equation_1():
    one, two, temperature = normal(5, 7), normal(10, 7)[5:], 0.3
    z = torch.cat([one, two])
    losses = []
    for i in range(10):
        j = (i + 5) % 10
        like = [
            math.exp(float(F.cosine_similarity(z[i], z[k], dim=0)) / temperature) for k in range(10)
        ]
        losses.append(-math.log(like[j] / (sum(like) - like[i])))
    assert float(nt_xent(one, two, temperature)) == pytest.approx(sum(losses) / 10, rel=1e-5)


def test_variance_and_covariance_are_equations_1_and_4():
    z = normal(4000, 3)
    assert float(variance_loss(3 * z)) == 0
    assert float(variance_loss(z / 2)) == pytest.approx(0.5, abs=0.02)
    assert float(variance_loss(torch.ones(8, 3))) == pytest.approx(0.99)  # the root of 1e-4 is left
    same = z[:, :1].expand(-1, 3)
    # 6 covariances of 1 each, over 3 numbers.
    assert float(covariance_loss(same)) == pytest.approx(2 * float(z[:, 0].var()) ** 2, rel=1e-2)
    assert float(covariance_loss(z)) < 0.01


def test_the_loss_of_simclr_has_the_temperature_of_the_recipe():
    model, one, two = zoo.create("simclr", width=2), normal(6, 5), normal(12, 5)[6:]
    for temperature in (0.05, 0.2, 1.0):
        recipe = model.recipe(temperature=temperature)
        assert model.losses(one, two, recipe) == {"nt_xent": nt_xent(one, two, temperature)}
    assert float(nt_xent(one, two, 0.05)) > 2 * float(nt_xent(one, two, 1.0))


def test_the_loss_of_vicreg_has_three_terms_and_their_weights():
    model, one, two = zoo.create("vicreg", width=2), normal(40, 3), normal(80, 3)[40:]
    one[:, 1] = one[:, 0]  # which the covariance is there to prevent
    terms = {
        "invariance": F.mse_loss(one, two),
        "variance": (variance_loss(one) + variance_loss(two)) / 2,
        "covariance": covariance_loss(one) + covariance_loss(two),
    }
    assert float(terms["covariance"]) > 0.3
    for weights in ((25.0, 25.0, 1.0), (1.0, 2.0, 3.0)):
        recipe = model.recipe(**dict(zip(terms, weights, strict=True)))
        losses = model.losses(one, two, recipe)
        assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(
            {name: w * float(terms[name]) for name, w in zip(terms, weights, strict=True)}
        )


@pytest.mark.parametrize("name", MODELS)
def test_a_step_compares_two_different_views_of_each_picture(name, monkeypatch):
    """And of the same picture: row by row they are nearer than to other rows."""
    model = zoo.create(name, width=2)
    recipe = model.recipe(flip=0.0, crop=0.7, precision="fp32")
    seen, compared = [], []
    encode, losses = model._encode, type(model).losses
    monkeypatch.setattr(model, "_encode", lambda views: seen.append(views) or encode(views))

    def watched(self, one, two, recipe):
        compared.append((one, two))
        return losses(self, one, two, recipe)

    monkeypatch.setattr(type(model), "losses", watched)
    images = torch.from_numpy(sample()[0][:24, None]).float() / 255
    model.loss(images, Step(images, recipe))
    (views,), ((one, two),) = seen, compared
    first, second = views.chunk(2)
    assert len(first) == len(images)
    assert float((first - second).abs().mean((1, 2, 3)).min()) > 0.01, "both views alike"
    distances = torch.cdist(first.flatten(1), second.flatten(1))
    own = distances.diagonal()
    assert float((own < distances.median(1).values).float().mean()) > 0.8
    projected = model.head(encode(views)).detach().chunk(2)
    assert torch.allclose(one, projected[0], atol=1e-5)
    assert torch.allclose(two, projected[1], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "maps"),
    [
        (28, [(32, 28), (64, 14), (128, 7), (256, 4)]),
        (32, [(32, 32), (64, 16), (128, 8), (256, 4)]),
        (64, [(32, 64), (64, 32), (128, 16), (256, 8), (256, 4)]),
    ],
)
def test_encoder(size, maps):
    model = zoo.create("simclr", size=size)
    x, got = torch.rand(1, 1, size, size), []
    for layer in model.encoder.layers:
        x = layer(x)
        got.append((x.shape[1], x.shape[2]))
    assert got == maps


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize("name", MODELS)
def test_steps_at_every_size(name, size, channels, tmp_path):
    from zoo.data import Dataset

    images = torch.randint(0, 256, (20, channels, size, size), dtype=torch.uint8)
    out = zoo.train(
        name, data=Dataset("noise", "train", images, None, "computed", "none"),
        out=tmp_path / "run", config={"width": 4, "size": size, "channels": channels},
        settings={"epochs": 2, "batch_size": 8, "erase": 0.5, "rotation_degrees": 10}, device="cpu",
    )  # fmt: skip
    model = zoo.load(f"local-dir:{out}")
    some = images.float() / 255
    code = model.code_shape[0]
    assert model.encode(some).shape == (20, code)
    assert model.features(some).shape == (20, 4 * sum(model.encoder.widths[-2:]))
    assert bool(torch.isfinite(model.score(some)).all())


def test_features_are_averages_over_a_grid():
    model = zoo.create("simclr", width=4)
    images = torch.rand(3, 1, 28, 28)
    before, last = model.encoder(images * 2 - 1)[-2:]  # 3 x 16 x 7 x 7, 3 x 32 x 4 x 4
    features = model.features(images)
    assert features.shape == (3, 4 * (16 + 32))
    parts = features[:, 4 * 16 :].view(3, 32, 2, 2)
    assert torch.allclose(parts[:, :, 0, 1], last[:, :, :2, 2:].mean((2, 3)), atol=1e-6)
    assert torch.allclose(model.encode(images), parts.mean((2, 3)), atol=1e-6)
    whole = zoo.create("simclr", width=4, grid=1)
    assert whole.features(images).shape == (3, 16 + 32)
    before, last = whole.encoder(images * 2 - 1)[-2:]
    expected = torch.cat([before.mean((2, 3)), last.mean((2, 3))], 1)
    assert torch.allclose(whole.features(images), expected, atol=1e-6)


def test_score_is_the_distance_in_units_of_the_covariance():
    model = zoo.create("vicreg", width=2, size=8)
    images = torch.rand(200, 1, 8, 8)
    model.fit(lambda: iter(images.split(50)), seed=0)
    codes = model.encode(images)
    away = codes - codes.mean(0)
    regularisation = 1e-4 * float(codes.double().var(0).mean()) + 1e-8
    covariance = torch.cov(codes.T.double(), correction=0)
    covariance += regularisation * torch.eye(len(covariance))
    expected = (away.double() @ torch.linalg.inv(covariance) * away).sum(1) / codes.shape[1]
    assert torch.allclose(model.score(images).double(), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("call", ["decode", "reconstruct", "generate"])
def test_they_make_no_pictures(call):
    model = zoo.create("simclr")
    with pytest.raises(CapabilityError, match=f"simclr cannot {call}: .*\nModels that can: .*ae"):
        getattr(model, call)(torch.rand(2, 1, 28, 28))


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet10t", "mobilenetv3_small_050"])
def test_nets_of_timm(encoder, tmp_path):
    from zoo.data import Dataset

    images = torch.randint(0, 256, (10, 3, 64, 64), dtype=torch.uint8)
    out = zoo.train(
        "simclr", data=Dataset("noise", "train", images, None, "computed", "none"),
        out=tmp_path / "run", config={"encoder": encoder, "size": 64, "channels": 3},
        settings={"epochs": 1, "batch_size": 4}, device="cpu",
    )  # fmt: skip
    model = zoo.load(f"local-dir:{out}")
    assert model.encode(images.float() / 255).shape == (10, *model.code_shape)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"channels": 2}, "1 or 3 channels, a size from 8 to 512"),
        ({"size": 7}, "a size from 8"),
        ({"width": 0}, "width positive"),
        ({"grid": 5}, "a grid from 1 to 4"),
        ({"projection": 0}, "positive projection"),
        ({"encoder": "hf-hub:somebody/else"}, "is no net of timm's: expected 'resnet'"),
        ({"encoder": "local-dir:/tmp"}, "is no net of timm's: expected 'resnet'"),
        ({"encoder": "no_such_net"}, "is no net of timm's: expected 'resnet'"),
    ],
)
def test_refused_configs(name, config, text):
    with pytest.raises(SettingsError, match=text):
        zoo.create(name, **config)


def test_a_net_of_tokens_is_refused():
    with pytest.raises(SettingsError, match="expected a convolutional net"):
        zoo.create("simclr", encoder="vit_tiny_patch16_224", size=224, channels=3).encode(
            torch.rand(1, 3, 224, 224)
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_it_learns(name, tmp_path):
    """Two views of a picture are nearer to each other than to others, more than untrained."""
    from zoo.data import Dataset
    from zoo.sample import sample

    images = torch.from_numpy(sample()[0])[:, None]
    data = Dataset("sample", "train", images, None, "embedded", "MIT")
    out = zoo.train(
        name, data=data, out=tmp_path / "run", config={"width": 4},
        settings={"epochs": 10, "batch_size": 32, "flip": 0.0, "crop": 0.5},
        device="cpu",
    )  # fmt: skip
    lines = (tmp_path / "run/log.jsonl").read_text().splitlines()
    parts = {"simclr": ("nt_xent",), "vicreg": ("invariance", "variance", "covariance")}[name]
    first, last = (sum(json.loads(line)[part] for part in parts) for line in (lines[0], lines[-1]))
    assert last < 0.9 * first
    model = zoo.load(f"local-dir:{out}")
    noise = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert float(model.score(noise).median()) > float(model.score(images / 255).median())


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path):
    """muon's state, which is not adamw's, is in the checkpoint."""
    from zoo.data import Dataset

    images = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    asked = {
        "data": Dataset("noise", "train", images, None, "computed", "none"), "device": "cpu",
        "config": {"width": 4}, "settings": {"epochs": 3, "batch_size": 8},
    }  # fmt: skip

    ended = []

    def report(line):
        if line.get("epoch") == 1 and "seconds" in line:
            ended.append(signal.SIGTERM)

    whole = zoo.train("simclr", out=tmp_path / "whole", **asked)
    stopped = {"report": report, "stop": lambda: ended[0] if ended else None}
    with pytest.raises(RunStopped):
        zoo.train("simclr", out=tmp_path / "parts", **stopped, **asked)
    parts = zoo.train("simclr", out=tmp_path / "parts", resume=True, **asked)
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_what_to_type_after_training(tmp_path):
    """It is something that the model can do."""
    images, out = sample()[0][:64], tmp_path / "run"
    np.savez(tmp_path / "ours.npz", images=images)
    command = ["train", "simclr", "--data", tmp_path / "ours.npz", "--out", out, "--epochs", 1]
    command += ["--config", "width=4", "--set", "batch_size=16"]
    done = CliRunner().invoke(main, [str(part) for part in command])
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"Try: zoo encode local-dir:{out} PICTURES --out codes.npz\n")


def test_whitened_features_of_three_maps(tmp_path):
    """Each map's part has length 1, and no direction is as strong as without whitening."""
    from zoo.data import Dataset

    images = torch.rand(60, 3, 1, 1) * torch.rand(60, 3, 16, 16)
    data = Dataset("colours", "train", (255 * images).byte(), None, "computed", "none")
    shares = []
    for power in (0.0, 0.5, 1.0):
        out = zoo.train(
            "simclr", data=data, out=tmp_path / str(power), device="cpu",
            config={"width": 4, "size": 16, "channels": 3, "halvings": 3, "levels": 3,
                    "grid": 1, "whiten": power or 1e-9},
            settings={"epochs": 1, "batch_size": 20, "shrink": 2, "average": 0.0},
        )  # fmt: skip
        model = zoo.load(f"local-dir:{out}")
        assert model.encoder.widths == [4, 8, 16, 32]
        features = model.features(images)
        assert model.grids == [3, 2, 1]
        assert features.shape == (60, 9 * 8 + 4 * 16 + 32)
        parts = features.split([72, 64, 32], dim=1)
        assert all(torch.allclose(part.norm(dim=1), torch.ones(60), atol=1e-3) for part in parts)
        variances = parts[0].var(0)
        shares.append(float(variances.max() / variances.sum()))
    assert shares[0] > shares[1] > shares[2]


def test_fitting_holds_no_gradients():
    model = zoo.create("simclr", width=2, size=8, levels=1, whiten=0.5)
    model.fit(lambda: iter(torch.rand(40, 1, 8, 8).split(20)), seed=0)
    (whitening,) = model.whitenings
    assert not whitening.directions.requires_grad
    assert whitening.mean.abs().sum() > 0


def test_a_picture_and_its_mirror_image_have_the_same_features():
    config = {"width": 4, "channels": 3, "size": 16, "whiten": 0.5}
    model = zoo.create("simclr", **config, mirror=True)
    plain = zoo.create("simclr", **config)
    plain.load_state_dict(model.state_dict())
    images = torch.rand(5, 3, 16, 16)
    features = model.features(images)
    assert torch.allclose(features, model.features(images.flip(-1)), atol=1e-6)
    both = (plain.features(images) + plain.features(images.flip(-1))) / 2
    assert torch.allclose(features, both, atol=1e-6)
    assert not torch.allclose(features, plain.features(images), atol=1e-3)


@pytest.mark.parametrize("setting", [{"halvings": 9}, {"levels": 0}, {"whiten": 1.5}])
def test_settings_out_of_range_are_told(setting):
    with pytest.raises(SettingsError, match=next(iter(setting))):
        zoo.create("simclr", **setting)
