"""The server: what it answers, and what it refuses to anybody who is not the page."""

import json
import socket
import time

import pytest
from pagemaking import Served, made, small_picture

from zoo.collection.decisions import Read
from zoo.collection.page import serving
from zoo.errors import CollectionError, FileError, ImageError, InputError

JSON = {"Content_Type": "application/json"}


def decide(served: Served, **decision) -> tuple[int, dict]:
    body = json.dumps({"decisions": [decision]}).encode()
    status, answer, _ = served.ask("decide", "POST", body, **JSON)
    return status, json.loads(answer)


def test_the_page_and_all_it_asks_for(served: Served):
    for path, kind in {
        "": "text/html",
        "page.js": "text/javascript",
        "page.css": "text/css",
        "licenses": "text/plain",
        "collection": "application/json",
        "neighbours/0": "application/json",
        "thumbnail/1": "image/webp",
        "picture/1": "image/webp",
    }.items():
        status, body, headers = served.ask(path)
        assert (status, headers["content-type"].partition(";")[0]) == (200, kind), path
        assert body
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert json.loads(served.ask("collection")[1])["can"] == {"words": True, "pictures": True}
    assert served.ask("thumbnail/1")[1] == small_picture(1)


@pytest.mark.parametrize("token", ["x", "undefined", "%00", "..", "x/../{token}", "{token}x"])
def test_another_token_is_refused(served: Served, token: str):
    wrong = token.format(token=served.token)
    for path in ("", "collection", "thumbnail/1", "docs", "openapi.json"):
        assert served.ask(path, token=wrong)[0] == 403, path
    assert served.ask("decide", "POST", b"{}", token=wrong, **JSON)[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Host": "192.168.0.1:{port}"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
def test_what_comes_by_way_of_another_site_is_refused(served: Served, headers: dict[str, str]):
    sent = {name: value.format(port=served.port) for name, value in headers.items()}
    for path in ("", "collection", "picture/1"):
        assert served.ask(path, **sent)[0] in (400, 403, 421)
    assert served.ask("decide", "POST", b"{}", **(JSON | sent))[0] in (400, 403, 421)


def test_the_page_itself_and_other_names_of_this_machine_are_answered(served: Served):
    for host in (f"127.0.0.1:{served.port}", f"localhost:{served.port}", f"[::1]:{served.port}"):
        assert served.ask("", Host=host, Origin=f"http://{host}", Sec_Fetch_Site="none")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "thumbnail/../../../etc/passwd",
        "thumbnail/..%2f..%2fetc%2fpasswd",
        "picture/%2Fetc%2Fpasswd",
        "picture//etc/passwd",
        "picture/-1",
        "picture/100",
        "picture/1e3",
        "picture/99999999999999999999999999",
        "neighbours/-1",
        "neighbours/1",
        "static/page.js",
        "page.html",
        "docs",
        "openapi.json",
    ],
)
def test_no_path_and_no_other_number_is_opened(served: Served, path: str):
    status, body, _ = served.ask(path)
    assert status in (403, 404, 422)
    assert b"root:" not in body


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"])
def test_other_methods_are_refused(served: Served, method: str):
    assert served.ask("decide", method)[0] == 405


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_foreign_form_could_send_is_refused(served: Served, kind: str):
    assert served.ask("decide", "POST", b"{}", Content_Type=kind)[0] == 415


def test_a_body_that_is_too_large_is_refused_before_it_is_read(served: Served):
    begun = time.monotonic()
    huge = {"Content_Length": str(serving.BODY + 1), "Content_Type": "application/octet-stream"}
    assert served.ask("find/picture", "POST", **huge)[0] == 413
    assert time.monotonic() - begun < 2
    assert served.live.searched == []


def test_a_body_that_does_not_say_how_large_it_is_is_cut(served: Served, monkeypatch):
    monkeypatch.setattr(serving, "BODY", 1 << 16)
    part = b"8000\r\n" + bytes(1 << 15) + b"\r\n"
    headers = {"Transfer_Encoding": "chunked", "Content_Type": "application/octet-stream"}
    chunks = iter([part] * 4 + [b"0\r\n\r\n"])
    assert served.ask("find/picture", "POST", chunks, **headers)[0] == 413
    assert served.live.searched == []


def test_a_body_that_never_comes_is_given_up(served: Served, monkeypatch):
    monkeypatch.setattr(serving, "SLOW", 0.1)
    more = {"Content_Length": "10", "Content_Type": "application/octet-stream"}
    assert served.ask("find/picture", "POST", **more)[0] == 408


