"""A process that has imported a library, and forks for each question; it knows one Hub, its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hubserver import HubServer

_CODE = """
import json, os, sys, traceback, warnings
warnings.filterwarnings("ignore", module="torch|timm|diffusers")
{imports}
caught = []
warnings.showwarning = lambda message, category, *rest: caught.append(
    [category.__name__, str(message)])

def images(model, n=3):
    return torch.rand(n, *model.image_shape, generator=torch.Generator().manual_seed(1))

def codes(name):
    model = zoo.load(name)
    return model.encode(images(model))

def error_of(call, *args, **more):
    try:
        call(*args, **more)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return [None, None]

def answer(value):
    print(json.dumps(["answer", value]), flush=True)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            exec(json.loads(line))
        except BaseException:
            print(json.dumps(["error", traceback.format_exc()]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


class Worker(NamedTuple):
    """The process, its Hub, and the folder where it caches what it fetched."""

    process: "subprocess.Popen[str]"
    hub: HubServer
    home: Path

    def ask(self, code: str) -> Any:
        """What the code gave to ``answer()``."""
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        what, value = json.loads(self.process.stdout.readline())
        assert what == "answer", value
        return value

    def forget(self) -> None:
        """Empty the cache."""
        for path in self.home.iterdir():
            shutil.rmtree(path)

    def emptied_hub(self) -> HubServer:
        """The Hub, running and empty."""
        self.hub.stop()
        self.hub.repos.clear()
        self.hub.requests.clear()
        self.hub.start()
        return self.hub


@contextmanager
def asking(imports: str, home: Path) -> Iterator[Worker]:
    """A worker. ``imports``: the lines that import ``torch``, ``zoo`` and the library."""
    with HubServer() as hub:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ZOO_"))}
        env |= hub.env(home) | {"HF_HUB_ETAG_TIMEOUT": "2"}
        with subprocess.Popen(
            [sys.executable, "-c", _CODE.replace("{imports}", imports)], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            yield Worker(process, hub, home)
            process.stdin.close()
