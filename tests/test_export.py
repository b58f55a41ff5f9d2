from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from world import Project, a_project

from lab.export.formats import _cell
from lab.export.tfevents import _crc, event_file

# What an MLflow server needs of the whole package's 850 MB; no job of its own is run.
READERS = ("tensorboard==2.21.0", "mlflow-skinny==3.17.2", "flask==3.1.3", "flask-cors==6.0.5",
           "sqlalchemy", "alembic", "aiohttp", "numpy", "pandas")  # fmt: skip
TRACKERS = ("wandb==0.31.0", "trackio==0.43.0")
QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
HOSTILE = "=cmd|' /C calc'!A1 <script>alert(1)</script> ![x](http://evil.example/p.png)\x1b[31m"
# The loss of a run that diverges leaves the range of 32 bits.
TRAIN = """import json, os
LR = 1.00
rows = [{"step": 10 * n, "loss": LR + 1 / (n + 3)} for n in range(1, 8)] + [{"step": 80, "loss": 1e300}]
with open(os.path.join(os.environ["AUTORESEARCH_RUN_DIR"], "curve.jsonl"), "w") as file:
    file.writelines(json.dumps(row) + "\\n" for row in rows)
print("peak_vram_mb: 512.0")
print(f"val_bpb: {LR + 1 / 3:.6f}")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A campaign with a keep, a discard and a crash."""
    project = a_project(tmp_path_factory.mktemp("made") / "p", {"train.py": TRAIN, "README.md": "x\n"})
    project.ok("init", "--tag", "t1", "--metric", "val_bpb", "--goal", "min", "--edit", "train.py",
               "--command", f"{sys.executable} train.py", "--budget", "60s")  # fmt: skip
    project.ok("baseline", "--repeats", "1")
    for old, new, words in (("1.00", "0.90", HOSTILE), ("0.90", "0.95", "worse"), ("0.90", "oops", "breaks")):
        project.edit(f"LR = {old}", f"LR = {new}")
        project.ok("try", words)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    shutil.copytree(made.root, tmp_path / "p", symlinks=True)
    return Project(tmp_path / "p", dict(made.env))


def names(project: Project) -> list[str]:
    """Every run of the campaign: a first candidate runs more than once."""
    return [str(run["id"]) for n in range(4) for run in project.ok("show", str(n))["runs"]]


def curve(value: float) -> list[tuple[int, float]]:
    return [*((10 * n, value + 1 / (n + 3)) for n in range(1, 8)), (80, 1e300)]


