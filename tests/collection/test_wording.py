"""Words for groups: votes of pictures, and what is written of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from zoo.cli import main
from zoo.collection.wording import proposals, split_words, write
from zoo.errors import CapabilityError, InputError

WORDS = {"a photo of a red": [3.0, 0, 0], "a photo of a green": [0, 1, 0]}
FEATURES = np.array([[2, 1, 0], [5, 0, 1], [1, 2, 0], [0, 1, 1], [0, 3, 1], [9, 0, 0]], np.float16)


@pytest.fixture
def collection():
    """Five pictures in two groups, and one without; the second group is called ``leaves``."""
    told = []
    labels = np.array([0, 0, 0, 1, 1, -1])
    likeliest = np.array([-1, -1, -1, 0, 0, -1])
    return SimpleNamespace(
        told=told,
        layer=lambda name: SimpleNamespace(labels=labels),
        model=SimpleNamespace(
            name="towers",
            capabilities=("features", "embed_text"),
            embed_text=lambda words, templates: torch.tensor(
                [WORDS[templates[0].replace("{}", word)] for word in words]
            ),
        ),
        folder="index",
        pictures=SimpleNamespace(rows=np.arange(6)),
        store=SimpleNamespace(features=lambda rows: FEATURES[rows]),
        naming=SimpleNamespace(likeliest=likeliest, named=likeliest >= 0, names=["leaves"]),
        name=lambda word, group, layer: told.append((word, group, layer)),
    )


def test_each_picture_votes_for_the_nearest_word(collection):
    second, first = proposals(collection, ["red", "green"], ["a photo of a {}"], "middle")
    assert (first.group, first.size, first.word, first.second) == (0, 3, "red", "green")
    assert (first.share, first.second_share) == pytest.approx((2 / 3, 1 / 3))
    assert first.pictures.tolist() == [1, 0, 2]
    assert (second.word, second.share, second.second) == ("green", 1, "")
    assert (first.name, second.name) == ("", "leaves")


def test_only_groups_without_a_name_are_named(collection):
    found = proposals(collection, ["red", "green"], ["a photo of a {}"], "middle")
    assert [each.group for each in write(collection, found, "middle")] == [0]
    assert collection.told == [("red", 0, "middle")]
    unsure = [each._replace(share=0.4, name="") for each in found]
    assert write(collection, unsure, "middle") == []


def test_a_model_of_pictures_alone(collection):
    collection.model.capabilities = ("features",)
    with pytest.raises(CapabilityError, match=r"cannot be searched by words: its model, towers"):
        proposals(collection, ["red", "green"], ["{}"], "middle")


def test_words_of_a_list():
    assert split_words("cat, red bicycle,,dog ") == ["cat", "red bicycle", "dog"]
    for wrong in ("cat", "", "cat,cat", ",,"):
        with pytest.raises(InputError, match="two different words or more"):
            split_words(wrong)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--words", "cat,dog", "--group", "3"], "name no picture and no group"),
        (["--words", "cat,dog", "--remove"], "name no picture and no group"),
        (["--write"], "--template and --write go with --words"),
        (["--template", "a {}"], "--template and --write go with --words"),
        (["--words", "cat"], "two different words or more"),
    ],
)
def test_mistakes(tmp_path, arguments, text):
    result = CliRunner().invoke(main, ["name", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert text in result.stderr
