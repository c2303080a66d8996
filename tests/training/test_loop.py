"""What each step of training gets and does: images, order, precision, rates, randomness."""

import json
import math

import numpy as np
import pytest
import torch
from zoo_ae.ae import AE

import zoo
from zoo.data import Dataset
from zoo.isolation import isolated
from zoo.sample import sample

IMAGES = torch.from_numpy(sample()[0][:70, None])
EPOCHS, BATCH = 3, 16
"""Of 70 images 67 are learnt from, in four batches an epoch."""


@pytest.fixture
def steps(monkeypatch):
    """``steps(**settings)``: what each step of a run of ae saw, a dict a step."""
    phases = AE.phases

    def run(out, **settings):
        seen = []

        def watched(self, recipe):
            (phase,) = phases(self, recipe)

            def step(images, step):
                (optimizer,) = step.update.__self__.optimizers.values()
                with step.autocast():
                    computed = self.encoder(images.flatten(1)).dtype
                seen.append({
                    "images": images.clone(), "input": step.seen.clone(), "dtype": computed,
                    "lr": optimizer.param_groups[0]["lr"],
                    "weight_decay": optimizer.param_groups[0]["weight_decay"],
                    "drawn": torch.nn.functional.dropout(torch.ones(64)),
                    "progress": step.progress,
                })  # fmt: skip
                return original(images, step)

            original, phase.step = phase.step, step
            return [phase]

        monkeypatch.setattr(AE, "phases", watched)
        given = {"epochs": EPOCHS, "batch_size": BATCH, "precision": "fp32", **settings}
        seed, more = given.pop("seed", 0), given.pop("more", {})
        data = Dataset("own", "train", IMAGES, None, "embedded", "MIT")
        config = {"hidden": 8, "latent_dim": 4}
        zoo.train("ae", data=data, out=out, config=config, settings=given, seed=seed,
                  device="cpu", **more)  # fmt: skip
        return seen

    return run


def rows(images):
    """Which of IMAGES each of these is, by its bytes."""
    numbers = {image.numpy().tobytes(): i for i, image in enumerate(IMAGES)}
    return [numbers[(image * 255).round().byte().numpy().tobytes()] for image in images]


def test_each_epoch_shows_other_images_first_and_none_twice(tmp_path, steps):
    seen = steps(tmp_path / "a")
    assert len(seen) == EPOCHS * 4
    orders = [
        [i for step in seen[at : at + 4] for i in rows(step["images"])]
        for at in range(0, len(seen), 4)
    ]
    for order in orders:
        assert len(set(order)) == len(order) == 64
        assert order != sorted(order)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    other = steps(tmp_path / "b", seed=1)
    assert rows(other[0]["images"]) != rows(seen[0]["images"])


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("constant", lambda done, total: 1.0),
        ("cosine", lambda done, total: (1 + math.cos(math.pi * done / total)) / 2),
        # over the last half, linearly
        ("wsd", lambda done, total: min(1.0, 2 * (1 - done / total))),
    ],
)
def test_the_rate_of_each_step_is_the_schedules(tmp_path, steps, schedule, share):
    seen = steps(tmp_path / "run", schedule=schedule, lr=0.01, epochs=4)
    expected = [0.01 * share(done, len(seen)) for done in range(len(seen))]
    assert [step["lr"] for step in seen] == pytest.approx(expected, rel=1e-6, abs=1e-5)
    assert [step["progress"] for step in seen] == pytest.approx(np.arange(16) / 16)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_the_precision_is_the_recipes(tmp_path, steps, precision, dtype):
    seen = steps(tmp_path / "run", precision=precision, epochs=1)
    assert {step["dtype"] for step in seen} == {dtype}
    used = json.loads((tmp_path / "run/recipe.json").read_text())["precision"]
    assert used == precision


def test_affine_maps_move_the_images_until_their_share_of_the_phase(tmp_path, steps):
    still = steps(tmp_path / "still")
    for step in still:
        assert torch.equal(step["input"], step["images"])
        rows(step["images"])  # each is one of the data, unchanged
    moved = steps(tmp_path / "moved", affine=1.0, affine_until=0.5)
    differences = []
    for before, after in zip(still, moved, strict=True):
        difference = (after["images"] - before["images"]).abs().mean((1, 2, 3))
        differences.append(float(difference.mean()))
        assert (float(difference.min()) > 0.001) == (after["progress"] < 0.5)
    assert differences[0] > 0.05
    assert differences[0] > 2 * differences[4] > 4 * differences[6] == 0, "they fade out"


def test_weight_decay_is_the_recipes(tmp_path, steps):
    seen = steps(tmp_path / "run", optimizer="adamw", weight_decay=0.25)
    assert {step["weight_decay"] for step in seen} == {0.25}
    kept = {}
    for decay in (0.0, 0.9):
        # Gradients are clipped to nothing, so that only the decay changes the weights.
        steps(tmp_path / str(decay), optimizer="sgd", lr=0.1, weight_decay=decay, clip=1e-6,
              schedule="constant")  # fmt: skip
        model = zoo.load(f"local-dir:{tmp_path / str(decay)}")
        kept[decay] = float(model.encoder[0].weight.detach().norm())
    assert kept[0.9] < 0.5 * kept[0.0]


@pytest.mark.slow
def test_what_layers_draw_is_of_the_seed_and_the_place(tmp_path, steps):
    """As dropout does; a run that is resumed draws what one without a break would have."""
    torch.manual_seed(123)
    whole = steps(tmp_path / "whole")
    torch.manual_seed(321)
    again = steps(tmp_path / "again")
    for one, other in zip(whole, again, strict=True):
        assert torch.equal(one["drawn"], other["drawn"])
    assert len({tuple(step["drawn"].tolist()) for step in whole}) == len(whole), "each its own"
    other = steps(tmp_path / "other", seed=1)
    assert not torch.equal(other[0]["drawn"], whole[0]["drawn"])

    asked = []
    stop = {"stop": lambda: 15 if len(asked) == 6 else asked.append(0)}
    with pytest.raises(zoo.errors.RunStopped):
        steps(tmp_path / "parts", more=stop)
    rest = steps(tmp_path / "parts", more={"resume": True})
    assert 0 < len(rest) < len(whole)
    for one, other in zip(whole[-len(rest) :], rest, strict=True):
        assert torch.equal(one["drawn"], other["drawn"])
        assert torch.equal(one["images"], other["images"])


@pytest.mark.parametrize("kind", ["mask", "noise", "blur", "salt"])
def test_learning_to_repair_sees_corrupted_images_and_aims_at_whole_ones(tmp_path, steps, kind):
    from zoo.corruption import corrupt

    seen = steps(tmp_path / "run", corrupt=kind, corrupt_strength=0.5)
    whole = steps(tmp_path / "whole")
    for step, clean in zip(seen, whole, strict=True):
        assert torch.equal(step["images"], clean["images"]), "the target is as it was"
        assert float((step["input"] - step["images"]).abs().mean()) > 0.01
    # Much as corrupting the same images by hand does.
    some = torch.cat([step["images"] for step in seen])
    with isolated(0):
        by_hand = corrupt(some, kind, 0.5, torch.Generator().manual_seed(0))
    given = torch.cat([step["input"] for step in seen])
    for statistic in (torch.mean, torch.std):
        assert float(statistic(given)) == pytest.approx(float(statistic(by_hand)), rel=0.05)
    assert not torch.equal(seen[0]["input"] != seen[0]["images"],
                           seen[1]["input"] != seen[1]["images"])  # fmt: skip
