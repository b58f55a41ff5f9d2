"""The morning page in a browser, kept up to date: on loopback only, read only, behind a token in the address.

A program or a web page on the same machine may not read it: every answer asks for the token (compared in
constant time), and for a `Host` that is our own address, so that no foreign name that was made to point here
(DNS rebinding) reaches it. Nothing is written and no request changes anything.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import socketserver
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from lab import morning
from lab.campaign import Lab
from lab.errors import LabError
from lab.live import screen
from lab.live.present import Looker
from lab.model import Record

LOOPBACK = "127.0.0.1"
LOOK_SECONDS = 0.3  # between two looks at the journal's size: well inside the two seconds a verdict may take
PRESENT_SECONDS = 1.0  # between two looks at what runs
QUIET_SECONDS = 15.0  # after which a line without a meaning keeps a stream alive
STREAMS = 16  # open pages
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Feed:
    """What is new, for every open page: looked up by one thread, and only while somebody listens."""

    def __init__(self, root: Path) -> None:
        self._looker = Looker(Lab(root))
        self._news = threading.Condition()
        self._latest: dict[str, tuple[int, str]] = {}  # event -> its number, its data
        self._count = 0
        self._ended = threading.Event()
        self.listeners = 0

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    @property
    def ended(self) -> bool:
        """Whether nothing new will come."""
        return self._ended.is_set()

    def run(self) -> None:
        """Look until `end`."""
        looked = 0.0
        while not self._ended.wait(LOOK_SECONDS):
            due = time.monotonic() - looked >= PRESENT_SECONDS
            if self.listeners and (due or self._looker.changed() or not self._latest):
                looked = time.monotonic()
                self._publish(*self._look())

    def _look(self) -> tuple[Record, int | None]:
        try:
            p = self._looker.look()
        except (LabError, OSError) as error:
            trouble = f"The journal cannot be read now: {error}"
            return {"state": trouble, "work": [], "queue": [], "verdicts": [], "machine": ""}, None
        return screen.panel(p), p.seq

    def _publish(self, panel: Record, seq: int | None) -> None:
        with self._news:
            for name, text in (("present", json.dumps(panel)), ("report", str(seq or ""))):
                if text and self._latest.get(name, (0, ""))[1] != text:
                    self._count += 1
                    self._latest[name] = (self._count, text)
            self._news.notify_all()

    def after(self, number: int, seconds: float) -> list[tuple[int, str, str]]:
        """The events newer than `number`, oldest first; [] when none came in time."""
        with self._news:
            self._news.wait_for(lambda: self._count > number, seconds)
            new = [(n, name, text) for name, (n, text) in self._latest.items() if n > number]
        return sorted(new)


class Server(ThreadingHTTPServer):
    """One campaign's server, bound to loopback."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, root: Path, next_step: Callable[[Lab], str], port: int = 0) -> None:
        super().__init__((LOOPBACK, port), Handler)
        self.root, self.next_step = root, next_step
        self.token = secrets.token_urlsafe(32)
        self.port = int(self.server_address[1])
        self.feed = Feed(root)
        self._pages: dict[int, bytes] = {}  # the newest, by the journal's last record
        self._one_at_a_time = threading.Lock()

    def server_bind(self) -> None:
        """Bind with no question to a name server for our name, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://{LOOPBACK}:{self.port}/?token={self.token}"

    def serve(self) -> None:
        """Answer until interrupted."""
        threading.Thread(target=self.feed.run, daemon=True).start()
        try:
            self.serve_forever(poll_interval=0.2)
        finally:
            self.feed.end()

    def page(self) -> bytes:
        """The page of now, made once for each state of the journal."""
        with self._one_at_a_time:
            lab = Lab(self.root)
            seq = lab.read().seq
            if seq not in self._pages:
                self._pages = {seq: morning.page_of(lab, self.next_step(lab), live=True).html().encode()}
            return self._pages[seq]


class Handler(BaseHTTPRequestHandler):
    """Two addresses: the page, and its events."""

    server: Server
    server_version, sys_version = "autoresearch", ""
    timeout = 30  # seconds a client may take for its request

    def do_GET(self) -> None:
        """Answer what may be read."""
        address = urlsplit(self.path)
        answers = {"/": self._page, "/events": self._events}
        if not self._allowed(address.query):
            self._say(HTTPStatus.FORBIDDEN, "This address needs the token that `serve` printed.\n")
        elif address.path not in answers:
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here.\n")
        else:
            with contextlib.suppress(ConnectionError, TimeoutError):
                answers[address.path]()

    def _refuse(self) -> None:
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, "Nothing can be changed here.\n")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_HEAD = _refuse

    def _allowed(self, query: str) -> bool:
        """Whether the request carries the token and was meant for this address."""
        own = {f"{LOOPBACK}:{self.server.port}", f"localhost:{self.server.port}"}
        origin = self.headers.get("Origin")
        ours = self.headers.get_all("Host", []) in [[host] for host in own]
        given = parse_qs(query).get("token", [""])[0]
        right = hmac.compare_digest(given.encode("utf-8", "replace"), self.server.token.encode())
        return ours and right and (origin is None or origin in {f"http://{host}" for host in own})

    def _page(self) -> None:
        try:
            body = self.server.page()
        except LabError as error:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n")
            return
        self._head(HTTPStatus.OK, "text/html; charset=utf-8", len(body))
        self.wfile.write(body)

    def _events(self) -> None:
        feed = self.server.feed
        if feed.listeners >= STREAMS:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, "Too many pages are open.\n")
            return
        self._head(HTTPStatus.OK, "text/event-stream; charset=utf-8")
        feed.listeners += 1
        try:
            number = 0
            while not feed.ended:
                text, number = self._told(feed.after(number, QUIET_SECONDS), number)
                self.wfile.write(text.encode())
                self.wfile.flush()
        finally:
            feed.listeners -= 1

    def _told(self, new: list[tuple[int, str, str]], number: int) -> tuple[str, int]:
        """Events as the stream has them, and the last one's number.

        `report` carries the page itself beside the number of the journal's record. A page that cannot be made
        now, because a verdict is just being written, is tried again a little later.
        """
        lines = []
        for count, name, text in new:
            if name == "report":
                try:
                    page = self.server.page().decode()
                except (LabError, OSError):
                    time.sleep(LOOK_SECONDS)
                    break
                text = json.dumps({"seq": int(text), "page": page})
            lines.append(f"event: {name}\ndata: {text}\n\n")
            number = count
        return "".join(lines or [": still here\n\n"]), number

    def _say(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        with contextlib.suppress(ConnectionError):
            self._head(status, "text/plain; charset=utf-8", len(body))
            if self.command != "HEAD":
                self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the address holds the token."""
