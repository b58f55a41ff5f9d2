"""How each record of the journal changes the state; what no record says is not so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lab.errors import LabError
from lab.model import (
    ELSEWHERE,
    HOST_TROUBLE,
    INCOMPARABLE,
    Confirmation,
    Experiment,
    Place,
    Record,
    Run,
    State,
    Study,
)

# Written beside the loop and no sign that anybody is at work on it.
BACKGROUND = (
    "notice", "notified", "pushed", "agent_started", "agent_silent", "agent_ended", "drive_ended",
)  # fmt: skip


def apply(state: State, record: Record) -> None:
    """Change `state` by one journal record; a record nobody knows is a newer release's."""
    event = record.get("event")
    change = CHANGES.get(str(event))
    if change is None:
        raise LabError(
            f"journal record {record.get('seq')} has the event {event!r}, which this release does not know",
            "a newer release wrote it: update the skill (`npx skills update`)",
        )
    change(state, record)
    if event not in BACKGROUND:
        state.active_at, state.gave_up = str(record.get("at", state.active_at)), ""
    state.seq = int(str(record.get("seq", state.seq + 1)))


def _values(record: Record, *leave: str) -> dict[str, object]:
    return {k: v for k, v in record.items() if k not in {"schema", "at", "event", "seq", "link", *leave}}


def _experiment(state: State, record: Record) -> Experiment:
    return state.experiments[str(record["experiment"])]


def _campaign_started(state: State, record: Record) -> None:
    for name, value in _values(record).items():
        setattr(state, name, value)
    state.started = str(record["at"])
    state.tree_at = state.base


def _proposed(state: State, record: Record) -> None:
    values = _values(record, "experiment")
    experiment = Experiment(id=str(record["experiment"]), at=str(record["at"]), **values)  # type: ignore[arg-type]
    state.experiments[experiment.id] = experiment
    if not experiment.combines and not experiment.sweep:  # which nobody has edited in the working tree
        state.tree_at = experiment.commit


def _rebased(state: State, record: Record) -> None:
    experiment = _experiment(state, record)
    for name in ("commit", "tree", "parent", "args"):
        setattr(experiment, name, str(record.get(name, getattr(experiment, name))))


def _reopened(state: State, record: Record) -> None:
    experiment = _experiment(state, record)
    experiment.verdict, experiment.settled, experiment.reason = None, False, ""
    experiment.repeats = int(str(record["repeats"]))
    experiment.host_failures = 0
    for run in experiment.runs:
        if run.failed or run.outcome in ("killed", INCOMPARABLE):
            run.outcome = "cancelled"  # the failure that the reopening sets aside


def _run_started(state: State, record: Record) -> None:
    run = Run(id=str(record["run"]), **_values(record, "experiment", "run", "confirmation", "study"))  # type: ignore[arg-type]
    if "confirmation" in record:
        run.side = str(record["experiment"])
    _place(state, record).runs.append(run)
    state.going.append(run.id)
    run.began, run.load = state.seq + 1, len(state.going)
    if record["experiment"] == state.incumbent_id and not {"confirmation", "study"} & set(record):
        state.unchecked = 0


def _requested(state: State, record: Record) -> None:
    """A person is asked to execute runs; each counts as started from here on."""
    identity = str(record["request"])
    state.requests[identity] = {**_values(record), "at": str(record["at"])}
    place = _place(state, {**record, "run": f"{record['place']}."})
    for planned in list(record["runs"]):  # type: ignore[call-overload]
        words: dict[str, Any] = {"nonce": record["token"], "commit": record["commit"], "request": identity}
        place.runs.append(Run(**planned, **words))
        state.waiting.append(str(planned["id"]))
    if record["place"] == state.incumbent_id:
        state.unchecked = 0


