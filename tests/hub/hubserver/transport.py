"""Sockets: requests come in, answers go out, and connections break where a fault says so."""

import socket
import struct
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hubserver.faults import corrupted
from hubserver.messages import Answer, Refusal, Request


class Server(ThreadingHTTPServer):
    """Knows its open connections, so that it can break them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any):
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away (some are killed on purpose) is no news."""

    def break_all(self) -> None:
        for connection in [*self._open]:
            _reset(connection)


def _reset(connection: socket.socket) -> None:
    """End a connection at once, with what is still under way."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other end was first
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Any

    def log_message(self, format: str, *args: Any) -> None:
        """The log is ``hub.requests``."""

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self._body())
        hub = self.hub
        hub.requests.append(request)
        fault = hub.fault_of(request)
        kind, more = (fault.kind, fault.more) if fault else ("", {})
        call = more.get("call", lambda: None)
        if kind != "lost":
            call()
        if kind == "gone":
            return self._hang_up()
        if kind == "slow":
            time.sleep(more["seconds"])
        if kind == "status":
            answer = Refusal(more.get("status", 503), more.get("message", "out of order")).answer
        else:
            answer = hub.answer(request)
        if kind == "lost":
            call()
            return self._hang_up()
        self._send(request, corrupted(answer, fault) if fault else answer, kind, more)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, request: Request, answer: Answer, kind: str, more: dict[str, Any]) -> None:
        request.status = answer.status
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if kind == "cut":
            self.wfile.write(answer.body[: more.get("keep", len(answer.body) // 2)])
            return self._hang_up()
        pieces = more.get("pieces", 10) if kind == "drip" else 1
        step = len(answer.body) // pieces + 1
        for at in range(0, len(answer.body), step):
            self.wfile.write(answer.body[at : at + step])
            if kind == "drip":
                time.sleep(more["seconds"])
        return None

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        # What was written should arrive; a reset would drop it.
        self.connection.shutdown(socket.SHUT_RDWR)
