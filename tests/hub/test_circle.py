"""The whole circle of docs/sharing.md: trained, measured, published, and loaded by somebody else,
who gets the same outputs, also when the Hub is gone."""

import os
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hubserver import HubServer
from PIL import Image

from zoo.sample import sample

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sharing.md").read_text("utf-8")
SECTION = re.search(r"^## Publish and load from the Hub\n(.*?)^## ", PAGE, re.M | re.S)[1]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", SECTION, re.M | re.S)

OUTPUTS = """
import sys
import safetensors.torch, zoo
from zoo.sample import sample
model = zoo.load(sys.argv[1])
images = model.preprocess(sample()[0][:8])
made = {c: getattr(model, c)(images) for c in ("encode", "reconstruct", "features", "score")}
made["generate"] = model.generate(4, seed=0)
safetensors.torch.save_file({k: v.contiguous() for k, v in made.items()}, sys.argv[2])
"""
REPO = "you/ae.clothes"


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        server.add_user("you", "hf_you")
        yield server


@pytest.fixture(scope="module")
def published(hub, preloaded, tmp_path_factory):
    """The folder in which the page's first block was run."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "pictures").mkdir()
    for i, pixels in enumerate(sample()[0][:40]):
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
    (_, commands), *_ = BLOCKS
    shell(hub, preloaded, folder, commands, token="hf_you")
    python(hub, preloaded, folder, OUTPUTS, "local-dir:runs/clothes", "before")
    return folder


@pytest.fixture(scope="module")
def colleague(published, tmp_path_factory):
    """Somebody with an empty cache, and no token."""
    folder = tmp_path_factory.mktemp("colleague")
    (folder / "shirt.png").write_bytes((published / "pictures" / "1.png").read_bytes())
    return folder


def environment(hub, folder, token=None):
    """That of ``folder``, where the Hub's client has its home too."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ZOO_"))}
    return clean | hub.env(folder / "home", token)


def shell(hub, preloaded, folder, commands, token=None):
    """What ``commands`` print in ``folder``."""
    done = preloaded.block("sh", commands, folder, environment(hub, folder, token))
    assert done.returncode == 0, done.stderr
    assert token is None or token not in done.stdout + done.stderr
    return done.stdout


def python(hub, preloaded, folder, code, *arguments, **environ):
    """Run ``code`` in ``folder``."""
    env = environment(hub, folder) | environ
    done = preloaded.run("-c", code, *arguments, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.slow
def test_the_circle(hub, preloaded, published, colleague):
    def outputs(**environ):
        python(hub, preloaded, colleague, OUTPUTS, pinned, "after", **environ)
        return safetensors.torch.load_file(colleague / "after")

    before = safetensors.torch.load_file(published / "before")
    (sha,) = {hub.tags(REPO)["v1"], hub.commits(REPO)[0].sha}
    assert len(hub.commits(REPO)) == 2, "the initial commit, and one of all files"
    pinned = f"hf-hub:{REPO}@{sha}"
    assert not (colleague / "home").exists()

    hub.requests.clear()
    assert same(outputs(), before)
    assert hub.requests, "it was fetched"

    hub.requests.clear()
    assert same(outputs(), before)
    assert hub.requests == [], "pinned and cached"

    assert same(outputs(HF_HUB_OFFLINE="1"), before)
    assert hub.requests == []

    hub.stop()
    try:
        assert same(outputs(), before)
    finally:
        hub.start()
    assert hub.requests == []


@pytest.mark.slow
def test_what_readme_says_to_the_colleague(hub, preloaded, published, colleague):
    (_, code), (_, commands) = BLOCKS[1:]
    python(hub, preloaded, colleague, code)
    said = shell(hub, preloaded, colleague, commands)
    assert hub.tags(REPO)["v1"] in said, "what to pin"
    assert f"hf-hub:{REPO}" in said
    assert "psnr" in said, "what was measured"


def test_the_page_has_the_blocks_that_are_run():
    assert [kind for kind, _ in BLOCKS] == ["sh", "python", "sh"]
