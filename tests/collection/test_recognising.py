"""A recogniser is right as often as it says, knows what it does not know, is loaded strictly."""

import json

import numpy as np
import pytest
import safetensors.numpy

from zoo.collection.neighbours import Projection
from zoo.collection.recognising import RECORD, TENSORS, Recogniser, learn
from zoo.errors import CorruptWeights, IncompatibleVersion, InputError, WeightsNotFound


@pytest.fixture(scope="module")
def world():
    """Eight kinds of 60 pictures in 24 dimensions, of which six get names."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 24)) * 1.2
    kind = np.repeat(np.arange(8), 60)
    features = (centres[kind] + rng.normal(size=(480, 24))).astype(np.float32)
    return features, kind, Projection.fit(features), rng.random(480) < 0.4


@pytest.fixture(scope="module")
def recogniser(world):
    features, kind, projection, test = world
    some = ~test & (kind < 6)
    names = [f"n{each}" for each in kind[some]]
    model = {"name": "ae.mnist", "features": 24}
    return learn(projection, features[some], names, background=features, model=model)


def test_known_pictures_are_recognised(recogniser, world):
    features, kind, _, test = world
    known = test & (kind < 6)
    found = recogniser.recognise(features[known])
    assert recogniser.names == [f"n{i}" for i in range(6)]
    right = found.likeliest == kind[known]
    assert right.mean() > 0.9
    assert found.probability.mean() == pytest.approx(right.mean(), abs=0.05), "calibrated"
    assert (~found.none).mean() > 0.8


def test_strangers_are_none_of_these(recogniser, world):
    features, kind, _, test = world
    strangers = recogniser.recognise(features[test & (kind >= 6)])
    assert strangers.none.mean() > 0.8
    noise = np.random.default_rng(1).normal(size=(50, 24)).astype(np.float32) * 5
    assert recogniser.recognise(noise).none.mean() > 0.5


def test_what_was_measured_is_of_pictures_not_learnt_from(recogniser, world):
    features, kind, _, test = world
    found = recogniser.recognise(features[test & (kind < 6)])
    right = (found.likeliest == kind[test & (kind < 6)]).mean()
    assert recogniser.measured["accuracy"] == pytest.approx(right, abs=0.06)
    assert recogniser.measured["accepted"] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("names", [["a"], ["a", "a", "a"], ["a", "b"], ["a", "a", "b", "b", "b"]])
def test_few_pictures_and_names(world, names):
    features, _, projection, _ = world
    rows = np.arange(len(names)) + 60 * (np.array(names) == "b")
    found = learn(projection, features[rows], names, background=features)
    assert found.names == sorted(set(names))
    likeliest = found.recognise(features[rows]).likeliest
    assert [found.names[i] for i in likeliest] == names
    assert np.isfinite(found.recognise(features).nearness).all()


def test_the_surest_of_many_are_learnt_from(world, monkeypatch):
    features, kind, projection, _ = world
    monkeypatch.setattr("zoo.collection.recognising.EXAMPLES", 20)
    rows = np.flatnonzero(kind < 2)
    wrong = np.arange(len(rows)) % 60 >= 30  # half of the names are the other's, and unsure
    names = [f"n{k if not w else 1 - k}" for k, w in zip(kind[rows], wrong, strict=True)]
    found = learn(projection, features[rows], names, np.where(wrong, 0.3, 0.9), features)
    assert (found.recognise(features[rows]).likeliest == kind[rows]).mean() > 0.9


def test_the_same_every_time(world):
    features, kind, projection, _ = world
    names = [f"n{each}" for each in kind]
    first, second = (learn(projection, features, names) for _ in range(2))
    assert np.array_equal(first.coefficients, second.coefficients)
    assert first.threshold == second.threshold


def test_nothing_named(world):
    features, _, projection, _ = world
    with pytest.raises(InputError, match="nothing has a name yet"):
        learn(projection, features[:0], [])


def test_features_of_another_model(recogniser):
    with pytest.raises(InputError, match=r"expected features of 24 numbers.*ae\.mnist"):
        recogniser.recognise(np.zeros((2, 5), np.float32))


# -- on the disk ---------------------------------------------------------------------------------


@pytest.fixture
def saved(recogniser, tmp_path):
    recogniser.save(tmp_path / "r")
    return tmp_path / "r"


def test_saved_and_loaded_it_is_the_same(recogniser, saved, world):
    loaded = Recogniser.load(saved)
    before, after = (each.recognise(world[0]) for each in (recogniser, loaded))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert loaded.names == recogniser.names
    assert loaded.model == recogniser.model
    assert sorted(path.name for path in saved.iterdir()) == [RECORD, TENSORS]


def test_roots_of_features_are_kept(world, tmp_path):
    features, kind, _, _ = world
    positive = np.abs(features)
    projection = Projection.fit(positive)
    assert projection.roots
    made = learn(projection, positive, [f"n{each}" for each in kind])
    made.save(tmp_path)
    after = Recogniser.load(tmp_path).recognise(positive)
    assert np.array_equal(made.recognise(positive).nearness, after.nearness)


def test_there_is_none(tmp_path):
    with pytest.raises(WeightsNotFound, match="zoo recognise COLLECTION --save FOLDER"):
        Recogniser.load(tmp_path)


def test_one_of_two_files(saved):
    (saved / TENSORS).unlink()
    with pytest.raises(WeightsNotFound, match="copy both files"):
        Recogniser.load(saved)


def edit(folder, **changes):
    path = folder / RECORD
    record = json.loads(path.read_text("utf-8"))
    record.update(changes)
    path.write_text(json.dumps(record))


def test_of_a_newer_zoo(saved):
    edit(saved, format=2)
    with pytest.raises(IncompatibleVersion, match="reads up to 1"):
        Recogniser.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["a"] * 6},
        {"names": ["a\nb"]},
        {"names": []},
        {"names": 3},
        {"names": ["n0"]},
        {"threshold": "x"},
        {"threshold": float("nan")},
        {"bytes": 3},
        {"sha256": "0" * 64},
        {"model": None},
    ],
)
def test_a_record_that_does_not_fit(saved, change):
    edit(saved, **change)
    with pytest.raises(CorruptWeights):
        Recogniser.load(saved)


def test_no_json(saved):
    for text in ("", "[", "[]", "[" * 100_000, "\xff"):
        (saved / RECORD).write_text(text, "latin-1")
        with pytest.raises(CorruptWeights):
            Recogniser.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": None},
        {"mean": np.zeros(3, np.float32)},
        {"within": np.full((24, 24), np.nan, np.float32)},
        {"coefficients": np.zeros((24, 6), np.float64)},
        {"components": np.zeros((24,), np.float32)},
        {"more": np.zeros(1, np.float32)},
    ],
)
def test_other_tensors(saved, change):
    import hashlib

    tensors = safetensors.numpy.load_file(saved / TENSORS) | change
    data = safetensors.numpy.save({k: v for k, v in tensors.items() if v is not None})
    (saved / TENSORS).write_bytes(data)
    edit(saved, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(CorruptWeights, match=r"expected arrays|NaN"):
        Recogniser.load(saved)


def test_a_changed_byte(saved):
    data = bytearray((saved / TENSORS).read_bytes())
    data[-1] ^= 1
    (saved / TENSORS).write_bytes(data)
    with pytest.raises(CorruptWeights, match="not the file that"):
        Recogniser.load(saved)
