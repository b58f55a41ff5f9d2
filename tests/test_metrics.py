"""Numbers are read from a run's output, and a failure is told in a few lines."""

import json
import math
import os
import re
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import LabError
from lab.metrics import PARSERS, Reading, Scanner, combine, read_metrics_json
from lab.postmortem import is_host_trouble, make_digest

SUMMARY = b"""---
val_bpb:          0.997900
training_seconds: 300.1
total_seconds:    325.9
peak_vram_mb:     45060.2
mfu_percent:      39.80
total_tokens_M:   499.6
num_steps:        953
num_params_M:     50.3
depth:            8
"""


def read(text, name="val_bpb", size=None, **options):
    data = text if isinstance(text, bytes) else text.encode()
    scanner = Scanner(name, **options)
    for start in range(0, len(data), size or max(len(data), 1)):
        scanner.feed(data[start : start + (size or len(data))])
    return scanner.close()


# --- what counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 64, None])
def test_a_summary_is_read_however_the_output_is_cut(size):
    reading = read(b"caf\xc3\xa9\r\nstep 1\rstep 2\n" + SUMMARY, size=size)
    assert (reading.value, reading.problem) == (0.9979, None)
    assert reading.values["peak_vram_mb"] == 45060.2
    assert reading.values["training_seconds"] == 300.1
    assert reading.values["num_steps"] == 953
    assert "val_bpb" not in reading.values


@pytest.mark.parametrize(
    "line",
    [
        "val_bpb: 0.5",
        "  \tval_bpb :  0.5  ",
        "val_bpb:0.5",
        "val_bpb: +5.0e-1",
        "val_bpb: .5",
        "step 9 (90%)\rval_bpb: 0.5",
        "val_bpb: 0.5\r",
        "\x1b[32mval_bpb:\x1b[0m \x1b[1m0.5\x1b[0m",
        "\0\0\0\0val_bpb: 0.5",
        "METRIC val_bpb=0.5",
        "METRIC  val_bpb = 0.5",
        "val_bpb: 0.5\nval_bpb: 0.50\nMETRIC val_bpb=5e-1",
        "val_bpb: 0.5\nval_bpb: see above\nthe val_bpb: 0.7",
        "val_bpb:\nval_bpb: 0.5",
    ],
)
def test_a_number_alone_on_its_line_counts(line):
    for text in (line, f"before\n{line}\nafter\n", f"before\r\n{line}\r\n"):
        assert read(text) == Reading(0.5, None, read(text).detail, read(text).values, read(text).digit)
        assert read(text).value == 0.5


@pytest.mark.parametrize("kind", PARSERS)
def test_every_way_to_print_a_number_reads_name_and_value(kind):
    line = {"line": b"loss: 2.5", "metric": b"METRIC loss=2.5"}[kind]
    assert PARSERS[kind].needle in line
    assert read(line, name="loss").value == 2.5
    assert read(line, name="other").values == {"loss": 2.5}


def test_a_pattern_of_the_user_finds_the_number():
    pattern = r"iter \d+: val (\S+)"
    assert read("iter 10: val 2.5\n", pattern=pattern).value == 2.5
    assert read("iter 10: val 2.5\niter 20: val 2.4\n", pattern=pattern, take="last").value == 2.4
    assert read("iter 10: val 2.5\niter 20: val 2.4\n", pattern=pattern).problem == "ambiguous"
    assert read("\x1b[1miter 10:\x1b[0m val 2.5", pattern=pattern).value == 2.5
    assert read("iter 10: val nan", pattern=pattern).problem == "not_finite"
    assert read("x" * 10_000 + "iter 10: val 1.0", pattern=pattern).problem == "no_metric"


@pytest.mark.parametrize("pattern", ["loss ([0-9", "loss", "(a)(b)"])
def test_a_pattern_that_cannot_work_is_refused(pattern):
    with pytest.raises(LabError, match="pattern"):
        Scanner("loss", pattern=pattern)


def test_a_metric_printed_twice_with_two_values_is_ambiguous():
    reading = read("val_bpb: 0.9\nval_bpb: 0.8\n")
    assert (reading.value, reading.problem) == (None, "ambiguous")
    assert "0.9" in reading.detail
    assert "0.8" in reading.detail
    assert read("val_bpb: 0.9\nMETRIC val_bpb=0.8\n").problem == "ambiguous"
    assert read("val_bpb: 0.9\rval_bpb: 0.8\n").problem == "ambiguous"
    assert read("val_bpb: 0.9\nval_bpb: 0x1\n").problem == "ambiguous"


