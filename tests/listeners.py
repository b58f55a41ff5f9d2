"""Servers on this machine that messages are sent to: one that takes HTTP, one that takes mail."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from lab.notify.keeping import alive

PATIENCE_SECONDS = 300.0  # for what another process does on a busy machine


@dataclass
class Got:
    """One message as it came in."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def words(self) -> str:
        """Title and text, however this service packs them."""
        try:
            fields = json.loads(self.body)
        except ValueError:
            return f"{self.headers.get('x-title', '')}\n{self.body}"
        return f"{fields['title']}\n{fields['message']}"


@dataclass
class Web:
    """Answers every request with `code`; with `hang` it takes the request and never answers."""

    code: int = 200
    hang: bool = False
    got: list[Got] = field(default_factory=list)

    def __enter__(self) -> Web:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length).decode("utf-8", "replace")
                headers = {name.lower(): value for name, value in self.headers.items()}
                web.got.append(Got(self.path, headers, body))
                if web.hang:
                    web._released.wait(PATIENCE_SECONDS)
                    return
                answer = b'{"id": "1", "event": "message"}'
                self.send_response(web.code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_PUT = do_POST

            def log_message(self, *words: object) -> None:
                pass

        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "hook", scheme: str = "json") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/{path}"


class Mail:
    """An SMTP server that takes every message and asks for a password when one is offered."""

    def __enter__(self) -> Mail:
        self.got: list[email.message.EmailMessage] = []
        self.logins: list[str] = []
        mail = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                mail._talk(self.rfile.readline, self.wfile.write)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _talk(self, read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
        write(b"220 here ESMTP\r\n")
        while line := read():
            word = line.split(b" ")[0].strip().upper()
            if word == b"EHLO":
                write(b"250-here\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n")
            elif word == b"AUTH":
                self.logins.append(line.decode().strip())
                write(b"235 welcome\r\n")
            elif word == b"DATA":
                write(b"354 go on\r\n")
                rows = list(iter(read, b".\r\n"))
                text = b"".join(row[1:] if row.startswith(b"..") else row for row in rows)
                self.got.append(email.message_from_bytes(text, policy=email.policy.default))  # type: ignore
                write(b"250 taken\r\n")
            elif word == b"QUIT":
                write(b"221 bye\r\n")
                return
            else:
                write(b"250 fine\r\n")

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])


def ended(folder: Path) -> bool:
    """Kill the messenger of a campaign; whether none is left: another may have waited for its place."""
    pid = alive(folder)
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):  # it has just left
            os.kill(pid, signal.SIGKILL)
    return not pid


def until(true: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something another process does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not in {seconds:g} s: {what}"
        time.sleep(0.02)


def deaf() -> tuple[socket.socket, int]:
    """A socket that accepts connections and says nothing; the caller closes it."""
    server = socket.create_server(("127.0.0.1", 0))
    return server, int(server.getsockname()[1])
