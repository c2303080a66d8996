"""What may go wrong with a request on purpose."""

import re
from dataclasses import dataclass
from typing import Any

from hubserver.messages import Answer


@dataclass
class Fault:
    """What goes wrong with the requests that match; see :meth:`HubServer.fault`."""

    match: re.Pattern[str]
    kind: str
    times: int | None
    more: dict[str, Any]
    met: int = 0
    """How many requests it has spoilt."""


KINDS = (
    "gone",
    "lost",
    "cut",
    "short",
    "flip",
    "status",
    "slow",
    "drip",
    "body",
    "headers",
    "none",
)


def corrupted(answer: Answer, fault: Fault) -> Answer:
    """``answer`` as ``fault`` leaves it, if it changes what is said and not how it is sent."""
    more, body = fault.more, answer.body
    if fault.kind == "flip" and body:
        at = more.get("at", len(body) // 2)
        body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    elif fault.kind == "short":
        body = body[: more.get("keep", len(body) // 2)]
    elif fault.kind == "body":
        new = more["body"]
        body = new(body) if callable(new) else new
    headers = {**answer.headers, **(more.get("headers") or {})}
    return Answer(answer.status, body, headers)
