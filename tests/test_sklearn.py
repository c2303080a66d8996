"""zoo.sklearn: a model's features in pipelines, as scikit-learn wants its estimators to be."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.errors import ImageError, InputError
from zoo.model import ZooModel
from zoo.sample import sample

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from zoo.sklearn import FeatureExtractor


class Rows(FeatureExtractor):
    """As scikit-learn's checks want it: rows of any number of any numbers, made into pictures.

    So all of the rest of the estimator can be checked, not only what is asked of one that takes no
    tables.
    """

    def fit(self, X, y=None):
        validate_data(self, X)
        return super().fit(X, y)

    def _images(self, X, model):
        X = validate_data(self, X, reset=False)
        numbers = np.resize(np.tanh(X).T / 2 + 0.5, (784, len(X))).T
        yield from super()._images(numbers.astype(np.float32), model)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = False
        tags.input_tags.string = False
        return tags


@pytest.mark.filterwarnings("ignore:Can't test estimator FeatureExtractor")
@parametrize_with_checks([FeatureExtractor("ae.mnist"), Rows("ae.mnist")])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def pixels():
    return sample()[0][:12]  # 12 x 28 x 28 uint8


@pytest.fixture
def paths(pixels, tmp_path):
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i:02}.png")
    return sorted(map(str, tmp_path.iterdir()))


def test_every_kind_of_picture(pixels, paths):
    pandas = pytest.importorskip("pandas")
    extractor = FeatureExtractor("ae.fashion_mnist", batch_size=5)
    model = zoo.load("ae.fashion_mnist")
    images = model.preprocess(pixels)
    expected = model.features(images).numpy()
    for X in (
        paths, tuple(paths), np.array(paths), pandas.Series(paths), pandas.DataFrame({"p": paths}),
        [Image.open(path) for path in paths], pixels, pixels[..., None], list(pixels),
        images, images[:, 0], images.numpy()[:, 0], pixels.reshape(12, 784),
        images.flatten(1), images.flatten(1).tolist(),
    ):  # fmt: skip
        got = extractor.transform(X)
        assert got.dtype == np.float32
        assert np.allclose(got, expected, atol=1e-4), type(X)


def test_a_model_that_is_given(pixels):
    model = zoo.load("ae.fashion_mnist")
    extractor = FeatureExtractor(model)
    assert extractor.get_params()["model"] is model
    assert isinstance(clone(extractor).model, ZooModel)
    named = FeatureExtractor("ae.fashion_mnist").transform(pixels)
    assert np.array_equal(extractor.transform(pixels), named)


def test_what_is_refused(pixels, paths, tmp_path):
    extractor = FeatureExtractor("ae.fashion_mnist")
    for X, text in (
        (paths[0], "got one path: write "),
        ([], "at least one picture"),
        (pixels[:0], "at least one picture"),
        (pixels.reshape(12, 784)[:, 1:], "expected rows of 784 numbers"),
        (np.zeros(3), "got an array of shape 3"),
        (np.full((2, 784), 300.0), "0"),
        (3, "got an array of shape nothing"),
    ):
        with pytest.raises(InputError, match=text):
            extractor.transform(X)
    with pytest.raises(InputError, match="positive batch_size"):
        FeatureExtractor("ae.mnist", batch_size=0).transform(pixels)
    with pytest.raises(ImageError, match="no such file"):
        extractor.transform([*paths, str(tmp_path / "none.png")])


def test_names_and_pandas(paths):
    pandas = pytest.importorskip("pandas")
    extractor = FeatureExtractor("ae.fashion_mnist").set_output(transform="pandas")
    names = [f"featureextractor{i}" for i in range(32)]
    assert list(extractor.get_feature_names_out()) == names
    table = extractor.transform(pandas.Series(paths, index=[f"p{i}" for i in range(12)]))
    assert list(table.columns) == names
    assert list(table.index) == [f"p{i}" for i in range(12)]
    assert extractor.transform(paths).shape == (12, 32)


def test_it_is_light(pixels):
    """Neither copied nor pickled with the weights, and nothing of it is changed by use."""
    extractor = FeatureExtractor("ae.fashion_mnist")
    expected = extractor.fit_transform(pixels)
    assert extractor.__dict__.keys() == {"model", "device", "batch_size"}
    again = pickle.loads(pickle.dumps(extractor))  # noqa: S301
    assert len(pickle.dumps(extractor)) < 500
    assert np.array_equal(again.transform(pixels), expected)
    extractor.set_params(model="ae.mnist")
    assert not np.array_equal(extractor.transform(pixels), expected)


def test_a_pipeline():
    pixels, classes = sample()
    pipeline = make_pipeline(
        FeatureExtractor("deep_ae.fashion_mnist"), LogisticRegression(max_iter=300)
    )
    assert cross_val_score(pipeline, pixels, classes, cv=3).mean() > 0.6
    grid = {"featureextractor__model": ["ae.fashion_mnist", "deep_ae.fashion_mnist"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(pixels[:100], classes[:100])
    assert search.best_params_["featureextractor__model"] in grid["featureextractor__model"]


@pytest.mark.slow
def test_without_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; import zoo.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "MissingDependency: this needs scikit-learn" in done.stderr


def test_importing_the_zoo_does_not_import_it():
    code = "import zoo, sys; assert 'sklearn' not in sys.modules; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
