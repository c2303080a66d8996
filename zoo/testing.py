"""The contract's checks, as plain functions, for the authors of plugins and for ourselves.

A plugin's whole test file::

    from zoo.testing import contract

    test_contract = contract("latentzoo-mine")

``zoo check`` runs the same checks and reports them (:mod:`zoo.authoring.checking`).

Each check takes a name: of a model with weights, which is loaded, or of a model alone, which is
created untrained. It raises AssertionError, or whatever the model raises; the first line of its
docstring says what it expects. One that says nothing of this model, since it does not declare the
call, or has no weights, raises :class:`NotApplicable` with the reason: that is no pass.

A model that is known to fail one says so in its class, with the reason::

    class Mine(Autoencoder):
        expected_failures = {"check_batch_independence": "its normalisation spans the batch"}

Such a failure is shown with its reason and counts as well. One that passes after all does not: its
entry is out of date.
"""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo import api, weights
from zoo.density import GaussianMixture
from zoo.discovery import Plugin, normalise
from zoo.errors import CapabilityError, InputError
from zoo.folder import CONFIG, read_config, weights_root
from zoo.isolation import isolated
from zoo.model import BATCH, ZooModel, can_be_trained
from zoo.names import FolderName, PluginName, PrefixName
from zoo.process_state import changes, process_state
from zoo.registry import builder, registry
from zoo.sources import parse, weights_folder
from zoo.spec import complete_config

TOLERANCE = 1e-4
"""Between one image alone and the same image in a batch: only the order of additions differs."""

SMALL = 3 * 64 * 64
"""Numbers of an image of which more than a batch is tried; of larger ones that takes minutes."""


class NotApplicable(Exception):
    """A check has nothing to look at in this model; the text is the reason."""


class CheckFailed(AssertionError):
    """What a check says, with the file and line to look at, where no traceback leads."""

    def __init__(self, message: str, look: str):
        super().__init__(message)
        self.look = look


def models_of(distribution: str) -> list[str]:
    """Every model of a plugin distribution, every one with weights, and its prefixes' examples."""
    names = []
    for full, (plugin, spec) in zip(registry().names(), registry().specs(), strict=True):
        if plugin.distribution == normalise(distribution):
            names += [full, *(f"{full}.{w.tag}" for w in spec.weights)]
    for plugin, prefix in registry().prefixes():
        if plugin.distribution == normalise(distribution):
            names.append(prefix.example)
    assert names, f"no model of {distribution} was found; zoo plugins tells why"
    return names


def contract(distribution: str) -> Callable[..., None]:
    """The test, for pytest, of every check with every name of a plugin distribution.

    Expected failures are strict xfails with their reasons; what is not applicable is skipped, with
    the reason.
    """
    import pytest

    cases = []
    for name in models_of(distribution):
        reasons = expected_failures(name)
        for check in CHECKS:
            reason = reasons.get(check.__name__)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
            cases.append(pytest.param(name, check, id=f"{name}-{check.__name__}", marks=marks))

    @pytest.mark.parametrize(("name", "check"), cases)
    def test_contract(name: str, check: Callable[[str], None]) -> None:
        try:
            check(name)
        except NotApplicable as reason:
            pytest.skip(str(reason))

    return test_contract


def expected_failures(name: str) -> Mapping[str, str]:
    """What the class of the model ``name`` says that it fails: names of checks to reasons.

    Raises: AssertionError: an entry is of no check, or without a reason.
    """
    reasons = getattr(builder(api.info(name)), "expected_failures", {})
    known = [check.__name__ for check in CHECKS]
    for check, reason in reasons.items():
        assert check in known, f"expected_failures of {name}: no check {check!r}; there are {known}"
        assert isinstance(reason, str), f"expected_failures of {name}: {check} needs a reason"
        assert reason.strip(), f"expected_failures of {name}: {check} needs a reason"
    return reasons


def has_weights(name: str) -> bool:
    """Whether ``name`` is loaded and not created: it has a tag, or is a folder or repository."""
    match parse(name):
        case PluginName(tag=tag):
            return tag is not None
        case PrefixName():
            return False
    return True


