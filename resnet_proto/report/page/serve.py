"""A page that is made anew when one of its files changes -> a server for this machine alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

HOST = "127.0.0.1"


class Server(ThreadingHTTPServer):
    """Serves ``/``, the page, and ``/changed``, a word that is another one after a change.

    Args:
        make: gives the page; it gets that word.
        files: what it is made of.
    """

    daemon_threads = True

    def __init__(self, make: Callable[[str], str], files: Sequence[str]) -> None:
        super().__init__((HOST, 0), Handler)
        self.make = make
        self.files = files
        self.lock = Lock()
        self.made: tuple[str, bytes] = ("", b"")
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.server_port}/"

    def state(self) -> str:
        """The word: of when the files were written, and how long they are."""
        seen = []
        for file in self.files:
            try:
                about = os.stat(file)  # noqa: PTH116 - a str, as it was given
                seen.append((about.st_mtime_ns, about.st_size, about.st_ino))
            except OSError:  # it is just being replaced, or gone
                seen.append((0, 0, 0))
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]

    def content(self) -> bytes:
        """The page as the files are now."""
        with self.lock:
            state = self.state()
            if self.made[0] != state:
                self.made = (state, self.make(state).encode())
            return self.made[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that has gone away is no error."""


class Handler(BaseHTTPRequestHandler):
    """Answers the two questions, for whoever calls this machine by its own name."""

    server: Server
    server_version = "resnet-proto"
    sys_version = ""
    timeout = 10

    def do_GET(self) -> None:
        """Answer, unless the Host is another site's whose name leads to this machine."""
        if self.headers.get("Host", "") not in self.server.names:
            self.answer(403, "text/plain", b"this page is for this machine alone\n")
        elif self.path == "/":
            self.answer(200, "text/html", self.server.content())
        elif self.path == "/changed":
            self.answer(200, "text/plain", self.server.state().encode())
        else:
            self.answer(404, "text/plain", b"there is one page: /\n")

    def answer(self, status: int, kind: str, content: bytes) -> None:
        """Send it; no cache keeps it, and no other page shows it in a frame."""
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said of each question."""
