"""One picture as an image of a model, for data sets and their worker processes."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zoo.errors import InputError
from zoo.images import to_images
from zoo.spec import Preprocessing

__all__ = ["Transform"]


@dataclass(frozen=True)
class Transform:
    """What ``model.preprocess`` does, to one picture: a function that can be pickled.

    It holds how pictures are prepared and nothing of the model, so that the worker processes of a
    ``DataLoader`` get a few numbers and not the weights.
    """

    preprocessing: Preprocessing

    def __call__(self, picture: Any) -> Tensor:
        """``picture`` as C x H x W float32 in [0, 1].

        Args:
            picture: a path, PIL image, array or tensor, as :func:`zoo.images.to_images` takes them.

        Raises:
            ImageError: the picture cannot be read.
            InputError: an array or tensor is of no known layout, dtype or range, or of several
                pictures.
        """
        images = to_images(picture, self.preprocessing)
        if len(images) != 1:
            raise InputError(
                f"expected one picture, got {len(images)}; model.preprocess takes several"
            )
        return images[0]