@cache
def get_model(name: str) -> ZooModel:
    """The model that the checks of ``name`` share; none of them changes it."""
    with isolated(0):
        return api.load(name) if has_weights(name) else api.create(name)


@isolated()
def images_for(model: ZooModel, n: int = 6) -> Tensor:
    """``n`` images that fit ``model``: smooth, then noisy, then black and white at the end."""
    rng = torch.Generator().manual_seed(7)
    coarse = torch.rand(n, model.image_shape[0], 4, 4, generator=rng)
    images = torch.nn.functional.interpolate(coarse, model.image_shape[1:], mode="bilinear")
    images[n // 2 :] = torch.rand(images[n // 2 :].shape, generator=rng)
    images[-2], images[-1] = 0, 1
    return images


def check_record(name: str) -> None:
    """The record says of shapes and parameters what the built model has."""
    try:
        _check_record(name)
    except AssertionError as error:
        raise CheckFailed(str(error), record_line(name)) from error


def _check_record(name: str) -> None:
    model, spec = get_model(name), api.info(name)
    _same(model.spec.name, spec.name, "the model's own record is of another name")
    _same(sorted(spec.config), sorted(model.config), "settings of the record")
    parameters = sum(p.numel() for p in model.parameters())
    if not has_weights(name):
        _same(model.image_shape, tuple(spec.image_shape), "image_shape of the default config")
        _same(model.code_shape, tuple(spec.code_shape), "code_shape of the default config")
        takes = inspect.signature(type(model)).parameters
        if isinstance(parse(name), PluginName):
            _same(sorted(spec.config), sorted(takes), "settings of the record, as the builder's")
    elif spec.weights:
        (record,) = spec.weights
        _same(record.parameters, parameters, "the number of parameters")
        _same(record.preprocessing, model.preprocessing, "the preprocessing")
        # Weights of before a setting was added have that setting's default.
        _same(complete_config(spec, record.config), dict(model.config), "the config")
    else:  # a folder or repository, which is its own record
        config = read_config(weights_folder(name))
        _same(config.facts.get("parameters"), parameters, "the number of parameters")
    again = type(spec).from_dict(json.loads(json.dumps(spec.to_dict())))
    _same(again, spec, "the record after a round trip through JSON")


def check_defaults(name: str) -> None:
    """On the CPU, float32, in eval mode."""
    model = get_model(name)
    training = [name for name, module in model.named_modules() if module.training]
    assert not training, f"expected eval mode, but these modules train: {training}"
    for key, tensor in (*model.named_parameters(), *model.named_buffers()):
        _same(tensor.device.type, "cpu", f"the device of {key}")
        if tensor.is_floating_point():
            _same(tensor.dtype, torch.float32, f"the dtype of {key}")


def check_shapes_and_range(name: str) -> None:
    """Every declared call gives what the contract says, and images stay in [0, 1]."""
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
            _same(tuple(made[key].shape), shape, f"the shape that {call} gives")
    if "features" in can:
        shape = tuple(made["features"].shape)
        assert len(shape) == 2, f"the shape of features: expected N x F, got {shape}"
        _same(shape[0], n, "the number of features")
    for key, tensor in made.items():
        _same(tensor.dtype, torch.float32, f"the dtype of {key}")
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
    _needs(model, "encode", "decode", "reconstruct")
    images = images_for(model)
    _close(model.reconstruct(images), model.decode(model.encode(images)), "reconstruct")


def check_determinism(name: str) -> None:
    """Twice the same, bit by bit, whatever the global random state, which stays as it was."""
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
    """An image's results do not depend on its companions, nor on how many they are."""
    model = get_model(name)
    images = images_for(model)
    together = weights.measure(model, images)
    alone = [weights.measure(model, image[None]) for image in images]
    together.pop("generated", None)
    for key in together:
        _close(torch.cat([made[key] for made in alone]), together[key], f"{key} of a batch")
    if "encode" in model.capabilities and images[0].numel() <= SMALL:
        many = images[:1].expand(BATCH + 1, *images.shape[1:])
        _close(model.encode(many)[-1:], together["codes"][:1], "codes after a split")


def check_forward(name: str) -> None:
    """``model(images)`` gives the features, with gradients to what is learnt by them."""
    model = get_model(name)
    _needs(model, "features")
    images = images_for(model)
    with torch.enable_grad():
        features = model(images)
    _close(features.detach(), model.features(images), "model(images), which are not the features")
    if any(p.requires_grad for p in model.parameters()):
        assert features.requires_grad, "no gradient flows through _features(self, images)"


def check_generate(name: str) -> None:
    """A seed means the same images; another seed, or none, means others."""
    model = get_model(name)
    _needs(model, "generate")
    first = model.generate(3, seed=5)
    assert torch.equal(first, model.generate(3, seed=5)), "the same seed, other images"
    assert not torch.equal(first, model.generate(3, seed=6)), "another seed, the same images"
    assert not torch.equal(model.generate(3), model.generate(3)), "no seed, the same images"
    for n in (0, -1, 2.0, True, "3"):
        _refused(lambda n=n: model.generate(n), "expected a positive number of images")
    for seed in (-1, 2**63, 1.5, "0"):
        _refused(lambda seed=seed: model.generate(1, seed=seed), "expected a seed")
    _refused(lambda: model.generate(1, seed=5, no_such_option=1), "no_such_option")
    defaults = {key: option.default for key, option in model.spec.generate_options.items()}
    same = torch.equal(first, model.generate(3, seed=5, **defaults))
    assert same, "the options' defaults, said, give other images"


def check_generate_across_processes(name: str) -> None:
    """A seed means the same images in another process."""
    model = get_model(name)
    _needs(model, "generate")
    images = model.generate(2, seed=11)
    here = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    _same(_elsewhere(name)[1]["generated"], here, "sha256 of the images of seed 11, elsewhere")


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
            _refused(lambda run=run, wrong=wrong: run(wrong), text)


def check_refused_codes(name: str) -> None:
    """Wrong codes are refused by a message that says what was found and what was expected."""
    model = get_model(name)
    _needs(model, "decode")
    codes = torch.zeros(2, *model.code_shape)
    expected = "N x " + " x ".join(map(str, model.code_shape))
    for wrong, text in (
        (codes.numpy(), expected),
        (codes[..., :-1], f"expected codes of shape {expected}"),
        (codes[:0], "empty batch"),
        (codes.double(), "expected float32 codes"),
        (codes / 0, "NaN"),
    ):
        _refused(lambda wrong=wrong: model.decode(wrong), text)


def check_undeclared_capability(name: str) -> None:
    """A call that is not declared raises the zoo's error, which names models that can."""
    model = get_model(name)
    images, codes = images_for(model)[:1], torch.zeros(1, *model.code_shape)
    arguments = {"decode": codes, "generate": 1}
    declared = model.spec
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


def check_round_trip(name: str) -> None:
    """Through a weights folder and back: the same tensors, the same results."""
    if isinstance(parse(name), PrefixName):
        raise NotApplicable("the library behind the prefix keeps weights in its own way")
    model = get_model(name)
    images = images_for(model)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "weights"
        with isolated(0):
            twin = api.create(_full(name), **model.config)
        twin.load_state_dict(model.state_dict())
        weights.save(
            twin,
            folder,
            images=images,
            plugin=_plugin(name).distribution,
            facts={"dataset": "none", "licence": "none"},
        )
        again = api.load(f"local-dir:{folder}")
        stored, read = twin.state_dict(), again.state_dict()
        _same(sorted(read), sorted(stored), "the tensors that were read")
        for key in stored:
            assert torch.equal(stored[key], read[key]), f"{key} changed on the way"
        for key, value in weights.measure(twin, images).items():
            _close(weights.measure(again, images)[key], value, f"{key} after the round trip")
        weights.verify(again, folder)


def check_train_mode(name: str) -> None:
    """A call answers the same in train mode, which stays as it was, and so do all tensors."""
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
            assert torch.equal(got[key], expected[key]), f"{key} are others in train mode"
    finally:
        model.load_state_dict(state)
        for module, training in modes.items():
            module.training = training


def check_process(name: str) -> None:
    """Calls and loading change nothing that the process shares: filters, threads, random state."""
    model = get_model(name)
    images = images_for(model)

    def run() -> None:
        if has_weights(name):
            api.load(name)
        weights.measure(model, images)

    before, modules = process_state(), len(sys.modules)
    run()
    changed = changes(before, process_state())
    if changed and len(sys.modules) > modules:  # a library may set something up on its import
        before = process_state()
        run()
        changed = changes(before, process_state())
    assert not changed, "changed for the whole process: " + "; ".join(
        f"{key} was {was:.200}, is {now:.200}" for key, (was, now) in changed.items()
    )


def check_torch_defaults(name: str) -> None:
    """Torch's defaults (dtype, device, gradients) change no result, nor training."""
    # They are the process's, so they are set in another.
    script = "import sys; from zoo import testing; testing.print_under_defaults(sys.argv[1])"
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    run = subprocess.run(
        [sys.executable, "-c", script, name],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert run.returncode == 0, f"in another process: {run.stderr.strip()[-500:]}"
    got = json.loads(run.stdout.splitlines()[-1])
    expected = got.pop("nothing set")
    assert "error" not in expected, f"in another process: {expected['error']}"
    for default, results in got.items():
        assert "error" not in results, f"with {default}: {results['error']}"
        other = [key for key in results if results[key] != expected.get(key)]
        assert not other, f"with {default}, other bits than without: {', '.join(other[:5])}"


def print_under_defaults(name: str) -> None:
    """In a process of its own: digests of all that a model gives, under each of torch's defaults.

    As JSON, an object for each default: what to a digest, or ``error`` to a text.
    """
    torch.set_num_threads(1)
    float64, bfloat16 = (partial(_default_dtype, t) for t in (torch.float64, torch.bfloat16))
    made = {}
    for label, settings in (
        ("nothing set", ()),
        ("torch.set_default_dtype(torch.float64)", (float64,)),
        ("torch.set_default_dtype(torch.bfloat16)", (bfloat16,)),
        ('torch.set_default_device("meta")', (_default_device,)),
        ("torch.inference_mode()", (torch.inference_mode,)),
        ("torch.no_grad()", (torch.no_grad,)),
        ("several of these at once", (float64, _default_device, torch.inference_mode)),
    ):
        with contextlib.ExitStack() as stack:
            for setting in settings:
                stack.enter_context(setting())
            try:
                made[label] = _results(name, train=len(settings) != 1)
            except Exception as error:  # whatever a model does then
                made[label] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(made))


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def _default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


def _results(name: str, *, train: bool) -> dict[str, str]:
    """Digests of a new model's tensors and answers, and of a training's tensors."""
    get_model.cache_clear()
    model = get_model(name)
    tensors = {f"tensor {key}": tensor for key, tensor in model.state_dict().items()}
    tensors |= weights.measure(model, images_for(model))
    tensors["preprocessed"] = model.preprocess(np.linspace(0, 1, 15, dtype=np.float32)[None])
    digests = {}
    for key, tensor in tensors.items():
        with isolated():
            data = tensor.detach().contiguous().numpy()
        digests[key] = f"{data.dtype} {hashlib.sha256(data.tobytes()).hexdigest()}"
    if train and _trains(name):
        with tempfile.TemporaryDirectory() as temporary:
            folder = _train_shortly(name, Path(temporary) / "run")
            digests["training"] = read_config(folder).sha256
    return digests


def check_vectors(name: str) -> None:
    """The recorded test vectors come out on this machine."""
    if not has_weights(name):
        raise NotApplicable("it has no weights")
    weights.verify(get_model(name), weights_folder(name))


def check_preprocess(name: str) -> None:
    """Any picture becomes an image that every call takes."""
    from PIL import Image

    model = get_model(name)
    picture = Image.new("RGB", (61, 37), (200, 30, 90))
    images = model.preprocess([picture, picture])
    _same(tuple(images.shape), (2, *model.image_shape), "the shape that preprocess gives")
    if "encode" in model.capabilities:
        model.encode(images)


def check_training(name: str) -> None:
    """Training works: two steps of each phase with finite losses, then weights that load."""
    if not isinstance(parse(name), PluginName) or has_weights(name):
        raise NotApplicable("only a model that is created by its own name is trained")
    if not _trains(name):
        raise NotApplicable("its class has no loss, no phases and nothing to fit")
    from zoo.training.rng import seeded

    with seeded(0):
        before = api.create(name)
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        folder = _train_shortly(name, run)
        after = api.load(f"local-dir:{folder}")
        weights.verify(after, folder)
        phases = [phase.name for phase in before.phases(before.recipe())]
        log = (run / "log.jsonl").read_text("utf-8") if phases else ""
        _same([json.loads(line)["phase"] for line in log.splitlines()], phases, "phases that ran")
    # Stored as float16, so that alone would be a difference.
    pairs = [(before.state_dict()[k].half(), t.half()) for k, t in after.state_dict().items()]
    assert not all(torch.equal(a, b) for a, b in pairs), "no tensor changed: nothing was learnt"
    if "generate" in after.capabilities:
        _require_fitted(after, "after training")


def _trains(name: str) -> bool:
    """Whether ``name`` is of a model that can be trained, and not of weights."""
    kind = type(get_model(name))
    return can_be_trained(kind) and isinstance(parse(name), PluginName) and not has_weights(name)


def _train_shortly(name: str, run: Path) -> Path:
    """The weights folder of a run of two steps in each phase."""
    from zoo.data import Dataset
    from zoo.training import train

    kind = type(get_model(name))
    images = images_for(get_model(name), 46)[:23]  # the smooth ones; one is held out
    with isolated():
        pixels, labels = (images * 255).round().byte(), torch.arange(len(images)) % 2
    data = Dataset("smooth", "train", pixels, labels, "computed", "none", classes=("a", "b"))
    short = {f.name: 1 for f in dataclasses.fields(kind.recipe) if f.name.endswith("epochs")}
    return train(name, data=data, out=run, settings={**short, "batch_size": 8}, device="cpu")


def check_import(name: str) -> None:
    """The plugin's root module and hooks import nothing heavy and print nothing."""
    candidate = _plugin(name).candidate
    said, answer = _in_a_new_process(_DISCOVER, *map(str, candidate[:4]))
    root = record_line(name)
    if said:
        raise CheckFailed(f"it prints when it is imported: {said!r:.200}", root)
    if answer["heavy"]:
        raise CheckFailed(
            f"{', '.join(answer['heavy'])} imported when the plugin is discovered, which makes "
            "every command slow; import it in the module that the builder is in",
            answer["where"] or root,
        )


_DISCOVER = """
import importlib.util, json, os, sys, traceback
from zoo.discovery import HEAVY, Candidate, discover
candidate = Candidate(*sys.argv[1:5])
origin = importlib.util.find_spec(candidate.module.partition(".")[0]).origin
home, where = os.path.dirname(origin), []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY and not where:
            frames = [f for f in traceback.extract_stack() if f.filename.startswith(home + os.sep)]
            where.extend(f"{f.filename}:{f.lineno} (in {f.name})" for f in frames[-1:])
sys.meta_path.insert(0, Finder())
discover([candidate])
heavy = [name for name in HEAVY if name in sys.modules]
answer = {"heavy": heavy, "where": where[0] if where else ""}
"""


def _in_a_new_process(script: str, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What ``script`` printed, and the ``answer`` that it left, in a new folder.

    The files that it left in that folder are added to the answer.
    """
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    with tempfile.TemporaryDirectory() as temporary:
        place, file = Path(temporary) / "place", Path(temporary) / "answer.json"
        place.mkdir()
        ending = f"\nopen({str(file)!r}, 'w').write(json.dumps(answer))"
        run = subprocess.run(
            [sys.executable, "-c", script + ending, *arguments],
            cwd=place, capture_output=True, text=True, errors="replace",
            env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
        assert run.returncode == 0, f"in another process: {run.stderr.strip()[-500:]}"
        answer = json.loads(file.read_text("utf-8"))
        files = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
        return run.stdout, {**answer, "files": files}


@cache
def _elsewhere(name: str) -> tuple[str, dict[str, Any]]:
    """The model of ``name`` in another process: what is printed, written and generated there."""
    where = weights_folder(name) if isinstance(parse(name), FolderName) else None
    threads = str(torch.get_num_threads())
    return _in_a_new_process(_CALL, f"local-dir:{where.absolute()}" if where else name, threads)


_CALL = """
import hashlib, json, sys, torch
from zoo import testing, weights
torch.set_num_threads(int(sys.argv[2]))
model = testing.get_model(sys.argv[1])
weights.measure(model, testing.images_for(model, 2))
images = model.generate(2, seed=11) if "generate" in model.capabilities else torch.zeros(0)
answer = {"generated": hashlib.sha256(images.numpy().tobytes()).hexdigest()}
"""


def check_quiet(name: str) -> None:
    """Building and calling print nothing on stdout and write no file where they run."""
    said, answer = _elsewhere(name)
    assert not said, f"it prints: {said!r:.200}"
    assert not answer["files"], f"it writes files where it runs: {', '.join(answer['files'][:5])}"


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


def check_density(name: str) -> None:
    """With weights, it generates from a density that was fitted, unless that is its prior."""
    model = get_model(name)
    _needs(model, "generate")
    if not has_weights(name):
        raise NotApplicable("it has no weights; check_training looks at it after training")
    if not _densities(model):
        raise NotApplicable("it has no GaussianMixture to fit")
    _require_fitted(model, "in its weights")


def _densities(model: ZooModel) -> dict[str, GaussianMixture]:
    """Those that have to be fitted, by name."""
    found = ((k, m) for k, m in model.named_modules() if isinstance(m, GaussianMixture))
    return {k: m for k, m in found if not m.prior}


def _require_fitted(model: ZooModel, when: str) -> None:
    for key, density in _densities(model).items():
        fresh = GaussianMixture(density.means.shape[1], len(density.weights)).state_dict()
        untouched = all(torch.equal(fresh[k], t.cpu()) for k, t in density.state_dict().items())
        if untouched:
            kind = type(model)
            raise CheckFailed(
                f"{key} is the untouched standard normal distribution {when}: generate() draws "
                f"codes that have nothing to do with those of images. {kind.__name__}.fit should "
                f"call self.{key}.fit(codes, seed=seed)",
                line_of(kind.fit if kind.fit.__module__ == kind.__module__ else kind),
            )


def check_weights_folders(name: str) -> None:
    """Weights bear the name of the model that they are of, and none is left without a model."""
    if isinstance(parse(name), PrefixName):
        raise NotApplicable("the library behind the prefix keeps weights in its own way")
    spec, plugin = api.info(name), _plugin(name)
    if has_weights(name):
        config = weights_folder(name) / CONFIG
        said = read_config(config.parent).model
        if said not in (spec.name, *spec.renamed_from):
            raise CheckFailed(
                f"config.json says model {said!r}, the record {spec.name!r}: whoever publishes or "
                f"copies the folder has weights of no model. Write {spec.name!r} there, or "
                f"renamed_from=({said!r},) into the record",
                f"{config}:1",
            )
        return
    root = weights_root(plugin.root.__file__)
    folders = sorted(f.name for f in root.iterdir() if f.is_dir()) if root.is_dir() else []
    if not folders:
        raise NotApplicable("its plugin ships no weights")
    known = {
        f"{model}.{weights.tag}"
        for spec in plugin.specs
        for weights in spec.weights
        for model in (spec.name, *spec.renamed_from)
    }
    lost = [
        folder for folder in folders if folder not in known and not folder.startswith(("_", "."))
    ]
    if lost:
        raise CheckFailed(
            f"no model of the plugin has the weights in {', '.join(lost)}: it declares "
            f"{', '.join(s.name for s in plugin.specs)}, with {', '.join(sorted(known)) or 'none'}"
            ". weights=bundled_weights(__file__, NAME) in the record finds those of NAME, and "
            "after a renaming bundled_weights(__file__, NAME, OLD_NAME) those of both",
            f"{root / lost[0] / CONFIG}:1",
        )


def check_publishable(name: str) -> None:
    """The weights folder is fit to be published, as ``zoo publish`` would look at it."""
    if not has_weights(name):
        raise NotApplicable("it has no weights")
    from zoo.publishing import prepare

    with tempfile.TemporaryDirectory() as temporary:
        prepare(weights_folder(name), Path(temporary), "hf-hub:someone/checked")


CHECKS = (
    check_import,
    check_record,
    check_weights_folders,
    check_defaults,
    check_shapes_and_range,
    check_reconstruct,
    check_determinism,
    check_batch_independence,
    check_inputs,
    check_forward,
    check_generate,
    check_density,
    check_generate_across_processes,
    check_quiet,
    check_refused_images,
    check_refused_codes,
    check_undeclared_capability,
    check_round_trip,
    check_train_mode,
    check_process,
    check_torch_defaults,
    check_vectors,
    check_publishable,
    check_preprocess,
    check_training,
)
"""All checks, in the order in which they are run."""


def _plugin(name: str) -> Plugin:
    """The plugin that declares the model of ``name``."""
    match parse(name):
        case PrefixName(prefix=prefix):
            return registry().find_prefix(prefix)[0]
        case PluginName(model=model, distribution=distribution):
            return registry().find(model, distribution)[0]
    spec = api.info(name)
    pairs = [(plugin, s) for plugin, s in registry().specs() if s.name == spec.name]
    return next((plugin for plugin, s in pairs if s.builder == spec.builder), pairs[0][0])


def _full(name: str) -> str:
    """The model of ``name`` alone, by its full name: another plugin may have such a model too."""
    return f"{_plugin(name).distribution}:{api.info(name).name}"


def line_of(thing: object) -> str:
    """The file and line where a class or function begins."""
    first = inspect.getsourcelines(thing)[1]
    what = "class" if inspect.isclass(thing) else "in"
    return f"{inspect.getsourcefile(thing)}:{first} ({what} {thing.__name__})"


def record_line(name: str) -> str:
    """The file and line where the plugin declares the model or the prefix of ``name``."""
    root, parsed = _plugin(name).root, parse(name)
    declared = parsed.prefix if isinstance(parsed, PrefixName) else api.info(name).name
    wanted = re.compile(rf"""name\s*=\s*["']{re.escape(declared)}["']""")
    lines = Path(root.__file__).read_text("utf-8", "replace").splitlines()
    hits = [n for n, line in enumerate(lines, 1) if wanted.search(line)]
    hook = [n for n, line in enumerate(lines, 1) if "hookimpl" in line and "import" not in line]
    return f"{root.__file__}:{(hits or hook or [1])[0]} (the record of {declared})"


def _needs(model: ZooModel, *calls: str) -> None:
    missing = [call for call in calls if call not in model.capabilities]
    if missing:
        raise NotApplicable(f"it does not declare {' and '.join(missing)}")


def _same(got: object, expected: object, what: str) -> None:
    assert got == expected, f"{what}: expected {expected!r:.200}, got {got!r:.200}"


def _close(got: Tensor, expected: Tensor, what: str) -> None:
    bound = TOLERANCE * (1 + float(expected.abs().max()))
    difference = float((got - expected).abs().max())
    assert difference <= bound, f"{what}: off by {difference:.3g}, at most {bound:.3g} expected"


def _refused(call: Callable[[], object], text: str) -> None:
    try:
        call()
    except InputError as error:
        assert text in str(error), f"the message should have {text!r}: {error}"
    else:
        raise AssertionError(f"taken, though it should be refused with {text!r}")
