from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import CONFIG, LabError
from lab.rendering import render
from lab.settings import Settings, load
from lab.values import seconds_of

GOOD = """command: python train.py
metric: {name: val_bpb, goal: min}
budget: {seconds: 300, kill_after: 600}
edit: [train.py]
"""


def read(folder: Path, text: str) -> Settings:
    path = folder / "autoresearch.yaml"
    path.write_text(text)
    return load(path)


def test_the_file_of_the_contract_is_read(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """command: python train.py          # run in a worktree of the candidate
metric: {name: val_bpb, goal: min}
budget: {seconds: 300, kill_after: 600}     # the program's own budget; when the supervisor ends it
edit: [train.py]                  # what a candidate may change
protect: [prepare.py]             # hash-checked before and after every run
share: [data, .venv]              # git-ignored paths a worktree links to
seed: {env: SEED}                 # or {arg: --seed}, or none
decision: {method: paired, confidence: 0.95, min_effect: auto}
runner: {kind: local, slots: auto}          # or slurm, ray
mode: autonomous                  # or collaborative
ideas: {inbox: ideas.md}          # may be a note in an Obsidian vault
notify: []
""",
    )
    assert settings == Settings(
        command="python train.py", metric="val_bpb", goal="min", seconds=300, kill_after=600,
        edit=("train.py",), protect=("prepare.py",), share=("data", ".venv"), seed_env="SEED",
        ideas_inbox="ideas.md",
    )  # fmt: skip


@pytest.mark.parametrize("length", [1, 38, 45, 46, 47, 48, 90])
def test_a_comment_never_becomes_part_of_a_value(tmp_path: Path, length: int) -> None:
    settings = Settings(command=f"python {'x' * length}.py", metric="m", goal="min", edit=("a.py",))
    assert read(tmp_path, render(settings)) == settings


def test_what_render_writes_is_what_load_reads(tmp_path: Path) -> None:
    settings = Settings(
        command="FOO=1 python 'my train.py' --x \"a: b\"", metric="val_acc", goal="max", take="last",
        seconds=90, kill_after=210, max_experiments=40, max_hours=7.5, edit=("a b.py", "src/**/*.py"),
        protect=("eval.py",), share=("data",), seed_arg="--seed", min_effect=0.0003,
    )  # fmt: skip
    assert read(tmp_path, render(settings)) == settings


@pytest.mark.parametrize(
    ("text", "line", "seen", "hint"),
    [
        (GOOD.replace("min", "lwer"), 2, "lwer", "lower"),
        (GOOD.replace("goal: min", "goal: no"), 2, "no", "min or max"),
        (GOOD + "protcet: [prepare.py]\n", 5, "protcet", "protect"),
        (GOOD.replace("seconds", "second"), 3, "budget.second", "budget.seconds"),
        (GOOD.replace("300", "five"), 3, "five", "5m"),
        (GOOD.replace("300", "nan"), 3, "nan", "5m"),
        (GOOD.replace("kill_after: 600", "kill_after: 200"), None, "200", "start-up"),
        (GOOD.replace("[train.py]", "[../train.py]"), 4, "../train.py", "inside"),
        (GOOD.replace("[train.py]", "[/etc/passwd]"), 4, "/etc/passwd", "inside"),
        (GOOD.replace("python train.py", "python train.py | tee log"), 1, "tee", "bash -c"),
        (GOOD.replace("python train.py", "'python \"train.py'"), 1, "quot", "quote"),
        (GOOD + "edit: [b.py]\n", 5, "edit", "one"),
        (GOOD + "decision: {confidence: 95}\n", 5, "95", "0.95"),
        (GOOD + "decision: {min_effect: small}\n", 5, "small", "0.001"),
        (GOOD + "runner: {slots: 0}\n", 5, "'0'", "auto"),
        (GOOD + "runner: {kind: slrum}\n", 5, "slrum", "local"),
        (GOOD + "seed: SEED\n", 5, "SEED", "env"),
        (GOOD + "seed: {env: SEED, arg: --seed}\n", None, "both", "one"),
        (GOOD + "metric2: [\n", 6, "YAML", "mend"),
        ("- a\n- b\n", None, "no settings", "init"),
        ("", None, "no settings", "init"),
        ("command: python train.py\n", None, "metric.name", "add"),
    ],
)
def test_a_bad_setting_names_file_line_value_and_way_out(
    tmp_path: Path, text: str, line: int | None, seen: str, hint: str
) -> None:
    with pytest.raises(LabError) as caught:
        read(tmp_path, text)
    error = caught.value
    assert error.code == CONFIG
    assert "autoresearch.yaml" in error.message
    assert line is None or f":{line}:" in error.message or f"line {line}" in error.message
    assert seen in error.message
    assert hint in error.hint


def test_yaml_does_not_guess_types(tmp_path: Path) -> None:
    settings = read(tmp_path, GOOD + "decision: {min_effect: 3e-4}\nseed: {env: NO}\n")
    assert settings.min_effect == 3e-4
    assert settings.seed_env == "NO"


def test_a_missing_file_says_init(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="not there") as caught:
        load(tmp_path / "autoresearch.yaml")
    assert "init" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300", 300), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("0.5", 0.5), ("2d", 172800)],
)
def test_times_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "five", "-5", "5x", "1e400", "5m3", "m", "5 minutes"])
def test_what_is_no_time_is_not_read_as_one(text: str) -> None:
    assert seconds_of(text) is None


def test_leading_variables_of_a_command_are_not_the_program() -> None:
    settings = Settings(
        command="CUDA_VISIBLE_DEVICES=0 X='a b' python train.py --lr 1", metric="m", goal="min"
    )
    assert settings.argv() == (
        {"CUDA_VISIBLE_DEVICES": "0", "X": "a b"}, ["python", "train.py", "--lr", "1"]
    )  # fmt: skip
