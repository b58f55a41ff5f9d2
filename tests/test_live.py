from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import AXE, axe_core, browser, chromium
from world import ENTRY, Project, a_project

from lab.live.devices import devices
from lab.live.present import time_left
from lab.live.readings import Reading, at, curve_of_log, last_reading, read_curve
from lab.live.screen import fitted

# -- what programs print -------------------------------------------------------------------------------

PROGRESS = (
    "\rstep {} ({}%) | loss: {} | lrm: 1.00 | dt: 310ms | tok/sec: {} | mfu: 39.2% | remaining: {}s    "
)
KARPATHY = (
    "Vocab size: 8192\n"
    + PROGRESS.format("00619", "65.0", "3.220000", "1,234,000", 106)
    + PROGRESS.format("00620", "65.1", "3.210000", "1,234,567", 105)
).encode()


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (KARPATHY, Reading(620, 3.21, "1,234,567 tok/s", 105, 65.1 / 100)),
        (
            b"step 00046 |  31 % | loss 2.2512 | rate 1.00 | 8,123 tokens/s\n",
            Reading(46, 2.2512, "8,123 tokens/s", None, 0.31),
        ),
        (b"iter 100: loss 3.2311, time 104.21ms, mfu 12.30%\n", Reading(100, 3.2311)),
        (b"{'loss': 2.31, 'grad_norm': 1.2, 'epoch': 1.5}\n", Reading(1.5, 2.31)),
        (b"Epoch 3/12 - loss: 0.4512 - eta 01:30\n", Reading(3, 0.4512, None, 90, 0.25)),
        (b" 45%|## | 9/20 [00:03<00:04,  2.5it/s, loss=1.25]\n", Reading(None, 1.25, "2.5 it/s", None, 0.45)),
        (b"step 7 loss nan\n", Reading(7)),
        (b"loss of generality, 100% sure; one step at a time\n", Reading()),
        (b"\xff\xfe\x00" * 50, Reading()),
        (b"", Reading()),
    ],
)  # fmt: skip
def test_the_last_reading_of_many_kinds_of_output(log: bytes, expected: Reading) -> None:
    assert last_reading(log) == expected


def test_each_fact_is_its_newest_by_itself() -> None:
    found = last_reading(b"step 10 loss 2.0\nsaved a checkpoint\n900 tok/s\n")
    assert found == Reading(10, 2.0, "900 tok/s")


def test_a_log_is_a_curve_over_its_steps() -> None:
    log = (
        "".join(f"step {n} loss {3 - n / 10}\nnothing here\n" for n in range(1, 9)) + "final val loss 2.15\n"
    )
    assert curve_of_log(log.encode()) == [(n, 3 - n / 10) for n in range(1, 9)]
    assert [x for x, _ in curve_of_log(log.encode().rsplit(b"final")[0], 3)] == [1, 5, 8]
    assert curve_of_log(b"step 1 loss 3.0\n") == ()


SLOW_LINES = (b"loss" + b" " * 2000 + b"x", b"loss " * 400, b"step" + b" " * 900 + b"=:" * 50,
              b"1," * 900 + b"loss", b"eta" + b" " * 900 + b"loss :")  # fmt: skip


@pytest.mark.parametrize("line", SLOW_LINES)
def test_no_line_makes_the_reading_slow(line: bytes) -> None:
    began = time.process_time()
    curve_of_log((line + b"\n") * 500)
    last_reading((line + b"\n") * 500)
    # Without the bound on blanks the first takes 30 s of processor time; the others are as quick as any text.
    assert time.process_time() - began < 5


def test_a_counter_that_starts_again_is_not_taken_for_the_axis() -> None:
    log = b"batch 1 loss 3\nbatch 2 loss 2\nbatch 1 loss 1.5\nbatch 2 loss 1\n"
    assert curve_of_log(log) == [(1, 3), (2, 2), (3, 1.5), (4, 1)]


