"""The fixed half of the demo target: corpus, tokenizer, loader, budget and evaluate_bpb.

train.py may change; this file may not, so that two results mean the same thing.

    python prepare.py            make the data for this machine's preset (once, offline, under a minute)
    python prepare.py --check    verify data, split, tokenizer and free space
    python prepare.py --score D  score the weights that a run exported to D, in a process of its own
    python prepare.py --hidden   list the files that tell what is scored: a sealed training may not read them

What the environment can say (all optional):
    AUTORESEARCH_PRESET   smoke | cpu | laptop | h100                  default: by device
    AUTORESEARCH_BUDGET   20, cpu:20, wall:300, steps:100, tokens:2e6, flops:1e12  default: the preset's
    AUTORESEARCH_CORPUS   pystdlib | text:DIR | tinystories | climbmix default: pystdlib
    AUTORESEARCH_DATA     folder for the data                          default: ~/.cache/autoresearch/data
    AUTORESEARCH_DEVICE   cpu | cuda | mps                             default: the best there is
    AUTORESEARCH_THREADS  CPU threads; the seconds of all are counted  default: the preset's
    AUTORESEARCH_OUT      folder for metrics.json and curve.jsonl      default: AUTORESEARCH_RUN_DIR, or none
    AUTORESEARCH_EXPORT   1 writes the weights there too               default: 0
    AUTORESEARCH_HELDOUT  1 scores the held-out split as well          default: 0
    AUTORESEARCH_SEALED   1: a training exports and does not score; --score does  default: 0
    AUTORESEARCH_SANDBOX  JSON list, the start of a command that shuts a process in: for --score --level L2
    AUTORESEARCH_DETERMINISTIC  1: the same seed and steps give the same bits  default: 0
    HF_ENDPOINT           address of a mirror of the Hugging Face hub  default: https://huggingface.co
    SEED                  whole number: weights and order of rows      default: 1337
"""

from __future__ import annotations

import os

# Threads that wait in a spin loop burn CPU seconds: on a loaded machine that is the budget itself.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import ctypes
import errno
import hashlib
import http.client
import importlib.util
import json
import math
import platform
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import SystemRandom
from time import perf_counter, process_time, sleep, time
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # torch takes 2 s to import: preparing data does without it
    import torch

# ---------------------------------------------------------------------------
# Constants (fixed: a change here makes results incomparable)
# ---------------------------------------------------------------------------

FORMAT = 2                 # version of the files below; part of every fingerprint
VAL_PERCENT = 5            # percent of the documents, scored in every run
HELDOUT_PERCENT = 5        # percent, scored only to confirm a final result
DUPLICATE_OVERLAP = 0.3    # share of the smaller file's shingles that makes two files one group
SHINGLE_LINES = 3          # consecutive lines in a shingle
COMMON_SHINGLE = 12        # files; a shingle in more of them is boilerplate
MIN_DOCUMENT = 200         # bytes; shorter files hold nothing to learn
MAX_DOCUMENT = 500_000     # bytes; longer standard-library files are generated tables
TOKENIZER_SAMPLE = 12e6    # bytes of training text the tokenizer sees
FREE_SPACE = 500e6         # bytes that must be free before preparing
SETUP_SECONDS = 15.0       # process CPU seconds free before the budget starts; the rest is charged
WARM_UP_SECONDS = 120.0    # seconds of compilation not charged; the rest is charged
OVERSPEND = 0.05           # share of the budget by which training may end late
LAST_STEP = 0.25           # share of the budget by which a long last step may
PROBE_TOLERANCE = 1e-2     # logits; above it a changed future or neighbour was seen
FLOPS_EVERY = 20           # steps between two counts of the FLOPs, on average; where is drawn
PRODUCT_SECONDS = 0.1      # wall seconds of matrix products that show how busy the machine is
BOS = "<|bos|>"            # starts every row; never counted in bits per byte

# Runs of newline and indentation are one token: in code they are a third of all boundaries.
SPLIT_PATTERN = r" ?[\p{L}_]+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}_]+|\s*\n[ \t]*|\s+(?!\S)|\s+"


