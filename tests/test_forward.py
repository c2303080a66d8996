"""``model(images)``: the features as a layer of torch like any other."""

import copy

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import CapabilityError, InputError

WITHOUT_GRADIENT = {
    "patch_kmeans": "its centroids are found by k-means: no parameter learns by gradients",
    "pca": "its components are found in closed form: it has no parameters",
}


@pytest.fixture(scope="module")
def model():
    return zoo.load("conv_ae.fashion_mnist")


@pytest.fixture
def images():
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", zoo.list_models())
def test_gradients_reach_the_encoder(name):
    model = zoo.create(name).train()
    features = model(torch.rand(3, *model.image_shape))
    assert features.requires_grad != (name in WITHOUT_GRADIENT)
    if features.requires_grad:
        features.square().sum().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        first = next(p for p in model.parameters() if p.grad is not None)
        assert len(grads) >= 2
        assert bool(first.grad.abs().sum() > 0)


@pytest.mark.parametrize("name", [*zoo.list_models(), "vq_vae.cifar10", "simclr.fashion_mnist"])
def test_the_features_bit_by_bit(name):
    model = zoo.load(name) if "." in name else zoo.create(name)
    images = torch.rand(3, *model.image_shape)
    with torch.no_grad():
        assert torch.equal(model(images), model.features(images))


def test_shapes_and_capabilities(model, images):
    with pytest.raises(InputError, match=r"shape N x 1 x 28 x 28, got 6 x 28 x 28"):
        model(images[:, 0])
    without = copy.deepcopy(model)
    record = model.spec.to_dict() | {"weights": [], "default_tag": None}
    without.spec = zoo.ModelSpec.from_dict(record | {"capabilities": ["generate"]})
    with pytest.raises(CapabilityError, match="cannot features"):
        without(images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["ae.mnist", "vae.mnist", "dcgan.mnist", "vq_vae.cifar10"])
def test_half_precision(name, dtype):
    """The whole net in it, or autocast; a head of the same precision takes the features."""
    model = zoo.load(name)
    images = torch.rand(6, *model.image_shape)
    expected = model.features(images)
    half = copy.deepcopy(model).to(dtype)
    head = nn.Linear(expected.shape[1], 3, dtype=dtype)
    with torch.no_grad():
        assert nn.Sequential(half, head)(images.to(dtype)).dtype == dtype
        with torch.autocast("cpu", dtype=dtype):
            cast = model(images)
        made = half(images.to(dtype))
    if not name.startswith("vq_vae"):  # some places are given another vector: all or nothing
        for features in (cast, made):
            assert (features.float() - expected).abs().max() < 0.02 * expected.abs().max()


def test_hooks_and_train_mode(model, images):
    model = copy.deepcopy(model).train()
    seen = []
    model.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model(images)
    assert seen == [(6, *model.code_shape)]
    changed = [k for k, tensor in model.state_dict().items() if not torch.equal(tensor, before[k])]
    assert any("running_mean" in key for key in changed), "in train mode, as for any module"


@pytest.mark.parametrize("name", zoo.list_models())
def test_export_with_a_batch_of_any_size(name):
    model = zoo.create(name)
    images = torch.rand(5, *model.image_shape)
    batch = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(model, (images[:3],), dynamic_shapes=batch).module()
    with torch.no_grad():
        assert torch.allclose(program(images), model.features(images), atol=1e-3)


def test_data_parallel(model, images):
    """On the CPU it hands the images on to the module; gradients reach its parameters."""
    model = copy.deepcopy(model)
    expected = model(images)
    expected.square().sum().backward()
    named = [(n, p) for n, p in model.named_parameters() if p.grad is not None]
    gradients = {n: p.grad.clone() for n, p in named}
    model.zero_grad()
    features = nn.DataParallel(model)(images)
    assert torch.equal(features, expected)
    features.square().sum().backward()
    assert gradients
    for name, parameter in named:
        assert torch.equal(parameter.grad, gradients[name]), name


def test_compiled(model, images):
    """In one graph: nothing in ``forward`` breaks it."""
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(images), model.features(images))
