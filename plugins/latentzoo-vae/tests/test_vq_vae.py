"""The nearest vector, its moving average, the straight-through gradient, and the prior."""

import json
import math

import pytest
import torch
from zoo_vae.vq_vae import DECAY, Codebook, Prior

import zoo
from zoo.data import Dataset
from zoo.errors import InputError, SettingsError
from zoo.model import Step
from zoo.sample import sample

SMALL = {
    "width": 16,
    "blocks": 1,
    "codebook_size": 32,
    "latent_dim": 8,
    "prior_width": 16,
    "prior_depth": 2,
}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def clothes(size=28, channels=1):
    images = torch.from_numpy(sample()[0])[:, None]
    images = torch.nn.functional.interpolate(images.float(), (size, size), mode="bilinear").byte()
    images = images.expand(-1, channels, -1, -1)
    return Dataset("sample", "train", images, None, "embedded", "MIT")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return zoo.create("vq_vae", **SMALL)


@pytest.mark.parametrize(
    ("size", "halvings", "side"), [(28, 2, 7), (32, 2, 8), (32, 1, 16), (64, 2, 16), (64, 3, 8)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes(size, halvings, side, channels):
    model = zoo.create("vq_vae", size=size, channels=channels, halvings=halvings, **SMALL)
    images = torch.rand(2, channels, size, size)
    assert model.encode(images).shape == (2, 8, side, side)
    assert model.reconstruct(images).shape == images.shape
    assert model.generate(2, seed=0).shape == images.shape
    assert model.fixed_bits == side * side * 5


def test_codes_are_the_nearest_vectors(model):
    images = torch.rand(3, 3, 32, 32)
    codes, indices = model.encode(images), model.quantise(images)
    assert indices.shape == (3, 8, 8)
    assert torch.equal(model.dequantise(indices), codes)
    with torch.no_grad():
        before = model.encoder(images).permute(0, 2, 3, 1).flatten(0, 2)
    distances = torch.cdist(before.double(), model.codebook.vectors.double())
    assert torch.equal(distances.argmin(1), indices.flatten())


def test_moving_averages():
    """Equations 6 to 8 of appendix A.1."""
    torch.manual_seed(0)
    book = Codebook(4, 3)
    counts, sums, x = book.counts.clone(), book.sums.clone(), torch.randn(50, 3)
    indices = book.nearest(x)
    book.update(x, indices, Step(x, None, generator=rng()))
    for i in range(4):
        mine = x[indices == i]
        n = DECAY * counts[i] + (1 - DECAY) * len(mine)
        m = DECAY * sums[i] + (1 - DECAY) * mine.sum(0)
        assert torch.allclose(book.counts[i], n)
        assert torch.allclose(book.vectors[i], m / n, atol=1e-5)


def test_vectors_that_are_not_used_start_again():
    book = Codebook(3, 2)
    book.sums.copy_(torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]]))
    x = 0.1 * torch.randn(20, 2, generator=rng())
    for i in range(229):
        book.update(x, book.nearest(x), Step(x, None, generator=rng(i)))
    assert book.vectors[1:].norm(dim=1).tolist() == pytest.approx([100, 100])
    for i in range(2):  # 0.99 ** 230 < 0.1
        book.update(x, book.nearest(x), Step(x, None, generator=rng(i)))
    assert float(book.vectors.norm(dim=1).max()) < 1
    other = Codebook(3, 2)
    other.update(x, other.nearest(x), Step(x, None, progress=0.0, generator=rng()))
    assert all(bool((x == vector).all(1).any()) for vector in other.vectors)


def test_gradients_go_straight_through(model):
    """That of the image's error passes from the vectors to the encoder's output as it is."""
    images, recipe = torch.rand(2, 3, 32, 32), model.recipe(commitment=0.25)
    codes = model.encoder(images).detach().requires_grad_()
    losses, indices = model._losses(codes, images, recipe)
    (through,) = torch.autograd.grad(losses["sse"], codes, retain_graph=True)
    vectors = model.dequantise(indices.view(2, 8, 8)).requires_grad_()
    error = (model.decoder(vectors).sigmoid() - images).square().sum() / 2
    assert torch.allclose(error, losses["sse"], rtol=1e-5)
    assert torch.allclose(through, torch.autograd.grad(error, vectors)[0], atol=1e-6)
    (commitment,) = torch.autograd.grad(losses["commitment"], codes)
    assert torch.allclose(commitment, 2 * 0.25 * (codes - vectors) / (2 * 8 * 8), atol=1e-6)
    assert float(losses["perplexity"]) <= 32