def single(value: float) -> float:
    """The nearest number of 32 bits."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return float("inf")


# -- tables --------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_gives_back_every_number_and_text(project: Project) -> None:
    told = project.ok("export", "csv")
    assert (told["experiments"], told["runs"], told["left_out"]) == (4, len(names(project)), 0)
    folder = project.root / ".autoresearch/export/csv"
    experiments, runs, curves = (rows(folder / f"{name}.csv") for name in ("experiments", "runs", "curves"))
    shown = [project.ok("show", row["experiment"]) for row in experiments]
    assert [row["verdict"] for row in experiments] == ["keep", "keep", "discard", "crash"]
    for row, truth in zip(experiments, shown, strict=True):
        number = float(row["metric"]) if row["metric"] else None
        assert (number, row["commit"]) == (truth["metric"], truth["commit"])
    firsts = [row for row in runs if row["run"].endswith(".1")]
    assert [float(row["number.val_bpb"]) for row in firsts[:3]] == [
        pytest.approx(v, abs=1e-6) for v in (4 / 3, 0.9 + 1 / 3, 0.95 + 1 / 3)
    ]
    assert runs[-1]["number.val_bpb"] == "" and runs[-1]["crash"] == "error"
    first = [(float(row["step"]), float(row["loss"])) for row in curves if row["run"] == "e001.1"]
    assert first == curve(0.9)
    assert project.git("status", "--porcelain", "--ignored").count("export") == 0  # git does not see it


def test_no_cell_is_a_formula_and_no_text_has_control_characters(project: Project) -> None:
    project.ok("export", "csv", "--to", "out")
    text = (project.root / "out/experiments.csv").read_text()
    cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
    assert "\x1b" not in text and any(cell.startswith("'=cmd|") for cell in cells)
    assert not [cell for cell in cells if cell.startswith("=")]
    assert [_cell(value) for value in ("-0.1", "+1 more", "@x", -0.5, None, "a=b")] == [
        "-0.1", "'+1 more", "'@x", -0.5, None, "a=b"
    ]  # fmt: skip


def test_an_export_twice_gives_the_same_files(project: Project) -> None:
    for form in ("csv", "tensorboard"):
        project.ok("export", form, "--to", "one")
        before = {p: p.read_bytes() for p in (project.root / "one").rglob("*") if p.is_file()}
        project.ok("export", form, "--to", "one")
        assert before == {p: p.read_bytes() for p in (project.root / "one").rglob("*") if p.is_file()}


def test_an_export_killed_half_way_is_made_whole_by_the_next(project: Project) -> None:
    died = project.run("export", "csv", "--to", "out", env={"AUTORESEARCH_DIE_AT": "export.file#2"})
    assert died.code == -9 and not (project.root / "out/curves.csv").exists()
    project.ok("export", "csv", "--to", "out")
    assert len(rows(project.root / "out/curves.csv")) == 8 * (len(names(project)) - 1)  # a crash has none


def test_what_has_no_verdict_yet_is_left_out_and_said(project: Project) -> None:
    project.edit("LR = 0.90", "import time; time.sleep(60); LR = 0.10")
    project.run("--json", "try", "waits", "--wait", "0")
    assert project.ok("export", "csv")["left_out"] == 1
    project.ok("stop", "--now")


def test_before_the_baseline_there_is_nothing_to_export(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p")
    project.ok("init", "--tag", "t1")
    assert "nothing has been decided" in project.refused(4, "export", "csv")["message"]


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(project: Project) -> None:
    for form, package in (("parquet", "pyarrow"), ("wandb", "wandb"), ("trackio", "trackio")):
        hide = project.root / "hide"
        hide.mkdir(exist_ok=True)
        (hide / f"{package}.py").write_text("raise ImportError('hidden')\n")
        answer = project.run("--json", "export", form, env={"PYTHONPATH": str(hide)})
        assert answer.code == 4 and answer.json["fix"].endswith(f"install {package}"), answer
        assert sys.executable in answer.json["fix"]


# -- event files ---------------------------------------------------------------------------------------


def test_the_checksum_is_crc32c() -> None:
    # The test vectors of RFC 3720, B.4.
    assert _crc(b"\x00" * 32) == 0x8A9136AA and _crc(b"\xff" * 32) == 0x62A8AB43
    assert _crc(bytes(range(32))) == 0x46DD794E and _crc(b"123456789") == 0xE3069283


def test_every_record_of_an_event_file_is_framed_with_its_length() -> None:
    data = event_file(1.0, [("loss", 1, 0.5), ("loss", 2, -1e300)], {"words": "x" * 300})
    sizes = []
    while data:
        size = struct.unpack("<Q", data[:8])[0]
        sizes.append(size)
        data = data[16 + size :]
    assert len(sizes) == 4 and sizes[1] > 300


def installed(folder: Path, packages: tuple[str, ...]) -> Path:
    """The programs of an environment with these packages."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-input", *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        pytest.skip(f"pip cannot install {', '.join(packages)} here: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin"


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs that read what is exported: half a minute and 350 MB."""
    return installed(tmp_path_factory.mktemp("readers"), READERS)


@pytest.fixture(scope="module")
def trackers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trackers' own clients: half a minute and 280 MB."""
    return installed(tmp_path_factory.mktemp("trackers"), TRACKERS)


READ_EVENTS = """
import json, sys
from pathlib import Path
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util
runs = {}
for folder in Path(sys.argv[1]).iterdir():
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    scalars = {t: [(e.step, e.value) for e in found.Scalars(t)] for t in found.Tags()["scalars"]}
    arrays = {t: tensor_util.make_ndarray(found.Tensors(t)[0].tensor_proto) for t in found.Tags()["tensors"]}
    words = {tag: array[0].decode() for tag, array in arrays.items()}
    runs[folder.name] = scalars, words
print(json.dumps(runs))
"""


def a_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], address: str, folder: Path) -> Iterator[None]:
    """A server that answers at `address`, gone afterwards with all it started."""
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True,
            env={**os.environ, **QUIET},
        )  # fmt: skip
    try:
        end = time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(address, timeout=10):
                    break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, (folder / "server.log").read_text()
                time.sleep(0.1)
        yield
    finally:
        os.killpg(server.pid, 15)
        server.wait(60)


