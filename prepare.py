"""The fixed half of the demo target: corpus, tokenizer, loader, budget and evaluate_bpb.

train.py may change; this file may not, so that two results mean the same thing.

    python prepare.py            make the data for this machine's preset (once, offline, under a minute)
    python prepare.py --check    verify data, split, tokenizer and free space

What the environment can say (all optional):
    AUTORESEARCH_PRESET   smoke | cpu | laptop | h100                  default: by device
    AUTORESEARCH_BUDGET   20, cpu:20, wall:300, steps:100, tokens:2e6  default: the preset's
    AUTORESEARCH_CORPUS   pystdlib | text:DIR                          default: pystdlib
    AUTORESEARCH_DATA     folder for the data                          default: ~/.cache/autoresearch/data
    AUTORESEARCH_DEVICE   cpu | cuda | mps                             default: the best there is
    AUTORESEARCH_THREADS  CPU threads; the seconds of all are counted  default: the preset's
    AUTORESEARCH_OUT      folder for metrics.json                      default: not written
    AUTORESEARCH_HELDOUT  1 scores the held-out split as well          default: 0
    SEED                  whole number: weights and order of rows      default: 1337
"""

from __future__ import annotations

import os

# Threads that wait in a spin loop burn CPU seconds: on a loaded machine that is the budget itself.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import bisect
import ctypes
import hashlib
import json
import math
import platform
import shutil
import sys
import sysconfig
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import SystemRandom
from time import perf_counter, process_time, time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # torch takes 2 s to import: preparing data does without it
    import torch

# ---------------------------------------------------------------------------
# Constants (fixed: a change here makes results incomparable)
# ---------------------------------------------------------------------------

FORMAT = 1                 # version of the files below; part of every fingerprint
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

KINDS = {"wall": "seconds", "cpu": "CPU seconds", "steps": "steps", "tokens": "tokens"}


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


# One thread on a CPU: two did 20 % fewer tokens in a CPU second, and a busy machine changed that share.
PRESETS = {
    "smoke": Preset("smoke", 256, 2048, "cpu", 10, 16_384, 4, 1),
    "cpu": Preset("cpu", 256, 2048, "cpu", 60, 65_536, 4, 1),
    "laptop": Preset("laptop", 512, 4096, "wall", 300, 524_288, 16, None),
    "h100": Preset("h100", 2048, 8192, "wall", 300, 20_971_520, 64, None),
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
    heldout: bool


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
    out = env.get("AUTORESEARCH_OUT")
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
        heldout=env.get("AUTORESEARCH_HELDOUT", "0") == "1",
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
        wanted = ", ".join(f"{k}:{n}" for k, n in zip(KINDS, ("300", "20", "100", "2e6"), strict=True))
        raise Refused(f"AUTORESEARCH_BUDGET is {text!r}; use a number above 0 or one of {wanted}")
    return kind, value


def best_device() -> str:
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
# Corpora: a function from the argument to (name, text) pairs, and one that names the version
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
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError):
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
    raise Refused(f"AUTORESEARCH_CORPUS is {corpus!r}; use pystdlib or text:DIR")


def corpus_key(corpus: str) -> str:
    """A folder name that changes when the corpus does, found without reading the files."""
    if corpus == "pystdlib":
        where = sysconfig.get_paths()["stdlib"]
        return f"pystdlib-{platform.python_version()}-{short_hash(where)}"
    stamps = [(n, p.stat().st_size, p.stat().st_mtime_ns) for n, p in corpus_files(corpus)]
    return f"text-{short_hash(repr(stamps))}"


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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


def pack(documents: list[list[int]], seq_len: int, bos: int) -> np.ndarray[Any, Any]:
    """Rows of BOS and seq_len tokens: long documents are cut, their tails packed by best fit."""
    rows: list[list[int]] = []
    tails: list[list[int]] = []
    for tokens in documents:
        for start in range(0, len(tokens), seq_len):
            piece = tokens[start : start + seq_len]
            (rows if len(piece) == seq_len else tails).append([bos, *piece])
    rows += best_fit(tails, seq_len + 1)
    packed = np.full((len(rows), seq_len + 1), bos, dtype=np.uint16)
    for row, tokens in zip(packed, rows, strict=True):
        row[: len(tokens)] = tokens
    return packed[np.random.default_rng(0).permutation(len(packed))]