def test_headers_without_end_are_refused(served: Served):
    assert served.ask("", X="x" * 200_000)[0] in (400, 431)


def test_decisions_are_kept_by_content(served: Served):
    status, changed = decide(served, kind="name", pictures=[1, 2], value="cat")
    assert status == 200
    assert changed["names"] == ["cat"]
    (kept,) = served.live.decisions.read().decisions
    hashes = made(100).hashes
    assert (kept.kind, kept.hashes, kept.value) == ("name", (hashes[1], hashes[2]), "cat")


@pytest.mark.parametrize(
    "decision",
    [
        {"kind": "delete", "pictures": [1]},
        {"kind": "name", "pictures": [], "value": "cat"},
        {"kind": "name", "pictures": [100], "value": "cat"},
        {"kind": "name", "pictures": [-1], "value": "cat"},
        {"kind": "name", "pictures": [True], "value": "cat"},
        {"kind": "name", "pictures": ["../x"], "value": "cat"},
        {"kind": "name", "pictures": [1], "value": ["cat"]},
        {"kind": "name", "pictures": [1], "value": ""},
        {"kind": "name", "pictures": [1], "value": "x" * 101},
        {"kind": "name", "pictures": [1], "value": "cat", "group": -1},
        {"kind": "merge", "pictures": [1], "value": 2**40},
        {},
    ],
    ids=str,
)
def test_what_is_no_decision_is_refused_and_not_kept(served: Served, decision: dict):
    assert decide(served, **decision)[0] in (400, 404, 422)
    assert served.live.decisions.read() == Read()


def test_a_disk_that_takes_no_more_is_said(served: Served, monkeypatch):
    def full(decisions):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(served.live, "decide", full)
    status, answer = decide(served, kind="name", pictures=[1], value="cat")
    assert (status, answer["detail"]) == (500, "not kept: No space left on device")


def raising(error: Exception):
    def call(*args):
        raise error

    return call


def test_a_picture_that_cannot_be_read_is_said(served: Served, monkeypatch):
    for error in (ImageError("damaged"), CollectionError("gone"), FileNotFoundError("gone")):
        monkeypatch.setattr(served.live, "picture", raising(error))
        status, body, _ = served.ask("picture/1")
        assert (status, b"cannot be read" in body) == (404, True)
    monkeypatch.setattr(served.live, "find_picture", raising(ImageError("no picture")))
    kind = {"Content_Type": "application/octet-stream"}
    status, body, _ = served.ask("find/picture", "POST", b"x", **kind)
    assert (status, json.loads(body)) == (400, {"detail": "no picture"})


def test_searches(served: Served):
    status, answer, _ = served.ask("find/words", "POST", b'{"words": "a dog"}', **JSON)
    assert (status, json.loads(answer)) == (200, {"found": [[11, 0.5], [12, 0.4]]})
    kind = {"Content_Type": "application/octet-stream"}
    status, answer, _ = served.ask("find/picture", "POST", small_picture(1), **kind)
    assert (status, json.loads(answer)) == (200, {"found": [[13, 0.9], [14, 0.8]]})
    assert served.live.searched == ["a dog", small_picture(1)]


def test_alike_pictures_by_a_threshold(served: Served):
    status, answer, _ = served.ask("alike?threshold=0.95")
    assert status == 200
    assert json.loads(answer) == {
        "sets": [
            ["alike", [20, 21], 20, "the largest"],
            ["alike", [22, 23, 24], 22, "the largest"],
        ],
        "count": 2,
        "extra": 3,
    }
    for wrong in ("alike", "alike?threshold=nan", "alike?threshold=2", "alike?threshold=x"):
        assert served.ask(wrong)[0] == 422, wrong


def test_only_this_machine_is_listened_to_unless_told():
    with pytest.raises(InputError, match=r"in numbers, such as 127\.0\.0\.1"):
        serving.listening("example.org", 0)
    with serving.listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FileError, match=f"port {port}"):
            serving.listening("127.0.0.1", port)


def test_a_server_for_the_network_has_no_names_that_others_give():
    fits = serving.host_check("0.0.0.0", 8000)
    assert fits("192.168.0.7:8000")
    assert fits(f"{socket.gethostname()}:8000")
    assert not fits("evil.example:8000")
    assert not fits("192.168.0.7:80")