def fetched(address: str, **values: object) -> dict:
    body = json.dumps(values).encode() if values else None
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.slow
def test_tensorboard_reads_back_what_was_exported(project: Project, readers: Path, tmp_path: Path) -> None:
    project.ok("export", "tensorboard", "--to", str(tmp_path / "tb"))
    command = [str(readers / "python"), "-c", READ_EVENTS, str(tmp_path / "tb")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert sorted(found) == ["campaign", *names(project)]
    for run, value in (("e000.1", 1.0), ("e001.1", 0.9), ("e002.1", 0.95)):
        scalars, words = found[run]
        truth = project.ok("show", run)["runs"][0]
        assert scalars["loss"] == [[x, single(y)] for x, y in curve(value)]
        assert scalars["result/val_bpb"] == [[int(run[1:4]), single(truth["metric"])]]
        assert json.loads(words["numbers"])["val_bpb"] == truth["metric"]  # all digits
    assert found["campaign"][0]["best"] == [[n, single(project.ok("show", str(n))["metric"])] for n in (0, 1)]
    assert [step for step, _ in found["campaign"][0]["metric"]] == [0, 1, 2]
    port = a_port()
    address = f"http://127.0.0.1:{port}/data/plugin"
    serve = [
        str(readers / "python"),
        "-m",
        "tensorboard.main",
        "--logdir",
        str(tmp_path / "tb"),
        "--port",
        str(port),
    ]
    with running(serve, f"{address}/scalars/tags", tmp_path):
        end = time.monotonic() + 120  # it reads the files by and by
        while "loss" not in fetched(f"{address}/scalars/tags").get("e001.1", {}):
            assert time.monotonic() < end
            time.sleep(0.1)
        shown = fetched(f"{address}/scalars/scalars?run=e001.1&tag=loss")
        assert [(step, value) for _, step, value in shown[:7]] == [(x, single(y)) for x, y in curve(0.9)[:7]]
        text = fetched(f"{address}/text/text?run=e001.1&tag=hypothesis")[0]["text"]
        assert "&lt;script&gt;" in text and "<script" not in text and "<img" not in text


@pytest.mark.slow
def test_mlflow_reads_back_what_was_exported(project: Project, readers: Path, tmp_path: Path) -> None:
    port = a_port()
    address = f"http://127.0.0.1:{port}"
    store = ["--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", "--workers", "1"]
    serve = [
        str(readers / "python"),
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *store,
    ]
    with running(serve, f"{address}/health", tmp_path):
        died = project.run(
            "export", "mlflow", "--to", address, env={"AUTORESEARCH_DIE_AT": "export.mlflow.filled#2"}
        )
        assert died.code == -9
        wanted = names(project)
        for sent, known in (
            (len(wanted) - 1, 1),
            (0, len(wanted)),
        ):  # the one that was cut is made anew, none is doubled
            said = project.ok("export", "mlflow", "--to", address)["said"]
            assert said[0].startswith(f"{sent} runs sent, {known} were there")
        api = f"{address}/api/2.0/mlflow"
        where = fetched(f"{api}/experiments/get-by-name?experiment_name=autoresearch%2Ft1")["experiment"]
        runs = {
            run["info"]["run_name"]: run
            for run in fetched(f"{api}/runs/search", experiment_ids=[where["experiment_id"]])["runs"]
        }
        assert sorted(runs) == wanted
        for name, run in runs.items():
            shown = project.ok("show", name)
            truth = next(one for one in shown["runs"] if one["id"] == name)
            metrics = {m["key"]: m["value"] for m in run["data"]["metrics"]}
            tags = {t["key"]: t["value"] for t in run["data"]["tags"]}
            assert metrics.get("val_bpb") == truth["metric"]
            assert tags["autoresearch.verdict"] == shown["verdict"]
            assert run["info"]["status"] == ("FAILED" if shown["verdict"] == "crash" else "FINISHED")
        history = f"{api}/metrics/get-history?metric_key=loss_curve&run_id={runs['e001.1']['info']['run_id']}"
        points = [(m["step"], m["value"]) for m in fetched(history)["metrics"]]
        assert sorted(points) == curve(0.9)


# -- the interface of MLflow, without it ---------------------------------------------------------------


class Standin(BaseHTTPRequestHandler):
    """As much of the interface as the export uses, as its documentation tells it."""

    server: Store

    def do_GET(self) -> None:
        self.respond(*self.server.answer(self.path.split("/mlflow/")[1], {}))

    def do_POST(self) -> None:
        values = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.append(dict(self.headers))
        self.respond(*self.server.answer(self.path.split("/mlflow/")[1], values))

    def respond(self, status: int, answer: dict) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Store(ThreadingHTTPServer):
    """What was sent, by run."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Standin)
        self.runs: dict[str, dict] = {}
        self.experiment = ""
        self.headers: list[dict[str, str]] = []
        self.calls: list[str] = []

    def answer(self, call: str, values: dict) -> tuple[int, dict]:
        self.calls.append(call.split("?")[0])
        name = self.calls[-1]
        if name == "experiments/get-by-name" and not self.experiment:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}
        if name.startswith("experiments/"):
            self.experiment = "7"
            return 200, {"experiment_id": "7", "experiment": {"experiment_id": "7"}}
        if name == "runs/search":  # two pages of different sizes
            listed = [{"info": {"run_id": k}, "data": {"tags": v["tags"]}} for k, v in self.runs.items()]
            page = int(values["page_token"] or 0)
            following = {"next_page_token": "1"} if page == 0 and len(listed) > 1 else {}
            return 200, {"runs": listed[:1] if page == 0 else listed[1:], **following}
        if name == "runs/create":
            key = f"r{len(self.calls)}"
            self.runs[key] = {"tags": values["tags"], "metrics": []}
            return 200, {"run": {"info": {"run_id": key}}}
        if name == "runs/delete":
            del self.runs[values["run_id"]]
        if name == "runs/set-tag":
            self.runs[values["run_id"]]["tags"].append({"key": values["key"], "value": values["value"]})
        if name == "runs/log-batch":
            assert len(values.get("metrics", [])) <= 1000 and len(values.get("params", [])) <= 100
            self.runs[values["run_id"]]["metrics"] += values.get("metrics", [])
        return 200, {}


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_runs_are_sent_once_and_a_half_sent_one_is_made_anew(project: Project, store: Store) -> None:
    address = f"http://user:secret@127.0.0.1:{store.server_address[1]}"
    died = project.run(
        "export", "mlflow", "--to", address, env={"AUTORESEARCH_DIE_AT": "export.mlflow.created#3"}
    )
    assert died.code == -9 and len(store.runs) == 3
    wanted = names(project)
    for sent, known in ((len(wanted) - 2, 2), (0, len(wanted))):
        said = project.ok("export", "mlflow", "--to", address)["said"][0]
        assert said.startswith(f"{sent} runs sent, {known} were there") and "secret" not in said
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in store.runs.values()]
    assert sorted(tag["autoresearch.run"] for tag in tags) == [f"t1/{name}" for name in wanted]
    assert all(tag["mlflow.note.content"].startswith("    ") for tag in tags)  # Markdown: a code block
    assert all(header["Authorization"].startswith("Basic ") for header in store.headers)


def test_what_is_no_mlflow_server_is_said_without_a_traceback(project: Project) -> None:
    for place, word in (("ftp://x", "no http address"), (f"http://127.0.0.1:{a_port()}", "does not answer")):
        assert word in project.refused(4, "export", "mlflow", "--to", place)["message"]


# -- clients of trackers -------------------------------------------------------------------------------

# Both clients are called alike; what was called is written down, as the real ones write it into their files.
CLIENT = """import json, os
from pathlib import Path
class Settings:
    def __init__(self, **values): self.values = values
class Run:
    def __init__(self, **values):
        folder = Path(values.get("dir") or ".") / "wandb" / ("offline-run-1-" + str(values.get("id")))
        self.dir = str(folder / "files")
        Path(self.dir).mkdir(parents=True, exist_ok=True)
        self.summary = {}
        note("init", values)
    def log(self, values, step=None): note("log", values, step)
    def finish(self): note("finish", self.summary)
def note(name, *values):
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps([name, *values], default=lambda it: vars(it)) + "\\n")
def init(**values):
    global run
    run = Run(**values)
    print("hello, this is a tracker")
    return run
