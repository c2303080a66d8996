import numpy as np
import pytest

from zoo.sample import sample


@pytest.fixture(scope="session")
def clothes(tmp_path_factory):
    """A data set of two parts: 240 clothes to choose and learn on, 60 to measure on."""
    images, labels = sample()
    path = tmp_path_factory.mktemp("data") / "clothes.npz"
    np.savez(
        path,
        train_images=images[:240], train_labels=labels[:240],
        test_images=images[240:], test_labels=labels[240:],
    )  # fmt: skip
    return path
