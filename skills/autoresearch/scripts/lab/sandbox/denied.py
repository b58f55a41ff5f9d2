"""Why a training died, when it was the sandbox, and the setting that opens what it asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.redact import one_line
from lab.sandbox.policy import Policy, is_within, real

DENIED = re.compile(r"Permission denied|Operation not permitted|Read-only file system|\bEACCES\b")
ABSENT = re.compile(r"No such file or directory")  # what a mount covers is not denied but gone
PATH = re.compile(r"""["'\u2018]?((?:/[\w.@+=,%~ -]+)+)["'\u2019]?""")
OFFLINE = re.compile(
    r"Network is unreachable|Temporary failure in name resolution|Name or service not known"
    r"|getaddrinfo failed|Failed to resolve|nodename nor servname|Could not resolve host"
    r"|No route to host|MaxRetryError"
)
TOO_LARGE = re.compile(r"File too large|SIGXFSZ")
LINES = 200


@dataclass(frozen=True)
class Denied:
    """The sandbox a run lived in."""

    policy: Policy | None
    facts: dict[str, object]

    def reason(self, tail: bytes) -> str:
        """Say what the sandbox denied and how to open it, or "" where the log tells of nothing like it."""
        none = self.policy is None or self.facts.get("kind") in (None, "none", "off")
        if self.policy is None or none:
            return ""
        return _reason(tail, self.policy, str(self.facts["kind"]), self.facts.get("uid"))


def _reason(tail: bytes, policy: Policy, kind: str, uid: object) -> str:
    for raw in reversed(tail.decode("utf-8", "replace").splitlines()[-LINES:]):
        line = raw[:2000]
        if DENIED.search(line):
            return _of_another(line, uid) if kind == "uid" else _of_path(line, policy)
        if kind == "bubblewrap" and ABSENT.search(line) and _covered(line, policy):
            return _of_path(line, policy)
        if not policy.network and OFFLINE.search(line):
            return "the sandbox has no network; `network: true` in autoresearch.yaml opens it"
        if TOO_LARGE.search(line):
            size = policy.file_bytes / 2**30
            return f"the sandbox allows files up to {size:g} GB; `sandbox: {{disk_gb: N}}` changes it"
    return ""


def _covered(line: str, policy: Policy) -> bool:
    """Whether what is not there is what lies in a folder that is hidden."""
    found = PATH.search(line)
    return found is not None and any(is_within(found.group(1).strip(), path) for path in policy.hidden)


def _of_another(line: str, uid: object) -> str:
    found = PATH.search(line)
    path = one_line(found.group(1).strip(), 200) if found else "something"
    return (
        f"the run is user {uid} here, who may not use {path}; `chmod` opens it, `sandbox: off` does without"
    )


def _of_path(line: str, policy: Policy) -> str:
    denied = DENIED.search(line)
    found = PATH.search(line[denied.start() if denied else 0 :]) or PATH.search(line)
    if found is None:
        return "denied, perhaps by the sandbox; `sandbox: off` in autoresearch.yaml shows whether it was"
    path = one_line(found.group(1).strip(), 200)
    if any(is_within(path, hidden) for hidden in [*policy.hidden, *real(policy.hidden)]):
        return f"the sandbox hides {path} from a run; `sandbox: {{read: [PATH]}}` shows a file"
    return f"the sandbox denied {path}; `sandbox: {{write: [{path}]}}` in autoresearch.yaml opens it"
