"""Requests and answers, as the routes see them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass
class Request:
    """One line of the log. ``status`` is 0 while, or because, there is no answer."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0
    user: str | None = None
    query: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Refusal(Exception):
    """An error as the Hub answers it."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        said = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = as_json({"error": message}, status, {**said, **more})


def as_json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    kind = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(status, json.dumps(content).encode(), {**kind, **(headers or {})})
