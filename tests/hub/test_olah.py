"""Pulling from a Hub that nobody here wrote: olah serves local git repositories as a Hub does.

It is installed into an environment of its own, since it brings a web server. Of what it can, this
needs its mirrors (``mirrors-path``) and no upstream (``offline``).
"""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.sources import weights_folder

pytestmark = pytest.mark.slow

MODEL = "pca.mnist"
LOAD = """
import hashlib, sys, zoo
from zoo.sample import sample
model = zoo.load(sys.argv[1])
codes = model.encode(model.preprocess(sample()[0][:8]))
print("digest:", hashlib.sha256(codes.numpy().tobytes()).hexdigest())
"""
CONFIG = """
[basic]
host = "127.0.0.1"
port = {port}
repos-path = "{folder}/repos"
log-path = "{folder}/logs"
mirrors-path = ["{folder}/mirrors"]
mirror-netloc = "127.0.0.1:{port}"
mirror-lfs-netloc = "127.0.0.1:{port}"
[accessibility]
offline = true
"""


@pytest.fixture(scope="module")
def olah(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of olah, in an environment of its own."""
    folder = tmp_path_factory.mktemp("olah")
    venv.EnvBuilder(symlinks=True, with_pip=True).create(folder)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "olah"]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=500)
    if done.returncode:
        pytest.skip(f"olah cannot be installed: {done.stderr[-300:]}")
    return folder / "bin" / "olah-cli"


def git(folder: Path, *args: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *args], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def repository(folder: Path, *, lfs: bool) -> str:
    """A git repository that holds the weights; the sha of its commit."""
    shutil.copytree(weights_folder(MODEL), folder)
    (folder / "README.md").write_text("---\nlibrary_name: latentzoo\n---\n# pca\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    if lfs:
        for path in folder.glob("*.safetensors"):
            data = path.read_bytes()
            oid = hashlib.sha256(data).hexdigest()
            stored = folder / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
            stored.parent.mkdir(parents=True)
            stored.write_bytes(data)
            pointer = f"oid sha256:{oid}\nsize {len(data)}\n"
            path.write_text(f"version https://git-lfs.github.com/spec/v1\n{pointer}")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "weights")
    git(folder, "tag", "v1")
    return git(folder, "rev-parse", "HEAD")


@contextlib.contextmanager
def serving(olah: Path, folder: Path) -> Iterator[str]:
    """The address at which olah serves what is in ``folder / "mirrors"``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "olah.toml"
    config.write_text(CONFIG.format(port=port, folder=folder))
    url = f"http://127.0.0.1:{port}"
    with (folder / "olah.log").open("w") as log:
        server = subprocess.Popen([olah, "-c", config], cwd=folder, stdout=log, stderr=log)
        try:
            wait_for(url, server, folder / "olah.log")
            yield url
        finally:
            server.terminate()
            server.wait(20)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            opener.open(url, timeout=1)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"olah does not answer\n{log.read_text()}")


def run(url: str, home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """What ``python *args`` ends with, where ``url`` is the Hub."""
    environ = {key: v for key, v in os.environ.items() if not key.startswith(("HF_", "ZOO_"))}
    environ |= {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, *args], env=environ, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("lfs", [False, True], ids=["git", "lfs"])
def test_weights_in_a_git_repository_are_loaded(olah: Path, tmp_path: Path, lfs: bool):
    sha = repository(tmp_path / "mirrors" / "models" / "org" / "pca.olah", lfs=lfs)
    name, home = "hf-hub:org/pca.olah", tmp_path / "home"
    expected = run("http://127.0.0.1:9", home, "-c", LOAD, MODEL).stdout
    assert re.search("digest: [0-9a-f]{64}", expected)
    with serving(olah, tmp_path) as url:
        for given in (name, f"{name}@v1", f"{name}@{sha}"):
            shutil.rmtree(home, ignore_errors=True)
            done = run(url, home, "-c", LOAD, given)
            assert done.stdout == expected, done.stderr
        # Without its upstream olah does not tell a missing revision from a missing repository.
        for absent in ("hf-hub:org/absent", f"{name}@v9"):
            done = run(url, home, "-m", "zoo.cli", "pull", absent)
            assert done.returncode == 2
            assert "no such repository" in done.stderr
            assert "Traceback" not in done.stderr
    # olah is gone, and nobody needs it any more.
    done = run(url, home, "-c", LOAD, f"{name}@{sha}")
    assert done.stdout == expected, done.stderr
