"""Canaries: strings shaped like keys where text comes from, looked for wherever it could go."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from world import Project, a_project

from lab.keys import LIMIT_BYTES, unfit
from lab.redact import hide_secrets

# Built from parts, so that no scanner takes this file for a leak.
CANARIES = {
    "a GitHub token": "gh" + "p_" + "c4naryC4NARYc4naryC4NARYc4naryC4NARY1",
    "a Hugging Face token": "h" + "f_" + "C4naryC4naryC4naryC4naryC4naryCan1",
    "an API key": "s" + "k-" + "proj-c4nary0c4nary1c4nary2c4nary3c4nary4",
    "an AWS key id": "AK" + "IA" + "C4NARYC4NARYC4NA",
    "a Slack token": "xo" + "xb-" + "123456789012-c4naryc4naryc4nary",
    "a password in an address": "https://user:c4naryPassw0rd" + "@example.org/x",
    "a value named as a secret": "api_key = " + "'c4nary-c4nary-c4nary-1'",
    "a private key": "-----BEGIN RSA "
    + "PRIVATE KEY-----\nMIIc4naryc4nary\n-----END RSA "
    + "PRIVATE KEY-----",
}
MORE = {
    "a Slack address": "https://hooks.sla" + "ck.com/services/T00000000/B00000000/c4narycanaryCanary",
    "a Discord address": "https://disc" + "ord.com/api/webhooks/123456789012345678/c4nary-c4nary-c4nary",
    "a Stripe key": "sk" + "_live_c4narycanaryc4narycanary",
    "a bot token": "123456789" + ":AAc4narycanaryc4narycanaryc4narycana",
    "a SendGrid key": "S" + "G.c4narycanaryc4nary.c4narycanaryc4narycanaryc4nary",
    "a Replicate token": "r" + "8_c4narycanaryc4narycanaryc4narycanaryc",
    "a Google token": "ya" + "29.c4narycanaryc4narycanary",
    "a Databricks token": "da" + "pi" + "c4" * 16,
    "a DigitalOcean token": "do" + "p_v1_" + "c4" * 32,
    "a key of a model service": "gs" + "k_c4narycanaryc4narycanaryc4nary",
    "an age key": "AGE-SEC" + "RET-KEY-1C4NARYC4NARYC4NARYC4NARYC4NARY",
    "an Azure key": "Account" + "Key=c4narycanaryc4narycanaryc4narycanaryc4narycanary==",
    "a W&B key": "wandb.lo" + "gin(key='" + "c4" * 20 + "')",
    "a value named as a secret": 'os.environ["WANDB_API_' + "KEY\"] = '" + "c4" * 20 + "'",
}
TELLTALE = "c4nary"
WORDS = " ".join(CANARIES.values()).replace("\n", " ")
TRAIN = f"""import os, sys
LR = 1.00
print({WORDS!r})
print(os.environ.get("HF_TOKEN", ""))
if LR < 0:
    raise ValueError({CANARIES["an API key"]!r})
