"""A campaign folder with a journal and no git, for the tests of memory and ideas."""

from __future__ import annotations

from pathlib import Path

from lab.campaign import Lab

SETTINGS = "command: python train.py\nmetric: {name: val_bpb, goal: min}\nedit: [train.py]\n"


def a_lab(root: Path, tag: str = "nov21", inbox: str | None = None) -> Lab:
    """A campaign whose baseline is kept; its settings name `inbox` when there is one."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "autoresearch.yaml").write_text(SETTINGS + (f"ideas: {{inbox: {inbox}}}\n" if inbox else ""))
    lab = Lab(root)
    lab.journal.append("campaign_started", tag=tag, branch=f"autoresearch/{tag}", base="0" * 40, head="main")
    an_experiment(lab, "baseline", "keep", 1.0)
    return lab


def an_experiment(
    lab: Lab, hypothesis: str, verdict: str | None = "discard", metric: float | None = 0.9, idea: str = "",
    args: str = "",
) -> str:  # fmt: skip
    """One more experiment in the journal; without a verdict when that is None. Return its id."""
    number = len(lab.state.experiments)
    identity = f"e{number:03d}"
    commit = f"{number + 1:040x}"
    words = {"hypothesis": hypothesis, "idea": idea, "args": args}
    lab.journal.append("proposed", experiment=identity, commit=commit, tree=commit, parent="0" * 40, **words)
    if verdict:
        lab.journal.append("verdict", experiment=identity, verdict=verdict, reason="", metric=metric)
    return identity
