"""A real headless Chromium for tests, driven over the pipe of its DevTools protocol: no package is needed."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe",
)  # fmt: skip
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}


def chromium() -> str | None:
    """Where a Chromium is, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab. `events` keeps everything the page did: console, requests, errors."""

    def __init__(self, folder: Path) -> None:
        there, here = os.pipe(), os.pipe()
        # The protocol is fixed to the descriptors 3 and 4; ours are moved out of their way first.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (there[0], here[1])]
        found = chromium()
        assert found
        words = f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", words, "browser", found, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=theirs, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        for fd in (*theirs, there[0], here[1]):
            os.close(fd)
        self._out, self._in, self._rest, self._count = there[1], here[0], b"", 0
        self.events: list[dict] = []
        targets = self.call("Target.getTargets", session=False)["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", session=False, targetId=page, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, *, session: bool = True, **params: object) -> dict:
        """Send one command and return its result; events on the way are kept."""
        self._count += 1
        message: dict = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        number = self._count
        while True:
            got = self._read(60)
            if got.get("id") == number:
                assert "error" not in got, f"{method}: {got['error']}"
                return got["result"]
            self.events.append(got)

    def _read(self, seconds: float) -> dict:
        end = time.monotonic() + seconds
        while b"\0" not in self._rest:
            left = end - time.monotonic()
            assert left > 0 and select.select([self._in], [], [], left)[0], "the browser says nothing"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        return json.loads(line)

    # -- what a test does ------------------------------------------------------------------------------

    def open(self, address: str) -> None:
        """Load a page and wait for its end."""
        seen = len(self.events)
        self.call("Page.navigate", url=address)
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events[seen:]):
            self.events.append(self._read(60))

    def run(self, script: str) -> object:
        """The value of a script in the page; a promise is waited for."""
        got = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def key(self, name: str) -> None:
        """Press a key: Tab, Enter, a space or a letter."""
        code, text = KEYS.get(name, (ord(name.upper()[0]), name))
        words = {"key": name, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **words)
        self.call("Input.dispatchKeyEvent", type="keyUp", **words)

    def device(
        self, width: int, height: int, *, dark: bool = False, phone: bool = False, media: str = ""
    ) -> None:
        """Choose the size of the window, light or dark, screen or print."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def shot(self, path: Path, *, whole: bool = False) -> None:
        """Save what is seen (or the whole page) as PNG."""
        got = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(got["data"]))

    def paper(self, path: Path) -> None:
        """Save the page as it prints."""
        got = self.call("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)
        path.write_bytes(base64.b64decode(got["data"]))

    def troubles(self) -> list[str]:
        """What the page complained of on its console or threw."""
        found = []
        for event in self.events:
            name, params = event.get("method"), event.get("params", {})
            if name == "Runtime.exceptionThrown" or (
                name == "Log.entryAdded" and params["entry"]["level"] == "error"
            ):
                found.append(json.dumps(params)[:400])
            if name == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(json.dumps(params["args"])[:400])
        return found

    def requests(self) -> list[str]:
        """Every address the page asked for."""
        return [
            e["params"]["request"]["url"]
            for e in self.events
            if e.get("method") == "Network.requestWillBeSent"
        ]


AXE = "axe-core@4.14.1"


def axe_core(folder: Path) -> str:
    """The accessibility checker's script, from the npm registry; "" where it cannot be had."""
    if not shutil.which("npm"):
        return ""
    with contextlib.suppress(subprocess.TimeoutExpired):  # a network that answers nothing
        subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, capture_output=True, timeout=120)
    packed = next(folder.glob("*.tgz"), None)
    if packed is None:
        return ""
    shutil.unpack_archive(packed, folder)
    return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser that is gone afterwards."""
    made = Browser(folder)
    try:
        yield made
    finally:
        made.close()
