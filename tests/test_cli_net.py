"""The net below all commands: what a user did wrong is one message and exit code 2."""

import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zoo.cli import COMMANDS, main

LONG = "x" * 300


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"a user's")
    rng = np.random.default_rng(0)
    np.savez("data.npz", images=rng.integers(0, 256, (40, 28, 28), dtype=np.uint8))
    Image.new("L", (28, 28), 7).save("a.png")
    return tmp_path


def zoo(*arguments, **options):
    command = [sys.executable, "-m", "zoo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, **options)


def refused(done, *says):
    text = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
    code = done.returncode if hasattr(done, "returncode") else done.exit_code
    assert code == 2, text
    assert "Traceback" not in text
    assert text.count("Error:") == 1
    for each in says:
        assert each in text
    return text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["encode", "ae.mnist", "a.png", "--out", "file/x.npz"], "file"),
        (["generate", "ae.mnist", "--out", "file/x.png"], "file"),
        (["train", "ae", "--data", "data.npz", "--out", "file/x"], "file"),
        (["generate", "ae.mnist", "--out", f"{LONG}.png"], "255 bytes"),
        (["encode", "ae.mnist", "a.png", "--out", f"{LONG}.npz"], "255 bytes"),
        (["encode", "ae.mnist", "y" * 5000], "255 bytes"),
        (["encode", f"local-dir:{LONG}", "a.png"], "255 bytes"),
        (["generate", "ae.mnist", "--out", "~nosuchuser/x.png"], "home folder"),
        (["pull", "ae.mnist", "--to", "~nosuchuser/x"], "home folder"),
        (["train", "ae", "--data", "~nosuchuser/x", "--out", "q"], "home folder"),
        (["evaluate", "local-dir:~nosuchuser/x"], "home folder"),
        (["new-plugin", "mine", "--out", "~nosuchuser/x"], "home folder"),
        (["check", "~nosuchuser/x"], "home folder"),
        (["generate", "ae.mnist", "--out", "/proc/x.png"], "/proc/x.png"),  # also to root
        (["generate", "ae.mnist", "--out", "/dev/full"], "make room"),
        (["train", "ae", "--data", "data.npz", "--out", "q", "--device", "gpu"], "There is here"),
    ],
)
def test_what_the_system_refuses(here, arguments, says):
    result = CliRunner().invoke(main, arguments)
    assert len(refused(result, says.capitalize() if says == "make room" else says)) < 600
    assert (here / "file").read_bytes() == b"a user's"
    assert sorted(p.name for p in here.iterdir()) == ["a.png", "data.npz", "file"]


@pytest.mark.slow
@pytest.mark.parametrize("out", ["x.png", "deep/x.png"])
def test_a_full_disk(here, out):
    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    refused(zoo("generate", "ae.mnist", "--out", out, preexec_fn=small), out, "larger")
    assert not [p for p in here.rglob("*") if p.name not in ("a.png", "data.npz", "file", "deep")]


def test_output_that_takes_no_more(here):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "zoo", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    refused(done, "No space left", "Make room")
    assert len(done.stderr.splitlines()) == 2  # and no "Exception ignored"


def test_a_bug_of_ours_is_no_mistake_of_the_users(monkeypatch):
    monkeypatch.setitem(COMMANDS, "list", "nowhere:list_command")
    assert isinstance(CliRunner().invoke(main, ["list"]).exception, ModuleNotFoundError)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    "arguments", [["list"], ["info", "ae.mnist"], ["leaderboard"], ["plugins"], ["list", "--json"]]
)
def test_output_in_any_encoding(encoding, arguments):
    done = zoo(*arguments, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) > 50
    if encoding == "utf-8" and arguments == ["leaderboard"]:
        assert not done.stdout.isascii()  # so there is something that the others lack


@pytest.mark.slow
def test_paths_that_the_outputs_encoding_lacks(here):
    env = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = zoo("generate", "ae.mnist", "-n", 1, "--out", "→ 日本.png", env=env)
    assert done.returncode == 0, done.stderr
    assert b"\\u2192 \\u65e5\\u672c.png" in done.stdout
    assert (here / "→ 日本.png").is_file()
    done = zoo("encode", "ae.mnist", "→.gif", env=env)
    refused(done, "\\u2192.gif")