class Refused(SystemExit):
    """Ends the process with exit status 1 and one line that says what is wrong and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(f"FAIL: {message}")


# ---------------------------------------------------------------------------
# Presets and settings
# ---------------------------------------------------------------------------

KINDS = {"wall": "seconds", "cpu": "CPU seconds", "steps": "steps", "tokens": "tokens", "flops": "FLOPs"}
CLOCKS = ("wall", "cpu")   # what these buy depends on the machine


@dataclass(frozen=True)
class Preset:
    name: str
    seq_len: int           # tokens in a row
    vocab_size: int        # entries, BOS included
    budget_kind: str       # a key of KINDS
    budget_amount: float   # in the kind's unit
    eval_tokens: int       # scored in evaluate_bpb
    eval_rows: int         # rows scored at once
    threads: int | None    # CPU threads; None: as many as torch likes
    hub_bytes: float       # bytes of training text taken from a hub corpus


# One thread on a CPU: two did 20 % fewer tokens in a CPU second, and a busy machine changed that share.
PRESETS = {
    "smoke": Preset("smoke", 256, 2048, "cpu", 10, 16_384, 4, 1, 30e6),
    "cpu": Preset("cpu", 256, 2048, "cpu", 60, 65_536, 4, 1, 30e6),
    "laptop": Preset("laptop", 512, 4096, "wall", 300, 524_288, 16, None, 400e6),
    "h100": Preset("h100", 2048, 8192, "wall", 300, 20_971_520, 64, None, 2.5e9),
}


@dataclass(frozen=True)
class Settings:
    preset: Preset
    corpus: str
    budget_kind: str
    budget_amount: float
    seed: int
    device: str            # cpu, cuda (ROCm too) or mps
    data: Path
    out: Path | None
    export: bool
    heldout: bool
    deterministic: bool
    sealed: bool = False   # the score is not this process's to know


def read_settings() -> Settings:
    env = os.environ
    device = env.get("AUTORESEARCH_DEVICE") or best_device()
    name = env.get("AUTORESEARCH_PRESET") or preset_for(device)
    if name not in PRESETS:
        raise Refused(f"AUTORESEARCH_PRESET is {name!r}; use one of {', '.join(PRESETS)}")
    kind, amount = parse_budget(env.get("AUTORESEARCH_BUDGET", ""), PRESETS[name])
    seed = env.get("SEED") or "1337"
    if not seed.isdecimal():
        raise Refused(f"SEED is {seed!r}; use a whole number from 0")
    threads = env.get("AUTORESEARCH_THREADS") or str(PRESETS[name].threads or 0)
    if not threads.isdecimal():
        raise Refused(f"AUTORESEARCH_THREADS is {threads!r}; use a whole number from 1")
    out = env.get("AUTORESEARCH_OUT") or env.get("AUTORESEARCH_RUN_DIR")
    data = env.get("AUTORESEARCH_DATA")
    return Settings(
        preset=replace(PRESETS[name], threads=int(threads) or None),
        corpus=env.get("AUTORESEARCH_CORPUS") or "pystdlib",
        budget_kind=kind,
        budget_amount=amount,
        seed=int(seed) % 2**32,
        device=device,
        data=Path(data).expanduser() if data else Path.home() / ".cache" / "autoresearch" / "data",
        out=Path(out) if out else None,
        export="1" in (env.get("AUTORESEARCH_EXPORT"), env.get("AUTORESEARCH_SEALED")),
        heldout=env.get("AUTORESEARCH_HELDOUT", "0") == "1",
        deterministic=env.get("AUTORESEARCH_DETERMINISTIC", "0") == "1",
        sealed=env.get("AUTORESEARCH_SEALED", "0") == "1",
    )


def parse_budget(text: str, preset: Preset) -> tuple[str, float]:
    """`20` is in the preset's own unit, `kind:amount` names another; nothing is the preset's default."""
    if not text:
        return preset.budget_kind, preset.budget_amount
    kind, _, amount = text.rpartition(":")
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    kind = kind or preset.budget_kind
    if kind not in KINDS or not 0 < value < math.inf:
        amounts = ("300", "20", "100", "2e6", "1e12")
        wanted = ", ".join(f"{k}:{n}" for k, n in zip(KINDS, amounts, strict=True))
        raise Refused(f"AUTORESEARCH_BUDGET is {text!r}; use a number above 0 or one of {wanted}")
    return kind, value


GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # without any of them a Linux has no GPU for torch


def best_device() -> str:
    if sys.platform == "linux" and not any(os.path.exists(path) for path in GPU_FILES):  # noqa: PTH110
        return "cpu"  # importing torch to learn that takes 2 s
    try:
        import torch
    except ImportError:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def preset_for(device: str) -> str:
    if device != "cuda":
        return {"cpu": "cpu", "mps": "laptop"}.get(device, "cpu")
    import torch

    return "h100" if torch.cuda.get_device_properties(0).total_memory > 40e9 else "laptop"


# ---------------------------------------------------------------------------
# Local corpora: files of this machine
# ---------------------------------------------------------------------------

SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "encodings", "pydoc_data", "lib2to3"}


@dataclass(frozen=True)
class Document:
    name: str
    text: str
    digest: str            # sha256 of the text's UTF-8 bytes


def read_document(path: Path, name: str) -> Document | None:
    """None for what is not plain text, too short, or so long that it must be a generated table."""
    try:
        return as_document(path.read_bytes(), name)
    except OSError:
        return None


def as_document(raw: bytes, name: str) -> Document | None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not MIN_DOCUMENT <= len(raw) <= MAX_DOCUMENT or "\0" in text:
        return None
    return Document(name, text.replace("\r\n", "\n"), hashlib.sha256(raw).hexdigest())


def stdlib_files() -> list[tuple[str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        # Build settings of this very machine: private, and different on every machine.
        if not SKIPPED_FOLDERS.intersection(parts) and not parts[-1].startswith("_sysconfigdata"):
            files.append(("/".join(parts), path))
    return sorted(files)


def folder_files(folder: str) -> list[tuple[str, Path]]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise Refused(f"corpus text:{folder} is not a folder; give AUTORESEARCH_CORPUS=text:DIR")
    found = [(path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file()]
    return sorted((name, path) for name, path in found if not name.startswith("."))


def corpus_files(corpus: str) -> list[tuple[str, Path]]:
    kind, _, argument = corpus.partition(":")
    if kind == "text" and argument:
        return folder_files(argument)
    if corpus == "pystdlib":
        return stdlib_files()
    raise Refused(f"AUTORESEARCH_CORPUS is {corpus!r}; use pystdlib, text:DIR, tinystories or climbmix")


def corpus_key(corpus: str, hub_bytes: float) -> str:
    """A folder name that changes when the corpus does, found without reading the files."""
    if corpus in HUB_CORPORA:
        return f"{corpus}-{short_hash(repr((hub_files(corpus, hub_bytes), hub_bytes)))}"
    if corpus == "pystdlib":
        where = sysconfig.get_paths()["stdlib"]
        return f"pystdlib-{platform.python_version()}-{short_hash(where)}"
    stamps = [(n, p.stat().st_size, p.stat().st_mtime_ns) for n, p in corpus_files(corpus)]
    return f"text-{short_hash(repr(stamps))}"


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# ---------------------------------------------------------------------------
# Hub corpora: files at a pinned revision, fetched once, resumed after a cut, checked by their sha256
# ---------------------------------------------------------------------------

HUB_CORPORA = ("tinystories", "climbmix")
HUB_TRIES = 6              # requests in a row that bring no byte, before giving up
HUB_PATIENCE = 1.0         # seconds before the second try, twice as many before each further one
HUB_LONGEST = 60.0         # seconds between two tries at most
HUB_TIMEOUT = 30.0         # seconds without a byte
HUB_SPACE = 4e9            # bytes that must be free besides, where whole files are fetched
SHARD_BYTES = 250e6        # text in one shard of climbmix
SPLIT_BY_HASH = 50e6       # bytes; up to here one file is split like a local corpus, above it by file
STORIES = ("roneneldan/TinyStories", "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64")
STORY_FILES = {
    "TinyStories-train.txt": "c5cf5e22ff13614e830afbe61a99fbcbe8bcb7dd72252b989fa1117a368d401f",
    "TinyStories-valid.txt": "94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4",
}
CLIMBMIX = ("karpathy/climbmix-400b-shuffle", "915333b4f8b8684f39aeaafea600fea6f43fb703")
CLIMBMIX_HELD = 6542       # the shard that others hold out too
CLIMBMIX_SHARDS = {        # of a shard not listed, what the hub says at the first download is written down
    0: "054ddbd98abf30d773c54de578fc9d579bafeb6c14e04e97bd36aa90e825bf9b",
    1: "d4cfe1de19f4fd976022a9047458655968bc5583582ec5fa714801ec2be2c93c",
    2: "5e80d7596d53be648d841ea5811082747281c39f6851e10dd90375a84bc509a7",
    3: "b349c85d4b993d98e2328833ecfd3734692e0395a592d89858bae34a4ba73c59",
    6542: "769fe59d108dfd2cfa186c63173b83fbfb90a7adb3519519ba6eaa6ca9889f94",
}


@dataclass(frozen=True)
class HubFile:
    repo: str
    revision: str          # a commit: what it names never changes
    path: str
    sha256: str | None     # None: nobody wrote it down before the first download


def hub_files(corpus: str, hub_bytes: float) -> tuple[list[HubFile], HubFile | None]:
    """Files to train on, and the one that is held out; None: the first is split by hash."""
    by_hash = hub_bytes <= SPLIT_BY_HASH
    if corpus == "tinystories":
        train, valid = (HubFile(*STORIES, path, sha256) for path, sha256 in STORY_FILES.items())
        return ([valid], None) if by_hash else ([train], valid)

    def shard(number: int) -> HubFile:
        return HubFile(*CLIMBMIX, f"shard_{number:05d}.parquet", CLIMBMIX_SHARDS.get(number))

    train_shards = [shard(number) for number in range(math.ceil(hub_bytes / SHARD_BYTES))]
    return train_shards, None if by_hash else shard(CLIMBMIX_HELD)


def hub_split(settings: Settings, sources: dict[str, str]) -> dict[str, list[Document]]:
    files, held = hub_files(settings.corpus, settings.preset.hub_bytes)
    if any(file.path.endswith(".parquet") for file in files):
        pyarrow_parquet()  # a missing package is said before a gigabyte is fetched
    paths = {file: fetch(file, settings.data) for file in [*files, *([held] if held else [])]}
    sources.update({file.path: file_hash(path) for file, path in paths.items()})
    train = hub_documents([paths[file] for file in files], settings.preset.hub_bytes)
    if held is None:
        return split_documents(train)
    others = hub_documents([paths[held]], math.inf)
    seen = {document.digest for document in others}
    split: dict[str, list[Document]] = {"val": [], "heldout": []}
    for document in others:
        split["val" if int(document.digest[:8], 16) % 2 else "heldout"].append(document)
    return split | {"train": [document for document in train if document.digest not in seen]}


def hub_documents(paths: list[Path], limit: float) -> list[Document]:
    """Documents of the files in their order, up to `limit` bytes."""
    found, size = [], 0
    for path in paths:
        for text in parquet_texts(path) if path.suffix == ".parquet" else stories(path):
            if size > limit:
                return found
            if document := as_document(text.strip().encode(), f"{path.name}#{len(found)}"):
                found.append(document)
                size += len(document.text)
    return found


def stories(path: Path) -> Iterator[str]:
    rest = ""
    with path.open(encoding="utf-8", errors="replace") as file:
        while chunk := file.read(1 << 20):
            *whole, rest = (rest + chunk).split("<|endoftext|>")
            yield from whole
    yield rest


def parquet_texts(path: Path) -> Iterator[str]:
    for batch in pyarrow_parquet().ParquetFile(path).iter_batches(batch_size=1024, columns=["text"]):
        yield from batch.column(0).to_pylist()


def pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise Refused(
            "corpus climbmix is parquet: pip install pyarrow; "
            "or AUTORESEARCH_CORPUS=tinystories (plain text) or pystdlib (no network)"
        ) from None
    return pyarrow.parquet


def fetch(file: HubFile, data: Path) -> Path:
    """The file, whole and with the sha256 that is known of it; a half that is there is gone on with."""
    path = data / "hub" / file.repo.replace("/", "--") / file.revision[:12] / file.path
    note, part = (path.with_name(path.name + ending) for ending in (".sha256", ".part"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_whole(path, note, file):
        return path
    with part.open("ab") as target:
        wait_for_others(target)
        if is_whole(path, note, file):
            return path  # one of them was first
        path.unlink(missing_ok=True)  # not before: another process may just have put it there
        known = file.sha256 or noted(note)
        endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        url = f"{endpoint}/datasets/{file.repo}/resolve/{file.revision}/{file.path}"
        say(f"  fetching {url}")
        for again in (False, True):  # what is not what it should be is fetched once more, from the beginning
            named = download(url, target, path)
            wanted, found = known or named, file_hash(part)
            if wanted in (None, found):
                break
            empty(target)
            if again:
                raise Refused(f"{url} has sha256 {found[:12]}…, not {wanted[:12]}…: try another HF_ENDPOINT")
        note.write_text(found + "\n", encoding="utf-8")
        part.replace(path)
    return path


def is_whole(path: Path, note: Path, file: HubFile) -> bool:
    """Whether the file is there with the sha256 that is known of it; what it is, is noted."""
    if not path.exists():
        return False
    found, known = file_hash(path), file.sha256 or noted(note)
    if known is None:
        note.write_text(found + "\n", encoding="utf-8")
    return known in (None, found)


def noted(note: Path) -> str | None:
    """The sha256 of an earlier download; an empty note is being written just now and says nothing."""
    return (note.read_text(encoding="utf-8").strip() if note.exists() else "") or None


def wait_for_others(target: IO[bytes]) -> None:
    """One process fetches, the others wait and find it there."""
    with suppress(ImportError, OSError):  # Windows, or a network disk without locks
        import fcntl

        fcntl.flock(target, fcntl.LOCK_EX)


def empty(target: IO[bytes]) -> None:
    target.seek(0)
    target.truncate()


class Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps the checksum that the hub names beside the address of the bytes."""

    etag: str | None = None

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.etag = headers.get("X-Linked-Etag") or self.etag
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, target: IO[bytes], path: Path) -> str | None:
    """Append what is missing, however often the connection breaks; returns the sha256 the hub names."""
    redirects, fruitless = Redirects(), 0
    opener = urllib.request.build_opener(redirects)
    while True:
        have, pause = target.seek(0, os.SEEK_END), 0.0
        headers = {"User-Agent": "autoresearch-prepare"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with opener.open(urllib.request.Request(url, headers=headers), timeout=HUB_TIMEOUT) as answer:
                size = receive(answer, target, have)
            target.flush()
            if size in (None, target.tell()):
                etag = (redirects.etag or answer.headers.get("X-Linked-Etag") or "").strip('"')
                return etag if re.fullmatch("[0-9a-f]{64}", etag) else None
            reason = f"the connection ended at {target.tell():,} of {size:,} bytes"
        except urllib.error.HTTPError as error:
            error.close()
            reason, pause = f"{error.code} {error.reason}", retry_after(error)
            if error.code == 416:  # more is here than there: another file, so from the beginning
                empty(target)
            elif error.code not in (408, 429) and error.code < 500:
                raise Refused(f"{url}: {reason}; is HF_ENDPOINT a mirror that has it?") from None
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise Refused(f"no room for {path}: make some or set AUTORESEARCH_DATA") from None
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        fruitless = 0 if target.tell() > have else fruitless + 1
        if fruitless >= HUB_TRIES:
            raise Refused(
                f"cannot fetch {url}: {reason}. What came is kept and gone on with next time. "
                "Without network: AUTORESEARCH_CORPUS=pystdlib; "
                f"through a mirror: HF_ENDPOINT=https://…; or put the file at {path}"
            ) from None
        sleep(min(HUB_LONGEST, max(pause, HUB_PATIENCE * 2 ** max(0, fruitless - 1))))


def receive(answer: Any, target: IO[bytes], have: int) -> int | None:
    """Append the answer's bytes; returns how long the file should be, where the server says so."""
    begins, _, size = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if answer.status != 206 or not begins.startswith(f"{have}-"):
        empty(target)  # the server sends it all
        size = answer.headers.get("Content-Length") or ""
    while chunk := answer.read(1 << 16):
        target.write(chunk)
    return int(size) if size.isdecimal() else None


def retry_after(error: urllib.error.HTTPError) -> float:
    seconds = error.headers.get("Retry-After") or ""
    return float(seconds) if seconds.isdecimal() else 0.0


# ---------------------------------------------------------------------------
# Split: by hash, near-duplicates on one side
# ---------------------------------------------------------------------------


def shingles(text: str) -> set[int]:
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 3]
    count = max(0, len(lines) - SHINGLE_LINES + 1)
    return {hash(tuple(lines[i : i + SHINGLE_LINES])) for i in range(count)}