def log(values, step=None): run.log(values, step)
def finish(): run.finish()
class Api:
    def runs(self, project): return []
"""


@pytest.mark.parametrize("form", ["wandb", "trackio"])
def test_a_tracker_gets_each_run_once_and_whole(project: Project, tmp_path: Path, form: str) -> None:
    calls = tmp_path / "calls"
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / f"{form}.py").write_text(CLIENT)
    env = {"PYTHONPATH": str(tmp_path / "fake"), "CALLS": str(calls)}
    died = project.run("export", form, env={**env, "AUTORESEARCH_DIE_AT": f"export.{form}.run#2"})
    assert died.code == -9
    said = project.ok("export", form, env=env)["said"]  # one JSON object, whatever the client prints
    assert said[0].startswith(f"{len(names(project)) - 2} runs written, 2 were there")
    made = [json.loads(line) for line in calls.read_text().splitlines()]
    assert [call[1]["name"] for call in made if call[0] == "init"] == names(project)
    assert all(call[1].get("mode", "offline") == "offline" for call in made if call[0] == "init")
    first = [(call[2], call[1]["loss"]) for call in made if call[0] == "log" and "loss" in call[1]][:8]
    assert first == curve(1.0)
    values = [value for call in made for value in call[1:2] if value and "val_bpb" in str(value)]
    assert len(values) == len(names(project)) - 1  # of a crash there is none


# An offline run is a log of LevelDB's form: blocks of 32 KiB, each part with checksum, length and kind.
READ_WANDB = """
import json, struct, sys
from pathlib import Path
from wandb.proto import wandb_internal_pb2 as proto
def records(path):
    data, at, part = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield proto.Record.FromString(part)
            part = b""
