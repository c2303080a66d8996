"""Every public call, in one thread, while another watches what all code of the process shares."""

import gc
import itertools
import os
import random
import shutil
import sys
import threading
import time
import warnings
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.utils
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from zoo import images, weights
from zoo.api import pulled
from zoo.data import load_data, split_validation
from zoo.evaluation.generation import kernel_distance
from zoo.process_state import changes, process_state
from zoo.report.card import write_card
from zoo.sample import sample
from zoo.sources import weights_folder

SMALL = {"config": {"hidden": 8, "latent_dim": 4}, "settings": {"epochs": 1, "batch_size": 32}}
PROTOCOLS = ("reconstruction", "repair", "probe", "knn", "kmeans")

FOREIGN_FILTERS = {
    "sklearn/utils/validation.py": "check_array, of whatever is given to scikit-learn, asks NumPy "
    "whether an array has complex numbers, which it does by turning a warning into an error",
    "sklearn/utils/parallel.py": "each task of scikit-learn's own threads gets the filters of the "
    "thread that started it",
    "sklearn/utils/multiclass.py": "type_of_target, of the labels that are given to a probe",
}
"""Files of other libraries that change the filters of warnings for a moment, and why they do: what
they compute is not to be had of them otherwise. Ours is none of them."""

ON_IMPORT = {
    "warnings.filters": "scikit-learn's, for its own deprecations",
    "logging": "the loggers of matplotlib, numba and the Hub's client",
    "the environment": "settings of OpenMP by scikit-learn, and of torch's compiler by timm",
    "Python's random state": "names of temporary files, by scikit-learn",
}
"""What libraries change when they are imported, once in a process."""


