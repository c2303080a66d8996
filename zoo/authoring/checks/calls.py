"""Checks of the results of a model's calls."""

import torch

from zoo import weights
from zoo.authoring.checks.support import (
    SMALL,
    expect_close,
    expect_same,
    get_model,
    images_for,
    require_calls,
)
from zoo.isolation import isolated
from zoo.model import BATCH


def check_defaults(name: str) -> None:
    """A model is on the CPU, float32 and in eval mode at first."""
    model = get_model(name)
    training = [name for name, module in model.named_modules() if module.training]
    assert not training, f"expected eval mode, but these modules train: {training}"
    for key, tensor in (*model.named_parameters(), *model.named_buffers()):
        expect_same(tensor.device.type, "cpu", f"the device of {key}")
        if tensor.is_floating_point():
            expect_same(tensor.dtype, torch.float32, f"the dtype of {key}")


def check_shapes_and_range(name: str) -> None:
    """Every declared call gives the shapes of the contract, and images stay in [0, 1]."""
    model = get_model(name)
    images, can = images_for(model), model.capabilities
    n, made = len(images), weights.measure(model, images)
    for call, key, shape in (
        ("encode", "codes", (n, *model.code_shape)),
        ("decode", "decoded", (n, *model.image_shape)),
        ("reconstruct", "reconstructions", (n, *model.image_shape)),
        ("generate", "generated", (n, *model.image_shape)),
        ("score", "scores", (n,)),
    ):
        if call in can and key in made:
            expect_same(tuple(made[key].shape), shape, f"the shape that {call} gives")
    if "features" in can:
        shape = tuple(made["features"].shape)
        assert len(shape) == 2, f"the shape of features: expected N x F, got {shape}"
        expect_same(shape[0], n, "the number of features")
    for key, tensor in made.items():
        expect_same(tensor.dtype, torch.float32, f"the dtype of {key}")
        assert bool(torch.isfinite(tensor).all()), f"{key}: expected finite numbers, got others too"
        assert not tensor.requires_grad, f"{key} hold a graph: something ran with gradients"
    for key in made:
        if key in ("decoded", "reconstructions", "generated"):
            low, high = float(made[key].min()), float(made[key].max())
            in_range = low >= 0 and high <= 1
            assert in_range, f"{key}: expected values in [0, 1], got {low:.4g} to {high:.4g}"


def check_reconstruct(name: str) -> None:
    """``reconstruct`` is ``decode`` after ``encode``."""
    model = get_model(name)
    require_calls(model, "encode", "decode", "reconstruct")
    images = images_for(model)
    expect_close(model.reconstruct(images), model.decode(model.encode(images)), "reconstruct")


def check_determinism(name: str) -> None:
    """A call gives the same bits each time, and leaves the global random state alone."""
    model = get_model(name)
    images = images_for(model)
    before = torch.get_rng_state()
    first = weights.measure(model, images)
    assert torch.equal(torch.get_rng_state(), before), "the global random state was changed"
    with isolated(2):  # what is drawn is of another seed
        second = weights.measure(model, images)
    for key in first:
        assert torch.equal(first[key], second[key]), f"{key} differ from one call to the next"


def check_batch_independence(name: str) -> None:
    """An image's results do not depend on the other images in its batch, nor on their number."""
    model = get_model(name)
    images = images_for(model)
    together = weights.measure(model, images)
    alone = [weights.measure(model, image[None]) for image in images]
    together.pop("generated", None)
    for key in together:
        expect_close(torch.cat([made[key] for made in alone]), together[key], f"{key} of a batch")
    if "encode" in model.capabilities and images[0].numel() <= SMALL:
        many = images[:1].expand(BATCH + 1, *images.shape[1:])
        expect_close(model.encode(many)[-1:], together["codes"][:1], "codes after a split")


def check_inputs(name: str) -> None:
    """A call leaves its input as it was, and its answer shares memory with nothing."""
    model = get_model(name)
    images, can = images_for(model), model.capabilities
    codes = model.encode(images) if {"encode", "decode"} <= set(can) else None
    own = {tensor.untyped_storage().data_ptr(): key for key, tensor in model.state_dict().items()}
    given = {call: images for call in ("encode", "reconstruct", "features", "score")}
    for call, batch in {**given, "decode": codes}.items():
        if call not in can or batch is None:
            continue
        for part in (batch[:1], batch):
            before = part.clone()
            answer = getattr(model, call)(part)
            assert torch.equal(part, before), f"{call} changes the tensor that it is given"
            memory = answer.untyped_storage().data_ptr()
            shares = memory == part.untyped_storage().data_ptr()
            assert not shares, f"what {call} gives is a view of what it was given: clone it"
            assert memory not in own, f"what {call} gives is the model's own {own.get(memory)}"


def check_forward(name: str) -> None:
    """``model(images)`` gives the features, with gradients to what is learnt by them."""
    model = get_model(name)
    require_calls(model, "features")
    images = images_for(model)
    with torch.enable_grad():
        features = model(images)
    expect_close(
        features.detach(), model.features(images), "model(images), which are not the features"
    )
    if any(p.requires_grad for p in model.parameters()):
        assert features.requires_grad, "no gradient flows through _features(self, images)"


def check_train_mode(name: str) -> None:
    """A call gives the same in train mode, and changes neither that mode nor a tensor."""
    model = get_model(name)
    images = images_for(model)
    expected = weights.measure(model, images)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    modes = {module: module.training for module in model.modules()}
    try:
        for module in model.modules():
            module.training = True
        got = weights.measure(model, images)
        left = [key for key, module in model.named_modules() if not module.training]
        assert not left, f"a call leaves these modules in eval mode, which were in train: {left}"
        for key, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[key]), f"a call in train mode changes {key}"
        for key in expected:
            assert torch.equal(got[key], expected[key]), f"{key} differ in train mode"
    finally:
        model.load_state_dict(state)
        for module, training in modes.items():
            module.training = training


def check_preprocess(name: str) -> None:
    """Any picture becomes an image that every call takes."""
    from PIL import Image

    model = get_model(name)
    picture = Image.new("RGB", (61, 37), (200, 30, 90))
    images = model.preprocess([picture, picture])
    expect_same(tuple(images.shape), (2, *model.image_shape), "the shape that preprocess gives")
    if "encode" in model.capabilities:
        model.encode(images)
