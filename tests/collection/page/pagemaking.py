"""Collections that are made of arrays, and a server of one."""

import dataclasses
import hashlib
import http.client
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from zoo.collection.decisions import Decisions, regrouped
from zoo.collection.page import serving
from zoo.collection.page.data import Alike, DuplicateSet, Fault, Layer, PageData

HOSTILE = "<img src=x onerror=document.title='broken'>\"'&</script>.png"


def made(count: int, groups: int = 7, seed: int = 0) -> PageData:
    """``count`` pictures in groups of unlike sizes, with something of everything that is shown."""
    rng = np.random.default_rng(seed)
    sizes = 1 / np.arange(1, groups + 1)
    labels = rng.choice(groups, count, p=sizes / sizes.sum()).astype(np.int32)
    labels[rng.random(count) < 0.02] = -1
    middles = rng.random((groups + 1, 2)) * 0.8 + 0.1
    places = np.clip(middles[labels] + rng.normal(size=(count, 2)) * 0.03, 0, 1)
    neighbours = rng.integers(0, count, (count, 8)).astype(np.int32)
    paths = [f"/pictures/of a kind/{i:06}.png" for i in range(count)]
    paths[3] = f"/pictures/{HOSTILE}"
    return PageData(
        title="pictures",
        paths=paths,
        hashes=[hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)],
        widths=rng.integers(40, 4000, count),
        heights=rng.integers(40, 4000, count),
        bytes=rng.integers(1000, 9_000_000, count),
        layers=[
            Layer("coarse", np.where(labels < 0, -1, labels // 3), rng.random(count)),
            Layer("middle", labels, rng.random(count)),
        ],
        default_layer=1,
        neighbours=neighbours,
        similarities=np.sort(rng.random((count, 8)), 1)[:, ::-1],
        odd=rng.random(count),
        places=places,
        faults=[Fault(7, "blurred", 0.002), Fault(6, "blank", 0.0), Fault(5, "blurred", 0.01)],
        duplicates=[
            DuplicateSet("same file", (1, 2), 1, "the oldest"),
            DuplicateSet("same picture", (8, 9, 10), 9, "the largest"),
        ],
        unread=[("/pictures/broken.png", "damaged, or not readable: cut off")],
    )


def small_picture(number: int) -> bytes:
    """A WebP whose colour tells the number."""
    colour = tuple(hashlib.sha256(str(number).encode()).digest()[:3])
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, "WEBP", quality=50)
    return buffer.getvalue()


class Kept:
    """A collection that a server has: decisions are kept in a file, as in a real one."""

    words = pictures = settled = True

    def __init__(self, data: PageData):
        self.base = self.data = data

    def begin(self, path: Path) -> None:
        """Anew, without any decision."""
        self.data = self.base
        self.decisions = Decisions(path)
        self.searched: list[Any] = []

    def thumbnail(self, number: int) -> bytes | None:
        return None if number == 4 else small_picture(number)

    picture = thumbnail

    def decide(self, decisions: list[Any]) -> PageData:
        hashes = self.base.hashes
        self.decisions.append_all([decision.kept(hashes) for decision in decisions])
        state = self.decisions.state()
        given = [state.pictures.get(each, "") for each in hashes]
        member = [state.members.get(each, "") for each in hashes]
        middle = self.base.layers[1]
        labels = regrouped(middle.labels, hashes, state.edits)
        self.data = dataclasses.replace(
            self.base,
            layers=[self.base.layers[0], middle._replace(labels=labels)],
            names=[one or other for one, other in zip(given, member, strict=True)],
            given=given,
            member=member,
            duplicates=[
                each
                for each in self.base.duplicates
                if not state.are_kept(hashes[i] for i in each.pictures)
                and not state.are_apart(*(hashes[i] for i in each.pictures[:2]))
            ],
        )
        return self.data

    def changed(self, seconds: float) -> PageData:
        return self.data

    def alike(self, threshold: float) -> Alike:
        """Two sets above .9, and one more below it."""
        sets = [(20, 21), (22, 23, 24), *[(25, 26)] * (threshold < 0.9)]
        found = [DuplicateSet("alike", each, each[0], "the largest") for each in sets]
        return Alike(found[:2], len(found), sum(len(each) - 1 for each in sets))

    def find_words(self, words: str) -> list[tuple[int, float]]:
        self.searched.append(words)
        return [(11, 0.5), (12, 0.4)]

    def find_picture(self, data: bytes) -> list[tuple[int, float]]:
        self.searched.append(data)
        return [(13, 0.9), (14, 0.8)]


class Served(SimpleNamespace):
    """A server that runs, and requests to it that no browser would make."""

    def ask(
        self, path: str, method: str = "GET", body: Any = None, token: str = "", **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Ask for a path behind the token; a header ``Host`` takes the place of the right one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Host": f"127.0.0.1:{self.port}"} | headers
        names = {name: value for name, value in headers.items() if value}
        try:
            connection.putrequest(
                method, f"/{token or self.token}/{path}", skip_host=True, skip_accept_encoding=True
            )
            for name, value in names.items():
                connection.putheader(name.replace("_", "-"), value)
            if isinstance(body, bytes) and "Content_Length" not in headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            try:
                data = answer.read()
            except ConnectionResetError:  # it would not even read what was sent
                data = b""
            return answer.status, data, {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()


def serve(live: Any) -> Iterator[Served]:
    listener = serving.listening("127.0.0.1", 0)
    token = serving.new_token()
    server = serving.server(live, listener, token)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Served(
        live=live,
        token=token,
        port=listener.getsockname()[1],
        address=serving.address(listener, token),
    )
    server.should_exit = True
    thread.join(10)
    listener.close()
