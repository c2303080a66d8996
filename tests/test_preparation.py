"""How pictures become images: the default of colours and of grey ones, and what a user chooses."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.errors import CollectionError, InputError, SpecError
from zoo.images import to_images
from zoo.spec import Preprocessing


def drawing() -> Image.Image:
    """A black bar from edge to edge, twice as wide as high, on nothing."""
    pixels = np.zeros((30, 60, 4), np.uint8)
    pixels[10:20, :, 3] = 255
    return Image.fromarray(pixels)


def test_transparent_pictures_in_colour_lie_on_white_and_grey_ones_on_black():
    colour = zoo.create("conv_ae", size=32, channels=3)
    grey = zoo.create("conv_ae", size=32, channels=1)
    assert colour.preprocess(drawing())[0, :, 0, 0].tolist() == [1, 1, 1]
    assert grey.preprocess(drawing())[0, :, 0, 0].tolist() == [0]


SHIPPED = [
    name
    for name in zoo.list_models(pretrained=True)
    if zoo.info(name).weights[0].preprocessing is not None
]


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_say_how_pictures_are_prepared(name: str):
    """In colour whole and on white; what learnt from digits and clothes has their black."""
    preprocessing = zoo.info(name).weights[0].preprocessing
    assert preprocessing is not None
    chosen = preprocessing.fit, preprocessing.background
    assert chosen == (("pad", 1.0) if preprocessing.channels == 3 else ("crop", 0.0))


def test_a_long_picture_is_kept_whole_cut_or_distorted():
    model = zoo.load("pca.mnist")
    long = np.zeros((10, 40), np.uint8)
    long[:, :4] = 255
    seen = {
        fit: model.prepare(fit=fit).preprocess(long)[0, 0] for fit in ("crop", "pad", "stretch")
    }
    assert seen["crop"].max() < 0.5  # the white edge is cut off
    assert seen["pad"].max() > 0.9
    assert seen["pad"][:8].max() == 0  # the frame
    assert seen["stretch"][:, 0].min() > 0.9


def test_what_is_chosen_is_of_this_model_alone():
    chosen = zoo.load("pca.mnist", fit="stretch", background=0.5)
    assert (chosen.preprocessing.fit, chosen.preprocessing.background) == ("stretch", 0.5)
    assert zoo.load("pca.mnist").preprocessing.fit == "crop"
    assert zoo.load("pca.mnist", background=1).preprocessing.fit == "crop"


@pytest.mark.parametrize(
    ("chosen", "found"), [({"fit": "zoom"}, "zoom"), ({"background": 2}, "2"), ({"fit": 1}, "1")]
)
def test_another_choice_is_one_message(chosen: dict, found: str):
    with pytest.raises(InputError, match=found):
        zoo.load("pca.mnist", **chosen)


# -- collections -----------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (20, 60), np.uint8)).save(folder / f"{i}.png")
    return folder


def prepared(folder: Path) -> tuple[str, float]:
    recorded = json.loads((folder / "collection.json").read_text())["preprocessing"]
    return recorded["fit"], recorded["background"]


def index(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["index", *map(str, args)])
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def test_a_collection_keeps_how_its_pictures_were_prepared(pictures: Path, tmp_path: Path):
    out = tmp_path / "index"
    assert index("pca.mnist", pictures, "--out", out, "--fit", "stretch", "--background", 1)[0] == 0
    assert prepared(out) == ("stretch", 1.0)
    collection = zoo.Collection(out)
    wanted = zoo.load("pca.mnist", fit="stretch").preprocess(sorted(pictures.iterdir()))
    features = zoo.load("pca.mnist").features(wanted).numpy()
    np.testing.assert_allclose(collection.features(), features, atol=0.02)
    Image.new("L", (60, 20), 90).save(pictures / "new.png")
    # Nobody types it again, with and without the name of the model.
    assert index("--out", out)[0] == 0
    assert index("pca.mnist", pictures, "--out", out)[0] == 0
    assert index(pictures, "--out", out, "--fit", "stretch")[0] == 0
    assert collection.model().preprocessing.fit == "stretch"
    assert len(zoo.Collection(out)) == 7
    code, said = index(pictures, "--out", out, "--fit", "pad", "--background", 0)
    assert code == 2
    assert "fit stretch, background 1.0" in said
    assert "not with fit pad, background 0" in said
    assert "leave --fit and --background out" in said
    assert prepared(out) == ("stretch", 1.0)


def test_a_collection_of_before_goes_on_as_it_was_made(pictures: Path, tmp_path: Path):
    """Such as one that was made when pictures in colour were cut, on black."""
    model = zoo.load("pca.mnist").prepare(fit="pad", background=0.25)
    with pytest.raises(InputError, match="prepare"):
        zoo.Collection.index(model, [pictures], tmp_path / "index", fit="crop")
    zoo.Collection.index(model, [pictures], tmp_path / "index")
    again = zoo.Collection.index("pca.mnist", [pictures], tmp_path / "index")
    assert again.model().preprocessing == model.preprocessing
    assert again.report is not None
    assert again.report.computed == 0
    with pytest.raises(CollectionError, match=r"background 0\.25"):
        zoo.Collection.index(zoo.load("pca.mnist").prepare(fit="pad"), [], tmp_path / "index")


def test_codes_of_a_choice(pictures: Path, tmp_path: Path):
    args = ["encode", "pca.mnist", str(pictures), "--out", str(tmp_path / "codes.npz")]
    assert CliRunner().invoke(main, [*args, "--fit", "stretch"]).exit_code == 0
    with np.load(tmp_path / "codes.npz") as file:
        codes = file["codes"]
    model = zoo.load("pca.mnist", fit="stretch")
    images = model.preprocess(sorted(pictures.iterdir()))
    torch.testing.assert_close(torch.tensor(codes), model.encode(images), atol=0.02, rtol=0)


def test_what_learns_from_a_collection_says_how_its_pictures_were_prepared(
    pictures: Path, tmp_path: Path
):
    for chosen, fit in (([], "pad"), (["--fit", "stretch"], "stretch")):
        out = tmp_path / fit
        assert index("pca", pictures, "--learn", "--out", out, *chosen)[0] == 0
        assert prepared(out) == (fit, 1.0)
        assert zoo.load(f"local-dir:{out / 'model'}").preprocessing.fit == fit
        assert index("--out", out)[0] == 0


# -- as other libraries do it ----------------------------------------------------------------------


def test_what_is_kept_is_the_middle():
    """A picture that is white but for its outer eighth is white alone, where that is cut off."""
    picture = np.zeros((64, 64), np.uint8)
    picture[4:60, 4:60] = 255
    p = Preprocessing(channels=1, height=28, width=28, keep=0.875, interpolation="bilinear")
    assert to_images(picture, p)[..., 1:-1, 1:-1].min() > 0.95
    assert to_images(picture, replace(p, keep=1.0))[0, 0, 0].max() < 0.3
    # A line a million pixels long is cut before it would be resized to gigabytes.
    assert to_images(np.zeros((1, 1_000_000), np.uint8), p).shape == (1, 1, 28, 28)


def test_records_of_before_stay_as_they_were():
    p = Preprocessing(channels=1, height=28, width=28)
    assert set(p.to_dict()) == {"channels", "height", "width", "fit", "background"}
    other = replace(p, keep=0.9, interpolation="bilinear")
    assert Preprocessing.from_dict(other.to_dict()) == other
    for wrong in ({"keep": 2}, {"keep": 0.9, "fit": "pad"}, {"interpolation": "lanczos"}):
        with pytest.raises(SpecError):
            replace(p, **wrong)


def test_a_model_of_ours_has_no_other_library():
    with pytest.raises(InputError, match=r"pca\.mnist has no preparation of another library"):
        zoo.load("pca.mnist", fit="library")
