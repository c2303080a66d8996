"""Processes that have torch already: tests that start many would spend minutes on importing it."""

import atexit
import functools
import multiprocessing
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import forking

_LIBRARIES = ("torch", "safetensors.torch", "numpy", "PIL.Image", "click")
_SERVER = Path(forking.__file__)


class Preloaded:
    """A Python that has imported torch and other libraries, but nothing of ours.

    Args:
        python: whose libraries.
        more: libraries to import besides; see tests/forking.py.
    """

    def __init__(self, python: str | Path = sys.executable, more: tuple[str, ...] = ()):
        # Not below the folder of a test, whose path may be too long for a socket.
        self._folder = tempfile.TemporaryDirectory(prefix="zoo-")
        self.address = str(Path(self._folder.name) / "socket")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ZOO_"))}
        self._server = subprocess.Popen(
            [str(python), str(_SERVER), "serve", self.address, *_LIBRARIES, *more],
            env=environ | {"PYTHONUTF8": "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._server.stdout.readline() == b"serves\n"
        commands = Path(self._folder.name) / "bin"
        self.command(commands / "zoo", "-m", "zoo.cli")
        self.command(Path(self._folder.name) / forking.PYTHON)
        self.path = os.pathsep.join([str(commands), str(Path(python).parent), os.environ["PATH"]])
        """The PATH of a shell whose ``zoo`` comes from here."""

    def start(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int = 1,
        stderr: int = 2,
    ) -> "Started":
        """A process of ``python ARGUMENT...``; its output goes to these open files."""
        environ = dict(os.environ if env is None else env)
        words = [str(argument) for argument in arguments]
        with open(os.devnull) as stdin:
            files = [stdin.fileno(), stdout, stderr]
            connection = forking.ask(self.address, words, str(cwd or Path.cwd()), environ, files)
        return Started(connection)

    def popen(self, *arguments: str | Path) -> "Started":
        """A process whose ``stdout`` can be read while it runs."""
        end, stdout = os.pipe()
        process = self.start(*arguments, stdout=stdout)
        os.close(stdout)
        process.stdout = open(end, "rb")  # noqa: SIM115  its reader closes it
        return process

    def run(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` gives it, with the output as text."""
        with _file() as out, _file() as err:
            process = self.start(
                *arguments, cwd=cwd, env=env, stdout=out.fileno(), stderr=err.fileno()
            )
            code = process.wait(timeout)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())

    def block(
        self, kind: str, text: str, cwd: Path, env: Mapping[str, str] = os.environ
    ) -> subprocess.CompletedProcess[str]:
        """Run a block of a page in ``cwd``: Python, or commands, of which ``zoo`` is ours."""
        if kind == "python":
            return self.run("-c", text, cwd=cwd, env=env)
        assert kind == "sh", kind
        command, env = ["bash", "-euc", text], {**env, "PATH": self.path}
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)

    def command(self, path: Path, *arguments: str) -> None:
        """Write the command ``path`` for shells, which runs ``python ARGUMENT...`` and its own."""
        words = [sys.executable, "-I", "-S", str(_SERVER), "ask", self.address, *arguments]
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        path.chmod(0o755)

    def close(self) -> None:
        """End the server; what it has forked goes on."""
        self._server.communicate()
        self._folder.cleanup()


def _file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


@functools.cache
def shared() -> Preloaded:
    """What all tests of a process can have theirs forked from."""
    server = Preloaded()
    atexit.register(server.close)
    return server


class Started:
    """A process that was forked for us, as ``subprocess.Popen`` has it."""

    def __init__(self, connection):
        self._connection, self._answers = connection, connection.makefile()
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = int(self._answers.readline())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            self.kill()
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return self.poll()

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "zoo.report.card", "zoo.publishing", "zoo.weights"])


def publish(environ, *args, **options):
    """Start ``zoo.publish`` with these arguments, ``environ`` in place of what is ours of our own;
    a process, which ends with 0 or, with the traceback printed, with 1."""
    process = _CONTEXT.Process(target=_publish, args=(environ, args, options))
    process.start()
    return process


def _publish(environ, args, options):
    for name in [key for key in os.environ if key.startswith(("HF_", "ZOO_"))]:
        del os.environ[name]
    os.environ.update(environ)
    import zoo

    zoo.publish(*args, **options)
