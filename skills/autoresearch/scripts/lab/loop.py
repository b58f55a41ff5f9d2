"""The loop: from the working tree's change to a verdict, in steps that can each be cut and taken up again.

Every step is journal first, effect second, and every effect can be done twice. `catch_up` finishes what a
killed process left, `advance` moves open experiments on; both run under the state lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from lab import views
from lab.atomic import sweep, write_atomic
from lab.campaign import Lab, measured_noise
from lab.decide import Decision, Facts, decide
from lab.errors import REFUSED, LabError
from lab.model import BASELINE, HOME, HOST_FAILURES_ALLOWED, SCHEMA, Experiment, Run, State, now
from lab.redact import one_line
from lab.runners.environment import project_environment, resolve_argv
from lab.steps import step

# Suffixes whose change can alter what a run does; a README the user edits beside the loop cannot.
CODE = {
    ".py", ".pyx", ".pyi", ".ipynb", ".sh", ".c", ".cc", ".cpp", ".h", ".hpp", ".cu", ".cuh", ".rs", ".jl",
    ".js", ".ts", ".go", ".java", ".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".lock", ".mk", "",
}  # fmt: skip
BASELINE_REPEATS = 3
SHORT_RUN_SECONDS = 600  # below this a baseline is repeated without being asked
POLL_SECONDS = 0.02
PAIR_ATTEMPTS = 2
START_SECONDS = 2.0  # for a supervisor from its start to its claim, 0.05 s on an idle machine
SUBMITS_ALLOWED = 2  # of one run by one process: a supervisor that cannot start is host trouble


# -- proposing -------------------------------------------------------------------------------------


def propose_baseline(lab: Lab, repeats: int | None) -> Experiment:
    """Make e000 of the unchanged start, or ask for more runs of it; nothing is started here."""
    state = lab.state
    _require_open(state)
    default = BASELINE_REPEATS if lab.settings.seconds < SHORT_RUN_SECONDS else 1
    if state.baseline is None:
        _check_protected(lab)
        if lab.settings.frozen != state.frozen:
            lab.journal.append("settings", frozen=lab.settings.frozen)
        lab.journal.append(
            "proposed",
            experiment=BASELINE,
            commit=state.base,
            tree=lab.workspace.tree_of(state.base),
            parent=state.base,
            hypothesis="baseline",
            repeats=repeats or default,
        )
    elif state.baseline.verdict == "crash" or (
        state.baseline.verdict and (repeats or 0) > len(state.baseline.good_runs)
    ):
        wanted = repeats or state.baseline.repeats
        lab.journal.append("reopened", experiment=BASELINE, repeats=wanted)
    return state.get(BASELINE)


def propose(lab: Lab, hypothesis: str, words: Mapping[str, str], leave_out: bool, again: bool) -> Experiment:
    """Turn the working tree's change into a candidate commit and put the incumbent back.

    `words` holds because, expect, idea, args and retry_of. Raises `LabError` before anything is written
    when there is no campaign to work in (4), the budget is spent or the change is out of scope (9), or
    there is nothing new to measure (4).
    """
    state, workspace = lab.state, lab.workspace
    _require_ready(lab)
    incumbent = state.get(state.incumbent_id)
    if words.get("retry_of"):
        words = {**words, "retry_of": state.get(words["retry_of"]).id}
    if "args" not in words:  # what the incumbent is run with belongs to it, like its code
        words = {**words, "args": incumbent.args}
    files, left_out = _change_in_scope(lab, leave_out)
    marked = workspace.conflicted(files)
    if marked:
        raise LabError(
            f"{', '.join(marked)} still has conflict markers from the last keep",
            f"edit them away; the three versions lie in {HOME}/conflicts",
        )
    parent = state.incumbent_commit
    tree = workspace.write_tree(parent, files)
    _refuse_repeat(state, tree, words["args"], again)
    identity = f"e{state.next_number():03d}"
    at = now()
    message = _commit_message(identity, hypothesis, words)
    step("try.objects")
    commit = workspace.commit_tree(tree, parent, message, at)
    step("try.committed")
    # Before the journal names it: a `git gc --prune=now` of the user's must not find it without a ref.
    workspace.ensure_ref(lab.ref(state.next_number()), commit)
    added, removed = workspace.numstat(parent, commit)
    lab.journal.append(
        "proposed",
        experiment=identity,
        commit=commit,
        tree=tree,
        parent=parent,
        hypothesis=hypothesis,
        files=files,
        added=added,
        removed=removed,
        left_out=left_out,
        **words,
    )
    catch_up(lab)
    return state.get(identity)


def _require_open(state: State) -> None:
    if state.finished:
        raise LabError(f"campaign {state.tag} is finished", "start the next one with `init --tag NEW`")
    if state.stopped:
        raise LabError(f"the campaign is stopped: {state.stopped}", "`resume` goes on")


def _require_ready(lab: Lab) -> None:
    state = lab.state
    _require_open(state)
    if state.incumbent is None:
        doing = "is not measured yet: `wait` for it" if state.baseline else "has not been run: `baseline`"
        if state.baseline and state.baseline.verdict == "crash":
            doing = "crashed: mend what `show e000` names, then `baseline`"
        raise LabError(f"the baseline {doing}", "nothing can be compared before it")
    spent = lab.budget_spent()
    if spent:
        raise LabError(
            f"the budget is spent: {spent}", "`finish` the campaign, or raise it in the yaml", REFUSED
        )


def _change_in_scope(lab: Lab, leave_out: bool) -> tuple[list[str], list[str]]:
    """Return the changed files of `edit:`, and those left out; refuse what a candidate must not contain."""
    state, settings, workspace = lab.state, lab.settings, lab.workspace
    changes = workspace.changes(state.incumbent_commit, settings.edit, settings.protect)
    outside = {path: workspace.fingerprint(path) for path in (*changes.protected, *changes.outside)}
    telling = [p for p in outside if p in changes.protected or Path(p).suffix in CODE]
    risky = {path: outside[path] for path in telling if state.accepted.get(path) != outside[path]}
    if risky and leave_out:
        lab.journal.append("accepted", files=risky)
    elif risky:
        what = "protected" if set(risky) <= set(changes.protected) else "outside `edit:`"
        raise LabError(
            f"{', '.join(sorted(risky))} changed, which is {what} ({', '.join(settings.edit)} may change)",
            "take the change back if you made it; if it is the user's own work, repeat with --leave-out: "
            "the run then uses the incumbent's version and the file stays as it is",
            REFUSED,
        )
    elif not changes.inside and changes.outside:
        raise LabError(
            f"only {', '.join(changes.outside)} changed, which is outside `edit:`",
            f"a candidate changes {', '.join(settings.edit)}",
            REFUSED,
        )
    return list(changes.inside), sorted(telling)


def _refuse_repeat(state: State, tree: str, args: str, again: bool) -> None:
    if again:
        return
    incumbent = state.get(state.incumbent_id)
    if (tree, args) == (incumbent.tree, incumbent.args):
        raise LabError(
            f"nothing to try: the working tree is the incumbent ({incumbent.id})",
            "edit a file of `edit:` first, or pass --args",
        )
    for old in state.experiments.values():
        if (old.tree, old.args) == (tree, args):
            outcome = f"{old.verdict}: {old.reason}" if old.verdict else "no verdict yet"
            raise LabError(
                f"{old.id} tried exactly this ({outcome})", "change something, or --again to measure it anew"
            )


def _commit_message(identity: str, hypothesis: str, words: Mapping[str, str]) -> str:
    title = one_line(views.flat(hypothesis), 200) or identity
    parts = [
        f"{name.capitalize()}: {one_line(views.flat(text), 500)}" for name, text in words.items() if text
    ]
    return "\n".join([title, "", *parts, f"Experiment: {identity}", ""])


# -- moving on ---------------------------------------------------------------------------------------


def catch_up(lab: Lab) -> None:
    """Finish what a process left undone: refs, branch, notes, working tree, views."""
    state = lab.state
    if not state.tag or state.finished:
        return
    for experiment in list(state.unsettled()):
        _publish(lab, experiment)
    if state.tree_at != state.incumbent_commit:
        _bring_tree_back(lab)


def _bring_tree_back(lab: Lab) -> None:
    """Let the `edit:` files show the incumbent, merged with what is being edited."""
    state, workspace = lab.state, lab.workspace
    folder = lab.home / "conflicts" / (state.incumbent_id or "start")
    conflicts = workspace.sync(state.tree_at, state.incumbent_commit, lab.settings.edit, folder)
    step("tree.synced")
    lab.journal.append("tree", commit=state.incumbent_commit, conflicts=conflicts)
    lab.told += [
        f"{path}: the new incumbent {state.incumbent_id} and your edit conflict; markers are in the file, "
        f"all three versions in {folder}"
        for path in conflicts
    ]


def advance(lab: Lab) -> None:
    """Move open experiments on as far as possible without waiting."""
    catch_up(lab)
    while _advance_once(lab):
        catch_up(lab)


def _advance_once(lab: Lab) -> bool:
    """Take one step of the run at work or of the oldest open experiment; False when only time can help."""
    state = lab.state
    if state.finished:
        return False
    for experiment, run in state.at_work():
        return _follow(lab, experiment, run)
    oldest = next(state.open(), None)
    return oldest is not None and _next_step(lab, oldest)


def _follow(lab: Lab, experiment: Experiment, run: Run) -> bool:
    """Look after a started run: collect its result, repeat a lost one, submit one nobody claimed."""
    folder = lab.run_dir(run)
    seen = lab.runner.poll(folder)
    if seen == "done":
        return _collect(lab, experiment, run)
    if seen == "lost":
        lab.runner.reap(folder)
        sweep(folder)
        words = _last_words(folder) or "its supervisor was killed or the machine restarted"
        _end(lab, experiment, run, outcome="interrupted", detail=words)
        return True
    if seen == "absent":
        return _submit_again(lab, experiment, run)
    return False


def _submit_again(lab: Lab, experiment: Experiment, run: Run) -> bool:
    """A run nobody has taken up: give its supervisor time, then another one, then call it host trouble."""
    folder, times = lab.run_dir(run), lab.submitted.get(run.id, [])
    if times and time.monotonic() - times[-1] < START_SECONDS:
        return False
    if len(times) >= SUBMITS_ALLOWED and lab.runner.withdraw(folder):
        words = _last_words(folder) or "its supervisor was killed before it began"
        _end(lab, experiment, run, outcome="infra", detail=words)
        return True
    if not (folder / "spec.json").exists():
        _prepare(lab, experiment, run)
    _submit(lab, run)
    return False


def _last_words(folder: Path) -> str:
    """What a supervisor that failed left in its own log."""
    try:
        lines = (folder / "supervisor.log").read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f"its supervisor failed: {one_line(lines[-1], 200)}" if lines else ""


def _next_step(lab: Lab, experiment: Experiment) -> bool:
    """Start the run that the experiment needs next, or give the verdict."""
    failed = experiment.fatal_run
    if failed:
        _give_verdict(lab, experiment, "crash", _crash_reason(failed))
        return True
    if experiment.id == BASELINE:
        if len(experiment.good_runs) >= experiment.repeats:
            _give_verdict(lab, experiment, "keep", _baseline_reason(lab.state, experiment))
            return True
    else:
        if (
            not experiment.runs
            and experiment.parent != lab.state.incumbent_commit
            and not _rebase(lab, experiment)
        ):
            return True
        if experiment.good_runs:
            decision = _decide(lab, experiment)
            if decision.action != "repeat":
                _give_verdict(lab, experiment, decision.action, decision.reason, decision)
                return True
            incumbent, seed = lab.state.get(lab.state.incumbent_id), lab.seed(len(experiment.good_runs))
            if _lacks_pair(incumbent, seed):
                return _start(lab, incumbent, seed)
    return _start(lab, experiment, lab.seed(len(experiment.good_runs)))


def _lacks_pair(incumbent: Experiment, seed: int | None) -> bool:
    """Whether the incumbent must first run on `seed` too; a seed that failed it twice is left alone."""
    runs = [run for run in incumbent.runs if run.seed == seed and run.commit == incumbent.commit]
    return seed is not None and not any(run.counts for run in runs) and len(runs) < PAIR_ATTEMPTS


def _rebase(lab: Lab, experiment: Experiment) -> bool:
    """Put a queued candidate on the incumbent that was kept meanwhile; a conflict ends it unmeasured."""
    state, workspace = lab.state, lab.workspace
    old, parent = experiment.commit, state.incumbent_commit
    tree = workspace.rebase(experiment.parent, old, parent, lab.home / "conflicts" / experiment.id)
    if tree is None:
        reason = (
            f"not measured: its change conflicts with {state.incumbent_id}, which was kept meanwhile; "
            f"`restore {experiment.id}` brings it back for merging by hand"
        )
        _give_verdict(lab, experiment, "discard", reason)
        return False
    words = {"because": experiment.because, "expect": experiment.expect}
    message = _commit_message(experiment.id, experiment.hypothesis, words)
    commit = workspace.commit_tree(tree, parent, message, experiment.at)
    workspace.ensure_ref(f"{lab.ref(experiment.number)}.proposed", old)
    workspace.ensure_ref(lab.ref(experiment.number), commit)
    lab.journal.append("rebased", experiment=experiment.id, commit=commit, tree=tree, parent=parent)
    return True


def _start(lab: Lab, experiment: Experiment, seed: int | None) -> bool:
    """Journal that a run starts, then start it; False when the campaign is stopped."""
    if lab.state.stopped:
        return False
    if experiment.host_failures >= HOST_FAILURES_ALLOWED:
        why = f"host trouble {HOST_FAILURES_ALLOWED} times in a row: {experiment.runs[-1].detail}"
        lab.journal.append("stopped", reason=one_line(why, 300), by="host")
        return False
    lab.journal.append(
        "run_started",
        experiment=experiment.id,
        run=f"{experiment.id}.{len(experiment.runs) + 1}",
        seed=seed,
        nonce=secrets.token_hex(8),
        commit=experiment.commit,
    )
    run = experiment.runs[-1]
    _prepare(lab, experiment, run)
    _submit(lab, run)
    return True


def _prepare(lab: Lab, experiment: Experiment, run: Run) -> None:
    """Export the commit and write the run's spec, last and whole: a spec means the export is complete."""
    settings, workspace = lab.settings, lab.workspace
    tree, folder = lab.tree_dir(run), lab.run_dir(run)
    protected = _check_protected(lab, experiment.commit)
    step("run.export.before")
    workspace.export(experiment.commit, tree)
    step("run.export.after")
    _link_shared(lab, tree)
    env, argv = settings.argv()
    if experiment.args:
        argv += shlex.split(experiment.args)
    if run.seed is not None and settings.seed_env:
        env[settings.seed_env] = str(run.seed)
    if run.seed is not None and settings.seed_arg:
        argv += [settings.seed_arg, str(run.seed)]
    env.setdefault("AUTORESEARCH_BUDGET", f"{settings.seconds:g}")
    incumbent = lab.state.incumbent
    spec = {
        "schema": SCHEMA,
        "run": run.id,
        "nonce": run.nonce,
        "argv": resolve_argv(argv, _environment(lab), lab.root),
        "env_add": env,
        "tree": str(tree),
        "cwd": str(tree / workspace.prefix),
        "kill_after": settings.kill_after,
        "metric": {"name": settings.metric, "take": settings.take, "pattern": settings.pattern},
        "protected": {path: _sha256(tree / path) for path in protected},
        "incumbent_memory_gb": incumbent.memory_gb if incumbent else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "spec.json", json.dumps(spec, indent=1))
    step("run.spec.after")