@pytest.fixture
def place(tmp_path, hub, monkeypatch):
    """A folder with data, pictures and a Hub, and everything that the calls are given."""
    constants = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
    }
    for name, value in constants.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", "hf_ana")
    huggingface_hub.utils.disable_progress_bars()
    hub.add_user("ana", "hf_ana")
    pixels, labels = sample()
    np.savez(
        tmp_path / "mnist.npz", train_images=pixels, train_labels=labels,
        test_images=pixels[:60], test_labels=labels[:60],
    )  # fmt: skip
    pictures = tmp_path / "pictures"
    for i, kind in enumerate(("a", "b") * 20):
        (pictures / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).resize((40 + i, 50)).save(pictures / kind / f"{i}.png")
    (pictures / "a" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    return tmp_path


def calls(place: Path, number: int):
    """Names of public calls and each as a function; ``number`` is another for each round."""
    model = zoo.load("ae.mnist")
    generator = zoo.load("dcgan.mnist")
    x = model.preprocess(torch.linspace(0, 1, 4 * 784).reshape(4, 1, 28, 28))
    codes = model.encode(x)
    out = place / f"run{number}"
    mine = place / f"mine{number}"
    shutil.copytree(weights_folder("ae.mnist"), mine)
    yield "list_models", lambda: zoo.list_models(pretrained=True)
    yield "info", lambda: zoo.info("ae.mnist")
    yield "load", lambda: zoo.load("conv_ae.fashion_mnist")
    yield "load a folder", lambda: zoo.load(f"local-dir:{mine}")
    yield "load of no such name", lambda: _refused(lambda: zoo.load("ae.nothing"))
    yield "pull", lambda: zoo.pull("ae.mnist", to=place / f"pulled{number}")
    for call in ("encode", "reconstruct", "features", "score"):
        yield call, lambda call=call: getattr(model, call)(x)
    yield "decode", lambda: model.decode(codes)
    yield "generate", lambda: generator.generate(3, seed=1)
    yield "generate without a seed", lambda: generator.generate(3)
    yield "a refused call", lambda: _refused(lambda: model.encode(x * 255))
    yield "preprocess", lambda: model.preprocess(np.zeros((5, 9, 9, 3), np.uint8))
    yield "read_pictures", lambda: images.read_pictures([place / "pictures"], model.preprocessing)
    yield "decode_many, left halfway", lambda: next(
        images.decode_many([[str(p)] for p in (place / "pictures" / "a").iterdir()] * 9,
                           model.preprocessing)
    )  # fmt: skip
    yield "load_data", lambda: load_data(str(place / "pictures"), "train", model.preprocessing)
    data = load_data("mnist", "train", model.preprocessing, data_dir=place)
    yield "split_validation", lambda: split_validation(data, 0.1, 3)
    yield "train", lambda: zoo.train("ae", data=data, out=out, device="cpu", **SMALL)
    yield "train a GAN", lambda: zoo.train(
        "dcgan", data=data, out=place / f"gan{number}", device="cpu",
        config={"width": 2, "latent_dim": 3},
        settings={"epochs": 1, "encoder_epochs": 1, "batch_size": 64, "affine": 0.5},
    )  # fmt: skip
    yield "train with dropout", lambda: zoo.train(
        "gan", data=data, out=place / f"dropout{number}", device="cpu",
        settings={"epochs": 1, "encoder_epochs": 1, "batch_size": 100},
    )  # fmt: skip
    yield "verify", lambda: weights.verify(zoo.load(f"local-dir:{out}"), out / "weights")
    yield (
        "evaluate",
        lambda: zoo.evaluate(f"local-dir:{out}", data="mnist", data_dir=place, protocols=PROTOCOLS),
    )
    yield "write_card", lambda: write_card(out / "weights")
    yield "kernel_distance", lambda: kernel_distance(x[:, 0, 0], x[:, 0, 1])
    yield "publish", lambda: zoo.publish(mine, f"ana/ae.mine{number}")
    yield "load from the Hub", lambda: zoo.load(f"hf-hub:ana/ae.mine{number}")
    yield "pulled from the Hub", lambda: pulled(f"hf-hub:ana/ae.mine{number}")


def _refused(call) -> None:
    with pytest.raises(zoo.ZooError):
        call()


def run_all(place: Path, number: int, kept=lambda name, before: None) -> None:
    """Every call in a thread of its own; what was raised there is raised here."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for name, call in calls(place, number):
                before = process_state()
                call()
                kept(name, before)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        yield
    thread.join()
    if failed:
        raise failed[0]


@pytest.fixture
def filtering(monkeypatch):
    """The files, and whose they are, that change the filters of warnings for a moment."""
    files: set[str] = set()
    enter = warnings.catch_warnings.__enter__

    def noted(self):
        files.add(sys._getframe(1).f_code.co_filename)
        return enter(self)

    monkeypatch.setattr(warnings.catch_warnings, "__enter__", noted)
    return files


@pytest.mark.slow
def test_nothing_that_is_shared_changes(place, filtering):
    """Neither after a call nor at any moment of it."""
    alone = process_state()
    for _ in run_all(place, 0):
        time.sleep(0.01)
    # What libraries set when they are imported, which all of them are now.
    assert changes(alone, process_state()).keys() <= ON_IMPORT.keys()
    filtering.clear()
    found: dict[str, object] = {}

    def kept(name, before):
        if changed := changes(before, process_state()):
            found[name] = changed

    first, looks = process_state(), 0
    for _ in run_all(place, 1, kept):
        now = process_state()
        looks += 1
        # Of the filters, see FOREIGN_FILTERS. What is the thread's own is not the other's.
        for key in changes(first, now).keys() - {"warnings.filters"}:
            found.setdefault("at some moment", {})[key] = changes(first, now)[key]
        time.sleep(0.001)
    assert not found
    assert looks > 100
    # The environment of the README's commands, with the libraries, lies in the tree.
    tree = str(Path(__file__).parents[1])
    ours = {f for f in filtering if f.startswith(tree) and "site-packages" not in Path(f).parts}
    assert not ours, "our own code changes the filters of warnings"
    unknown = [f for f in filtering if not f.endswith(tuple(FOREIGN_FILTERS))]
    assert not unknown


@pytest.mark.slow
def test_layers_that_are_built_meanwhile_have_their_values(place):
    """Another thread builds with torch's own defaults and its random state, as if alone."""
    built = 0
    for _ in run_all(place, 2):
        layers = (nn.Linear(3, 5), nn.Conv2d(2, 3, 3), nn.BatchNorm1d(4), nn.Embedding(3, 2))
        for layer in layers:
            for parameter in layer.parameters():
                assert parameter.dtype == torch.float32
                assert not parameter.is_meta
                assert parameter.requires_grad
                assert not parameter.is_inference()
        bound = 3**-0.5
        values = layers[0].weight.detach()
        assert bool((values.abs() <= bound).all())
        # Of fifteen numbers of 24 bits, two are the same in one of 160,000 draws.
        assert len(values.unique()) >= values.numel() - 1
        assert bool((layers[2].weight == 1).all())
        assert bool((layers[2].bias == 0).all())
        assert layers[0](torch.ones(1, 3)).grad_fn is not None
        assert len(layers[3].weight.detach().unique()) >= 5
        built += len(layers)
    assert built > 500


@pytest.mark.slow
def test_the_random_state_of_another_thread_is_its_own(place):
    """What torch, NumPy and Python draw there is what they draw without the calls."""

    def draw():
        return float(torch.rand(())), float(np.random.rand()), random.random()

    with torch.random.fork_rng(devices=[]):
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(3)
        drawn = [draw() for _ in run_all(place, 3)]
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(3)
        assert drawn == [draw() for _ in drawn]


def test_create_draws_as_any_module_does():
    """Of the shared state it changes torch's random state alone, by drawing from it."""
    zoo.create("conv_ae")
    before = process_state()
    with torch.random.fork_rng(devices=[]):
        zoo.create("conv_ae")
        assert changes(before, process_state()).keys() == {"torch's random state"}
        torch.manual_seed(4)
        first, second = zoo.create("ae"), zoo.create("ae")
        torch.manual_seed(4)
        again = zoo.create("ae")
    key = next(key for key, tensor in first.state_dict().items() if tensor.numel() > 99)
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], second.state_dict()[key])