def _machine(state: State, record: Record) -> None:
    """Results are compared on another kind of machine from here on; what ran on it before counts now."""
    machine = str(record["machine"])
    for experiment in [*state.open(), *([state.incumbent] if state.incumbent else [])]:
        for run in experiment.runs:
            if run.outcome in ("ok", ELSEWHERE):
                run.outcome = "ok" if run.machine == machine else ELSEWHERE
        experiment.fresh_from = 0
        _mean_again(experiment)
    state.moved = state.seq + 1
    state.belief = dict(record["belief"])  # type: ignore[call-overload]


def _withdrawn(state: State, record: Record) -> None:
    """Nobody waits for the rest of a request any more."""
    for place in state.places():
        for run in place.runs:
            if run.request == record["request"] and run.outcome is None:
                run.outcome, run.detail = "cancelled", str(record["reason"])
                state.waiting = [name for name in state.waiting if name != run.id]


def _remarked(state: State, record: Record) -> None:
    state.remarks.append({**_values(record), "at": str(record["at"]), "seen": "", "done": ""})


def _remark_seen(state: State, record: Record) -> None:
    names = list(record["remarks"])  # type: ignore[call-overload]
    for said in (*state.remarks, *state.checkpoints):
        if said.get("remark", said.get("checkpoint")) in names:
            said["seen"] = str(record["at"])


def _remark_done(state: State, record: Record) -> None:
    for remark in state.remarks:
        if remark["remark"] == record["remark"]:
            remark["seen"] = remark["seen"] or str(record["at"])
            remark["done"] = str(record["at"])


def _checkpoint(state: State, record: Record) -> None:
    state.checkpoints.append({**_values(record), "at": str(record["at"]), "answer": ""})


def _answered(state: State, record: Record) -> None:
    for asked in state.checkpoints:
        if asked["checkpoint"] == record["checkpoint"]:
            asked.update(_values(record), answered=str(record["at"]), seen="")


def _place(state: State, record: Record) -> Place:
    """Where the run of a record belongs: to its confirmation or study, else to its experiment."""
    name = str(record.get("confirmation") or str(record["run"]).split(".")[0])
    if name in state.studies:
        return state.studies[name]
    return state.confirmations[name] if name in state.confirmations else _experiment(state, record)


def _run_ended(state: State, record: Record) -> None:
    place = _place(state, record)
    run = next(r for r in place.runs if r.id == record["run"])
    for name, value in _values(record, "experiment", "run").items():
        setattr(run, name, value)
    run.ended, run.load = state.seq + 1, max(run.load, len(state.going))
    state.going = [name for name in state.going if name != run.id]
    state.waiting = [name for name in state.waiting if name != run.id]
    if run.outcome in HOST_TROUBLE:
        place.host_failures += 1
    elif run.counts:
        place.host_failures = 0
    if not isinstance(place, Experiment):
        return
    experiment = place
    if run.counts:
        _mean_again(experiment)


def _mean_again(experiment: Experiment) -> None:
    """The incumbent's metric follows the runs that come to it, or go, after its verdict."""
    numbers = [r.metric for r in experiment.good_runs if r.metric is not None]
    if experiment.verdict == "keep" and numbers:
        experiment.metric = sum(numbers) / len(numbers)


def _set_aside(state: State, record: Record) -> None:
    """A run that another program slowed down is no evidence any more; it runs again."""
    place = _place(state, record)
    run = next(r for r in place.runs if r.id == record["run"])
    run.outcome, run.detail = "contended", str(record["reason"])
    if isinstance(place, Experiment):
        _mean_again(place)


def _verdict(state: State, record: Record) -> None:
    experiment = _experiment(state, record)
    if record["verdict"] == "keep":
        _leave_incumbent(state, experiment)
    for name, value in _values(record, "experiment", "belief", "belief_of").items():
        setattr(experiment, name, value)
    experiment.verdict_at = str(record["at"])
    experiment.settled = False
    if record.get("belief_of"):  # it was judged against a former incumbent
        state.left[str(record["belief_of"])] = dict(record["belief"])  # type: ignore[call-overload]
    elif record.get("belief"):
        state.belief = dict(record["belief"])  # type: ignore[call-overload]
    elif experiment.verdict == "keep":
        state.belief = {}  # an older release's: the next decision starts from the incumbent's runs
    state.unchecked = 0 if experiment.verdict == "keep" else state.unchecked + 1
    if experiment.verdict == "keep":
        state.incumbent_id = experiment.id