def _check_protected(lab: Lab, commit: str | None = None) -> list[str]:
    """Return the protected files, after making sure that `commit` has the baseline's version of each."""
    state, settings, workspace = lab.state, lab.settings, lab.workspace
    wanted = workspace.files(state.base, settings.protect)
    if commit and commit != state.base and workspace.files(commit, settings.protect) != wanted:
        raise LabError(f"commit {commit[:7]} changes a protected file", "this cannot be measured", REFUSED)
    return [path for path, blob in wanted.items() if blob.mode != "120000"]


def _link_shared(lab: Lab, tree: Path) -> None:
    """Link the git-ignored inputs of `share:` into the export."""
    for name in lab.settings.share:
        source, link = lab.root / name, tree / lab.workspace.prefix / name
        if source.exists() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)


def _submit(lab: Lab, run: Run) -> None:
    step("run.submit.before")
    lab.submitted.setdefault(run.id, []).append(time.monotonic())
    lab.runner.submit(lab.run_dir(run), _environment(lab))
    step("run.submit.after")


def _environment(lab: Lab) -> dict[str, str]:
    return project_environment(os.environ, lab.root, os.environ.get("AUTORESEARCH_CALLER"))


# -- results -------------------------------------------------------------------------------------------


def _collect(lab: Lab, experiment: Experiment, run: Run) -> bool:
    """Take a finished run's result into the journal."""
    result = json.loads((lab.run_dir(run) / "run.json").read_bytes())
    if result["run"] != run.id or result["nonce"] != run.nonce:
        raise LabError(
            f"{lab.run_dir(run)}/run.json belongs to another run", "move that file away, then `resume`"
        )
    digest = result.get("digest") or {}
    fields = {name: result.get(name) for name in ("metric", "seconds", "memory_gb", "exit_code")}
    _end(
        lab,
        experiment,
        run,
        outcome=result["outcome"],
        kind=digest.get("kind") or result.get("problem"),
        detail=result.get("detail") or "",
        line=digest.get("line") or "",
        where=digest.get("where"),
        values=result.get("values") or {},
        **fields,
    )
    return True