def test_no_number_depends_on_a_later_one():
    torch.manual_seed(0)
    prior = Prior(codebook_size=11, positions=9, width=16, depth=2).eval()
    indices = torch.randint(11, (2, 9), generator=rng())
    changed = indices.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    with torch.no_grad():
        one, other = prior(indices), prior(changed)
    assert torch.equal(one[:, :6], other[:, :6])
    assert not torch.allclose(one[:, 6:], other[:, 6:])


def test_samples_come_from_the_prior():
    """Drawn one by one with what is remembered, they have the chances that one pass gives."""
    torch.manual_seed(0)
    prior = Prior(codebook_size=3, positions=2, width=16, depth=2).eval()
    torch.nn.init.normal_(prior.head[-1].weight, std=1.0)
    with torch.no_grad():
        drawn = prior.sample(20_000, rng())
        pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
        each = prior(pairs).log_softmax(2).gather(2, pairs[..., None]).sum((1, 2)).exp()
    assert float(each.sum()) == pytest.approx(1)
    often = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9) / len(drawn)
    assert torch.allclose(often, each, atol=0.015)


def test_code_bits(model):
    images = torch.rand(3, 3, 32, 32)
    indices = model.quantise(images).flatten(1)
    with torch.no_grad():
        chances = model.prior(indices).softmax(2).gather(2, indices[..., None])[..., 0]
    assert torch.allclose(model.code_bits(images), -chances.log2().sum(1), rtol=1e-4)
    assert model.fixed_bits == 64 * math.log2(32)


@pytest.mark.slow
def test_it_learns(tmp_path):
    out = zoo.train(
        "vq_vae", data=clothes(), out=tmp_path / "run", device="cpu",
        config={**SMALL, "size": 28, "channels": 1},
        settings={"epochs": 12, "batch_size": 16, "lr": 5e-3, "prior_epochs": 12, "prior_lr": 5e-3},
    )  # fmt: skip
    model = zoo.load(f"local-dir:{out}")
    some = clothes().images[:100].float() / 255
    error = float((model.reconstruct(some) - some).square().mean())
    assert error < 0.4 * float((some - some.mean(0)).square().mean())
    lines = [json.loads(t) for t in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["perplexity"] for line in lines if line["phase"] == "codes"][-1] > 4
    assert float(model.code_bits(some).mean()) < 0.8 * model.fixed_bits
    made = model.generate(100, seed=0)
    assert float((made.mean(0) - some.mean(0)).square().mean()) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64])
def test_colour_pictures(tmp_path, size):
    out = zoo.train(
        "vq_vae", data=clothes(size, channels=3), out=tmp_path / "run", device="cpu",
        config={**SMALL, "width": 8, "size": size}, settings={
            "epochs": 2, "batch_size": 32, "lr": 5e-3, "prior_epochs": 2, "prior_lr": 5e-3},
    )  # fmt: skip
    lines = [json.loads(t) for t in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[1]["sse"] < lines[0]["sse"]
    assert lines[3]["bits"] < lines[2]["bits"]
    assert zoo.load(f"local-dir:{out}").generate(2, seed=0).shape == (2, 3, size, size)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (torch.zeros(1, 8, 8), "expected indices as an int64 tensor N x 8 x 8, got (1, 8, 8)"),
        (torch.zeros(1, 8, 7, dtype=torch.int64), "got (1, 8, 7) torch.int64"),
        (torch.zeros(0, 8, 8, dtype=torch.int64), "got (0, 8, 8) torch.int64"),
        (torch.full((1, 8, 8), 32), "expected indices from 0 to 31, got 32 to 32"),
        (torch.full((1, 8, 8), -1), "expected indices from 0 to 31, got -1 to -1"),
        ([1], "got list"),
    ],
)
def test_refused_numbers(model, indices, message):
    with pytest.raises(InputError) as caught:
        model.dequantise(indices)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"channels": 2}, "expected 1 or 3 channels, 1 to 6 halvings and a size from 8 to 512"),
        ({"size": 30}, "can be halved so often, got channels=3, size=30, halvings=2"),
        ({"halvings": 0}, "1 to 6 halvings"),
        ({"size": 128, "halvings": 1}, "at most 32 x 32 positions, got 64 x 64; more halvings"),
        ({"codebook_size": 1}, "2 to 65536 for codebook_size"),
        ({"prior_width": 30}, "expected a prior_width that 4 divides, got 30"),
    ],
)
def test_refused_configs(config, message):
    with pytest.raises(SettingsError) as caught:
        zoo.create("vq_vae", **config)
    assert message in str(caught.value)
