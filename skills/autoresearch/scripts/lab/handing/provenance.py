"""Does what came back belong to what was asked for? Pure: facts in, faults in words out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.handing.parcel import Returned

WHOLE, UNVERIFIED = "whole", "unverified"


@dataclass(frozen=True)
class Asked:
    """What the request says of one run."""

    request: str
    token: str
    run: str
    commit: str
    seed: int | None
    words_sha256: str
    code_sha256: str | None  # None when the request's folder is gone

    @property
    def seed_words(self) -> str:
        """The seed as the script writes it."""
        return "none" if self.seed is None else str(self.seed)


@dataclass(frozen=True)
class Judged:
    """A run that came back: `fault` says why it cannot be taken, `doubts` what is to be looked at."""

    proof: str
    facts: Mapping[str, str]
    fault: str = ""
    hint: str = ""
    doubts: tuple[str, ...] = ()


def judge(asked: Asked, run: Returned, said: Mapping[str, str]) -> Judged:
    """Compare what came back, and what the person `said` beside it, with what was asked for."""
    facts = {**said, **run.facts}
    whole = "provenance.txt" in run.small
    checks = (_identity, _commit, _seed, _command, _length if whole else _bare)
    proof = WHOLE if whole else UNVERIFIED
    for check in checks:
        fault, hint = check(asked, run, facts)
        if fault:
            return Judged(proof, facts, fault, hint)
    doubts = [] if whole else ["only a log came back: nobody can say what code made it"]
    return Judged(proof, facts, doubts=tuple(doubts))


Fault = tuple[str, str]
FINE: Fault = ("", "")
AGAIN = "run the script of the request as it is and send back the file it makes"


def _identity(asked: Asked, run: Returned, facts: Mapping[str, str]) -> Fault:
    token = facts.get("token")
    if token is not None and token != asked.token:
        other = facts.get("request", "another one")
        return f"it does not answer {asked.request} of this campaign (it carries the token of {other})", AGAIN
    if "provenance.txt" in run.small and token is None:
        return "its provenance.txt has no token", AGAIN
    named = facts.get("run", asked.run)
    return (f"its folder says {asked.run}, its provenance {named}", AGAIN) if named != asked.run else FINE


def _commit(asked: Asked, run: Returned, facts: Mapping[str, str]) -> Fault:
    commit, code = facts.get("commit"), facts.get("code")
    if commit is None:
        return (
            f"nothing says which commit it ran; {asked.request} asks for {asked.commit[:12]}",
            "say it with --commit, as `git rev-parse HEAD` printed it there",
        )
    short = commit.lower()
    if len(short) < 7 or not asked.commit.startswith(short):
        return (
            f"wrong commit: it ran {commit[:12]}, {asked.request} asks for {asked.commit[:12]}",
            "run the code of the request; a result of other code is another experiment",
        )
    if code and asked.code_sha256 and code != asked.code_sha256:
        return "wrong code: its code.tar.gz was not the one of this request", AGAIN
    return FINE


def _seed(asked: Asked, run: Returned, facts: Mapping[str, str]) -> Fault:
    if asked.seed is None:
        return FINE
    seed = facts.get("seed")
    if seed is None:
        return f"nothing says which seed it ran; {asked.run} is seed {asked.seed}", "say it with --seed"
    if seed != asked.seed_words:
        return (
            f"different seed: it ran seed {seed}, {asked.run} is seed {asked.seed}",
            "runs are compared seed by seed: run the seed that was asked for",
        )
    return FINE


def _command(asked: Asked, run: Returned, facts: Mapping[str, str]) -> Fault:
    words = facts.get("words")
    if words is not None and words != asked.words_sha256:
        return f"it ran another command or other settings than {asked.request} asks for", AGAIN
    return FINE


def _length(asked: Asked, run: Returned, facts: Mapping[str, str]) -> Fault:
    if run.log is None:
        return "its run.log is missing", AGAIN
    size = facts.get("log_bytes", "")
    if size != str(run.log_bytes):
        return f"log cut short: {run.log_bytes} bytes came back of {size or 'an unknown number'}", AGAIN
    if facts.get("log_sha256") != run.log_sha256:
        return "the log is not the one that was written there: its hash differs", AGAIN
    ended = run.end
    if ended is None or ended[1].decode() != asked.run or ended[2].decode() != facts.get("exit"):
        return "log cut short: it does not end with the mark of its run", AGAIN
    return FINE


def _bare(asked: Asked, run: Returned, facts: Mapping[str, str]) -> Fault:
    if "token" in facts and "exit" not in facts:
        return "log cut short: the mark of its end is missing", AGAIN
    return FINE
