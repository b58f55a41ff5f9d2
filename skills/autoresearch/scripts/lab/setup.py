"""Beginning and ending a campaign: what `init` makes and what `finish` leaves."""

from __future__ import annotations

import dataclasses

from lab import ideas, morning, views
from lab.atomic import write_atomic
from lab.campaign import Lab
from lab.detect import Wishes, detect
from lab.errors import CONFIG, LabError
from lab.model import HOME
from lab.notify import keeping
from lab.rendering import render
from lab.settings import FILE_NAME, Settings, load
from lab.settle import catch_up
from lab.steps import step

RESULTS = "results.tsv"
EXCLUDED = (f"/{HOME}/", f"/{RESULTS}")


def begin(lab: Lab, tag: str, wishes: Wishes, leave_out: bool = False) -> list[str]:
    """Write the settings, the branch and the first journal record; return what to tell.

    With `leave_out`, uncommitted changes of files that are neither edited nor protected are the user's: they
    stay as they are, and runs use the committed versions. Raises `LabError` (4) on any other dirty tree, an
    existing branch or a campaign that is not finished.
    """
    workspace = lab.workspace
    name, base = workspace.head()
    branch = f"autoresearch/{tag}"
    _refuse_if_taken(lab, tag, branch)
    changed = workspace.without_notes(workspace.dirty(), _inbox(lab))
    dirty = sorted(changed - {f"{workspace.prefix}{FILE_NAME}"})
    if dirty and not leave_out:
        raise LabError(
            f"the working tree is dirty: {_listed(dirty)}",
            "commit these changes (or put them on a branch) first; when they are the user's unfinished work "
            "and no run needs them: --leave-out",
        )
    _refuse_foreign_results(lab, base)
    settings, told = _settings(lab, wishes, base)
    _check_files(lab, base, settings)
    _refuse_dirty_parts(lab, base, settings, dirty)
    workspace.exclude([f"/{workspace.prefix}{line[1:]}" for line in EXCLUDED])
    step("init.excluded")
    with lab.changing("init"):
        lab.journal.append(
            "campaign_started",
            tag=tag,
            branch=branch,
            base=base,
            head=name or base,
            frozen=settings.frozen,
        )
        workspace.update_ref(f"refs/heads/{branch}", base, None)
        if dirty:
            lab.journal.append("accepted", files={path: workspace.fingerprint(path) for path in dirty})
        views.write_results(lab.root / RESULTS, lab.state, settings.metric)
    keeping.ensure(lab)
    return [*told, f"left as they are, and out of every run: {_listed(dirty)}"] if dirty else told


def _listed(paths: list[str]) -> str:
    return ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _refuse_dirty_parts(lab: Lab, base: str, settings: Settings, dirty: list[str]) -> None:
    """A file that candidates change or that must not change cannot be left out."""
    parts = lab.workspace.files(base, (*settings.edit, *settings.protect))
    taken = [path for path in dirty if path in parts]
    if taken:
        raise LabError(
            f"{_listed(taken)} has uncommitted changes and is edited or protected in the campaign",
            "commit these first: every comparison starts from the committed version",
        )


def _inbox(lab: Lab) -> str | None:
    """The inbox that an earlier campaign's settings name; a fault in them is told further on."""
    try:
        return load(lab.root / FILE_NAME).ideas_inbox
    except LabError:
        return None


def _refuse_if_taken(lab: Lab, tag: str, branch: str) -> None:
    state = lab.read()
    if state.tag and not state.finished:
        if state.tag == tag:
            raise LabError(f"campaign {tag} is already there", "`status` says where it stands")
        raise LabError(f"campaign {state.tag} is not finished", "`finish` it first, or use another clone")
    if lab.workspace.read_ref(f"refs/heads/{branch}"):
        raise LabError(f"branch {branch} exists", "choose another --tag")
    if lab.workspace.read_ref("refs/heads/autoresearch"):
        # git keeps branches as files: beside a branch `autoresearch` there can be no `autoresearch/TAG`.
        raise LabError(
            f"the branch autoresearch is in the way of {branch}", "rename it: git branch -m autoresearch NAME"
        )
    if lab.workspace.run("for-each-ref", "--count=1", f"refs/autoresearch/{tag}/"):
        raise LabError(f"candidates of an earlier campaign {tag} exist", "choose another --tag")
    if state.finished:
        _archive(lab, state.tag)


