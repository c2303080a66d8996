"""The features of a model as a step of a scikit-learn pipeline.

>>> from sklearn.linear_model import LogisticRegression
>>> from sklearn.pipeline import make_pipeline
>>> from zoo.sklearn import FeatureExtractor
>>> pipeline = make_pipeline(FeatureExtractor("deep_ae.mnist"), LogisticRegression())
"""

import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

import zoo
from zoo.boundary import typed
from zoo.errors import InputError
from zoo.images import to_images
from zoo.model import ZooModel
from zoo.optional import optional

if TYPE_CHECKING:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        TransformerMixin,
    )
else:
    _base = optional("sklearn.base", "scikit-learn", "train")
    BaseEstimator, TransformerMixin = _base.BaseEstimator, _base.TransformerMixin
    ClassNamePrefixFeaturesOutMixin = _base.ClassNamePrefixFeaturesOutMixin

__all__ = ["FeatureExtractor"]


class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer: pictures to features, a row for each picture, in their order.

    It learns nothing: ``fit`` only checks the parameters, ``transform`` needs no ``fit``, and a
    picture's features do not depend on the others. The model is loaded when it is
    first used, and is neither copied nor pickled with the estimator.

    Args:
        model: a name, as :func:`zoo.load` takes it, or a model.
        device: where to load it to; a model that is given stays where it is.
        batch_size: how many pictures are read at a time.
    """

    def __init__(
        self,
        model: str | ZooModel = "deep_ae.mnist",
        *,
        device: str = "cpu",
        batch_size: int = 256,
    ):
        self.model = model
        self.device = device
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> "FeatureExtractor":
        """Load the model; ``X`` and ``y`` are not used.

        Raises: as :func:`zoo.load`.
        """
        self._loaded()
        return self

    @typed()
    def transform(self, X: Any) -> np.ndarray:
        """The features of ``X``, n x F float32.

        Args:
            X: a list, array or column of paths; a list of PIL images, arrays or tensors; an array
                or tensor of pictures, n x H x W, n x H x W x C (tensors: n x C x H x W); or rows
                of as many numbers as the model's images have, n x C H W.

        Raises:
            ImageError: a picture cannot be read.
            InputError: ``X`` is none of these.
        """
        model = self._loaded()
        rows = [model.features(images).cpu().numpy() for images in self._images(X, model)]
        return np.concatenate(rows)

    def _images(self, X: Any, model: ZooModel) -> Iterator[Tensor]:
        """Batches of images, n x C x H x W."""
        pictures = _listed(X, model)
        if not _whole(self.batch_size) or self.batch_size < 1:
            raise InputError(f"expected a positive batch_size, got {self.batch_size!r}")
        if not len(pictures):
            raise InputError("expected at least one picture, got none")
        for begin in range(0, len(pictures), self.batch_size):
            yield to_images(pictures[begin : begin + self.batch_size], model.preprocessing)

    def _loaded(self) -> ZooModel:
        if isinstance(self.model, ZooModel):
            return self.model
        wanted = (self.model, self.device)
        if self not in _LOADED or _LOADED[self][0] != wanted:
            _LOADED[self] = wanted, zoo.load(self.model, device=self.device)
        return _LOADED[self][1]

    @property
    def _n_features_out(self) -> int:
        """How many columns there are, for the names of them."""
        model = self._loaded()
        return model.features(torch.zeros(1, *model.image_shape)).shape[1]

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False  # not of any number of columns
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


_LOADED: WeakKeyDictionary[FeatureExtractor, tuple[tuple[str, str], ZooModel]]
_LOADED = WeakKeyDictionary()
"""Outside of the estimators: ``transform`` must not change them, and copies should stay small."""


def _listed(X: Any, model: ZooModel) -> Any:
    """``X`` as something whose slices :func:`zoo.images.to_images` takes."""
    if isinstance(X, str | os.PathLike):
        raise InputError(f"expected several pictures, got one path: write [{os.fspath(X)!r}]")
    if isinstance(X, list | tuple):
        flat = X and not isinstance(X[0], str | os.PathLike) and np.ndim(X[0]) == 1
        return _rows(np.asarray(X), model) if flat else list(X)
    if not isinstance(X, Tensor):  # also a column or a table of pandas or polars
        X = np.asarray(X)
        if X.dtype.kind in "OUT":  # paths or pictures
            return list(X.ravel())
    if X.ndim == 2:
        return _rows(X, model)
    if X.ndim not in (3, 4):
        raise InputError(
            "expected pictures, one to a row, got an array of shape "
            + (" x ".join(map(str, X.shape)) or "nothing")
        )
    return X[:, None] if isinstance(X, Tensor) and X.ndim == 3 else X


def _rows(X: Any, model: ZooModel) -> Any:
    """Rows of numbers as images, n x C x H x W."""
    numbers = math.prod(model.image_shape)
    if X.ndim != 2 or X.shape[1] != numbers:
        raise InputError(
            f"expected rows of {numbers:,} numbers, as many as an image of the model has "
            f"({' x '.join(map(str, model.image_shape))}), got {X.shape[1:]}; pictures of other "
            "sizes come as n x H x W, or as a list"
        )
    return torch.as_tensor(X).reshape(-1, *model.image_shape)


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