def test_a_curve_file_goes_before_the_log(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("step 1 loss 3\nstep 2 loss 2\n")
    assert read_curve(tmp_path) == [(1, 3), (2, 2)]
    (tmp_path / "curve.jsonl").write_text('{"step": 5, "loss": 9}\n{"step": 6, "loss": 8}\n')
    assert read_curve(tmp_path) == [(5, 9), (6, 8)]


def test_a_curve_is_read_between_its_points_and_not_beyond() -> None:
    curve = [(10.0, 4.0), (20.0, 2.0)]
    assert [at(curve, x) for x in (9, 10, 15, 20, 21)] == [None, 4.0, 3.0, 2.0, None]
    assert at((), 1) is None


def test_the_time_left_says_how_it_is_known() -> None:
    assert time_left(Reading(left=30, share=0.5), 10, 300) == (30, "as the program says")
    assert time_left(Reading(share=0.25), 10, 300) == (30, "by its progress")
    assert time_left(Reading(), 10, 300) == (290, "of its budget")
    assert time_left(Reading(share=0.0), 400, 300) == (0, "of its budget")
    assert time_left(Reading(), None, 300) == (None, "")


# -- the machine ---------------------------------------------------------------------------------------


def a_tool(folder: Path, name: str, says: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\nprint({says!r})\n")
    (folder / name).chmod(0o755)


def test_gpus_are_read_from_the_tools_of_both_makers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.live.devices.PATIENCE", 60.0)  # the tools are Pythons here
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert devices() == []
    amd = {"card0": {"GPU use (%)": "87", "VRAM Total Memory (B)": str(64 << 30),
                     "VRAM Total Used Memory (B)": str(16 << 30)}, "system": "x"}  # fmt: skip
    a_tool(tmp_path / "amd", "rocm-smi", json.dumps(amd))
    monkeypatch.setenv("PATH", str(tmp_path / "amd"))
    assert [d.words for d in devices()] == ["GPU 0: 87 % busy, 16.0 of 64.0 GB"]
    rows = "0, NVIDIA H200, 98, 71680, 143771\n1, NVIDIA <b>H200</b>, [N/A], [N/A], 143771"
    a_tool(tmp_path / "nv", "nvidia-smi", rows)
    monkeypatch.setenv("PATH", f"{tmp_path / 'nv'}:{tmp_path / 'amd'}")
    assert [d.words for d in devices()] == [
        "GPU 0 NVIDIA H200: 98 % busy, 70.0 of 140.4 GB",
        "GPU 1 NVIDIA bH200/b: use unknown",
    ]


def test_a_driver_that_fails_or_talks_nonsense_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia-smi", "rocm-smi"):
        a_tool(tmp_path, name, "NVIDIA-SMI has failed because it couldn't communicate with the driver")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices() == []


# -- a campaign that is watched ------------------------------------------------------------------------

# A program that goes on until a file lets it end: no test has to race with it.
SLOW = """import os, time
LR = 1.00
out = os.environ["AUTORESEARCH_RUN_DIR"]
gate = os.environ.get("GATE", "")
for step in range(1, 6):
    print(f"step {step}0/100 loss {LR + 1 / step:.4f} | 1,500 tok/s", flush=True)
while gate and LR != 1.00 and not os.path.exists(gate):
    time.sleep(0.02)
print(f"val_bpb: {LR:.6f}")
"""
HOSTILE = "<script>document.title='owned'</script></svg>\x1b[31m\x1b]0;owned\x07"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A campaign with its baseline, made once."""
    project = a_project(tmp_path_factory.mktemp("begun") / "p", {"train.py": SLOW, "README.md": "x\n"})
    project.ok("init", "--tag", "t1", "--metric", "val_bpb", "--goal", "min", "--edit", "train.py",
               "--command", f"{sys.executable} train.py", "--budget", "10m")  # fmt: skip
    project.ok("baseline", "--repeats", "1")
    return project


@pytest.fixture
def gated(begun: Project, tmp_path: Path) -> Project:
    """Such a campaign whose candidates run until the file `gate` is there."""
    shutil.copytree(begun.root, tmp_path / "p", symlinks=True)
    return Project(tmp_path / "p", {**begun.env, "GATE": str(tmp_path / "gate")})


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Name, size and time of every file but those a run at work, or a mover that looks and leaves, writes."""
    others = re.compile(r"heartbeat|autoresearch-tmp|^mover\.|^state\.lock$")
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not others.search(path.name)
    }


def begin(project: Project, words: str, value: str = "0.90") -> None:
    project.write("train.py", re.sub(r"LR = \S+", f"LR = {value}", project.read("train.py")))
    answer = project.run("--json", "try", words, "--wait", "0")
    assert answer.code == 0, answer.out + answer.err


def open_gate(project: Project) -> dict:
    Path(project.env["GATE"]).write_text("")
    return project.ok("wait", "--max", "300")


def test_watch_shows_the_run_beside_its_parent_at_the_same_step(gated: Project) -> None:
    begin(gated, HOSTILE)
    end = time.monotonic() + 300
    while not (gated.ok("watch")["work"] and gated.ok("watch")["work"][0]["step"] == 50):
        assert time.monotonic() < end
    before = everything(gated.root)
    (work,) = gated.ok("watch")["work"]
    assert (work["run"], work["parent"], work["rate"]) == ("e001.1", "e000", "1,500 tok/s")
    assert work["loss"] == pytest.approx(1.1) and work["parent_loss"] == pytest.approx(1.2)
    assert work["against"] == pytest.approx(-0.1) and work["left_by"] == "by its progress"
    text = gated.run("watch", "--once").out
    assert "step 50 · 50 % · 1,500 tok/s" in text and "e000 had 1.2000 at this step: −0.1000, lower" in text
    assert "<script>document.title='owned'</script>" in text and "\x1b" not in text
    assert everything(gated.root) == before  # it never writes
    assert open_gate(gated)["verdict"] == "keep"
    assert gated.ok("watch")["verdicts"][0]["experiment"] == "e001"


def test_a_run_that_writes_a_curve_is_compared_on_the_axis_of_that_curve(gated: Project) -> None:
    rows = [[{"tokens": 1000 * n, "loss": 5 - k - n / 10} for n in range(1, 9)] for k in (0, 1)]
    lines = ["".join(json.dumps(point) + "\n" for point in points) for points in (rows[0], rows[1][:3])]
    (gated.root / ".autoresearch/runs/e000.1/curve.jsonl").write_text(lines[0])
    begin(gated, "first")
    (gated.root / ".autoresearch/runs/e001.1/curve.jsonl").write_text(lines[1])
    (work,) = gated.ok("watch")["work"]
    assert (work["loss"], work["parent_loss"]) == (pytest.approx(3.7), pytest.approx(4.7))
    open_gate(gated)


@pytest.mark.slow
def test_watch_shows_what_waits(gated: Project) -> None:
    begin(gated, "first", "0.90")
    begin(gated, "second", "0.80")
    now = gated.ok("watch")
    assert [row["experiment"] for row in now["queue"]] == ["e002"] and now["work"][0]["experiment"] == "e001"
    assert "waiting\n  e002 second" in gated.run("watch", "--once").out
    open_gate(gated)


def test_into_a_file_watch_writes_one_line_at_a_time_and_ends_with_the_campaign(gated: Project) -> None:
    watching = gated.start("watch", "--every", "0.1")
    assert watching.stdout
    first = watching.stdout.readline().decode()
    assert "1 kept" in first and "\x1b" not in first
    gated.ok("finish")
    out, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0 and "finished" in out.decode().splitlines()[-1]


@pytest.mark.slow
def test_on_a_terminal_watch_redraws_in_place(gated: Project) -> None:
    import pty

    ours, theirs = pty.openpty()
    env = {**os.environ, **gated.env, "TERM": "xterm", "COLUMNS": "60", "LINES": "20"}
    command = [sys.executable, str(ENTRY), "watch", "--every", "0.1"]
    watching = subprocess.Popen(command, cwd=gated.root, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while seen.count(b"\x1b[J") < 3:
        seen += os.read(ours, 4096)
    watching.send_signal(signal.SIGINT)
    while watching.poll() is None:
        try:
            os.read(ours, 4096)
        except OSError:
            break
    assert watching.wait(60) == 130
    os.close(ours)
    frame = seen.split(b"\x1b[J")[1].decode()
    height = frame.count("\r\n")
    assert f"\x1b[{height}F" in frame and all(len(line) <= 60 for line in frame.splitlines())


# -- the served page -----------------------------------------------------------------------------------


@contextmanager
def served(project: Project) -> Iterator[str]:
    """The address of the page while its server runs."""
    server = project.start("--json", "serve")
    try:
        assert server.stdout
        yield json.loads(server.stdout.readline())["url"]
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    assert server.returncode == 130, err


def asked(url: str, path: str | None = None, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Status and body of a request; `path` and headers may be wrong on purpose."""
    where = urlsplit(url)
    line = http.client.HTTPConnection(where.hostname or "", where.port or 0, timeout=60)
    line.putrequest(method, path or f"/?{where.query}", skip_host="Host" in headers)
    for name, value in headers.items():
        line.putheader(name, value)
    line.endheaders()
    answer = line.getresponse()
    found = answer.status, answer.read().decode()
    line.close()
    return found


def test_the_server_answers_only_the_holder_of_the_token_and_changes_nothing(gated: Project) -> None:
    begin(gated, HOSTILE)
    open_gate(gated)
    before = everything(gated.root)
    with served(gated) as url:
        where = urlsplit(url)
        assert where.hostname == "127.0.0.1" and len(where.query) > 40
        status, page = asked(url)
        assert (
            status == 200 and "<script>document.title" not in page and "&lt;script&gt;document.title" in page
        )
        wrong = where.query[:-1] + ("a" if where.query[-1] != "a" else "b")
        for path in (
            "/",
            f"/?{wrong}",
            "/?token=",
            "/events",
            f"/events?{wrong}",
            f"/?{where.query}x",
            "/?token=%ff",
        ):
            assert asked(url, path)[0] == 403, path
        for host in (
            "evil.example",
            f"evil.example:{where.port}",
            "127.0.0.1",
            f"127.0.0.1:{where.port}.evil.example",
        ):
            assert asked(url, Host=host)[0] == 403, host
        assert asked(url, Host=f"localhost:{where.port}")[0] == 200
        assert asked(url, Origin="http://evil.example")[0] == 403
        assert asked(url, f"/../../etc/passwd?{where.query}")[0] == 404
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert asked(url, method=method)[0] == 405, method
    assert everything(gated.root) == before


@pytest.mark.slow
def test_the_server_listens_on_loopback_alone_and_at_another_port_with_another_token_each_time(
    gated: Project,
) -> None:
    import psutil

    with served(gated) as one, served(gated) as two:
        first, second = urlsplit(one), urlsplit(two)
        assert first.port != second.port and first.query != second.query
        assert asked(two, f"/?{first.query}")[0] == 403
        listening = {c.laddr for c in psutil.net_connections("tcp") if c.status == "LISTEN"}
        assert {a.ip for a in listening if a.port in (first.port, second.port)} == {"127.0.0.1"}


def test_a_taken_port_is_said(gated: Project) -> None:
    with served(gated) as url:
        error = gated.refused(4, "serve", "--port", str(urlsplit(url).port))
    assert "cannot listen" in error["message"]


def events(url: str) -> Iterator[tuple[str, str]]:
    """The server's events as they come."""
    where = urlsplit(url)
    line = http.client.HTTPConnection(where.hostname or "", where.port or 0, timeout=60)
    line.request("GET", f"/events?{where.query}")
    answer = line.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    name = ""
    try:
        while True:
            text = answer.readline().decode()
            assert text, "the server ended the stream"
            if text.startswith("event: "):
                name = text[7:].strip()
            elif text.startswith("data: "):
                yield name, text[6:].strip()
    finally:
        line.close()


def test_events_tell_of_a_new_verdict(gated: Project) -> None:
    begin(gated, HOSTILE)
    with served(gated) as url:
        stream = events(url)
        seq = next(json.loads(text)["seq"] for name, text in stream if name == "report")
        open_gate(gated)
        for name, text in stream:
            if name == "present" and json.loads(text)["verdicts"][0].startswith("e001 keep 0.9"):
                assert "\x1b" not in json.loads(text)["verdicts"][0]
                break
        assert any(name == "report" and json.loads(text)["seq"] > seq for name, text in events(url))
        stream.close()


VERDICT = (
    "[...document.querySelectorAll('#live-verdicts li')].some(li => li.textContent.startsWith('e001 keep'))"
)
ROW = "!!document.querySelector('#runs tbody tr:nth-child(2) td:nth-child(5)')?.textContent.includes('keep')"
WAIT = """new Promise(done => {{ const began = performance.now(); (function look() {{
  if ({0}) done(Date.now() / 1000);
  else if (performance.now() - began > 50000) done(0);
  else setTimeout(look, 10);
}})() }})"""
READING = """const filter = document.getElementById('filter');
filter.value = 'e00'; filter.focus(); filter.dispatchEvent(new Event('input'));
document.getElementById('e001').open = true"""


@pytest.mark.slow
def test_a_browser_shows_a_new_verdict_within_two_seconds(gated: Project, tmp_path: Path) -> None:
    if not chromium():
        pytest.skip("no Chromium here: apt-get install chromium")
    begin(gated, HOSTILE)
    with served(gated) as url, browser(tmp_path / "profile") as tab:
        tab.open(url)
        assert tab.run(WAIT.format("document.body.dataset.shown && " + ROW.replace("'keep'", "'open'")))
        tab.run(READING)
        open_gate(gated)
        given = next(
            r["at"] for r in gated.records() if r["event"] == "verdict" and r["experiment"] == "e001"
        )
        seen, replaced = tab.run(WAIT.format(VERDICT)), tab.run(WAIT.format(ROW))
        late = [round(when - _seconds(given), 2) for when in (seen, replaced)]
        print(f"seconds after the verdict's record: in the list {late[0]}, in the report {late[1]}")
        assert seen and replaced
        assert (
            tab.run("document.title") != "owned"
            and tab.run("document.querySelectorAll('script').length") == 1
        )
        assert "document.title='owned'" in str(tab.run("document.getElementById('live').textContent"))
        assert tab.run("document.getElementById('filter').value") == "e00"
        assert tab.run("document.activeElement.id") == "filter"
        assert tab.run("document.getElementById('e001').open") is True
        origin = url.split("?")[0]
        assert all(
            address.startswith(origin) for address in tab.requests() if not address.startswith("data:")
        )
        assert tab.troubles() == []


@pytest.mark.slow
def test_axe_finds_nothing_on_the_live_page(gated: Project, tmp_path: Path) -> None:
    script = axe_core(tmp_path) or pytest.skip(f"npm cannot get {AXE}")
    if not chromium():
        pytest.skip("no Chromium here: apt-get install chromium")
    begin(gated, HOSTILE)
    with served(gated) as url, browser(tmp_path / "profile") as tab:
        tab.open(url)
        assert tab.run(WAIT.format("document.querySelector('#live-work b')"))
        tab.run(script + "; 0")
        found = "axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html)]))"
        assert tab.run(found) == []
        open_gate(gated)


def test_a_line_of_the_screen_fits_whatever_its_letters() -> None:
    assert [fitted(text, 6) for text in ("short", "exact!", "longer one", "学習率を半分に", "ab学習率")] == [
        "short", "exact!", "longe…", "学習…", "ab学…"
    ]  # fmt: skip
    assert fitted("e\u0301" * 6, 6) == "e\u0301" * 6


def _seconds(iso: str) -> float:
    import datetime

    return datetime.datetime.fromisoformat(iso).timestamp()