def test_the_last_of_several_counts_when_asked_for():
    assert read("val_bpb: 0.9\nval_bpb: 0.8\nval_bpb: 0.9\nMETRIC val_bpb=0.7\n", take="last").value == 0.7
    assert read("val_bpb: 0.9\nval_bpb: nan\n", take="last").problem == "not_finite"
    assert read("val_bpb: nan\nval_bpb: 0.9\n", take="last").value == 0.9
    assert read("val_bpb: 0.9\nval_bpb: 1_0\n", take="last").problem == "no_metric"
    assert read("val_bpb: 0.9\nval_bpb: 0.8\nval_bpb: 0.9", take="last", size=3).value == 0.9


def test_a_nan_beside_a_number_is_not_finite():
    assert read("val_bpb: 0.9\nval_bpb: nan\n").problem == "not_finite"
    assert read("val_bpb: 0.9\nval_bpb: nan (diverged)\n").problem == "not_finite"


ODD = """
nan NaN NAN -nan +nan nan(ind) inf -inf +inf Inf INF infinity Infinity -Infinity 1.#INF 1.#QNAN -1.#IND
1e999 -1e999 1e-999 1_0 1_000.5 0x1p3 0x10 0b1 0o7 1,5 1,000 1.2.3 1e 1e+ e5 . - + -- +-1 --1 1- 1e5e5 1e1.5
1f 1.0f 1d5 1L 1j 1+2j 1/2 50% $1 ~1 <1 ≈1 '1' "1"
(1) [1] {1} 1; 1: 1= =1 None null none true True False
tensor(0.5) tensor(nan) array(0.5) 0.5bpb 0.5s ٣ ٠.٥ १ ０．５ ½ ² ⅷ 一 0.5±0.1 −1 ‐1
1\u200b \u202e1 1\u00a0 0.5\u0301
0..5 5.e .e5 1e5_0 0.5\x08 0,5e3 NaN0 infin nanny 0.5.. 1e٣ ++1 0.5\x7f 1\xa02 -١
"""
HOSTILE = [word for word in re.split("[ \n]+", ODD) if word]


@pytest.mark.parametrize(
    "spelling", [*HOSTILE, "", "0.5 0.6", "1 000", "0.5 bpb", "0.5 # fine", "1 e5", "- 1"]
)
@pytest.mark.parametrize("take", ["only", "last"])
def test_no_odd_spelling_of_a_number_becomes_a_metric(spelling, take):
    for line in (f"val_bpb: {spelling}\n", f"METRIC val_bpb={spelling}\n"):
        reading = read(line, take=take)
        assert reading.value is None
        assert reading.problem in ("no_metric", "not_finite")
        assert len(reading.detail) < 300


def test_there_are_many_odd_spellings_and_the_not_finite_ones_are_told_apart():
    assert len(set(HOSTILE)) >= 60
    for spelling in HOSTILE[:18]:
        assert read(f"val_bpb: {spelling}").problem == "not_finite", spelling
    assert read("val_bpb: 1_0").problem == "no_metric"
    assert "1_0" in read("val_bpb: 1_0").detail


def test_bytes_that_are_no_text_do_not_turn_into_a_number():
    for odd in (b"0\xff.5", b"0.5\xff", b"\xd9\xa3", b"0\0.5", b"0.\x1b]0;x\x075"):
        assert read(b"val_bpb: " + odd + b"\n").value is None


@given(st.text(max_size=30))
def test_whatever_is_printed_the_value_is_finite_or_absent(text):
    reading = read(f"val_bpb: {text}\n")
    assert reading.value is None or math.isfinite(reading.value)
    assert (reading.value is None) == (reading.problem is not None)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_how_the_output_is_cut_changes_nothing(noise, size):
    data = noise + b"\nval_bpb: 0.5\n" + noise
    assert read(data, size=size) == read(data)


def test_absent_says_what_was_there():
    reading = read("train_loss: 2.0\nnum_steps: 7\n")
    assert reading.problem == "no_metric"
    assert "num_steps" in reading.detail


def test_a_flood_of_names_cannot_shut_out_the_summary():
    flood = "".join(f"n{i}: {i}\n" for i in range(5000)).encode()
    reading = read(flood + SUMMARY + flood[:200], size=4096)
    assert len(reading.values) == 64
    assert reading.values["peak_vram_mb"] == 45060.2