def _end(lab: Lab, experiment: Experiment, run: Run, **fields: object) -> None:
    lab.journal.append("run_ended", experiment=experiment.id, run=run.id, **fields)


def _number(run: Run) -> float:
    assert run.metric is not None  # good_runs holds finite numbers only
    return run.metric


def _decide(lab: Lab, experiment: Experiment) -> Decision:
    state, settings = lab.state, lab.settings
    incumbent, baseline = state.incumbent, state.baseline
    assert incumbent and baseline and baseline.metric is not None
    known = measured_noise(state)
    return decide(
        Facts(
            goal=settings.goal,
            candidate=tuple((r.seed, _number(r)) for r in experiment.good_runs),
            incumbent=tuple((r.seed, _number(r)) for r in incumbent.good_runs),
            sigma=known.sigma,
            sigma_df=known.df,
            sigma_n=known.n,
            baseline_metric=baseline.metric,
            added=experiment.added,
            removed=experiment.removed,
            memory_gb=_peak(experiment),
            incumbent_memory_gb=incumbent.memory_gb,
            max_runs=settings.max_runs,
            confidence=settings.confidence,
            min_effect=settings.min_effect,
        )
    )


def _peak(experiment: Experiment) -> float | None:
    return max((r.memory_gb for r in experiment.runs if r.memory_gb is not None), default=None)