def test_a_closed_pipe_ends_silently():
    command = f"{sys.executable} -m zoo list --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"[", b"")


@pytest.mark.slow
def test_no_home(here):
    env = {k: v for k, v in os.environ.items() if k != "HOME"}
    done = zoo("generate", "ae.mnist", "-n", 1, "--out", "x.png", env=env)
    assert done.returncode == 0, done.stderr
    refused(zoo("encode", "ae.mnist", "nowhere.png", env=env), "nowhere.png")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["train", "ae", "--data", "", "--out", "q"], "--data"),
        (["train", "ae", "--data=", "--out", "q"], "--data"),
        (["train", "ae", "--data", "data.npz", "--out", ""], "--out"),
        (["train", "ae", "--data", "data.npz", "--out", "q", "--config", ""], "--config"),
        (["train", "ae", "--data", "data.npz", "--out", "q", "--config", "=3"], "--config"),
        (["train", "ae", "--data", "data.npz", "--out", "q", "--set", "=3"], "--set"),
        (["train", "", "--data", "data.npz", "--out", "q"], "'' is not a name"),
        (["encode", "ae.mnist", ""], "a path is empty"),
        (["encode", "", "a.png"], "'' is not a name"),
        (["reconstruct", "ae.mnist", "a.png", ""], "a path is empty"),
        (["interpolate", "ae.mnist", "a.png", ""], "a path is empty"),
        (["generate", "ae.mnist", "--out="], "--out"),
        (["generate", "ae.mnist", "-n", ""], "-n"),
        (["pull", "ae.mnist", "--to", ""], "--to"),
        (["evaluate", "ae.mnist", "--data-dir", ""], "--data-dir"),
        (["publish", "ae.mnist", "--to", ""], "--to"),
        (["info", ""], "'' is not a name"),
        (["check", ""], "empty"),
    ],
)
def test_nothing_may_be_empty(here, arguments, name):
    refused(CliRunner().invoke(main, arguments), name)
    assert sorted(p.name for p in here.iterdir()) == ["a.png", "data.npz", "file"]


def test_python_m_zoo():
    done = zoo("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, b"zoo,")
    assert b"Usage: zoo " in zoo("--help").stdout


def started(*arguments, **options):
    # A shell has its jobs in the background ignore Ctrl-C, and the tests may be one of them.
    return subprocess.Popen(
        [sys.executable, "-m", "zoo", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_run_with_their_code(here, number, code):
    settings = ("--set", "batch_size=8", "--set", "optimizer=adamw", "--epochs", 100_000)
    run = started("train", "ae", "--data", "data.npz", "--out", "run", *settings)
    assert "parameters" in run.stderr.readline()
    while "reconstruction" not in run.stderr.readline():
        pass
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == code, said
    assert "Traceback" not in said
    assert "--resume" in said
    assert (here / "run" / "checkpoint.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("command", ["encode", "train"])
def test_signals_end_what_waits_for_its_pictures(here, number, code, command):
    os.mkfifo(here / "pipe.png")  # nobody writes into it
    arguments = {
        "encode": ("ae.mnist", "pipe.png"),
        "train": ("ae", "--data", "data.npz", "--out", "run", "--recipe", "pipe.png"),
    }[command]
    waiting = started(command, *arguments)
    time.sleep(4 if command == "encode" else 5)
    waiting.send_signal(number)
    try:
        _, said = waiting.communicate(timeout=20)
    finally:
        waiting.kill()
    assert waiting.returncode == code, said
    assert "Traceback" not in said
    assert not list(here.glob("**/.zoo-*"))


def test_a_picture_whose_name_begins_with_a_tilde(here):
    Image.new("L", (28, 28), 7).save("~nosuchuser.png")
    result = CliRunner().invoke(main, ["encode", "ae.mnist", "~nosuchuser.png"])
    assert result.exit_code == 0, result.output
    assert (here / "codes.npz").is_file()
