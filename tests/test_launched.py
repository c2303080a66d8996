"""A process of several ends at once, however its command ends."""

import os
import subprocess
import sys

import pytest

ORDERLY = "import atexit, os; atexit.register(os._exit, 77)\n"
"""An end by way of the interpreter, which may abort, shows itself by this exit code."""

COMMAND = ORDERLY + "from zoo.cli import main; main()"
BLOCK = ORDERLY + "import sys; from zoo.cli.launched import ended_at_once\nwith ended_at_once(): "


def ended(script, *arguments, **environ):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True, text=True, env={**os.environ, **environ}, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["list"], 0, "deep_ae"),
        (["--version"], 0, "version"),
        (["list", "--nonsense"], 2, "No such option"),
        (["info", "nonsense.mnist"], 2, "Error: "),
        ([], 2, "Usage: "),
    ],
)
def test_commands(arguments, code, said, rank):
    got, out, error = ended(COMMAND, *arguments, RANK=rank)
    assert got == code
    assert said in out + error


@pytest.mark.parametrize(
    ("block", "code", "said"),
    [
        ("print('all')", 0, "all"),
        ("sys.exit()", 0, ""),
        ("print('stopped', file=sys.stderr); sys.exit(143)", 143, "stopped"),
        ("sys.exit('a text')", 1, "a text"),
        ("raise KeyError('a bug')", 1, "KeyError: 'a bug'"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
    ],
)
def test_endings(block, code, said):
    got, out, error = ended(BLOCK + block, RANK="0")
    assert got == code
    assert said in out + error


def test_a_process_of_its_own_ends_as_ever():
    assert ended(COMMAND, "--version")[0] == 77