def _give_verdict(
    lab: Lab, experiment: Experiment, verdict: str, reason: str, decision: Decision | None = None
) -> None:
    """Journal the verdict; `catch_up` then lets branch, note, tree and views follow."""
    numbers = [_number(run) for run in experiment.good_runs]
    extra: dict[str, object] = {}
    if decision:
        interval = list(decision.interval) if decision.interval else None
        extra = {"gain": decision.gain, "sigma": decision.sigma, "p": decision.p, "interval": interval}
    lab.journal.append(
        "verdict",
        experiment=experiment.id,
        verdict=verdict,
        reason=reason,
        metric=sum(numbers) / len(numbers) if numbers and verdict != "crash" else None,
        memory_gb=_peak(experiment),
        against=lab.state.incumbent_id,
        **extra,
    )
    catch_up(lab)


def _crash_reason(run: Run) -> str:
    words = [run.kind or run.outcome or "error"]
    if run.line or run.detail:
        words.append(run.line or run.detail)
    if run.where:
        words.append(f"at {run.where}")
    return one_line(": ".join(words[:2]) + (f" {words[2]}" if len(words) > 2 else ""), 400)


def _baseline_reason(state: State, experiment: Experiment) -> str:
    known = measured_noise(state)
    count = len(experiment.good_runs)
    if known.sigma is None:
        return (
            f"the start, measured once; the noise is not known yet (`baseline --repeats {BASELINE_REPEATS}`)"
        )
    if known.sigma == 0:
        return f"the start, measured {count} times with the same number each time"
    return f"the start, measured {count} times; the noise between runs is {known.sigma:.2g} (one sd)"


