"""compile=True: faster calls of the same model, whose tensors and names stay."""

import copy
import shutil

import pytest
import torch

import zoo
from zoo.errors import InputError
from zoo.model import ZooModel
from zoo.system import cpp_compiler

IMAGES = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> ZooModel:
    return zoo.load("deep_ae.mnist")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The methods that are compiled, without doing so."""
    methods: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda method: methods.append(method) or method)
    monkeypatch.setattr("shutil.which", lambda command: command)
    return methods


def test_each_call_is_compiled_and_nothing_else(model: ZooModel, compiled: list[object]):
    exact, names = model.encode(IMAGES), list(model.state_dict())
    assert not compiled
    model.prepare(compile=True)
    assert torch.equal(model.encode(IMAGES), exact)
    model.encode(IMAGES)
    assert compiled == [model._encode]
    model.decode(exact)
    assert compiled[1:] == [model._decode]
    model.generate(1)
    model(IMAGES)
    assert len(compiled) == 2
    assert list(model.state_dict()) == names
    model.prepare(compile=False).score(IMAGES)
    assert len(compiled) == 2


def test_a_copy_compiles_its_own(model: ZooModel, compiled: list[object]):
    model.prepare(compile=True).encode(IMAGES)
    for other in (copy.deepcopy(model), copy.copy(model)):
        other.encode(IMAGES)
        assert compiled[-1].__self__ is other  # type: ignore[attr-defined]


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.which", lambda command: None)
    monkeypatch.setenv("CXX", "my-compiler")
    with pytest.raises(InputError, match="my-compiler is not installed: install it, name another"):
        zoo.load("deep_ae.mnist", compile=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(cpp_compiler()) is None, reason="needs a C++ compiler")
def test_results_are_the_same():
    model = zoo.create("simclr", width=2)
    exact = model.encode(IMAGES)
    model.prepare(compile=True)
    torch.testing.assert_close(model.encode(IMAGES), exact)
    torch.testing.assert_close(model.encode(IMAGES[:3]), exact[:3])
    assert model._compiled is not None
