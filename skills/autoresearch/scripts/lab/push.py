"""The campaign branch on its way to a remote: when it is to be pushed, and where to.

Only forward, one commit for each keep, and beside the loop: a remote that is dead costs a line in `status`.
"""

from __future__ import annotations

from lab.model import BASELINE, State
from lab.redact import one_line
from lab.report.figures import between
from lab.settings import Settings
from lab.workspace import Workspace

LIMIT_SECONDS = 120.0
WAITS = (60.0, 600.0, 3600.0)  # seconds before the same commit is tried again


def wanted(state: State, settings: Settings) -> str:
    """The commit that the remote does not have yet and may get, or ""."""
    best = state.incumbent
    if settings.push is None or best is None or best.id == BASELINE or not best.settled:
        return ""
    last = state.pushed
    if last.get("commit") != best.commit:
        return best.commit
    # What was rejected has other commits in its way, and pushing again would not move them.
    again = last["outcome"] == "failed" and last["tries"] <= len(WAITS)
    return best.commit if again else ""


def is_time(state: State, now: str) -> bool:
    """Whether a failed push may be tried again."""
    last = state.pushed
    if not last or last["outcome"] == "pushed" or last["commit"] != state.incumbent_commit:
        return True
    return last["tries"] <= len(WAITS) and between(last["at"], now) >= WAITS[last["tries"] - 1]


def push(workspace: Workspace, settings: Settings, branch: str, commit: str, limit: float) -> dict[str, str]:
    """Push it; return what the journal is to know."""
    remote, problem = _remote(workspace, settings.push or "")
    outcome, detail = ("failed", problem) if problem else workspace.push(remote, branch, commit, limit)
    return {"commit": commit, "remote": remote, "outcome": outcome, "detail": one_line(detail, 200)}


def _remote(workspace: Workspace, name: str) -> tuple[str, str]:
    """The remote to push to, or why there is none."""
    names, default = workspace.remotes()
    if name or default:
        chosen = name or default
        return chosen, "" if chosen in names else "there is no remote of that name"
    if "origin" in names or len(names) == 1:
        return ("origin" if "origin" in names else names[0]), ""
    return "", "there are several remotes: write push: NAME" if names else "there is no remote"
