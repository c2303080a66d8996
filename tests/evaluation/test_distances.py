"""Generated images of a user's own data: distances in pixels, PCA and the features of a model."""

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo import weights
from zoo.cli import main
from zoo.data import Dataset
from zoo.errors import CapabilityError, InputError, ModelNameError
from zoo.evaluation import evaluate, verify
from zoo.evaluation.distances import measure, open_space
from zoo.evaluation.protocol import Context, ProtocolSkipped, Space
from zoo.folder import read_json
from zoo.sample import sample

NAMES = ("frechet", "kernel", "precision", "recall", "density", "coverage")


class Gives:
    """Generates the images that it was given, over and over."""

    device = torch.device("cpu")

    def __init__(self, images):
        self.images = images

    def generate(self, n, *, seed):
        return self.images[torch.arange(n) % len(self.images)].float() / 255


def data(images, split, name="own"):
    return Dataset(name, split, images, None, "", "")


def context(made, train, test, **more):
    parts = {"train": data(train, "train"), "test": data(test, "test")}
    return Context(model=Gives(made), name="gives", **parts, **more)


def pictures():
    return torch.from_numpy(sample()[0])[:, None]


def values(figures):
    return {figure.name.partition("_in_")[0]: figure.value for figure in figures}


def test_a_frechet_distance_by_hand():
    """One pixel: half of the test images 0 and half 1, all generated ones 1. So the means are .5
    apart, and the variances are 100/99 of .25, and 0."""
    ends = torch.tensor([0, 255], dtype=torch.uint8).repeat(50)[:, None, None, None]
    white = torch.full((100, 1, 1, 1), 255, dtype=torch.uint8)
    figures = list(measure(context(white, ends, ends, samples=100, space=Space("pixels"))))
    assert [f.name for f in figures] == [f"{name}_in_pixels" for name in NAMES]
    (frechet,) = (f for f in figures if f.name == "frechet_in_pixels")
    assert frechet.value == pytest.approx(0.25 + 0.25 * 100 / 99, rel=1e-6)
    assert frechet.baselines["train_set"] == pytest.approx(0, abs=1e-9)
    assert "of 100 generated images against all test images, in raw pixels" in frechet.protocol


@pytest.mark.parametrize("space", ["pixels", "pca", "pca.fashion_mnist"])
def test_the_test_images_themselves_are_near_and_noise_is_far(space):
    images = pictures()
    train, test = images[:200], images[200:]
    noise = torch.randint(0, 256, (100, 1, 28, 28), dtype=torch.uint8)
    found = {}
    for kind, made in (("same", test), ("noise", noise)):
        opened = open_space(space, (1, 28, 28))
        figures = list(measure(context(made, train, test, samples=100, space=opened)))
        assert {f.name for f in figures} == {f"{name}_in_{space}" for name in NAMES}
        assert all(f.samples == 100 and f.seed == 0 for f in figures)
        found[kind] = values(figures)
    assert found["same"]["frechet"] == pytest.approx(0, abs=1e-3 * found["noise"]["frechet"])
    assert found["same"]["precision"] == found["same"]["coverage"] == 1
    assert found["same"]["recall"] == 1
    assert found["noise"]["coverage"] < 0.1


def test_as_many_are_generated_as_there_are_test_images_but_not_few():
    images = pictures()
    figures = list(measure(context(images, images[:200], images[200:])))
    assert {f.samples for f in figures} == {1000}
    assert figures[0].name == "frechet_in_pca", "which any size of image has"
    assert "200 random train images instead" in figures[0].protocol


@pytest.mark.parametrize("number", [2, 3, 6])
def test_few_pictures_have_nearer_neighbours(number):
    images = pictures()
    figures = list(measure(context(images, images[:number], images[9 : 9 + number], samples=10)))
    assert all(math.isfinite(f.value) for f in figures)
    k = min(5, number - 1)
    assert any(f"balls to the {k}th neighbour" in f.protocol for f in figures)


def test_one_picture_is_not_a_set():
    images = pictures()
    with pytest.raises(ProtocolSkipped, match=r"has 4 train and 1 test images; .* two of each"):
        list(measure(context(images, images[:4], images[9:10], samples=10)))


def test_data_with_a_classifier_are_left_to_it_unless_one_asks():
    images = pictures()
    parts = {s: data(images[:50], s, "fashion_mnist") for s in ("train", "test")}
    with pytest.raises(ProtocolSkipped, match="classifier for fashion_mnist; --space pixels"):
        list(measure(Context(Gives(images), "gives", **parts)))
    for more in ({"space": Space("pixels")}, {"named": frozenset({"distances"})}):
        assert list(measure(Context(Gives(images), "gives", **parts, samples=20, **more)))


