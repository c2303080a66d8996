"""Pictures are found by others, by parts of them and by words, nearest first."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.collection.finding import crop_box, direction, embedded_words, features_of, nearest, unit
from zoo.errors import CapabilityError, ImageError, InputError
from zoo.images import to_images
from zoo.spec import Preprocessing

EYE = np.eye(3, dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    """Its features are the mean of each colour; it knows the words red, green and blue."""
    preprocessing = Preprocessing(channels=3, height=8, width=8, fit="stretch")
    words = {"red": [2.0, 0, 0], "green": [0, 2.0, 0], "blue": [0, 0, 2.0]}
    return SimpleNamespace(
        name="colours",
        capabilities=("features", "embed_text"),
        preprocessing=preprocessing,
        preprocess=lambda x: to_images(x, preprocessing),
        features=lambda images: images.mean((2, 3)),
        embed_text=lambda texts: torch.tensor([words[text] for text in texts]),
    )


@pytest.fixture
def halves(tmp_path):
    """A picture of 40 x 20 pixels, left half red and right half blue, lying on its side by EXIF."""
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    exif = Image.Exif()
    exif[274] = 6  # upright it is 20 x 40, red above blue
    image.save(tmp_path / "halves.png", exif=exif)
    return tmp_path / "halves.png"


def test_nearest_first():
    found = nearest([unit(np.array([[1, 0, 0], [1, 1, 0]])), EYE[1:]], EYE[0], 3)
    assert found.pictures.tolist() == [0, 1, 2]
    assert found.similarities.tolist() == pytest.approx([1, 0.5**0.5, 0])


def test_the_query_itself_is_left_out_and_there_are_no_more_than_there_are():
    found = nearest([EYE], EYE[0], 10, without=[0])
    assert found.pictures.tolist() == [1, 2]
    assert nearest([], EYE[0], 10).pictures.tolist() == []


def test_what_could_not_be_computed_is_never_found():
    blocks = [np.array([[np.nan] * 3, [1, 0, 0]], np.float32)]
    assert nearest(blocks, EYE[0], 10).pictures.tolist() == [1]


def test_several_pictures_are_their_sum():
    found = nearest([EYE, unit(np.array([[1, 1, 0]]))], direction(EYE[:2]), 1)
    assert found.pictures.tolist() == [3]


def test_what_is_not_wanted_is_taken_away():
    both = unit(np.array([[1, 1, 0]]))
    assert direction(both, EYE[1:2]) @ EYE[0] > 0.9
    assert direction(both, EYE[1:2]) @ EYE[1] < 0
    assert direction(EYE[:0], EYE[1:2]) @ EYE[1] == -1, "unlike a picture, and like nothing"


def test_nothing_is_left():
    with pytest.raises(InputError, match="nothing is left to look for"):
        direction(EYE[:1], EYE[:1])
    with pytest.raises(InputError, match="nothing is left to look for"):
        direction(np.full((1, 3), np.nan))


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1;2;3;4"])
def test_a_box_of_other_form(text):
    with pytest.raises(InputError, match=r"takes left,top,right,bottom in pixels"):
        crop_box(text)


@pytest.mark.parametrize(
    "text", ["5,0,5,9", "9,0,5,9", "0,9,5,9", "-1,0,5,9", "0,0,nan,9", "0,0,inf,9"]
)
def test_a_box_without_room(text):
    with pytest.raises(InputError, match="left < right"):
        crop_box(text)


@pytest.mark.parametrize(
    ("box", "colour"),
    [
        ("0,0,20,20", [1, 0, 0]),
        ("0,20,20,40", [0, 0, 1]),
        ("0,30,1000,1000", [0, 0, 1]),
        ("0,0,1,0.5", [1, 0, 0]),
        ("0,0.5,1,1", [0, 0, 1]),
        ("3,7,4,8", [1, 0, 0]),
        (None, [0.5, 0, 0.5]),
    ],
)
def test_a_part_of_the_upright_picture(model, halves, box, colour):
    found = features_of(model, halves, None if box is None else crop_box(box))
    assert found.tolist() == pytest.approx(colour, abs=0.01)


@pytest.mark.parametrize("size", [(16, 16), (40, 28), (8, 8), (900, 700)])
def test_a_picture_is_looked_for_as_it_was_indexed(tmp_path, size):
    """Its features are those of the collection to the last bits, however it has to be resized."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(3):
        soft = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        soft.resize(size, Image.Resampling.BICUBIC).save(tmp_path / "in" / f"{i}.png")
    collection = zoo.Collection.index("simclr.general", [tmp_path / "in"], tmp_path / "c")
    for i, expected in enumerate(collection.features()):
        found = features_of(collection.model(), tmp_path / "in" / f"{i}.png")
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_a_part_outside_of_the_picture(model, halves):
    with pytest.raises(
        InputError, match="has 20 x 40 pixels, upright: nothing of it is between 30"
    ):
        features_of(model, halves, crop_box("30,0,50,9"))


def test_a_picture_that_cannot_be_read(model, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    for box in (None, (0, 0, 5, 5)):
        with pytest.raises(ImageError, match=r"a\.png: not a picture"):
            features_of(model, tmp_path / "a.png", box)


def test_words(model, tmp_path):
    blocks = [unit(np.array([[0.1, 0.9, 0.2], [0.8, 0.1, 0.1]]))]
    found = nearest(blocks, embedded_words(model, "red", tmp_path), 2)
    assert found.pictures.tolist() == [1, 0]


def test_a_model_without_words_names_those_that_have_them(model, tmp_path):
    wordless = SimpleNamespace(name="ae.mnist", capabilities=("features",))
    with pytest.raises(CapabilityError) as caught:
        embedded_words(wordless, "a red car", tmp_path / "pictures")
    text = str(caught.value)
    assert text.startswith("'a red car' is no file, and ")
    assert "its model, ae.mnist, knows pictures alone" in text
    assert "Models that do" in text