def test_a_flood_of_different_values_is_ambiguous():
    assert read("".join(f"val_bpb: {i}\n" for i in range(2000))).problem == "ambiguous"
    assert read("".join(f"val_bpb: {i}\n" for i in range(2000)), take="last").value == 1999


def test_a_line_without_end_is_cut_and_the_next_one_is_read():
    reading = read(b"x" * 300_000 + b" val_bpb: 0.1\nval_bpb: 0.5\n", size=8192)
    assert reading.value == 0.5
    assert read(b"val_bpb: " + b"1" * 300_000, size=8192).value is None


def test_the_last_line_is_there_for_progress_and_is_clean():
    scanner = Scanner("val_bpb")
    assert scanner.last_line == ""
    scanner.feed(b"start\nstep 1\rstep 2 \x1b[31mloss\x1b[0m \xe2\x80\xae3.1 caf\xc3")
    assert scanner.last_line == "step 2 loss 3.1 caf"
    scanner.feed(b"\xa9\n\n")
    assert scanner.last_line == "step 2 loss 3.1 café"
    scanner.feed(b"y" * 10_000)
    assert len(scanner.last_line) <= 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lines", "one line", "carriage returns"])
def test_a_gigabyte_is_read_in_bounded_memory(kind):
    piece = {
        "lines": b"step 00953 (79.8%) | loss: 3.412345 | lr: 0.0003 | val_bpb soon\n" * 8000,
        "one line": b"x" * 500_000,
        "carriage returns": b"\rstep 00953 (79.8%) | loss: 3.412345" * 14_000,
    }[kind]
    scanner = Scanner("val_bpb")
    scanner.feed(piece)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2**30 // len(piece)):
        scanner.feed(piece)
    scanner.feed(b"\n" + SUMMARY)
    assert scanner.close().value == 0.9979
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


# --- metrics.json ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "problem"),
    [
        ('{"val_bpb": 0.5, "num_steps": 7}', 0.5, None),
        ('{"val_bpb": 5e-1}', 0.5, None),
        ('{"val_bpb": 0.5, "val_bpb": 0.50}', 0.5, None),
        ('{"val_bpb": 0.5, "val_bpb": 0.6}', None, "ambiguous"),
        ('{"val_bpb": NaN}', None, "not_finite"),
        ('{"val_bpb": -Infinity}', None, "not_finite"),
        ('{"val_bpb": 1e999}', None, "not_finite"),
        ('{"val_bpb": 1e-999}', None, "no_metric"),
        ('{"val_bpb": "0.5"}', None, "no_metric"),
        ('{"val_bpb": true}', None, "no_metric"),
        ('{"val_bpb": null}', None, "no_metric"),
        ('{"val_bpb": [0.5]}', None, "no_metric"),
        ('{"val_bpb": {"val_bpb": 0.5}}', None, "no_metric"),
        ('{"result": {"val_bpb": 0.5}}', None, "no_metric"),
        ('[{"val_bpb": 0.5}]', None, "no_metric"),
        ("0.5", None, "no_metric"),
        ("", None, "no_metric"),
        ('{"val_bpb": 0.5', None, "no_metric"),
        ('{"val_bpb": ' + "[" * 100_000, None, "no_metric"),
        ('{"val_bpb": ' + "1" * 9999 + "}", None, "no_metric"),
        ('{"x": "' + "y" * 1_000_000 + '", "val_bpb": 0.5}', None, "no_metric"),
    ],
)
def test_a_metrics_file_is_read_strictly(tmp_path, text, value, problem):
    (tmp_path / "metrics.json").write_text(text)
    reading = read_metrics_json(tmp_path / "metrics.json", "val_bpb")
    assert (reading.value, reading.problem) == (value, problem)
    assert len(reading.detail) < 300


def test_a_metrics_file_brings_its_other_numbers(tmp_path):
    (tmp_path / "metrics.json").write_text(
        json.dumps({"val_bpb": 1, "peak_vram_mb": 7.5, "a": "b", "c": math.nan})
    )
    assert read_metrics_json(tmp_path / "metrics.json", "val_bpb").values == {"peak_vram_mb": 7.5}


def test_what_is_no_file_is_not_read(tmp_path):
    assert read_metrics_json(tmp_path / "none.json", "x") is None
    assert read_metrics_json(tmp_path, "x") is None
    os.mkfifo(tmp_path / "pipe")
    assert read_metrics_json(tmp_path / "pipe", "x") is None
    (tmp_path / "endless").symlink_to("/dev/zero")
    assert read_metrics_json(tmp_path / "endless", "x") is None