# -- through evaluate ------------------------------------------------------------------------------


@pytest.fixture
def generator(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = zoo.create("dcgan", width=2, latent_dim=3)
    weights.save(
        model, tmp_path / "mine", images=torch.rand(4, 1, 28, 28), plugin="latentzoo-gan",
        facts={"dataset": "own", "licence": "x"},
    )  # fmt: skip
    return f"local-dir:{tmp_path / 'mine'}"


@pytest.fixture
def folder(tmp_path):
    """Forty pictures without labels."""
    place = tmp_path / "own"
    place.mkdir()
    for i, image in enumerate(sample()[0][:40]):
        Image.fromarray(image).save(place / f"{i:02}.png")
    return place


def names(result):
    return [m["name"] for m in result["metrics"]]


@pytest.mark.parametrize("kind", ["folder", "npz", "two parts"])
def test_a_generator_has_figures_on_pictures_of_ones_own(tmp_path, generator, folder, kind):
    images = sample()[0][:40]
    if kind == "npz":
        folder = tmp_path / "own.npz"
        np.savez(folder, images=images)
    if kind == "two parts":
        folder = tmp_path / "own2.npz"
        np.savez(folder, train_images=images[:30], test_images=images[30:])
    lines = []
    result = evaluate(
        generator, data=folder, samples=20, protocols=["generation", "distances"],
        progress=lines.append,
    )  # fmt: skip
    assert names(result) == [f"{name}_in_pca" for name in NAMES]
    assert {m["samples"] for m in result["metrics"]} == {20}
    assert result["left_out"] == [
        {"protocol": "generation", "reason": f"{folder.stem} has no labels"}
    ]
    assert f"left out generation: {folder.stem} has no labels" in lines
    assert str(tmp_path) not in json.dumps(result)


def test_by_default_a_generator_of_ones_own_pictures_is_measured(generator, folder):
    assert {f"{name}_in_pca" for name in NAMES} <= set(names(evaluate(generator, data=folder)))


@pytest.mark.slow
def test_spaces_stay_beside_each_other_and_are_verified(tmp_path, generator, folder):
    for space in ("pca", "pixels", "pca.fashion_mnist", f"local-dir:{tmp_path / 'mine'}"):
        evaluate(generator, data=folder, samples=12, protocols=["distances"], space=space)
    record = read_json(tmp_path / "mine" / "metrics.json")
    spaces = {m["name"].partition("_in_")[2] for m in record["metrics"]}
    (own,) = (space for space in spaces if space.startswith("dcgan@"))
    assert spaces == {"pca", "pixels", "pca.fashion_mnist", own}
    assert len(record["metrics"]) == 4 * len(NAMES)
    assert str(tmp_path) not in json.dumps(record), "no path of this machine is published"
    for space in ("pca", "pixels", "pca.fashion_mnist", f"local-dir:{tmp_path / 'mine'}"):
        assert len(verify(generator, data=folder, space=space)) == len(NAMES)
    with pytest.raises(InputError, match=r"features of dcgan@.*--space local-dir:FOLDER"):
        verify(generator, data=folder)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"space": "nowhere"}, ModelNameError, "nowhere"),
        ({"space": "pixels", "protocols": ["knn"]}, InputError, "add --protocol distances"),
        ({"samples": 5}, InputError, "expected samples from 10, got 5"),
        ({"samples": 2.5}, InputError, "expected samples from 10, got 2.5"),
        ({"samples": 50, "protocols": ["probe"]}, InputError, "leave --samples out, or add one of"),
    ],
)
def test_what_is_refused_before_anything_is_measured(generator, options, kind, text):
    with pytest.raises(kind, match=text):  # the data are not even looked for
        evaluate(generator, data="/no/such/folder", **options)


def test_large_pictures_are_not_compared_in_pixels(monkeypatch):
    with pytest.raises(InputError, match=r"12,288 pixels, .* in 4,096 at most: --space pca"):
        open_space("pixels", (3, 64, 64))
    assert open_space("pca", (3, 64, 64)).name == "pca"
    monkeypatch.setattr(zoo.model.ZooModel, "capabilities", ("encode",))
    with pytest.raises(CapabilityError, match="has no features to measure distances in"):
        open_space("pca.mnist", (1, 28, 28))


def test_on_the_command_line(tmp_path, generator, folder):
    out = tmp_path / "figures.json"
    result = CliRunner().invoke(
        main,
        ["evaluate", generator, "--data", str(folder), "--samples", "15", "--space", "pixels",
         "--protocol", "distances", "--out", str(out)],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "frechet_in_pixels" in result.stdout
    assert [m["samples"] for m in read_json(out)["metrics"]] == [15] * len(NAMES)