def _leave_incumbent(state: State, kept: Experiment) -> None:
    """Remember what is believed of incumbents that open experiments are still measured against."""
    if state.belief:
        state.left[state.incumbent_id] = state.belief
    if state.left:
        needed = {e.parent for e in state.open() if e is not kept and e.begun}
        state.left = {n: b for n, b in state.left.items() if state.experiments[n].commit in needed}


def _drift(state: State, record: Record) -> None:
    _experiment(state, record).fresh_from = int(str(record["fresh_from"]))
    state.belief = dict(record["belief"])  # type: ignore[call-overload]
    state.drifts.append(str(record["at"]))


def _settled(state: State, record: Record) -> None:
    _experiment(state, record).settled = True


def _confirm_started(state: State, record: Record) -> None:
    """A new confirmation, or one that goes on with more pairs."""
    identity = str(record["confirmation"])
    known = state.confirmations.get(identity)
    if known:
        known.pairs, known.verdict, known.cut = int(str(record["pairs"])), "", ""
        return
    values = _values(record, "confirmation")
    state.confirmations[identity] = Confirmation(id=identity, at=str(record["at"]), **values)  # type: ignore[arg-type]


def _confirm_look(state: State, record: Record) -> None:
    state.confirmations[str(record["confirmation"])].looks.append(int(str(record["pairs"])))


def _confirmed(state: State, record: Record) -> None:
    confirmation = state.confirmations[str(record["confirmation"])]
    _confirm_look(state, record)
    for name in ("verdict", "reason", "cut", "result"):
        setattr(confirmation, name, record[name])
    confirmation.told += 1
    confirmation.ended = str(record["at"])


def _study_started(state: State, record: Record) -> None:
    identity = str(record["study"])
    state.studies[identity] = Study(id=identity, at=str(record["at"]), **_values(record, "study"))  # type: ignore[arg-type]


def _study_look(state: State, record: Record) -> None:
    study = state.studies[str(record["study"])]
    study.looks.append(int(str(record["pairs"])))
    study.settled = [str(name) for name in record["settled"]]  # type: ignore[attr-defined]


def _studied(state: State, record: Record) -> None:
    study = state.studies[str(record["study"])]
    study.verdict, study.cut, study.ended = "done", str(record["cut"]), str(record["at"])
    study.rows = [dict(row) for row in record["rows"]]  # type: ignore[attr-defined]


def _sweep_started(state: State, record: Record) -> None:
    """A new sweep, or one that goes on with another number of trials."""
    unended = {"ended": "", "kept": "", "reason": "", "cut": ""}
    state.sweeps[str(record["sweep"])] = {**_values(record), **unended}


def _sweep_ended(state: State, record: Record) -> None:
    state.sweeps[str(record["sweep"])].update(_values(record), ended=str(record["at"]))


def _verified(state: State, record: Record) -> None:
    state.verified = {"at": record["at"], **_values(record)}


def _heldout_look(state: State, record: Record) -> None:
    state.heldout = {"at": record["at"], **_values(record)}


def _heldout_scored(state: State, record: Record) -> None:
    state.heldout |= _values(record)


def _tree(state: State, record: Record) -> None:
    state.tree_at = str(record["commit"])


def _settings(state: State, record: Record) -> None:
    state.frozen = dict(record["frozen"])  # type: ignore[call-overload]


def _accepted(state: State, record: Record) -> None:
    state.accepted.update({str(k): str(v) for k, v in dict(record["files"]).items()})  # type: ignore[call-overload]


