"""A server of S3's protocol on loopback, moto's, that can be told to fail."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote
from urllib.request import Request, urlopen

__all__ = ["Server"]

KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}


class Server:
    """Answers as a store does, but where a fault is set for what an address ends with.

    ``faults`` have what to do, ``"503"``, ``"cut"``, ``"slow"`` or ``"trickle"``, and how many
    times.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.app = DomainDispatcherApplication(create_backend_app)
        self.faults: dict[str, tuple[str, int]] = {}
        self.asked: Counter[str] = Counter()
        self.page = 0
        """If any: how many keys a listing has at most."""
        self.server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        # All servers of a process have moto's one store.
        urlopen(Request(f"{self.url}/moto-api/reset", method="POST"), timeout=10).close()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        return {
            **KEYS, "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1",
        }  # fmt: skip

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        client = self.client()
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=bucket)
        for key, data in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=data)

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1",
            aws_access_key_id="nobody", aws_secret_access_key="nothing",
        )  # fmt: skip

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        path = unquote(environ["PATH_INFO"])
        listing = "list-type=2" in environ["QUERY_STRING"]
        if listing and self.page:
            environ["QUERY_STRING"] += f"&max-keys={self.page}"
        name = "LIST" if listing else path.rpartition("/")[2]
        self.asked[f"{environ['REQUEST_METHOD']} {name}"] += 1
        fault, times = self.faults.get(name, ("", 0))
        if times <= 0:
            return self.app(environ, start)
        self.faults[name] = fault, times - 1
        if fault == "503":
            start("503 Slow Down", [("Content-Length", "0")])
            return iter([b""])
        if fault == "slow":
            time.sleep(3)
            return self.app(environ, start)
        return (self._trickled if fault == "trickle" else self._cut)(environ, start)

    def _trickled(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        """A byte now and then, for some seconds."""
        whole = b"".join(self.app(environ, start))
        for i in range(160):
            yield whole[i : i + 1]
            time.sleep(0.1)

    def _cut(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        """Half of the body, after which the connection is closed."""
        whole = b"".join(self.app(environ, start))
        yield whole[: len(whole) // 2]
        environ["werkzeug.socket"].shutdown(2)