def best_fit(pieces: list[list[int]], capacity: int) -> list[list[int]]:
    """Longest first, each into the fullest row that still has room."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free places, row), sorted
    for piece in sorted(pieces, key=len, reverse=True):
        at = bisect.bisect_left(room, (len(piece), -1))
        if at < len(room):
            index = room.pop(at)[1]
        else:
            index = len(rows)
            rows.append([])
        rows[index].extend(piece)
        bisect.insort(room, (capacity - len(rows[index]), index))
    return rows


# ---------------------------------------------------------------------------
# Preparing: everything in a folder of its own, then one rename
# ---------------------------------------------------------------------------

SPLITS = ("train", "val", "heldout")


def data_folder(settings: Settings) -> Path:
    preset = settings.preset
    shape = f"v{preset.vocab_size}-t{preset.seq_len}-f{FORMAT}"
    return settings.data / corpus_key(settings.corpus) / shape


def prepare(settings: Settings) -> Path:
    """Make the data if they are not there. Two processes at once both work; the first rename wins."""
    folder = data_folder(settings)
    if (folder / "meta.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder.parent).free < FREE_SPACE:
        raise Refused(f"less than {FREE_SPACE / 1e6:.0f} MB free in {folder.parent}; set AUTORESEARCH_DATA")
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
        if time() - path.stat().st_mtime > 86_400:
            shutil.rmtree(path, ignore_errors=True)


def build(settings: Settings, folder: Path) -> None:
    from tokenizers import Tokenizer

    preset, start = settings.preset, perf_counter()
    read = [read_document(path, name) for name, path in corpus_files(settings.corpus)]
    split = split_documents([document for document in read if document])
    for side in SPLITS:
        if not split[side]:
            raise Refused(f"corpus {settings.corpus} has too few files for a {side} split: add some")
    train_tokenizer(split["train"], preset.vocab_size, folder / "tokenizer.json")
    say(f"  {sum(map(len, split.values()))} documents, tokenizer trained ({perf_counter() - start:.1f} s)")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    np.save(folder / "token_bytes.npy", token_lengths(tokenizer))
    counts = {}
    for side in SPLITS:
        encoded = tokenizer.encode_batch([d.text for d in split[side]], add_special_tokens=False)
        rows = pack([e.ids for e in encoded], preset.seq_len, tokenizer.token_to_id(BOS))
        np.save(folder / f"{side}.npy", rows)
        size = sum(len(d.text.encode()) for d in split[side])
        counts[side] = {"documents": len(split[side]), "bytes": size, "rows": len(rows)}
        say(f"  {side}: {len(rows):,} rows from {size / 1e6:.1f} MB ({perf_counter() - start:.1f} s)")
    write_meta(settings, folder, split, counts)


def write_meta(settings: Settings, folder: Path, split: dict[str, list[Document]], counts: Any) -> None:
    meta = {
        "format": FORMAT,
        "corpus": settings.corpus,
        "python": platform.python_version(),
        "vocab_size": settings.preset.vocab_size,
        "seq_len": settings.preset.seq_len,
        "fingerprint": corpus_fingerprint(split),
        "splits": counts,
        "documents": {side: sorted(d.digest for d in split[side]) for side in SPLITS},
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

# Whoever opens a scored split while training is noted: reading the answers is not learning.
_scored_files: set[str] = set()
_opened: list[str] = []
_scoring = False


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _scored_files and not _scoring and not isinstance(arguments[0], int):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path in _scored_files:
            _opened.append(path)


sys.addaudithook(_note_open)


@contextmanager
def _open_for_scoring() -> Iterator[None]:
    global _scoring
    _scoring = True
    try:
        yield
    finally:
        _scoring = False


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
        """Endless (inputs, targets) of training rows, in an order drawn from the seed, each epoch anew."""
        table = self.rows("train")
        random = np.random.default_rng(settings.seed)
        if rows > len(table):
            raise Refused(f"a batch of {rows} rows, but the corpus has {len(table)}: use fewer rows")
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
    folder = prepare(settings)
    _imported_at += cpu_seconds() - start  # making the data is not train.py's set-up
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    for name, digest in meta["files"].items():
        path = folder / name
        if not path.exists() or file_hash(path) != digest:
            raise Refused(f"{path} is damaged or changed: delete {folder} and run python prepare.py")
    _scored_files.update(os.path.realpath(folder / f"{side}.npy") for side in ("val", "heldout"))
    return Data(folder, meta)


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
    epochs: int = 0
    longest_step: float = 0.0      # in the budget's unit
    _wall: float | None = None     # perf_counter at the start
    _cpu: float = 0.0
    _charged: float = 0.0          # seconds taken off before the first step
    _warm_cpu: float = 0.0         # CPU seconds of the warm-up
    _last: float = 0.0
    _end: tuple[float, float, float] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the clock, once. Set-up beyond what importing and building take is charged."""
        if _started:
            raise Refused("a budget was started already: one run has one budget, started once")
        _started.append(self)
        set_up = cpu_seconds() - _imported_at - self._warm_cpu
        if self.kind in ("wall", "cpu"):
            self._charged += max(0.0, set_up - SETUP_SECONDS)
        self._wall, self._cpu = perf_counter(), cpu_seconds()

    def warm_up(self, model: torch.nn.Module, run: Callable[[], Any]) -> None:
        """Before the start: run once, for compilation, then put the weights back, so nothing is learned.

        Only WARM_UP_SECONDS are free.
        """
        before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        wall, cpu = perf_counter(), cpu_seconds()
        run()
        if self.kind in ("wall", "cpu"):
            self._charged += max(0.0, perf_counter() - wall - WARM_UP_SECONDS)
        self._warm_cpu += cpu_seconds() - cpu
        model.load_state_dict(before)
        self.tokens = 0

    def handed_out(self, tokens: int) -> None:
        if self._end is not None:
            raise Refused("training went on after the evaluation")
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
        clock = cpu_seconds() - self._cpu if self.kind == "cpu" else perf_counter() - self._wall
        return clock + self._charged

    def step(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
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
        typical = (self._last / self.steps / 2) if self.steps and self.kind in ("wall", "cpu") else 0.0
        return self.spent() + typical >= self.amount

    def close(self) -> None:
        """End of training: refuses a run that took more than it was given."""
        if self._end is None:
            spent = self.spent()
            self._end = (spent, perf_counter() - (self._wall or 0.0), cpu_seconds() - self._cpu)
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
    import torch

    start = perf_counter()
    refuse_changes(settings, budget)
    budget.close()
    with _open_for_scoring(), torch.no_grad():
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
        raise Refused(f"train.py opened {Path(_opened[0]).name}, which only evaluate_bpb may read")


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
    cut = dice.randrange(1, x.shape[1])
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


def peak_memory_mb(device: str) -> float:
    """Peak of the device's memory; on a CPU the largest resident size of the process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    if device == "mps":
        import torch

        return torch.mps.driver_allocated_memory() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def machine_flops(device: str, dtype: torch.dtype) -> float:
    """Floating point operations a second this machine reaches in a plain matrix product, right now."""
    import torch

    size = 384 if device == "cpu" else 8192
    a = torch.randn(size, size, device=device, dtype=dtype)
    (a @ a).sum().item()
    best = 0.0
    for _ in range(5):
        start = perf_counter()
        for _ in range(4):
            b = a @ a
        b[0, 0].item()
        best = max(best, 4 * 2 * size**3 / (perf_counter() - start))
    return best


def comparison_key(data: Data, settings: Settings) -> str:
    """Results with different keys are never compared: other data, preset, budget or evaluation."""
    parts = (data.fingerprint, asdict(settings.preset), settings.budget_kind, settings.budget_amount)
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
    reference = machine_flops(settings.device, dtype)
    mfu = 100 * flops_per_token * budget.tokens / budget.wall_seconds / reference
    lines: dict[str, str] = {"val_bpb": f"{evaluation.bpb:.6f}"}
    if heldout is not None:
        lines["heldout_bpb"] = f"{heldout.bpb:.6f}"
    lines |= {
        "training_seconds": f"{budget.wall_seconds:.1f}",
        "total_seconds": f"{perf_counter() - started:.1f}",
        "peak_vram_mb": f"{peak_memory_mb(settings.device):.1f}",
        "mfu_percent": f"{mfu:.2f}",
        "total_tokens_M": f"{budget.tokens / 1e6:.3f}",
        "num_steps": str(budget.steps),
        "num_params_M": f"{num_params / 1e6:.3f}",
        "depth": str(depth),
        "seed": str(settings.seed),
        "cpu_seconds": f"{budget.cpu_seconds:.1f}",
        "eval_seconds": f"{evaluation.seconds:.1f}",
        "machine_gflops": f"{reference / 1e9:.0f}",
        "preset": settings.preset.name,
        "budget": f"{settings.budget_kind}:{settings.budget_amount:g}",
        "device": settings.device,
        "corpus": settings.corpus,
        "fingerprint": data.fingerprint,
        "comparison_key": comparison_key(data, settings),
    }
    print("---")
    for name, value in lines.items():
        print(f"{name + ':':<18}{value}")
    sys.stdout.flush()
    if settings.out is not None:
        write_metrics(settings.out, lines)


def write_metrics(folder: Path, lines: dict[str, str]) -> None:
    def number(text: str) -> float | str:
        try:
            return float(text)
        except ValueError:
            return text

    folder.mkdir(parents=True, exist_ok=True)
    words = {"seed", "fingerprint", "comparison_key", "corpus", "preset", "budget", "device"}
    values = {name: text if name in words else number(text) for name, text in lines.items()}
    temporary = folder / ".metrics.json.tmp"
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / "metrics.json")


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
    sides = {side: set(data.meta["documents"][side]) for side in SPLITS}
    for a, b in (("train", "val"), ("train", "heldout"), ("val", "heldout")):
        if common := sides[a] & sides[b]:
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
    parser.add_argument("--preset", choices=sorted(PRESETS), help="instead of the one chosen by device")
    arguments = parser.parse_args()
    settings = read_settings()
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