# -- the watcher itself ----------------------------------------------------------------------------


def _umask(value: int) -> int:
    return os.umask(value)


CHANGES = {
    "warnings.filters": lambda: warnings.simplefilter("ignore", ImportWarning),
    "torch.nn.init": lambda: setattr(nn.init, "zeros_", lambda tensor: tensor),
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's random state": lambda: torch.rand(1),
    "Python's random state": random.random,
    "NumPy's random state": np.random.rand,
    "NumPy's handling of errors": lambda: np.seterr(divide="raise"),
    "the environment": lambda: os.environ.update(ZOO_WATCHED="1"),
    "the working directory": lambda: os.chdir("/"),
    "the umask": lambda: _umask(0o77),
    "sys.path": lambda: sys.path.append("/nowhere"),
    "Pillow's bound of pixels": lambda: setattr(Image, "MAX_IMAGE_PIXELS", 7),
    "the garbage collector": gc.disable,
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_watcher_sees(what, monkeypatch):
    if what == "the umask" and not Path("/proc/self/status").exists():
        pytest.skip("this system tells the umask to nobody who does not set it")
    zeros, dtype, threads = nn.init.zeros_, torch.get_default_dtype(), torch.get_num_threads()
    pixels, folder, errors = Image.MAX_IMAGE_PIXELS, os.getcwd(), np.geterr()
    umask = _umask(0)
    _umask(umask)
    path, state = list(sys.path), torch.get_rng_state()
    with warnings.catch_warnings():
        before = process_state()
        try:
            CHANGES[what]()
            assert what in changes(before, process_state())
        finally:
            nn.init.zeros_, Image.MAX_IMAGE_PIXELS, sys.path[:] = zeros, pixels, path
            torch.set_default_dtype(dtype)
            torch.set_default_device(None)
            torch.set_num_threads(threads)
            torch.set_rng_state(state)
            np.seterr(**errors)
            os.environ.pop("ZOO_WATCHED", None)
            os.chdir(folder)
            _umask(umask)
            gc.enable()


def test_the_watcher_sees_what_is_changed_for_a_moment(filtering):
    """As loading once did: it swapped the functions of torch.nn.init, and put them back."""
    first, stop, seen = process_state(), threading.Event(), set()

    def swap():
        zeros = nn.init.zeros_
        for i in itertools.count():
            nn.init.zeros_ = (lambda tensor: tensor) if i % 2 else zeros
            if stop.is_set():
                break
        nn.init.zeros_ = zeros
        with warnings.catch_warnings():
            pass

    thread = threading.Thread(target=swap)
    thread.start()
    for _ in range(50):
        seen |= changes(first, process_state()).keys()
    stop.set()
    thread.join()
    assert "torch.nn.init" in seen
    assert __file__ in filtering