found = []
for path in sorted(Path(sys.argv[1]).glob("wandb/offline-run-*/run-*.wandb")):
    run = {"points": [], "numbers": {}, "ended": False}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            words = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            run |= {"name": record.run.display_name, "group": record.run.run_group, "words": words}
        elif kind == "history":
            items = record.history.item
            values = {(it.key or it.nested_key[0]): json.loads(it.value_json) for it in items}
            run["points"].append([values["_step"], values["loss"]])
        elif kind == "summary":
            items = record.summary.update
            run["numbers"] |= {it.key: json.loads(it.value_json) for it in items if it.key}
        run["ended"] |= kind == "exit"
    found.append(run)
print(json.dumps(found))
"""


def site_packages(programs: Path) -> str:
    """Where the packages of an environment lie."""
    command = [str(programs / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_weights_and_biases_gets_whole_offline_runs(project: Project, trackers: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": site_packages(trackers)}
    words = ("export", "wandb", "--to", str(tmp_path / "w"))
    assert project.run(*words, env={**env, "AUTORESEARCH_DIE_AT": "export.wandb.filled#2"}).code == -9
    assert project.ok(*words, env=env)["said"][0].startswith(
        f"{len(names(project)) - 1} runs written, 1 were"
    )
    command = [str(trackers / "python"), "-c", READ_WANDB, str(tmp_path / "w")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert sorted(run["name"] for run in found) == names(project)  # each once, the half one made anew
    assert all(run["ended"] for run in found)
    for run in found:
        truth = next(r for r in project.ok("show", run["name"])["runs"] if r["id"] == run["name"])
        assert run["group"] == run["words"]["experiment"] == run["name"][:4]
        assert run["numbers"].get("val_bpb") == truth["metric"]
    values = {run["name"]: run["points"] for run in found}
    assert values["e001.1"] == [[x, y] for x, y in curve(0.9)]


@pytest.mark.slow
def test_trackio_shows_each_run_once_and_whole(project: Project, trackers: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": site_packages(trackers)}
    words = ("export", "trackio", "--to", str(tmp_path / "t"))
    assert project.run(*words, env={**env, "AUTORESEARCH_DIE_AT": "export.trackio.filled#2"}).code == -9
    project.ok(*words, env=env)

    def told(*asked: str) -> dict:
        command = [str(trackers / "trackio"), *asked, "--project", "autoresearch-t1", "--json"]
        env = {**os.environ, "TRACKIO_DIR": str(tmp_path / "t"), "HF_HUB_OFFLINE": "1"}
        return json.loads(subprocess.run(command, check=True, capture_output=True, env=env).stdout)

    assert told("list", "runs")["runs"] == names(project)
    for run, value in (("e000.2", 1.0), ("e001.1", 0.9)):
        points = told("get", "metric", "--run", run, "--metric", "loss")["values"]
        assert [(point["step"], point["value"]) for point in points] == curve(value)
        result = told("get", "metric", "--run", run, "--metric", "result/val_bpb")["values"]
        assert [point["value"] for point in result] == [round(value + 1 / 3, 6)]
        assert told("get", "run", "--run", run)["config"]["experiment"] == run[:4]