def from_file(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    return read_metrics_json(tmp_path / "metrics.json", "val_bpb")


def test_log_and_file_must_agree_but_for_rounding(tmp_path):
    log = read("val_bpb: 0.9979\nnum_steps: 3\n")
    assert combine(log, None) is log
    both = combine(log, from_file(tmp_path, '{"val_bpb": 0.99789712, "depth": 8}'))
    assert (both.value, both.values) == (0.99789712, {"num_steps": 3, "depth": 8})
    assert combine(log, from_file(tmp_path, '{"val_bpb": 0.9978}')).problem == "ambiguous"
    assert combine(read("val_bpb: 3"), from_file(tmp_path, '{"val_bpb": 3.4}')).problem == "ambiguous"


def test_what_one_of_log_and_file_lacks_the_other_gives(tmp_path):
    nothing = read("hello")
    assert combine(nothing, from_file(tmp_path, '{"val_bpb": 0.5}')).value == 0.5
    assert combine(read("val_bpb: 0.5"), from_file(tmp_path, "{}")).value == 0.5
    assert combine(nothing, from_file(tmp_path, "{}")).problem == "no_metric"
    assert combine(read("val_bpb: nan"), from_file(tmp_path, '{"val_bpb": 0.5}')).problem == "not_finite"
    assert combine(read("val_bpb: 0.5"), from_file(tmp_path, '{"val_bpb": NaN}')).problem == "not_finite"


# --- the digest of a failure ----------------------------------------------------------------------

TREE = "/runs/e012.1/tree"
NO_METRIC = Reading(None, "no_metric", "The output has no val_bpb.")


def digest(tail, **changes):
    facts = {
        "tree": TREE,
        "outcome": "error",
        "exit_code": 1,
        "signal": None,
        "reading": NO_METRIC,
        "log_path": "/runs/e012.1/run.log",
        "peak_memory_gb": 20.0,
        "incumbent_memory_gb": 10.0,
        "seconds": 12.3,
        "limit_seconds": 600.0,
    }
    return make_digest(tail=tail if isinstance(tail, bytes) else tail.encode(), **(facts | changes))


def traceback(*frames, error="ValueError: bad"):
    lines = [f'  File "{file}", line {line}, in f\n    call()' for file, line in frames]
    return "\n".join(["Traceback (most recent call last):", *lines, error, ""])


def test_the_place_is_the_deepest_frame_of_the_project():
    text = traceback(
        (f"{TREE}/train.py", 10),
        (f"{TREE}/lib/model.py", 77),
        ("/usr/lib/python3.11/runpy.py", 5),
        (f"{TREE}/.venv/lib/python3.11/site-packages/torch/nn.py", 900),
        ("<string>", 1),
    )
    seen = digest(text)
    assert (seen.kind, seen.line, seen.where) == ("error", "ValueError: bad", "lib/model.py:77")
    for part in (
        "error:",
        "exit code 1",
        "| ValueError: bad",
        "lib/model.py:77",
        "2 times",
        "10.0 GB",
        "run.log",
    ):
        assert part in seen.text


@pytest.mark.parametrize(
    ("text", "line", "where"),
    [
        (
            f'  File "{TREE}/train.py", line 3\n    x = = 1\n        ^\nSyntaxError: invalid syntax\n',
            "SyntaxError: invalid syntax",
            "train.py:3",
        ),
        (traceback(("train.py", 9), error="KeyError: 'lr'"), "KeyError: 'lr'", "train.py:9"),
        (traceback(("/elsewhere/x.py", 9)), "ValueError: bad", None),
        (traceback((f"{TREE}/../../other.py", 9)), "ValueError: bad", None),
        (
            traceback((f"{TREE}/a.py", 1), error="OSError: first")
            + "\nDuring handling of the above exception, another exception occurred:\n\n"
            + traceback((f"{TREE}/b.py", 2), error="TypeError: second"),
            "TypeError: second",
            "b.py:2",
        ),
        (
            "\n".join(f"[rank0]: {line}" for line in traceback((f"{TREE}/ddp.py", 4)).split("\n")),
            "ValueError: bad",
            "ddp.py:4",
        ),
        (
            "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"
            f'  File "{TREE}/deep.py", line 5 in g\n  File "{TREE}/train.py", line 50 in <module>\n',
            "Fatal Python error: Segmentation fault",
            "deep.py:5",
        ),
        ("building\nerror: nvcc failed\nbye\n", "error: nvcc failed", None),
        ("just\nstopped\n", "stopped", None),
        ("", "the log says nothing about the error", None),
    ],
)
def test_the_line_that_names_the_error_is_found(text, line, where):
    seen = digest(text)
    assert (seen.line, seen.where) == (line, where)


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: MPS backend out of memory (MPS allocated: 17.9 GB)",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: x",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying",
        "MemoryError",
        "MemoryError: Unable to allocate 7.45 GiB for an array with shape (1000,)",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
)
def test_out_of_memory_is_recognised(line):
    seen = digest(traceback((f"{TREE}/train.py", 3), error=line))
    assert (seen.kind, seen.where) == ("oom", "train.py:3")
    assert line[:40] in seen.text