def _stopped(state: State, record: Record) -> None:
    state.stopped = str(record["reason"])
    state.stopped_at, state.stopped_by = str(record["at"]), str(record.get("by", ""))


def _resumed(state: State, record: Record) -> None:
    state.stopped = state.stopped_at = state.stopped_by = ""
    for place in state.places():
        place.host_failures = 0
    for experiment in [*state.open(), *([state.incumbent] if state.incumbent else [])]:
        for run in experiment.runs:  # whatever differed may have been put back: it runs again
            run.outcome = "cancelled" if run.outcome == INCOMPARABLE else run.outcome


def _finished(state: State, record: Record) -> None:
    state.finished = str(record["at"])


def _notice(state: State, record: Record) -> None:
    """Something that people are to be told; `channels` fills as it is delivered."""
    state.notices[str(record["key"])] = {
        **{name: record[name] for name in ("kind", "text", "to", "at")}, "channels": {},
    }  # fmt: skip


def _notified(state: State, record: Record) -> None:
    channels = state.notices[str(record["key"])]["channels"]
    before = channels.get(str(record["channel"]), {})
    fields = {name: record[name] for name in ("outcome", "detail", "at")}
    channels[str(record["channel"])] = {**fields, "tries": before.get("tries", 0) + 1}


def _pushed(state: State, record: Record) -> None:
    again = state.pushed.get("commit") == record["commit"]
    fields = {name: record[name] for name in ("commit", "remote", "outcome", "detail", "at")}
    state.pushed = {**fields, "tries": 1 + (state.pushed["tries"] if again else 0)}


def _agent_started(state: State, record: Record) -> None:
    state.agents.append({**_values(record), "started": str(record["at"])})


def _agent_silent(state: State, record: Record) -> None:
    _agent(state, record)["silent"] = record["seconds"]


def _agent_ended(state: State, record: Record) -> None:
    _agent(state, record).update(_values(record), ended=str(record["at"]))


def _agent(state: State, record: Record) -> Record:
    return next(a for a in reversed(state.agents) if a["session"] == record["session"])


def _drive_ended(state: State, record: Record) -> None:
    if state.agents:
        state.agents[-1]["last"] = True  # of this drive: the next one counts anew
    state.gave_up = str(record["gave_up"])


CHANGES = {
    "campaign_started": _campaign_started,
    "proposed": _proposed,
    "rebased": _rebased,
    "reopened": _reopened,
    "run_started": _run_started,
    "run_ended": _run_ended,
    "set_aside": _set_aside,
    "verdict": _verdict,
    "drift": _drift,
    "settled": _settled,
    "confirm_started": _confirm_started,
    "confirm_look": _confirm_look,
    "confirmed": _confirmed,
    "study_started": _study_started,
    "study_look": _study_look,
    "studied": _studied,
    "sweep_started": _sweep_started,
    "sweep_ended": _sweep_ended,
    "verified": _verified,
    "heldout_look": _heldout_look,
    "heldout_scored": _heldout_scored,
    "tree": _tree,
    "settings": _settings,
    "accepted": _accepted,
    "stopped": _stopped,
    "resumed": _resumed,
    "finished": _finished,
    "notice": _notice,
    "notified": _notified,
    "pushed": _pushed,
    "agent_started": _agent_started,
    "agent_silent": _agent_silent,
    "agent_ended": _agent_ended,
    "drive_ended": _drive_ended,
    "requested": _requested,
    "machine": _machine,
    "withdrawn": _withdrawn,
    "remarked": _remarked,
    "remark_seen": _remark_seen,
    "remark_done": _remark_done,
    "checkpoint": _checkpoint,
    "answered": _answered,
}


def replay(records: Iterable[Record], state: State | None = None) -> State:
    """Apply `records` in order to `state` (a new one by default) and return it."""
    state = state or State()
    for record in records:
        apply(state, record)
    return state