def _publish(lab: Lab, experiment: Experiment) -> None:
    """Let ref, note, branch, views and disk follow a verdict; each part can be done twice."""
    workspace, state = lab.workspace, lab.state
    workspace.ensure_ref(lab.ref(experiment.number), experiment.commit)
    workspace.note(experiment.commit, views.note(experiment, lab.settings.metric))
    step("publish.noted")
    _advance_branch(lab)
    sweep(lab.root)
    sweep(lab.home)
    views.write_results(lab.root / "results.tsv", state, lab.settings.metric)
    step("publish.results")
    _drop_exports(lab, experiment)
    lab.journal.append("settled", experiment=experiment.id)


def _advance_branch(lab: Lab) -> None:
    """Fast-forward the campaign branch to the incumbent, only from where we left it."""
    state, workspace = lab.state, lab.workspace
    ref, wanted = f"refs/heads/{state.branch}", state.incumbent_commit
    seen = workspace.read_ref(ref)
    if seen == wanted:
        return
    incumbent = state.incumbent
    expected = incumbent.parent if incumbent else state.base
    if seen not in (None, expected):
        raise LabError(
            f"branch {state.branch} is at {seen[:7] if seen else seen}, where the loop did not leave it "
            f"(it was at {expected[:7]}, the new incumbent is {wanted[:7]})",
            f"keep that commit under another name, then git branch -f {state.branch} {expected[:7]}",
        )
    workspace.update_ref(ref, wanted, seen)
    workspace.follow_index(state.branch, expected, wanted)


