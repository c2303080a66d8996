"""The sampler follows the velocity, in as many steps as it is asked for."""

import pytest
import torch

import zoo
from zoo.errors import InputError, SettingsError
from zoo.model import Step


@pytest.fixture
def model():
    torch.manual_seed(0)
    return zoo.create("rectified_flow", width=8)


def test_a_constant_velocity_is_followed_whatever_the_steps(model):
    model.velocity = lambda x, t: torch.full_like(x, 0.5)
    one, many = (model.generate(2, seed=3, steps=steps) for steps in (1, 50))
    assert torch.allclose(one, many, atol=1e-5)
    assert float(one.std()) > 0.1


def test_the_loss_is_the_error_of_the_velocity(model):
    """That of one who says 0: the mean square of x1 - x0, images of zeros being -1 inside."""
    model.velocity = lambda x, t: torch.zeros_like(x)
    images = torch.zeros(500, 1, 28, 28)
    loss = model.loss(images, Step(images, model.recipe()))["velocity"]
    assert float(loss) == pytest.approx(2, abs=0.02)  # 1 of the noise and (-1)² of the image


def test_what_is_refused(model):
    with pytest.raises(InputError, match="steps"):
        model.generate(1, steps=0)
    with pytest.raises(SettingsError, match="a width that 8 divides"):
        zoo.create("rectified_flow", width=12)
    with pytest.raises(SettingsError, match="a size from 8 to 64 that 4 divides"):
        zoo.create("rectified_flow", size=30)
