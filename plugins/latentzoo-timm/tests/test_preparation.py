"""Pictures as timm prepares them itself: ``fit="library"``, beside timm's own transform."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from zoo_timm.model import _described
from zoo_timm.source import find

import zoo
from zoo.errors import CollectionError, InputError
from zoo.images import decode, fit_all
from zoo.spec import Source

LEVEL = 1 / 255
SIZES = [(300, 200), (201, 333), (60, 40), (160, 160), (224, 224)]


def picture(path: Path, width: int, height: int) -> Path:
    """Soft colours under noise, as a file."""
    rng = np.random.default_rng(width)
    coarse = rng.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height))).astype(int)
    noisy = soft + rng.integers(-20, 20, soft.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    return path


def prepared_by_timm(name: str, path: Path) -> torch.Tensor:
    data = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = create_transform(**data, is_training=False)
    return transform(Image.open(path).convert("RGB"))[None]


@pytest.mark.parametrize(
    ("name", "keep", "fit", "interpolation"),
    [
        ("test_vit.r160_in1k", 0.95, "crop", "bicubic"),
        ("resnet18.tv_in1k", 0.875, "crop", "bilinear"),
        ("convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384", 1.0, "stretch", "bicubic"),
    ],
)
def test_the_same_as_timms_own_transform(name, keep, fit, interpolation, tmp_path):
    """To the level: Pillow resizes for both, and rounds between rows and columns."""
    model = _described(find(name))  # without memory: some are large
    model.mean, model.std = (torch.tensor(getattr(timm.get_pretrained_cfg(name), each))
                             .reshape(1, -1, 1, 1) for each in ("mean", "std"))  # fmt: skip
    p = model.prepare(fit="library").preprocessing
    assert (p.keep, p.fit, p.interpolation) == (keep, fit, interpolation)
    for size in SIZES:
        path = picture(tmp_path / "picture.png", *size)
        theirs = prepared_by_timm(name, path) * model.std + model.mean
        assert (model.preprocess(path) - theirs).abs().max() < 1e-6, size


def drawing(mode: str, width: int, height: int) -> Image.Image:
    """Hard edges from black to white, which a bicubic filter overshoots."""
    stripes = np.indices((height, width)).sum(0) // 5 % 2 * 255
    colours = np.stack([stripes, stripes.T[:height, :width] if width == height else stripes,
                        255 - stripes], -1).astype(np.uint8)  # fmt: skip
    return Image.fromarray(colours).convert(mode)


@pytest.mark.parametrize(
    ("mode", "size", "ending"),
    [
        ("RGB", (50, 100), "png"),
        ("P", (300, 200), "png"),
        ("1", (171, 320), "png"),
        ("L", (40, 300), "png"),
        ("CMYK", (200, 200), "jpg"),
        ("RGB", (1500, 1400), "jpg"),  # which is decoded whole, though that takes longer
        ("RGB", (1300, 1500), "png"),
    ],
)
def test_odd_pictures_are_the_same_too(mode, size, ending, tmp_path):
    name = "test_vit.r160_in1k"
    path = tmp_path / f"picture.{ending}"
    drawing(mode, *size).save(path)
    model = zoo.create(f"timm:{name}").prepare(fit="library")
    theirs = prepared_by_timm(name, path) * model.std + model.mean
    assert (model.preprocess(path) - theirs).abs().max() < 1e-6
    pixels = decode(path, model.preprocessing).pixels
    assert (fit_all([pixels], model.preprocessing, in_bytes=True) - theirs).abs().max() < 1e-6


def test_a_transparent_picture_lies_on_white(tmp_path):
    """timm's own would show what is stored under the transparency, which is mostly black."""
    name, path, white = "test_vit.r160_in1k", tmp_path / "picture.png", tmp_path / "white.png"
    picture = drawing("RGBA", 200, 150)
    picture.putalpha(Image.fromarray(np.linspace(0, 255, 200 * 150).reshape(150, 200).astype("u1")))
    picture.save(path)
    Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).save(white)
    model = zoo.create(f"timm:{name}").prepare(fit="library")
    ours = model.preprocess(path)
    apart = (ours - prepared_by_timm(name, white) * model.std - model.mean).abs()
    assert apart.max() < 2.5 * LEVEL  # opacity is multiplied with another rounding
    assert (ours - prepared_by_timm(name, path) * model.std - model.mean).abs().max() > 0.5


def test_features_are_those_of_timms_own_pipeline(tmp_path):
    name = "test_vit.r160_in1k"
    model = zoo.create(f"timm:{name}").prepare(fit="library")
    net = timm.create_model(name, num_classes=0).eval()
    net.load_state_dict(model.net.state_dict())
    for size in SIZES[:2]:
        path = picture(tmp_path / "picture.png", *size)
        with torch.no_grad():
            theirs = net(prepared_by_timm(name, path))
        ours = model.features(model.preprocess(path))
        as_usual = model.prepare(fit="stretch").preprocess(path)
        model.prepare(fit="library")
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        assert (model.features(as_usual) - theirs).abs().max() > 0.03, "a test that can fail"


def test_a_frame_of_timms_own_is_none_of_ours():
    model = _described(find("volo_d4_448.sail_in1k"))  # crop_pct 1.15: a black frame
    with pytest.raises(InputError, match="no preparation of another library: fit is one of"):
        model.prepare(fit="library")


def test_another_choice_undoes_it():
    model = zoo.create("timm:test_vit")
    usual = model.preprocessing
    assert model.prepare(fit="library").preprocessing != usual
    assert model.prepare(background=0.5).preprocessing.keep == 0.95
    assert model.prepare(fit=usual.fit, background=1).preprocessing == usual


def test_a_collection_keeps_it(tmp_path, monkeypatch):
    """And nobody types it again: the record of the collection has all of it."""
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        picture(tmp_path / "pictures" / f"{i}.png", 90 + i, 40)
    model = zoo.create("timm:test_vit").prepare(fit="library")
    zoo.Collection.index(model, [tmp_path / "pictures"], tmp_path / "index")
    recorded = zoo.Collection(tmp_path / "index").store.manifest.preprocessing
    assert recorded["keep"] == 0.95
    monkeypatch.setattr(zoo, "load", lambda name: zoo.create(name))
    assert zoo.Collection(tmp_path / "index").model().preprocessing == model.preprocessing
    with pytest.raises(CollectionError, match=r"made of pictures with fit crop, keep 0\.95, and"):
        zoo.Collection.index(model.prepare(fit="stretch"), [], tmp_path / "index")


def test_a_collection_of_before_goes_on_though_it_has_no_commit(tmp_path):
    """Its record has the name alone; a model that was loaded today has its commit, too."""
    path = picture(tmp_path / "picture.png", 90, 40)
    model = zoo.create("timm:test_vit")
    zoo.Collection.index(model, [path], tmp_path / "index")
    for name in ("timm:test_vit@" + "a" * 40, "timm:test_vit"):
        model.source = Source(kind="prefix", name=name)
        assert zoo.Collection.index(model, [], tmp_path / "index").report.computed == 0
    model.source = Source(kind="prefix", name="timm:test_vit2@" + "a" * 40)
    with pytest.raises(CollectionError, match="was made with timm:test_vit, and not with"):
        zoo.Collection.index(model, [], tmp_path / "index")