def duplicate_groups(documents: list[Document]) -> list[int]:
    """The group of each document: those that share DUPLICATE_OVERLAP of their shingles are one."""
    holders: dict[int, list[int]] = defaultdict(list)
    sizes = []
    for index, document in enumerate(documents):
        found = shingles(document.text)
        sizes.append(len(found))
        for shingle in found:
            holders[shingle].append(index)
    shared: Counter[tuple[int, int]] = Counter()
    for indexes in holders.values():
        if 1 < len(indexes) <= COMMON_SHINGLE:
            shared.update((a, b) for i, a in enumerate(indexes) for b in indexes[i + 1 :])
    pairs = [p for p, n in shared.items() if n >= DUPLICATE_OVERLAP * min(sizes[p[0]], sizes[p[1]])]
    first_of: dict[str, int] = {}
    pairs += [(first_of.setdefault(d.digest, i), i) for i, d in enumerate(documents)]
    return connected(len(documents), pairs)


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in pairs:
        parent[root(a)] = root(b)
    return [root(node) for node in range(count)]


def split_documents(documents: list[Document]) -> dict[str, list[Document]]:
    """A group goes where its smallest content hash says, so that a new file moves no other file."""
    groups = duplicate_groups(documents)
    smallest: dict[int, str] = {}
    for group, document in zip(groups, documents, strict=True):
        smallest[group] = min(document.digest, smallest.get(group, document.digest))
    split: dict[str, list[Document]] = {"train": [], "val": [], "heldout": []}
    for group, document in zip(groups, documents, strict=True):
        percent = int(smallest[group][:8], 16) % 100
        held = VAL_PERCENT + HELDOUT_PERCENT
        side = "val" if percent < VAL_PERCENT else "heldout" if percent < held else "train"
        split[side].append(document)
    return split


def corpus_fingerprint(split: dict[str, list[Document]]) -> str:
    digest = hashlib.sha256(f"format {FORMAT}\n".encode())
    for side in sorted(split):
        for document in sorted(split[side], key=lambda d: (d.digest, d.name)):
            digest.update(f"{side} {document.digest}\n".encode())
    return digest.hexdigest()


# ---------------------------------------------------------------------------
# Tokenizer: byte-level BPE, kept as JSON
# ---------------------------------------------------------------------------


def train_tokenizer(documents: list[Document], vocab_size: int, path: Path) -> None:
    try:
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError:
        raise Refused("the package tokenizers is missing: pip install tokenizers numpy torch") from None

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample(documents), trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise Refused(
            f"the corpus is too small for {vocab_size} tokens: it gave {tokenizer.get_vocab_size()}; "
            "add text or use a smaller preset"
        )
    tokenizer.save(str(path))


def sample(documents: list[Document]) -> Iterator[str]:
    seen = 0
    for document in sorted(documents, key=lambda d: d.digest):
        if seen > TOKENIZER_SAMPLE:
            return
        seen += len(document.text)
        yield document.text


def token_lengths(tokenizer: Any) -> np.ndarray[Any, Any]:
    """Bytes of each token. In byte-level BPE a token is written with one character for each byte."""
    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.int32)
    for text, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if text == BOS else len(text)
    return lengths


# ---------------------------------------------------------------------------
# Rows: BOS + seq_len tokens each, packed once
# ---------------------------------------------------------------------------

Tokens = np.ndarray[Any, Any]


def encoded(tokenizer: Any, documents: list[Document]) -> Iterator[Tokens]:
    """A thousand documents at a time: what the tokenizer gives back takes far more room than tokens."""
    kind = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32
    for start in range(0, len(documents), 1000):
        texts = [document.text for document in documents[start : start + 1000]]
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            yield np.array(encoding.ids, dtype=kind)


def pack(documents: Iterable[Tokens], seq_len: int, bos: int) -> Tokens:
    """Rows of BOS and seq_len tokens: long documents are cut, their tails packed by best fit."""
    whole: list[Tokens] = []
    tails: list[Tokens] = []
    for tokens in documents:
        cut = len(tokens) // seq_len * seq_len
        whole.append(tokens[:cut].reshape(-1, seq_len))
        if cut < len(tokens):
            tails.append(tokens[cut:])
    rows = best_fit([len(tail) + 1 for tail in tails], seq_len + 1)
    full = sum(map(len, whole))
    packed = np.full((full + len(rows), seq_len + 1), bos, dtype=whole[0].dtype)
    np.concatenate(whole, out=packed[:full, 1:])
    for row, indexes in zip(packed[full:], rows, strict=True):
        place = 0
        for index in indexes:  # BOS, which is there, and the tail
            row[place + 1 : place + 1 + len(tails[index])] = tails[index]
            place += 1 + len(tails[index])
    return packed[np.random.default_rng(0).permutation(len(packed))]


def best_fit(sizes: list[int], capacity: int) -> list[list[int]]:
    """Indexes of the pieces in each row: longest first, each into the fullest row that has room."""
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows by their free places
    rooms = 0              # bit n is set where some row has n places free
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        room, fitting = capacity, rooms >> sizes[index]
        if fitting:
            room = sizes[index] + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop()
            rooms &= ~(1 << room) if not with_room[room] else -1
        else:
            row = len(rows)
            rows.append([])
        rows[row].append(index)
        with_room[room - sizes[index]].append(row)
        rooms |= 1 << (room - sizes[index])
    return rows


# ---------------------------------------------------------------------------
# Preparing: everything in a folder of its own, then one rename
# ---------------------------------------------------------------------------

SPLITS = ("train", "val", "heldout")
SCORED = ("val.npy", "heldout.npy")


def data_folder(settings: Settings) -> Path:
    preset = settings.preset
    shape = f"v{preset.vocab_size}-t{preset.seq_len}-f{FORMAT}"
    return settings.data / corpus_key(settings.corpus, preset.hub_bytes) / shape


