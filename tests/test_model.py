"""How many images go through a network at once."""

import pytest
import torch

from zoo.model import ZooModel


class Counting(ZooModel):
    """Notes the batches that its network gets; a code is the mean of an image."""

    code_shape = (1,)

    def __init__(self, channels, size):
        super().__init__()
        self.image_shape = (channels, size, size)
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.sizes = []

    def _encode(self, images):
        self.sizes.append(len(images))
        return images.flatten(1).mean(1, keepdim=True) * self.scale

    def _decode(self, codes):
        self.sizes.append(len(codes))
        return (codes[:, :, None, None] * self.scale).expand(-1, *self.image_shape)

    def _sample_codes(self, n, generator):
        return torch.rand(n, 1, generator=generator)


@pytest.mark.parametrize(
    ("channels", "size", "n", "sizes"),
    [
        (1, 28, 1001, [500, 500, 1]),
        (3, 64, 501, [500, 1]),  # as always, up to here: the bits of what ships stay
        (3, 96, 223, [222, 1]),
        (3, 512, 15, [7, 7, 1]),
        (3, 2048, 2, [1, 1]),  # one image is more than that alone
    ],
)
def test_large_images_go_in_smaller_batches(channels, size, n, sizes):
    model = Counting(channels, size)
    images = torch.rand(n, 1, 1, 1).expand(n, channels, size, size)
    codes = model.encode(images)
    assert model.sizes == sizes
    torch.testing.assert_close(codes[:, 0], images[:, 0, 0, 0])
    model.sizes.clear()
    assert model.generate(n, seed=0).shape == images.shape
    assert model.sizes == sizes
