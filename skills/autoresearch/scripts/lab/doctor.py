"""Every check that saves a night: one function and one row in CHECKS, each with its one-line fix."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from lab import searching, sweeps
from lab.campaign import Lab
from lab.errors import LabError
from lab.gpus import guests
from lab.launch import policy_of
from lab.model import now
from lab.notify.channels import channels, install_command, sender_python
from lab.probing import failed, kept
from lab.runners.environment import project_environment, resolve_argv
from lab.sandbox.box import tried
from lab.sandbox.landlock import version
from lab.settings import FILE_NAME
from lab.slots import forget

DISK_FLOOR_GB = 2.0
RISKY_CONFIG = ("core.fsmonitor", "core.sshcommand", "core.alternaterefscommand")


@dataclass(frozen=True)
class Finding:
    """One check: `ok` is None for a fact that is neither good nor bad."""

    name: str
    ok: bool | None
    text: str
    fix: str = ""


def examine(lab: Lab) -> list[Finding]:
    """Run every check; one that cannot run is a finding too, not an end."""
    findings = []
    for name, check in CHECKS.items():
        try:
            findings.append(check(lab))
        except LabError as error:
            findings.append(Finding(name, False, error.message, error.hint))
        except OSError as error:
            findings.append(Finding(name, False, str(error), "mend the rights or the disk"))
    return findings


def _python(lab: Lab) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("helper", None, f"Python {version}, {sys.executable}")


def _git(lab: Lab) -> Finding:
    version = lab.workspace.run("version").decode().split()[2]
    new = tuple(int(part) for part in version.split(".")[:2]) >= (2, 36)
    fix = (
        ""
        if new
        else "update to 2.36: older versions do not fsync objects and refs, so a power cut can lose a keep"
    )
    return Finding("git", new, f"version {version}, repository {lab.workspace.top}", fix)


def _writable(lab: Lab) -> Finding:
    """A real commit and a real ref: some sandboxes let everything but that pass."""
    workspace = lab.workspace
    _, head = workspace.head()
    ref = f"refs/autoresearch-doctor/{secrets.token_hex(4)}"
    commit = workspace.commit_tree(workspace.tree_of(head), head, "doctor", now())
    workspace.update_ref(ref, commit, None)
    workspace.delete_ref(ref)
    lab.home.mkdir(exist_ok=True)
    probe = lab.home / f"doctor.{secrets.token_hex(4)}"
    probe.write_text("x")
    probe.unlink()
    return Finding("writable", True, "a commit, a ref and a file in .autoresearch could be written")


def _config(lab: Lab) -> Finding:
    found = lab.workspace.run("config", "--local", "--name-only", "--list").decode().lower().split()
    risky = sorted(set(found) & set(RISKY_CONFIG))
    return Finding(
        "git config",
        None if risky else True,  # our own calls switch it off; the user's and the agent's do not
        f"{', '.join(risky)} in .git/config runs programs"
        if risky
        else "nothing in .git/config runs programs",
        f"look at it: git config --local {risky[0]}" if risky else "",
    )


def _settings(lab: Lab) -> Finding:
    settings = lab.settings
    return Finding(
        FILE_NAME,
        True,
        f"{settings.aim}, {settings.seconds:g} s a run, `{settings.command}`",
    )


def _tracked(lab: Lab) -> Finding:
    settings, workspace = lab.settings, lab.workspace
    _, head = workspace.head()
    for kind, patterns in (("edit", settings.edit), ("protect", settings.protect)):
        missing = [p for p in patterns if not workspace.files(head, (p,))]
        if missing:
            fix = "commit the file, or mend the path in autoresearch.yaml"
            return Finding("files", False, f"{kind}: {', '.join(missing)} is in no commit", fix)
    both = set(workspace.files(head, settings.edit)) & set(workspace.files(head, settings.protect))
    if both:
        return Finding("files", False, f"{', '.join(sorted(both))} is in edit: and in protect:", "leave one")
    return Finding(
        "files", True, f"edit {', '.join(settings.edit)}; protected {', '.join(settings.protect) or 'none'}"
    )


def _shared(lab: Lab) -> Finding:
    missing = [name for name in lab.settings.share if not (lab.root / name).exists()]
    return Finding(
        "share",
        not missing,
        f"{', '.join(missing)} is not there"
        if missing
        else f"{', '.join(lab.settings.share) or 'nothing'} shared",
        "prepare the data, or take it out of share:" if missing else "",
    )


def _command(lab: Lab) -> Finding:
    env = project_environment(os.environ, lab.root, os.environ.get("AUTORESEARCH_CALLER"))
    _, argv = lab.settings.argv()
    program = resolve_argv(argv, env, lab.root)[0]
    found = shutil.which(program, path=env.get("PATH"))
    fix = "" if found else "install it, or mend `command:`"
    return Finding("command", bool(found), f"`{program}` is {found or 'not found'}", fix)


def _disk(lab: Lab) -> Finding:
    free = shutil.disk_usage(lab.root).free / 1e9
    fix = "" if free >= DISK_FLOOR_GB else f"free some: below {DISK_FLOOR_GB:g} GB a night may not end well"
    return Finding("disk", free >= DISK_FLOOR_GB, f"{free:.1f} GB free", fix)


def _processes(lab: Lab) -> Finding:
    if sys.platform.startswith("linux"):
        return Finding("kill", True, "a run's whole process tree can be ended (subreaper)")
    return Finding("kill", None, "without Linux's subreaper a detached grandchild may outlive its run")


def _sandbox(lab: Lab) -> Finding:
    """What a run of this campaign would live in: put up around a child that tries to write beside it."""
    environment = project_environment(os.environ, lab.root, os.environ.get("AUTORESEARCH_CALLER"))
    mode, facts = lab.settings.sandbox, tried(policy_of(lab, environment))
    if facts["kind"] == "off":
        return Finding("sandbox", None, "off: a run may do what you may do", "take `sandbox: off` out")
    if facts["kind"] == "none":
        fix = "install bubblewrap, or Linux 5.13 with Landlock; `sandbox: required` refuses runs without"
        if lab.settings.sandbox_kind != "auto":
            fix = "`sandbox: {kind: auto}` takes the best there is"
        why = "; ".join(f"{name}: {text}" for name, text in _words(facts.get("missing")).items())
        return Finding("sandbox", False if mode == "required" else None, f"none here ({why})", fix)
    words = f"{facts['kind']} {facts.get('abi', facts.get('uid', ''))}".strip()
    bare = facts.get("readable")
    keys = f"{bare} of the files to hide readable by all" if bare else "keys hidden"
    seen = f"network {facts['network']}, signals {facts['signals']}, {keys}; tried: {facts['tried']}"
    good = facts["tried"] == "a write outside was denied"
    return Finding("sandbox", good, f"{words}, {seen}", "" if good else "`sandbox: off` does without it")


def _words(facts: object) -> dict[str, str]:
    return {str(name): str(text) for name, text in facts.items()} if isinstance(facts, dict) else {}


def _evaluation(lab: Lab) -> Finding:
    settings = lab.settings
    if not settings.evaluate:
        return Finding(
            "evaluation", None, "L0: the number is the training's own output; `evaluate:` gives L1"
        )
    shut_in = settings.evaluate_level == "L1" or bool(version())
    text = f"{settings.evaluate_level}: `{settings.evaluate}`"
    return Finding(
        "evaluation", True if shut_in else None, text if shut_in else f"{text}, but L1 without Landlock"
    )


def _devices(lab: Lab) -> Finding:
    """Where runs of this machine go, and which programs of others hold these devices."""
    forget(lab.home)
    wanted = lab.slots if (lab.root / FILE_NAME).exists() else []
    if not wanted:
        return Finding("device", None, f"one run at a time, on {os.cpu_count()} CPU cores")
    text = f"{len(wanted)} slots: {', '.join(slot.name for slot in wanted[:8])}"
    known = {lock.split(".")[0] for slot in wanted for lock in slot.locks}
    found = [guest.words for guest in guests() if guest.gpu in known]
    if not found:
        return Finding("device", None, text)
    waits = lab.settings.when_busy == "wait"
    told = "; runs wait until they leave" if waits else ""
    fix = "" if waits else "end them, name other GPUs, or let runs wait: runner: {when_busy: wait}"
    return Finding("device", None, f"{text}; in use by {', '.join(found[:4])}{told}", fix)


def _runner(lab: Lab) -> Finding:
    """What places the runs: whether it answers, its version, whether it would take one."""
    ok, text, fix = lab.runner.examine()
    return Finding("runner", ok, text, "" if ok else fix)


def _campaign(lab: Lab) -> Finding:
    state = lab.state
    if not state.tag:
        return Finding("campaign", None, "none yet: `init --tag TAG`")
    seen = lab.workspace.read_ref(f"refs/heads/{state.branch}")
    good = seen == state.incumbent_commit or any(True for _ in state.unsettled())
    fix = "" if good else f"git branch -f {state.branch} {state.incumbent_commit[:7]}"
    return Finding("campaign", good, f"{state.tag}, branch {state.branch} at {(seen or 'nothing')[:7]}", fix)


def _messages(lab: Lab) -> Finding:
    """Whether every address of `notify:` can be used; only `notify test` knows whether a message arrives."""
    found = channels(lab.settings.notify, os.environ, lab.root)
    if not found:
        return Finding("messages", None, "none are sent: `notify:` names no address")
    for channel in found:
        if channel.problem:
            return Finding(
                "messages", False, f"{channel.name}: {channel.problem}", "mend it, then `notify test`"
            )
    if sender_python() is None:
        return Finding("messages", False, "apprise, which sends them, is not installed", install_command())
    names = ", ".join(channel.name for channel in found)
    return Finding("messages", True, f"{names}; `notify test` sends one to each")


def _search(lab: Lab) -> Finding:
    """Whether `sweep` can ask for values, where something says that it will be used."""
    state = lab.state
    knobs = [knob.name for knob in lab.settings.knobs]
    if state.incumbent and not knobs:
        knobs = [one.name for _, one, _ in sweeps.found(lab)]
    if not knobs:
        return Finding("sweep", None, "no constant says its range")
    shown = ", ".join(knobs[:4])
    if searching.installed() is None:
        text = f"{shown}: Optuna, which chooses values, is not installed (--sampler random needs none)"
        return Finding("sweep", None, text, searching.install_command())
    return Finding("sweep", True, f"{shown}, by Optuna")


def _measurement(lab: Lab) -> Finding:
    """What `verify-metric` found; it trains a model, so it is not run from here."""
    found = kept(lab)
    if found is None:
        return Finding("measurement", None, "not verified: `verify-metric` checks what the metric measures")
    wrong, at = failed(found), str(found.get("at", ""))[:16]
    if wrong:
        fix = "look before the next experiment: every number rests on it"
        return Finding("measurement", False, f"{', '.join(wrong)} failed ({at})", fix)
    return Finding("measurement", True, f"no check of `verify-metric` failed ({at})")


CHECKS: dict[str, Callable[[Lab], Finding]] = {
    "helper": _python,
    "git": _git,
    "writable": _writable,
    "git config": _config,
    FILE_NAME: _settings,
    "files": _tracked,
    "share": _shared,
    "command": _command,
    "disk": _disk,
    "kill": _processes,
    "sandbox": _sandbox,
    "evaluation": _evaluation,
    "device": _devices,
    "runner": _runner,
    "campaign": _campaign,
    "sweep": _search,
    "measurement": _measurement,
    "messages": _messages,
}