def _refuse_foreign_results(lab: Lab, base: str) -> None:
    """results.tsv is a view that the tool rewrites: one that somebody else keeps must not be lost."""
    path = lab.root / RESULTS
    if lab.workspace.files(base, (RESULTS,)):
        raise LabError(
            f"{RESULTS} is committed here, and the loop rewrites it",
            f"give it another name: git mv {RESULTS} ...",
        )
    if path.exists() and len(path.read_bytes().splitlines()) > 1:
        raise LabError(
            f"{RESULTS} is there with results of something else", f"move it away: mv {RESULTS} ..."
        )


def _archive(lab: Lab, tag: str) -> None:
    """Put a finished campaign's files aside; its commits stay where they are."""
    past = lab.home / "past" / tag
    past.mkdir(parents=True)
    for name in ("runs", "report", "conflicts", "snapshot.json", "journal.jsonl"):
        if (lab.home / name).exists():
            (lab.home / name).rename(past / name)
    if (lab.root / RESULTS).exists():
        (lab.root / RESULTS).rename(past / RESULTS)
    lab.read()


def _settings(lab: Lab, wishes: Wishes, base: str) -> tuple[Settings, list[str]]:
    path = lab.root / FILE_NAME
    if not path.exists():
        names = {entry.name for entry in lab.root.iterdir()}
        prefix = len(lab.workspace.prefix)
        committed = {path[prefix:] for path in lab.workspace.files(base, (".",))}
        settings = detect(lab.root, wishes, lab.workspace.ignored(names), committed)
        if wishes.mode:
            settings = dataclasses.replace(settings, mode=wishes.mode)
        if wishes.slots:
            settings = dataclasses.replace(settings, slots=wishes.slots)
        write_atomic(path, render(settings))
        return load(path), [f"wrote {FILE_NAME}: look it over"]
    settings = load(path)
    fields = {("seconds" if k == "seconds" else k): v for k, v in dataclasses.asdict(wishes).items()}
    for name, value in fields.items():
        if value not in (None, ()) and getattr(settings, name) != value:
            raise LabError(
                f"{FILE_NAME} says {name} {getattr(settings, name)!r}, the flag says {value!r}",
                f"edit {FILE_NAME}, or leave the flag out",
                CONFIG,
            )
    return settings, [f"used {FILE_NAME} as it is"]


def _check_files(lab: Lab, base: str, settings: Settings) -> None:
    """Every file of `edit:` and `protect:` must be in the start commit, and in one of the two."""
    workspace = lab.workspace
    for kind, patterns in (("edit", settings.edit), ("protect", settings.protect)):
        for pattern in patterns:
            if not workspace.files(base, (pattern,)):
                raise LabError(
                    f"{kind}: {pattern} matches no committed file", f"commit it, or mend {FILE_NAME}", CONFIG
                )
    both = set(workspace.files(base, settings.edit)) & set(workspace.files(base, settings.protect))
    if both:
        raise LabError(
            f"{', '.join(sorted(both)[:5])} is in edit: and in protect:", f"leave one in {FILE_NAME}", CONFIG
        )


def end(lab: Lab) -> list[str]:
    """Close the campaign: edit files back to what HEAD has, last record, report; return what to tell."""
    state, workspace = lab.state, lab.workspace
    if state.finished:
        morning.write(lab)  # a call that was cut may have left it undone
        keeping.ensure(lab)
        return [f"it was finished at {state.finished[:19]}"]
    catch_up(lab)
    running = [run.id for _, run in state.at_work()]
    if running:
        raise LabError(f"run {', '.join(running)} is still at work", "`wait` for it, or `stop --now`")
    out = ", ".join(dict.fromkeys(run.request for _, run in state.handed()))
    if out:
        lab.told.append(f"{out} is still with a person: its result cannot be taken any more")
    lab.told += ideas.follow(lab)  # the journal is put aside at the next `init`
    _, head = workspace.head()
    edited = workspace.changes(state.incumbent_commit, lab.settings.edit, (), lab.settings.ideas_inbox).inside
    if edited:
        lab.told.append(f"left as you edited it: {', '.join(edited)}")
    else:
        workspace.sync(state.incumbent_commit, head, lab.settings.edit, lab.home / "conflicts" / "finish")
        step("finish.tree")
    lab.journal.append("finished")
    keeping.ensure(lab)
    morning.write(lab)
    step("finish.reported")
    return lab.notices