print(f"val_bpb: {{LR:.6f}}")
"""


@pytest.mark.parametrize("kind", CANARIES)
def test_a_key_in_a_candidate_is_refused_with_its_line(kind: str) -> None:
    text = f"x = 1\ny = '''{CANARIES[kind]}'''\n"
    assert unfit("train.py", text.encode(), b"x = 1\n") == f"train.py:2 holds {kind}"
    assert unfit("train.py", text.encode(), text.encode()) == ""  # the user has committed it: no news


@pytest.mark.parametrize("kind", MORE)
def test_rarer_keys_are_hidden_and_refused_too(kind: str) -> None:
    hidden = hide_secrets(f"said {MORE[kind]} and went on")
    assert "c4" not in hidden.lower() and hidden.startswith("said ") and "[hidden]" in hidden, hidden
    assert unfit("train.py", f"y = 1; {MORE[kind]}\n".encode(), None) == f"train.py:1 holds {kind}"


@pytest.mark.parametrize(
    "name", [".env", ".env.local", "conf/.netrc", "id_rsa", "server.pem", "credentials.json", ".npmrc"]
)
def test_a_file_for_secrets_is_refused_by_its_name(name: str) -> None:
    assert unfit(name, b"", None) == f"{name} is a file for secrets"


def test_a_huge_file_is_refused_unless_it_was_as_large_before() -> None:
    huge = b"x" * (LIMIT_BYTES + 1)
    assert "may have 5" in unfit("a.bin", huge, None)
    assert unfit("a.bin", huge, huge) == ""


@pytest.mark.parametrize(
    "line",
    [
        "password = get_password()", "token = tokens[i]", "api_key = os.environ['OPENAI_API_KEY']",
        "secret_key: str", "max_token = 4096", "sk-learn", "task-1234567890",
        "tokenizer = 'gpt2-medium-tokenizer'",
        "hf_hub_download('model')", "url = 'https://example.org/data.bin'", "password='<your password>'",
        "cache(key='abc123')", "sk_test", "risk_live_data = 1", "SG.encode(x)", "time 12:AA", "gsk_norm = 1",
        "step 123456:AAA", "dapi = 3",
        "AKIA", "key = 'value_of_the_key'", "url = f'postgres://{user}:{password}@host/db'", "x = 'eyJhbGci'",
        "optimizer_secret_sauce = 'adamw-with-warmup'", ".env.example",
        "hash = 'd41d8cd98f00b204e9800998ecf8427e'",
    ],
)  # fmt: skip
def test_ordinary_code_is_not_refused(line: str) -> None:
    assert unfit("train.py", f"{line}\n".encode(), None) == ""


def test_ordinary_names_are_not_refused() -> None:
    for name in (
        "train.py",
        ".env.example",
        "environment.yml",
        "keys.py",
        "tokenizer.json",
        "data/secret_sauce.py",
    ):
        assert unfit(name, b"x = 1\n", None) == ""


def test_the_repositorys_own_files_hold_no_key() -> None:
    root = Path(__file__).resolve().parents[1]
    names = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        path = root / name
        if path.is_file() and not path.is_symlink() and path.stat().st_size < LIMIT_BYTES:
            found = unfit(name, path.read_bytes(), None)
            assert not found or name.startswith("tests/"), found


def everything(world: Project) -> dict[str, bytes]:
    """What the tool wrote, but for the runs' logs, and every git object beyond the user's commit."""
    home = world.root / ".autoresearch"
    files = [p for p in home.rglob("*") if p.is_file() and p.name != "run.log" and "worktrees" not in p.parts]
    found = {str(p): p.read_bytes() for p in files}
    found |= {str(p): p.read_bytes() for p in (world.root / "memories").rglob("*") if p.is_file()}
    found["results.tsv"] = (world.root / "results.tsv").read_bytes()
    listed = ["git", "-C", str(world.root), "cat-file", "--batch-all-objects", "--batch-check"]
    rows = subprocess.run(listed, capture_output=True, check=True, text=True).stdout.splitlines()
    theirs = set(world.git("rev-list", "--objects", "main", "--no-object-names").split())
    refs = world.git("for-each-ref", "--format=%(refname)", "refs/autoresearch").split()
    theirs |= {world.git("rev-parse", f"{ref}:train.py") for ref in refs}  # what the user put in stays in
    for name, kind, _ in (row.split() for row in rows):
        if name not in theirs:
            found[f"git {kind} {name}"] = world.git("cat-file", kind, name).encode("utf-8", "surrogateescape")
    return found


@pytest.mark.slow
def test_no_canary_comes_out_of_any_verb_or_into_any_record(tmp_path: Path) -> None:
    """They stand in the user's own training code, in the log, the environment, .env and every word."""
    world = a_project(tmp_path / "p", {"train.py": TRAIN, "prepare.py": "x = 1\n"})
    world.write(".env", f"HF_TOKEN={CANARIES['a Hugging Face token']}\n")
    world.env |= {
        "HF_TOKEN": CANARIES["a Hugging Face token"],
        "AWS_SECRET_ACCESS_KEY": CANARIES["an AWS key id"],
    }
    said: list[str] = []

    def call(*args: str, code: int | None = 0) -> None:
        for flags in ((), ("--json",)):
            answer = world.run(*flags, *args)
            if code is not None and not (flags and args[0] in ("try", "remember", "ideas", "init")):
                assert answer.code == code, (args, answer.out, answer.err)
            said.append(f"{args[0]}: {answer.out}{answer.err}")

    call("init", "--tag", "t1", "--metric", "val_bpb", "--goal", "min", "--command", "python3 train.py")
    call("doctor", code=None)
    call("baseline", "--repeats", "1")
    world.edit("LR = 1.00", "LR = 0.50")
    call("try", WORDS, "--because", WORDS, "--expect", WORDS)
    world.edit("LR = 0.50", "LR = -1.0")
    call("try", f"crash {WORDS}")
    call("ideas", "add", f"an idea {WORDS}", code=None)
    call("remember", f"a lesson {WORDS}", code=None)
    call("note", f"a remark {WORDS}", code=None)
    call("checkpoint", "--question", f"which {WORDS}", code=None)
    looked = (
        "status|log|show e001|show e002|diff e001|diff best|recall lesson|ideas list|wait|wake|report|verify"
        "|diagnose e002|watch --once|export csv|export tensorboard|ideas next"
    )
    for verb in f"{looked}|restore e002|stop|resume|finish".split("|"):
        call(*verb.split(), code=None)
    out = [text for text in said if TELLTALE in text.lower()]
    assert not out, out[0][:2000]
    kept = [name for name, data in everything(world).items() if TELLTALE.encode() in data.lower()]
    assert not kept, kept
    print(f"FIGURE P16 canaries={len(CANARIES)} calls={len(said)} told=0 kept=0")


@pytest.mark.slow
def test_a_key_in_the_edit_is_refused_before_git_has_it(tmp_path: Path) -> None:
    world = a_project(tmp_path / "p")
    world.begin()
    for kind, canary in CANARIES.items():
        world.write("train.py", f"{world.git('show', 'main:train.py')}\nX = '''{canary}'''\n")
        before = world.git("count-objects")
        error = world.refused(9, "try", "with a key")
        assert kind in error["message"] and TELLTALE not in json.dumps(error).lower()
        assert world.git("count-objects") == before
    assert [r["event"] for r in world.records()].count("proposed") == 1