def test_a_kill_is_out_of_memory_only_with_a_hint():
    assert digest("step 1\nKilled\n", outcome="killed", signal=9).kind == "oom"
    assert digest("step 1\nKilled\n", outcome="killed", exit_code=137).kind == "oom"
    assert digest("step 1\n", outcome="killed", signal=9).kind == "killed"
    assert digest("step 1\nKilled\n", outcome="killed", signal=15).kind == "killed"
    assert digest("step 1\n", outcome="error", exit_code=None, signal=9).kind == "oom"
    assert "SIGSEGV" in digest("", outcome="error", exit_code=None, signal=11).text


@pytest.mark.parametrize(
    "line",
    [
        "OSError: [Errno 28] No space left on device",
        "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "Failed to initialize NVML: Driver/library version mismatch",
        "RuntimeError: CUDA error: uncorrectable ECC error encountered",
        "torch.distributed.DistBackendError: NCCL error in: x.cpp:1, unhandled system error, NCCL 2.18",
        "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. Maybe shm is full",
        "OSError: [Errno 116] Stale file handle",
        "stale NFS file handle",
    ],
)
def test_trouble_of_the_host_is_no_fault_of_the_idea(line):
    text = traceback((f"{TREE}/train.py", 3), error=line)
    assert is_host_trouble(text.encode()) == line
    assert digest(text).kind == "infra"


def test_a_warning_or_a_fault_of_the_program_is_no_trouble_of_the_host():
    for text in (
        "UserWarning: CUDA initialization: no CUDA-capable device is detected",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "FileNotFoundError: [Errno 2] No such file or directory: 'x'",
        "",
    ):
        assert is_host_trouble(text.encode()) is None


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"outcome": "ok", "exit_code": 0}, "no_metric"),
        ({"outcome": "ok", "reading": Reading(None, "not_finite", "It says nan.")}, "not_finite"),
        ({"outcome": "ok", "reading": Reading(None, "ambiguous", "It says 1 and 2.")}, "no_metric"),
        ({"outcome": "error", "reading": Reading(None, "not_finite", "It says nan.")}, "not_finite"),
        ({"outcome": "timeout"}, "timeout"),
        ({"outcome": "interrupted"}, "infra"),
        ({"outcome": "infra"}, "infra"),
        ({"outcome": "cancelled"}, "killed"),
        ({"outcome": "protected"}, "protected"),
    ],
)
def test_the_class_follows_how_the_run_ended(changes, kind):
    seen = digest("step 1\nstep 2\n", **changes)
    assert seen.kind == kind
    assert seen.line
    assert seen.text.startswith(f"{kind}: ")


def test_progress_is_shown_once():
    seen = digest("".join(f"step {i} loss {i / 7:.3f}\n" for i in range(900)) + "Aborted\n")
    assert seen.text.count("step") == 1
    assert "like it before" in seen.text


def test_the_traceback_is_shown_although_much_was_printed_after_it():
    tail = traceback((f"{TREE}/train.py", 3)) + "".join(
        f"cleanup {chr(97 + i % 26)}{'x' * 60}\n" for i in range(300)
    )
    seen = digest(tail)
    assert "| ValueError: bad" in seen.text.split("quoted", 1)[1]
    assert seen.text.endswith("x" * 60)
    assert len(seen.text.encode()) <= 4096


def test_a_secret_in_the_log_is_not_in_the_digest():
    assert "sk-abcdef" not in digest("RuntimeError: bad key sk-abcdef0123456789abcdef").text
