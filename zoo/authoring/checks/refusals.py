"""Checks that calls refuse wrong inputs."""

import dataclasses
from collections.abc import Callable
from functools import partial

import torch

from zoo.authoring.checks.support import (
    NotApplicable,
    expect_refused,
    get_model,
    images_for,
    require_calls,
)
from zoo.errors import CapabilityError


def check_refused_images(name: str) -> None:
    """Wrong images are refused by a message that says what was found and what was expected."""
    model = get_model(name)
    images = images_for(model, 2)
    expected = "N x " + " x ".join(map(str, model.image_shape))
    nan = images.clone()
    nan[0, 0, 0, 0] = float("nan")
    calls = [c for c in ("encode", "reconstruct", "features", "score") if c in model.capabilities]
    if not calls:
        raise NotApplicable("it declares no call that takes images")
    for call in calls:
        run: Callable[[object], object] = getattr(model, call)
        for wrong, text in (
            (images.numpy(), expected),
            (None, expected),
            (images[0], "add the batch dimension"),
            (images[:, :, :-1], f"expected images of shape {expected}"),
            (images[:0], "empty batch"),
            (images.double(), "expected float32"),
            ((images * 255).to(torch.uint8), "expected float32"),
            (images * 255, "divide by 255"),
            (images - 1, "expected image values in [0, 1]"),
            (nan, "expected image values in [0, 1]"),
        ):
            expect_refused(partial(run, wrong), text)


def check_refused_codes(name: str) -> None:
    """Wrong codes are refused by a message that says what was found and what was expected."""
    model = get_model(name)
    require_calls(model, "decode")
    decode: Callable[..., object] = model.decode
    codes = torch.zeros(2, *model.code_shape)
    expected = "N x " + " x ".join(map(str, model.code_shape))
    for wrong, text in (
        (codes.numpy(), expected),
        (codes[..., :-1], f"expected codes of shape {expected}"),
        (codes[:0], "empty batch"),
        (codes.double(), "expected float32 codes"),
        (codes / 0, "NaN"),
    ):
        expect_refused(partial(decode, wrong), text)


def check_undeclared_capability(name: str) -> None:
    """A call that is not declared raises CapabilityError, which names models that have it."""
    model = get_model(name)
    images, codes = images_for(model)[:1], torch.zeros(1, *model.code_shape)
    arguments = {"decode": codes, "generate": 1}
    declared = model.record
    for call in ("encode", "decode", "reconstruct", "generate", "features", "score"):
        left = tuple(c for c in declared.capabilities if c != call)
        model.spec = dataclasses.replace(declared, capabilities=left)
        try:
            getattr(model, call)(arguments.get(call, images))
        except CapabilityError as error:
            for text in (f"cannot {call}", "Models that can:"):
                assert text in str(error), f"the message should have {text!r}: {error}"
        else:
            raise AssertionError(f"{call} ran though it was not declared")
        finally:
            model.spec = declared