def _drop_exports(lab: Lab, experiment: Experiment) -> None:
    """Remove exports that nobody needs: all but the incumbent's, which may hold its model."""
    incumbent = lab.state.incumbent
    keep = {run.id for run in incumbent.good_runs[:1]} if incumbent else set()
    folder = lab.home / "worktrees"
    if not folder.exists():
        return
    ours = {run.id for run in experiment.runs}
    for place in folder.iterdir():
        if place.name in ours - keep or (place.name not in keep and _decided(lab.state, place.name)):
            shutil.rmtree(place, ignore_errors=True)


def _decided(state: State, run_id: str) -> bool:
    experiment = state.experiments.get(run_id.split(".")[0])
    return experiment is not None and experiment.verdict is not None


# -- waiting ---------------------------------------------------------------------------------------------


def wait_for(lab: Lab, identity: str, seconds: float) -> Experiment:
    """Move the campaign on until `identity` has a verdict, nothing can move, or `seconds` are over."""
    end = time.monotonic() + seconds
    while True:
        with lab.changing("wait") as state:
            advance(lab)
            experiment = state.get(identity)
            running = next((run for _, run in state.at_work()), None)
        if experiment.verdict or running is None:
            return experiment
        if not _watch(lab, running, end):
            return experiment


def _watch(lab: Lab, run: Run, end: float) -> bool:
    """Wait for a run to end; False when the time is over."""
    folder = lab.run_dir(run)
    started = time.monotonic()
    while True:
        # A result shows as a file at once; whether a supervisor still lives needs a look at its lock.
        if (folder / "run.json").exists() or lab.runner.poll(folder) in ("done", "lost"):
            return True
        left = end - time.monotonic()
        if left <= 0:
            return False
        if time.monotonic() - started > START_SECONDS and lab.runner.poll(folder) == "absent":
            return True
        time.sleep(min(left, POLL_SECONDS if time.monotonic() - started < 5 else 10 * POLL_SECONDS))


def stop(lab: Lab, reason: str, kill: bool) -> list[Run]:
    """Start nothing new; with `kill` end the run at work. Return the runs that are still going."""
    state = lab.state
    if not state.stopped and not state.finished:
        lab.journal.append("stopped", reason=reason, by="user")
    running = [run for _, run in state.at_work()]
    for run in running if kill else []:
        lab.runner.cancel(lab.run_dir(run))
    return running


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