def prepare(settings: Settings) -> Path:
    """Make the data if they are not there. Two processes at once both work; the first rename wins."""
    folder = data_folder(settings)
    if (folder / "meta.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    whole_files = settings.corpus in HUB_CORPORA and settings.preset.hub_bytes > SPLIT_BY_HASH
    needed = FREE_SPACE + whole_files * HUB_SPACE
    if shutil.disk_usage(folder.parent).free < needed:
        raise Refused(f"less than {needed / 1e6:.0f} MB free in {folder.parent}; set AUTORESEARCH_DATA")
    remove_leftovers(folder.parent)
    say(f"preparing {settings.corpus} for preset {settings.preset.name} in {folder} (once)")
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        build(settings, building)
        building.rename(folder)
    except OSError:
        if not (folder / "meta.json").exists():
            raise
        say("another process was first: using its data")
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def remove_leftovers(parent: Path) -> None:
    """Half-built folders of processes that were killed: nothing takes a day."""
    for path in parent.glob(".building-*"):
        with suppress(OSError):  # another process has just put it in its place
            if time() - path.stat().st_mtime > 86_400:
                shutil.rmtree(path, ignore_errors=True)


def build(settings: Settings, folder: Path) -> None:
    from tokenizers import Tokenizer

    preset, start = settings.preset, perf_counter()
    sources: dict[str, str] = {}
    split = split_of(settings, sources)
    for side in SPLITS:
        if not split[side]:
            raise Refused(f"corpus {settings.corpus} has too few files for a {side} split: add some")
    train_tokenizer(split["train"], preset.vocab_size, folder / "tokenizer.json")
    say(f"  {sum(map(len, split.values()))} documents, tokenizer trained ({perf_counter() - start:.1f} s)")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    np.save(folder / "token_bytes.npy", token_lengths(tokenizer))
    counts = {}
    for side in SPLITS:
        rows = pack(encoded(tokenizer, split[side]), preset.seq_len, tokenizer.token_to_id(BOS))
        np.save(folder / f"{side}.npy", rows)
        size = sum(len(d.text.encode()) for d in split[side])
        counts[side] = {"documents": len(split[side]), "bytes": size, "rows": len(rows)}
        say(f"  {side}: {len(rows):,} rows from {size / 1e6:.1f} MB ({perf_counter() - start:.1f} s)")
    digests = sorted(f"{side} {d.digest}" for side in SPLITS for d in split[side])
    (folder / "documents.txt").write_text("\n".join(digests) + "\n", encoding="utf-8")
    write_meta(settings, folder, corpus_fingerprint(split), counts, sources)


def split_of(settings: Settings, sources: dict[str, str]) -> dict[str, list[Document]]:
    """The documents of each side; what was fetched is noted in `sources` with its sha256."""
    if settings.corpus in HUB_CORPORA:
        return hub_split(settings, sources)
    read = [read_document(path, name) for name, path in corpus_files(settings.corpus)]
    return split_documents([document for document in read if document])


def write_meta(settings: Settings, folder: Path, fingerprint: str, counts: Any, sources: Any) -> None:
    meta = {
        "format": FORMAT,
        "corpus": settings.corpus,
        "python": platform.python_version(),
        "vocab_size": settings.preset.vocab_size,
        "seq_len": settings.preset.seq_len,
        "fingerprint": fingerprint,
        "sources": sources,
        "splits": counts,
        "files": {path.name: file_hash(path) for path in sorted(folder.iterdir())},
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


def file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def say(line: str) -> None:
    print(line, flush=True)


# ---------------------------------------------------------------------------
# Data at run time
# ---------------------------------------------------------------------------

# Whoever opens a scored split while training is noted: reading the answers is not learning. So is whoever
# opens the training rows before the budget starts: that is learning on nobody's account.
_scored_files: set[str] = set()
_train_files: set[str] = set()
_opened: list[str] = []
_ours = False


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _scored_files and not _ours and not isinstance(arguments[0], int):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path in _scored_files or (path in _train_files and not _started):
            _opened.append(path)


sys.addaudithook(_note_open)


@contextmanager
def _opening_is_ours() -> Iterator[None]:
    global _ours
    _ours = True
    try:
        yield
    finally:
        _ours = False


@dataclass(frozen=True)
class Data:
    folder: Path
    meta: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Corpus, split and tokenizer in one id."""
        parts = (self.meta["fingerprint"], self.meta["files"]["tokenizer.json"], FORMAT)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def rows(self, side: str) -> np.ndarray[Any, Any]:
        return np.load(self.folder / f"{side}.npy", mmap_mode="r", allow_pickle=False)

    def batches(self, rows: int, settings: Settings, budget: Budget) -> Iterator[Batch]:
        """Endless (inputs, targets) of training rows, in an order drawn from the seed, each epoch anew.

        During the warm-up they are noise, so that nothing can be learned from them.
        """
        random = np.random.default_rng(0)
        while budget.warming:
            shape = (rows, settings.preset.seq_len + 1)
            yield to_device(random.integers(settings.preset.vocab_size, size=shape), settings.device)
        budget.handed_out(0)
        table = self.rows("train")
        if rows > len(table):
            raise Refused(f"a batch of {rows} rows, but the corpus has {len(table)}: use fewer rows")
        random = np.random.default_rng(settings.seed)
        while True:
            order = random.permutation(len(table))
            for start in range(0, len(order) - rows + 1, rows):
                batch = table[order[start : start + rows]]
                budget.handed_out(rows * (batch.shape[1] - 1))
                yield to_device(batch, settings.device)
            budget.epochs += 1


Batch = tuple["torch.Tensor", "torch.Tensor"]


def to_device(batch: np.ndarray[Any, Any], device: str) -> Batch:
    import torch

    tokens = torch.from_numpy(batch.astype(np.int64))
    if device == "cuda":
        tokens = tokens.pin_memory().to(device, non_blocking=True)
    elif device != "cpu":
        tokens = tokens.to(device)
    return tokens[:, :-1], tokens[:, 1:]


def open_data(settings: Settings) -> Data:
    """Prepare when needed, then refuse data that are not what was prepared."""
    global _imported_at
    start = cpu_seconds()
    if not (data_folder(settings) / "meta.json").exists() and "torch" in sys.modules:
        prepare_elsewhere(settings)
    folder = prepare(settings)
    _imported_at += cpu_seconds() - start  # making the data is not train.py's set-up
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    with _opening_is_ours():
        for name, digest in meta["files"].items():
            path = folder / name
            if settings.sealed and name in SCORED:
                continue  # not to be read here, and hashed where it is scored
            if not path.exists() or file_hash(path) != digest:
                raise Refused(f"{path} is damaged or changed: delete {folder} and run python prepare.py")
    _scored_files.update(os.path.realpath(folder / f"{side}.npy") for side in ("val", "heldout"))
    _train_files.add(os.path.realpath(folder / "train.npy"))
    return Data(folder, meta)


def prepare_elsewhere(settings: Settings) -> None:
    """In a process of its own: 500 MB of making the data are not this run's peak memory."""
    if settings == read_settings():
        found = {"AUTORESEARCH_DEVICE": settings.device, "AUTORESEARCH_PRESET": settings.preset.name}
        done = subprocess.run([sys.executable, str(Path(__file__))], env={**os.environ, **found})
        if done.returncode:
            raise SystemExit(done.returncode)  # it has said why


# ---------------------------------------------------------------------------
# Budget: the fixed half holds the clock
# ---------------------------------------------------------------------------


def cpu_seconds() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    children = os.times()
    return process_time() + children.children_user + children.children_system


_imported_at = cpu_seconds()
_started: list[Budget] = []


@dataclass
class Budget:
    """What a run may spend. train.py asks `progress` and `done`, and says `step()` after each step."""

    kind: str
    amount: float
    device: str = "cpu"
    steps: int = 0
    tokens: int = 0
    flops: float = 0.0             # counted in budgets of that kind only
    epochs: int = 0
    longest_step: float = 0.0      # in the budget's unit
    warming: bool = False
    peak_mb: float = 0.0           # of a device that remembers no peak
    curve: list[dict[str, float]] = field(default_factory=list)
    products: list[float] = field(default_factory=list)  # FLOP/s of plain products before and after
    _wall: float | None = None     # perf_counter at the start
    _cpu: float = 0.0
    _charged: float = 0.0          # seconds taken off before the first step
    _warm: tuple[float, float] = (0.0, 0.0)  # wall and CPU seconds of the warm-up
    _last: float = 0.0
    _count: FlopCount | None = None
    _end: tuple[float, float, float] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the clock, once. Set-up beyond what importing and building take is charged."""
        if _started:
            raise Refused("a budget was started already: one run has one budget, started once")
        self.products.append(product_speed(self.device))
        _started.append(self)
        set_up = cpu_seconds() - _imported_at - self._warm[1]
        if self.kind in CLOCKS:
            self._charged = max(0.0, set_up - SETUP_SECONDS) + max(0.0, self._warm[0] - WARM_UP_SECONDS)
        if self.kind == "flops":
            self._count = FlopCount()
        self._wall, self._cpu = perf_counter(), cpu_seconds()

    def warm_up(self, model: torch.nn.Module, run: Callable[[], Any]) -> None:
        """Before the start: run once, for compilation, then put the weights back, so nothing is learned.

        All warm-ups together have WARM_UP_SECONDS free, and the rows they get are noise.
        """
        before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        wall, cpu = perf_counter(), cpu_seconds()
        self.warming = True
        run()
        self.warming = False
        self._warm = (self._warm[0] + perf_counter() - wall, self._warm[1] + cpu_seconds() - cpu)
        model.load_state_dict(before)

    def handed_out(self, tokens: int) -> None:
        if self._end is not None:
            raise Refused("training went on after the evaluation")
        if self._wall is None:
            raise Refused("rows were asked for before budget.start(): the first steps count like the others")
        self.tokens += tokens

    def spent(self) -> float:
        """In the kind's unit."""
        if self._wall is None:
            raise Refused("the budget was not started: call budget.start() before the first step")
        if self._end is not None:
            return self._end[0]
        if self.kind == "steps":
            return float(self.steps)
        if self.kind == "tokens":
            return float(self.tokens)
        if self.kind == "flops":
            return self.flops
        clock = cpu_seconds() - self._cpu if self.kind == "cpu" else perf_counter() - self._wall
        return clock + self._charged

    def step(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        if self.device == "mps":
            self.peak_mb = max(self.peak_mb, device_memory_mb("mps"))
        if self._count is not None:
            self.flops += self._count.of_step(self.tokens)
        self.steps += 1
        now = self.spent()
        self.longest_step = max(self.longest_step, now - self._last)
        self._last = now

    @property
    def progress(self) -> float:
        return min(1.0, self.spent() / self.amount)

    @property
    def done(self) -> bool:
        # A step that would end late is not begun: late steps are a gain that others do not have.
        typical = (self._last / self.steps / 2) if self.steps and self.kind in (*CLOCKS, "flops") else 0.0
        return self.spent() + typical >= self.amount

    def close(self) -> None:
        """End of training: refuses a run that took more than it was given."""
        if self._end is None:
            spent = self.spent()
            self._end = (spent, perf_counter() - (self._wall or 0.0), cpu_seconds() - self._cpu)
            self.products.append(product_speed(self.device))
            if self._count is not None:
                self._count.close()
        slack = max(OVERSPEND * self.amount, min(1.5 * self.longest_step, LAST_STEP * self.amount))
        if self._end[0] > self.amount + slack:
            raise Refused(
                f"training spent {self._end[0]:.4g} of {self.amount:.4g} {KINDS[self.kind]}: "
                "stop when budget.done says so"
            )

    @property
    def wall_seconds(self) -> float:
        return self._end[1] if self._end else perf_counter() - (self._wall or 0.0)

    @property
    def cpu_seconds(self) -> float:
        return self._end[2] if self._end else cpu_seconds() - self._cpu


class FlopCount:
    """FLOPs of the steps: some are counted as torch sees them, drawn by lot, the others by their tokens.

    What torch's counter knows is counted: matrix products and attention, the optimizer's too. A counted
    step runs uncompiled, where all of them show.
    """

    def __init__(self) -> None:
        self.dice = SystemRandom()  # so that train.py cannot know which steps are counted
        self.tokens = 0             # handed out so far
        self.counted = (0.0, 1)     # FLOPs and tokens of the step counted last
        self.wait = 0               # steps until the next count
        self.open: ExitStack | None = None
        self.begin()

    def begin(self) -> None:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        self.open, self.mode = ExitStack(), FlopCounterMode(display=False)
        self.open.enter_context(torch.compiler.set_stance("force_eager"))
        self.open.enter_context(self.mode)

    def of_step(self, tokens: int) -> float:
        """FLOPs of the step that ends, when `tokens` were handed out in all; the next may be counted."""
        new, self.tokens = tokens - self.tokens, tokens
        self.wait -= 1
        if self.open is None:
            flops = self.counted[0] * new / self.counted[1]
        else:
            self.close()
            flops = float(self.mode.get_total_flops())
            if not flops or not new:
                raise Refused("a step without a token or a FLOP: train on the rows of data.batches()")
            self.counted, self.wait = (flops, new), self.dice.randrange(2 * FLOPS_EVERY)
        if self.wait <= 0:
            self.begin()
        return flops

    def close(self) -> None:
        if self.open is not None:
            self.open.close()
        self.open = None


# ---------------------------------------------------------------------------
# Evaluation: the metric
# ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    bpb: float             # bits for each byte of text
    tokens: int            # scored, BOS not among them
    bytes: int
    seconds: float         # wall


def evaluate_bpb(
    model: Callable[[torch.Tensor], torch.Tensor],
    data: Data,
    settings: Settings,
    budget: Budget,
    side: str = "val",
) -> Evaluation:
    """Bits per byte of `model(tokens (rows, seq_len)) -> logits (rows, seq_len, vocab_size)`.

    The loss is worked out here from the logits, so it is normalised whatever the model does; sums are
    in float64; BOS is in neither sum; tokens and batch do not depend on train.py.
    """
    refuse_changes(settings, budget)
    budget.close()
    if settings.sealed:
        return Evaluation(math.nan, 0, 0, 0.0)  # the export is scored by another process
    return score_rows(model, data, settings, side)


def score_rows(
    model: Callable[[torch.Tensor], torch.Tensor], data: Data, settings: Settings, side: str
) -> Evaluation:
    import torch

    start = perf_counter()
    with _opening_is_ours(), torch.no_grad():
        table = data.rows(side)
        lengths = torch.from_numpy(np.load(data.folder / "token_bytes.npy", allow_pickle=False))
        rows, preset = settings.preset.eval_rows, settings.preset
        batches = min(preset.eval_tokens // preset.seq_len, len(table)) // rows
        if batches < 1:
            raise Refused(f"the {side} split has {len(table)} rows, fewer than a batch of {rows}: add text")
        score = checked(model, preset.vocab_size)
        first, _ = to_device(table[:rows], settings.device)
        probe(score, first, preset.vocab_size)
        sums = torch.zeros(3, dtype=torch.float64)
        for index in range(batches):
            x, y = to_device(table[index * rows : (index + 1) * rows], settings.device)
            sums += score_batch(score(x), y, lengths.to(y.device))
        nats, size, count = sums.tolist()
    return Evaluation(nats / math.log(2) / size, int(count), int(size), perf_counter() - start)


def refuse_changes(settings: Settings, budget: Budget) -> None:
    """What is scored, for how long it was trained and on what is not train.py's to choose."""
    if settings != read_settings():
        raise Refused("the settings are not the ones that read_settings() gives: leave them as they are")
    if (budget.kind, budget.amount) != (settings.budget_kind, settings.budget_amount):
        raise Refused(f"trained with budget {budget.kind}:{budget.amount:g}, not with that of the settings")
    if _opened:
        name = Path(_opened[0]).name
        rule = "before budget.start()" if name == "train.npy" else "which only evaluate_bpb may read"
        raise Refused(f"train.py opened {name}, {rule}")


def score_batch(logits: torch.Tensor, y: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Nats, bytes and tokens of one batch, in float64."""
    import torch

    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").cpu()
    if not bool(loss.isfinite().all()):
        raise Refused("not finite: the model's logits give a loss of nan or inf in the evaluation")
    size = lengths[y].flatten().cpu()
    counted = size > 0
    parts = [loss.double()[counted].sum(), size.double().sum(), counted.double().sum()]
    return torch.stack(parts)


def checked(
    model: Callable[[torch.Tensor], torch.Tensor], vocab_size: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    def score(x: torch.Tensor) -> torch.Tensor:
        logits = model(x)
        wanted = (*x.shape, vocab_size)
        if tuple(logits.shape) != wanted:
            raise Refused(f"the model gave logits of shape {tuple(logits.shape)}, not {wanted}")
        return logits.float()

    return score


def probe(score: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, vocab_size: int) -> None:
    """Refuse a model that sees the future, its neighbours in the batch, or changes while being scored."""
    import torch

    dice = SystemRandom()  # so that train.py cannot know the places from the seed
    noise = (x + torch.randint_like(x, 1, vocab_size)) % vocab_size
    honest = score(x)
    # One place anywhere, one with half the row behind it: a faint leak shows by many tokens or not at all.
    for last in (x.shape[1], x.shape[1] // 2 + 1):
        cut = dice.randrange(1, last)
        future = score(torch.cat([x[:, :cut], noise[:, cut:]], dim=1))
        if differs(honest[:, :cut], future[:, :cut]):
            raise Refused(f"the model sees the future: logits before place {cut} change with tokens after it")
    row = dice.randrange(x.shape[0])
    others = noise.clone()
    others[row] = x[row]
    if differs(honest[row], score(others)[row]):
        raise Refused(f"the model mixes rows: logits of row {row} change with the other rows")
    if differs(honest, score(x)):
        raise Refused("the same input gave other logits: the model changes while being scored (eval mode?)")


def differs(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal where both are nan: that is for the finite check to say."""
    return bool(((a - b).abs() > PROBE_TOLERANCE).any())


# ---------------------------------------------------------------------------
# The machine, and the summary
# ---------------------------------------------------------------------------


def keep_freed_memory() -> None:
    """Ask glibc to keep large blocks for the next step: page faults were a fifth of a step on a CPU."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        trim_threshold, mmap_threshold = -1, -3
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(mmap_threshold, 2**30)


def peak_memory_mb(device: str) -> float | None:
    """Peak of the device's memory; on a CPU the largest resident size of the process, None on Windows."""
    if device != "cpu":
        return device_memory_mb(device)
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def device_memory_mb(device: str) -> float:
    """The peak on CUDA and ROCm; what is taken now on MPS, which remembers no peak."""
    import torch

    taken = torch.cuda.max_memory_allocated() if device == "cuda" else torch.mps.driver_allocated_memory()
    return taken / 2**20


def product_speed(device: str, dtype: torch.dtype | None = None) -> float:
    """FLOP/s that plain matrix products reach right now: less when others use the machine."""
    import torch

    size = 384 if device == "cpu" else 4096
    a = torch.randn(size, size, device=device, dtype=dtype)
    (a @ a)[0, 0].item()
    start, done = perf_counter(), 0
    while perf_counter() < start + PRODUCT_SECONDS:
        for _ in range(4):
            b = a @ a
        b[0, 0].item()
        done += 4
    return done * 2 * size**3 / (perf_counter() - start)


def machine_name(device: str) -> str:
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    with suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def machine_ratio(speed: float, settings: Settings) -> float:
    """Of the fastest this machine was ever seen at the same products; well below 1 it was shared."""
    import torch

    path = settings.data / "machine.json"
    name = f"{machine_name(settings.device)}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    known = {}
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
    if speed > known.get(name, 0.0):
        with suppress(OSError):  # data that may only be read
            write_whole(path, json.dumps(known | {name: speed}, indent=1) + "\n")
    return speed / max(speed, known.get(name, 0.0))


def write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def comparison_key(data: Data, settings: Settings) -> str:
    """Results with different keys are never compared: other data, preset, evaluation, budget or clock."""
    machine = machine_name(settings.device) if settings.budget_kind in CLOCKS else None
    parts = (data.fingerprint, asdict(settings.preset), settings.budget_kind, settings.budget_amount, machine)
    return short_hash(repr(parts))


def report(
    evaluation: Evaluation,
    data: Data,
    settings: Settings,
    budget: Budget,
    started: float,
    flops_per_token: float,
    dtype: torch.dtype,
    num_params: int,
    depth: int,
    heldout: Evaluation | None = None,
) -> None:
    """Print the summary block, last thing in the log; `started` is perf_counter at the program's start."""
    reference = product_speed(settings.device, dtype)
    mfu = 100 * flops_per_token * budget.tokens / budget.wall_seconds / reference
    memory = peak_memory_mb(settings.device)
    ratio = machine_ratio(sum(budget.products) / len(budget.products), settings)
    scored = {} if settings.sealed else {"val_bpb": evaluation.bpb}
    lines: dict[str, str] = {name: f"{value:.6f}" for name, value in scored.items()}
    if heldout is not None and scored:
        lines["heldout_bpb"] = f"{heldout.bpb:.6f}"
    lines |= {
        "training_seconds": f"{budget.wall_seconds:.1f}",
        "total_seconds": f"{perf_counter() - started:.1f}",
        "peak_vram_mb": "unknown" if memory is None else f"{max(memory, budget.peak_mb):.1f}",
        "mfu_percent": f"{mfu:.2f}",
        "total_tokens_M": f"{budget.tokens / 1e6:.3f}",
        "num_steps": str(budget.steps),
        "num_params_M": f"{num_params / 1e6:.3f}",
        "depth": str(depth),
        "seed": str(settings.seed),
        "cpu_seconds": f"{budget.cpu_seconds:.1f}",
        "eval_seconds": f"{evaluation.seconds:.1f}",
        "machine_gflops": f"{reference / 1e9:.0f}",
        "machine_ratio": f"{ratio:.2f}",
        "preset": settings.preset.name,
        "budget": f"{settings.budget_kind}:{settings.budget_amount:g}",
        "device": settings.device,
        "machine": machine_name(settings.device),
        "corpus": settings.corpus,
        "fingerprint": data.fingerprint,
        "comparison_key": comparison_key(data, settings),
    }
    if budget.kind == "flops":
        lines["total_gflops"] = f"{budget.flops / 1e9:.1f}"
    print("---")
    for name, value in lines.items():
        print(f"{name + ':':<18}{value}")
    sys.stdout.flush()
    if settings.out is not None:
        exact: dict[str, float] = dict(scored)
        exact |= {"heldout_bpb": heldout.bpb} if heldout is not None and scored else {}
        add_to_curve(settings, budget, **exact)
        write_metrics(settings.out, lines, exact)


def write_metrics(folder: Path, lines: dict[str, str], exact: dict[str, float]) -> None:
    """The summary as JSON, the metric with every digit it has, and what ran it."""
    import torch

    def number(text: str) -> float | str:
        try:
            return float(text)
        except ValueError:
            return text

    words = {"seed", "fingerprint", "comparison_key"}  # a name of digits is still a name
    values = {name: text if name in words else number(text) for name, text in lines.items()}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "curve": "curve.jsonl"}
    write_whole(folder / "metrics.json", json.dumps(values | exact | versions, indent=1) + "\n")


def add_to_curve(settings: Settings, budget: Budget, **values: float) -> None:
    """A point of curve.jsonl, written at once: what a run that is killed had shown is kept."""
    seconds = round(budget.wall_seconds, 3)
    point = {"step": budget.steps, "progress": budget.progress, "tokens": budget.tokens, "seconds": seconds}
    budget.curve.append(point | values)
    if settings.out is not None:
        text = "".join(json.dumps(one) + "\n" for one in budget.curve)
        write_whole(settings.out / "curve.jsonl", text)


# ---------------------------------------------------------------------------
# Export: weights without pickle, and scoring them in a process of its own
# ---------------------------------------------------------------------------

# Names of the safetensors format: its own header is JSON, its data are the plain bytes of each tensor.
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int64": "I64", "bool": "BOOL"}


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    import torch

    header: dict[str, Any] = {}
    blobs, end = [], 0
    for name, tensor in tensors.items():
        blob = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        kind = DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [end, end + len(blob)]}
        blobs.append(blob)
        end += len(blob)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(b"".join([struct.pack("<Q", len(head)), head, *blobs]))


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Refuses a file that is not exactly what its header says; nothing in it is ever run."""
    import torch

    kinds = {kind: getattr(torch, name) for name, kind in DTYPES.items()}
    raw = path.read_bytes()
    tensors, place = {}, 0
    try:
        (length,) = struct.unpack_from("<Q", raw)
        body = np.frombuffer(raw, np.uint8)[8 + length :]
        for name, entry in json.loads(raw[8 : 8 + length]).items():
            start, end = entry["data_offsets"]
            if start != place or not start <= end <= len(body):
                raise ValueError(f"{name} does not lie where the one before it ends")
            flat = torch.empty(end - start, dtype=torch.uint8)
            flat.numpy()[:] = body[start:end]
            tensors[name], place = flat.view(kinds[entry["dtype"]]).view(entry["shape"]), end
        if place != len(body):
            raise ValueError("there are bytes that belong to no tensor")
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError, struct.error) as error:
        raise Refused(f"{path} is no whole safetensors file: {error}") from None
    return tensors


def export(model: torch.nn.Module, source: Path, data: Data, settings: Settings, config: Any) -> None:
    """Write all that a sealed evaluation needs, when asked to: weights, the code that builds them, config."""
    if settings.out is None or not settings.export:
        return
    settings.out.mkdir(parents=True, exist_ok=True)
    write_safetensors(settings.out / "model.safetensors", model.state_dict())
    shutil.copyfile(source, settings.out / "train.py")
    names = ("model.safetensors", "train.py")
    description = {
        "files": {name: file_hash(settings.out / name) for name in names},
        "environment": {
            "AUTORESEARCH_PRESET": settings.preset.name,
            "AUTORESEARCH_CORPUS": settings.corpus,
            "AUTORESEARCH_DEVICE": settings.device,
            "AUTORESEARCH_THREADS": str(settings.preset.threads or 0),
        },
        "seed": settings.seed,
        "fingerprint": data.fingerprint,
        "comparison_key": comparison_key(data, settings),
        "config": config,
    }
    write_whole(settings.out / "model.json", json.dumps(description, indent=1) + "\n")


# ---------------------------------------------------------------------------
# Sealed evaluation: the score is worked out where the model's code does not run
# ---------------------------------------------------------------------------

# L1: the model is built in this process, after everything it could patch was taken aside.
# L2: it is built in two processes that are shut in: no labels, no scored files, no network. One gets the
# rows and answers with logits, from which the score comes. The other gets rows whose future is noise, at
# places drawn by lot: its logits there must be the same, so who looks ahead, or at a neighbour, is seen.
# Two processes, since one could remember what it has answered.
# Where so many logits cannot be sent in time, the number is L1's, from a process that has the labels and
# tells the loss of each row; some rows, drawn by lot, are scored at L2 as well, and their losses must be
# the same.
TOO_MANY = 4e9             # logits of a split; 30 s of one core, and more than a GPU's evaluation may take
SAMPLED = 4e8              # logits that are sent then
AT_ONCE = 1.3e8            # logits in the shared memory
SAME_LOSS = 1e-2           # share of a row's nats by which the two may differ: other batches, other rounding
BLIND_BATCHES = 32         # batches in which one place of each row is asked for blindly
SAME_LOGITS = 1e-2         # logits; as PROBE_TOLERANCE
_exp, _log, _isfinite, _arange, _LN2 = np.exp, np.log, np.isfinite, np.arange, math.log(2)

Logits = np.ndarray[Any, Any]  # float32, (rows, places, vocabulary)


class Here:
    """A model in this process."""

    def __init__(self, model: Callable[[torch.Tensor], torch.Tensor], settings: Settings) -> None:
        self.model, self.settings = model, settings

    def ask(self, x: Tokens) -> None:
        import torch

        with torch.no_grad():
            logits = self.model(torch.from_numpy(x.astype(np.int64)).to(self.settings.device))
        self.answer = logits.detach().float().cpu().numpy().copy()

    def take(self) -> Logits:
        return self.answer

    def close(self) -> None:
        pass


class Elsewhere:
    """A model in a process that is shut in: tokens go in by a pipe, logits come by shared memory."""

    def __init__(self, folder: Path, hidden: list[str], settings: Settings) -> None:
        preset = settings.preset
        self.shape = (rows_at_once(preset), preset.seq_len, preset.vocab_size)
        self.memory = shared_memory(4 * math.prod(self.shape))
        self.logits = np.memmap(self.memory, np.float32, "r", shape=self.shape)
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        descriptor = self.memory.fileno()
        wrapper = json.loads(os.environ["AUTORESEARCH_SANDBOX"])
        hide = [word for path in hidden for word in ("--hide", path)]
        serve = [sys.executable, "-B", str(Path(__file__).resolve()), "--serve", str(folder), str(descriptor)]
        self.process = subprocess.Popen(
            [*wrapper, *hide, "--", *serve],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            pass_fds=[descriptor],
        )

    def ask(self, x: Tokens) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(x.astype("<i8").tobytes())
            self.process.stdin.flush()
        except BrokenPipeError:
            self.fail()

    def take(self) -> Logits:
        """What the model answered, copied before anything is worked out: it could still change it."""
        assert self.process.stdout is not None
        head = self.process.stdout.read(ANSWER.size)
        if len(head) < ANSWER.size:
            self.fail()
        shape = ANSWER.unpack(head)
        if shape != self.shape:
            raise Refused(f"the model gave logits of shape {shape}, not {self.shape}")
        return np.array(self.logits)

    def fail(self) -> None:
        self.process.kill()
        self.said.seek(0)
        lines = self.said.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        last = "".join(c for c in (lines or ["it said nothing"])[-1] if c.isprintable())[:300]
        raise Refused(f"the model's process ended with {self.process.wait()}: | {last}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def rows_at_once(preset: Preset) -> int:
    return min(preset.eval_rows, max(1, int(AT_ONCE / preset.seq_len / preset.vocab_size)))


ANSWER = struct.Struct("<3q")
Model = Here | Elsewhere


def shared_memory(size: int) -> IO[bytes]:
    """A file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("logits"), "r+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - given to the caller
    file.truncate(size)
    return file


def serve(folder: Path, descriptor: int) -> None:
    """In the shut-in process: rows from the first pipe, logits into the shared memory, their shape back."""
    import torch

    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what the model's code prints is no answer
    rows = os.fdopen(os.dup(0), "rb")
    settings = read_settings()
    preset = settings.preset
    model, around = build_exported(folder)
    shape = (rows_at_once(preset), preset.seq_len)
    with os.fdopen(descriptor, "r+b") as memory:
        out = np.memmap(memory, np.float32, "r+", shape=(*shape, preset.vocab_size))
    with torch.no_grad(), around:
        while len(raw := rows.read(8 * math.prod(shape))) == 8 * math.prod(shape):
            x = torch.from_numpy(np.frombuffer(raw, np.int64).reshape(shape).copy()).to(settings.device)
            logits = model(x)
            if tuple(logits.shape) == out.shape:
                torch.from_numpy(out).copy_(logits.float())
            answers.write(ANSWER.pack(*(*logits.shape, 0, 0, 0)[:3]))


def build_exported(folder: Path) -> tuple[Any, Any]:
    """The exported model and what its passes run in; its code runs here, with a prepare of its own."""
    for name, file in (("prepare", Path(__file__)), ("exported", folder / "train.py")):
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    model = module.build()
    model.load_state_dict(read_safetensors(folder / "model.safetensors"))
    model.eval()
    return model, module.autocast()


def score_side(model: Model, blind: Model, data: Data, settings: Settings, side: str) -> float:
    """Bits per byte; tokens, batches and the loss are this file's, sums are in float64."""
    table, lengths = scored_rows(data, settings, side)
    nats = row_losses(model, blind, table, lengths, settings)
    return float(nats.sum()) / _LN2 / float(lengths[table[:, 1:]].sum())


def scored_rows(data: Data, settings: Settings, side: str) -> tuple[Tokens, np.ndarray[Any, Any]]:
    """The rows of a split that are scored, in whole batches, and the bytes of each token."""
    preset = settings.preset
    with _opening_is_ours():
        table = data.rows(side)
        batches = min(preset.eval_tokens // preset.seq_len, len(table)) // preset.eval_rows
        if batches < 1:
            rows = preset.eval_rows
            raise Refused(f"the {side} split has {len(table)} rows, fewer than a batch of {rows}: add text")
        chosen = np.array(table[: batches * preset.eval_rows])
        return chosen, np.load(data.folder / "token_bytes.npy", allow_pickle=False).astype(np.float64)


def row_losses(
    model: Model, blind: Model, table: Tokens, lengths: np.ndarray[Any, Any], settings: Settings
) -> np.ndarray[Any, Any]:
    """Nats of each row, without its BOS; the rows are whole batches."""
    preset = settings.preset
    rows, dice = rows_at_once(preset), SystemRandom()
    nats = np.zeros(len(table))
    batches = len(table) // rows
    blindly = set(dice.sample(range(batches), min(BLIND_BATCHES, batches)))
    model.ask(table[:rows, :-1])
    for index in range(batches):
        batch = table[index * rows : (index + 1) * rows]
        places = [dice.randrange(preset.seq_len) for _ in range(rows)]
        if index in blindly:
            blind.ask(without_future(batch[:, :-1], places, preset.vocab_size))
        logits = checked_answer(model.take(), settings)
        if index + 1 < batches:
            model.ask(table[(index + 1) * rows : (index + 2) * rows, :-1])
        if index in blindly:
            compare(logits, checked_answer(blind.take(), settings), places)
        loss = losses(logits.reshape(-1, preset.vocab_size), batch[:, 1:].reshape(-1))
        counted = lengths[batch[:, 1:]] > 0
        nats[index * rows : (index + 1) * rows] = (loss.reshape(counted.shape) * counted).sum(axis=1)
    return nats


def told_losses(folder: Path, side: str) -> None:
    """In a process that has the labels: the nats of each row as JSON, worked out on the device."""
    import torch

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = read_settings()
    table, lengths = scored_rows(open_data(settings), settings, side)
    model, around = build_exported(folder)
    rows, nats = settings.preset.eval_rows, []
    counted = torch.from_numpy(lengths > 0).to(settings.device)
    with torch.no_grad(), around:
        for start in range(0, len(table), rows):
            x, y = to_device(table[start : start + rows], settings.device)
            loss = torch.nn.functional.cross_entropy(
                model(x).float().flatten(0, 1), y.flatten(), reduction="none"
            )
            nats += (loss.view(y.shape).double() * counted[y]).sum(dim=1).tolist()
    answers.write(json.dumps(nats))
    answers.close()


def score_told(
    folder: Path, level: str, hidden: list[str], data: Data, settings: Settings, side: str
) -> float:
    """The number of a process that has the labels; at L2 checked on rows that it cannot know."""
    table, lengths = scored_rows(data, settings, side)
    command = [sys.executable, "-B", str(Path(__file__).resolve()), "--tell", str(folder), side]
    done = subprocess.run(command, capture_output=True)
    try:
        told = np.array(json.loads(done.stdout), dtype=np.float64)
    except ValueError:
        last = done.stderr[-300:].decode("utf-8", "replace").strip().splitlines()[-1:]
        raise Refused(f"the model's process ended with {done.returncode}: | {''.join(last)}") from None
    if told.shape != (len(table),) or not _isfinite(told).all():
        raise Refused("not finite: the model's process told no loss for some rows")
    if level == "L2":
        cross_check(folder, hidden, table, lengths, told, settings)
    return float(told.sum()) / _LN2 / float(lengths[table[:, 1:]].sum())


def without_future(x: Tokens, places: list[int], vocab_size: int) -> Tokens:
    """The rows with noise in every place after the one asked for."""
    noise = np.random.default_rng().integers(1, vocab_size, size=x.shape)
    later = _arange(x.shape[1])[None, :] > np.array(places)[:, None]
    return np.where(later, (x + noise) % vocab_size, x)


def compare(logits: Logits, blind: Logits, places: list[int]) -> None:
    for row, place in enumerate(places):
        difference = float(abs(logits[row, place] - blind[row, place]).max())
        if not difference <= SAME_LOGITS:
            raise Refused(
                f"the model sees the future or its neighbours, or changes: logits at place {place} differ by "
                f"{difference:.3g} when what it may not see is noise"
            )


def checked_answer(logits: Logits, settings: Settings) -> Logits:
    preset = settings.preset
    wanted = (rows_at_once(preset), preset.seq_len, preset.vocab_size)
    if logits.shape != wanted:
        raise Refused(f"the model gave logits of shape {logits.shape}, not {wanted}")
    return logits


def losses(logits: Logits, y: Tokens) -> np.ndarray[Any, Any]:
    """Nats of each token, by our own log-softmax in float64 sums; overwrites the logits."""
    logits -= logits.max(axis=1, keepdims=True)
    picked = logits[_arange(len(y)), y].astype(np.float64)
    _exp(logits, out=logits)
    loss = _log(logits.sum(axis=1, dtype=np.float64)) - picked
    if not _isfinite(loss).all():
        raise Refused("not finite: the model's logits give a loss of nan or inf in the evaluation")
    return loss


def cross_check(
    folder: Path,
    hidden: list[str],
    table: Tokens,
    lengths: np.ndarray[Any, Any],
    told: np.ndarray[Any, Any],
    settings: Settings,
) -> None:
    """Refuse losses that are others when the model has no labels."""
    preset = settings.preset
    rows = rows_at_once(preset)
    some = max(1, int(SAMPLED / preset.seq_len / preset.vocab_size / rows)) * rows
    chosen = sorted(SystemRandom().sample(range(len(table)), min(some, len(table) // rows * rows)))
    with ExitStack() as stack:
        models = [Elsewhere(folder, hidden, settings) for _ in range(2)]
        for one in models:
            stack.callback(one.close)
        seen = row_losses(models[0], models[1], table[chosen], lengths, settings)
    off = abs(seen - told[chosen]) > SAME_LOSS * abs(seen)
    if off.any():
        some = f"{int(off.sum())} of {len(chosen)} rows"
        raise Refused(f"{some} have another loss when the model has no labels")
    say(f"cross_check:      L2 on {len(chosen)} of {len(table)} rows")


def score_export(folder: Path, level: str) -> None:
    """Score what a run exported, at the level asked for; in a campaign nothing of it chooses how."""
    if not (folder / "model.json").exists():
        way = f"AUTORESEARCH_EXPORT=1 AUTORESEARCH_OUT={folder} python train.py"
        raise Refused(f"no model.json in {folder}: {way}")
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    for name in ("model.safetensors", "train.py"):
        path = folder / name
        if path.is_symlink() or not path.exists() or file_hash(path) != description["files"].get(name):
            raise Refused(f"{path} is damaged or changed: export it again")
    sealed = os.environ.pop("AUTORESEARCH_SEALED", "0") == "1"
    if not sealed:
        os.environ.update(description["environment"])
    settings = read_settings()
    data = open_data(settings)
    if data.fingerprint != description["fingerprint"]:
        raise Refused(f"exported with data {description['fingerprint']}, here they are {data.fingerprint}")
    key = comparison_key(data, settings) if sealed else description["comparison_key"]
    sides = ("val", "heldout")[: 1 + settings.heldout]
    hidden = [*hidden_files(settings, data), str(settings.data)] if level == "L2" else []
    many = settings.preset.eval_tokens * settings.preset.vocab_size > TOO_MANY
    if many:
        scores = {side: score_told(folder, level, hidden, data, settings, side) for side in sides}
        level = "L1"
    else:
        scores = score_whole(folder, level, hidden, data, settings, sides)
    if _opened:
        raise Refused(f"the model's code opened {Path(_opened[0]).name}, which only the evaluation may read")
    for side, score in scores.items():
        say(f"{side + '_bpb:':<18}{score:.9f}")
    say(f"evaluation_level: {level}")
    for name, value in (("fingerprint", data.fingerprint), ("comparison_key", key)):
        say(f"{name + ':':<18}{value}")


def score_whole(
    folder: Path, level: str, hidden: list[str], data: Data, settings: Settings, sides: tuple[str, ...]
) -> dict[str, float]:
    """Every row at one level."""
    with ExitStack() as stack:
        if level == "L2":
            models: list[Model] = [Elsewhere(folder, hidden, settings) for _ in range(2)]
        else:
            built, autocast = build_exported(folder)
            stack.enter_context(autocast)
            models = [Here(built, settings) for _ in range(2)]
        for one in models:
            stack.callback(one.close)
        return {side: score_side(models[0], models[1], data, settings, side) for side in sides}


# ---------------------------------------------------------------------------
# What a sealed training may not read
# ---------------------------------------------------------------------------


def hidden_files(settings: Settings, data: Data) -> list[str]:
    """The scored rows, and the documents they were made of, wherever this machine has them."""
    found = [data.folder / name for name in SCORED]
    if settings.corpus in HUB_CORPORA:
        return [*map(str, found), str(settings.data / "hub")]
    lines = (data.folder / "documents.txt").read_text(encoding="utf-8").splitlines()
    scored = {line.split()[1] for line in lines if not line.startswith("train ")}
    for name, path in corpus_files(settings.corpus):
        if settings.corpus != "pystdlib" or not needed_to_import(name, path):
            document = read_document(path, name)
            found += [path] if document and document.digest in scored else []
    others = [] if settings.corpus != "pystdlib" else other_libraries()
    return [str(path) for path in (*found, *others)]


def needed_to_import(name: str, path: Path) -> bool:
    """Whether Python would have to read the source to import this module of its library."""
    top = name.split("/")[0].removesuffix(".py")
    if top in ("test", "idlelib", "turtledemo"):
        return False
    cached = Path(importlib.util.cache_from_source(str(path)))
    try:
        head = cached.read_bytes()[:16]
    except OSError:
        return True
    flags, made, size = struct.unpack("<4xIII", head)
    found = path.stat()
    return bool(flags or made != int(found.st_mtime) & 0xFFFFFFFF or size != found.st_size & 0xFFFFFFFF)


def other_libraries() -> list[Path]:
    """Standard libraries of other Pythons on this machine: much of their text is the same."""
    own = Path(sysconfig.get_paths()["stdlib"]).resolve()
    homes = ("~/.pyenv/versions/*/lib", "~/.local/share/uv/python/*/lib")
    places = ("/usr/lib", "/usr/local/lib", "/opt/*/lib", *homes)
    found = []
    for place in places:
        root, _, rest = str(Path(place).expanduser()).partition("/*")
        pattern = f"*{rest}/python3.*" if rest else "python3.*"
        if Path(root).is_dir():
            found += [path for path in Path(root).glob(pattern) if path.is_dir() and path.resolve() != own]
    return found


# ---------------------------------------------------------------------------
# Check
# ---------------------------------------------------------------------------


def check(settings: Settings) -> None:
    """Verify what can go wrong between the day of preparing and tonight."""
    from tokenizers import Tokenizer

    folder = data_folder(settings)
    if not (folder / "meta.json").exists():
        raise Refused(f"no data in {folder}: run python prepare.py")
    data = open_data(settings)
    say(f"files:       {len(data.meta['files'])} with the hashes they were written with")
    if settings.corpus in HUB_CORPORA:
        files, held = hub_files(settings.corpus, settings.preset.hub_bytes)
        paths = [fetch(file, settings.data) for file in [*files, *([held] if held else [])]]
        say(f"corpus:      {len(paths)} file{'s' * (len(paths) > 1)} fetched, with the sha256 known of them")
    lines = (folder / "documents.txt").read_text(encoding="utf-8").splitlines()
    sides = {side: {line for line in lines if line.startswith(side + " ")} for side in SPLITS}
    for a, b in (("train", "val"), ("train", "heldout"), ("val", "heldout")):
        if common := {line.split()[1] for line in sides[a]} & {line.split()[1] for line in sides[b]}:
            raise Refused(f"{len(common)} documents are in {a} and in {b}: delete {folder} and prepare again")
    counts = ", ".join(f"{side} {len(sides[side])}" for side in SPLITS)
    say(f"split:       {counts} documents, none twice")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "def f(x):\n\treturn 'naïve → 你好 🙂'  # 12345 tests_of\r\n\n    end\x00"
    if tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) != text:
        raise Refused(f"the tokenizer does not give text back: delete {folder} and prepare again")
    lengths = np.load(folder / "token_bytes.npy", allow_pickle=False)
    if int(lengths[tokenizer.encode(text).ids].sum()) != len(text.encode()):
        raise Refused(f"token_bytes.npy does not add up to the text's bytes: delete {folder}, prepare again")
    say(f"tokenizer:   {tokenizer.get_vocab_size()} tokens, text comes back, bytes add up")
    free = shutil.disk_usage(folder).free
    if free < FREE_SPACE:
        raise Refused(f"only {free / 1e6:.0f} MB free in {folder}: make room or set AUTORESEARCH_DATA")
    say(f"free space:  {free / 1e9:.1f} GB")
    say(f"fingerprint: {data.fingerprint}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="verify the data instead of making them")
    parser.add_argument("--score", metavar="DIR", type=Path, help="score the weights exported to DIR")
    parser.add_argument("--level", choices=("L1", "L2"), help="of --score: L2 shuts the model in")
    parser.add_argument("--hidden", action="store_true", help="list what a sealed training may not read")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--tell", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--preset", choices=sorted(PRESETS), help="instead of the one chosen by device")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(Path(arguments.serve[0]), int(arguments.serve[1]))
        return
    if arguments.tell:
        told_losses(Path(arguments.tell[0]), arguments.tell[1])
        return
    if arguments.score:
        score_export(arguments.score, arguments.level or os.environ.get("AUTORESEARCH_LEVEL") or "L1")
        return
    settings = read_settings()
    if arguments.hidden:
        for path in hidden_files(settings, open_data(settings)):
            say(path)
        return
    if arguments.preset:
        settings = replace(settings, preset=PRESETS[arguments.preset])
    if arguments.check:
        check(settings)
        return
    start = perf_counter()
    data = open_data(settings)
    say(f"data:        {data.folder}")
    say(f"fingerprint: {data.fingerprint}")
    say(f"ready in {perf_counter() - start:.1f} s; next: python train.py")


if __name__ == "__main__":
    main()
