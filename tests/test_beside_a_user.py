"""An agent and a user at work in one checkout, in any order: what the user has stays as the user left it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from world import Answer, Project, a_project, carrying, wait_until

from lab import loop, propose, settle, setup
from lab.campaign import Lab
from lab.detect import Wishes
from lab.errors import REFUSED, LabError
from lab.locks import hold
from lab.model import Experiment

VALUE = "model/value.txt"
PADDING = "".join(f"# line {n}\n" for n in range(2, 9))
# Keeps a copy of what ran and counts its own starts, so that both can be compared with what is claimed.
TRAIN = """read value < model/value.txt
echo start >> "$AUTORESEARCH_RUN_DIR/starts"
cp -R model "$AUTORESEARCH_RUN_DIR/ran"
[ "$value" = crash ] && echo "ValueError: it broke" >&2 && exit 3
echo "val_loss: $value"
"""
FILES = {
    "train.sh": TRAIN,
    VALUE: f"1.0\n{PADDING}tail 0\n",
    "docs/guide.md": "the guide\n",
    "docs/other.md": "other words\n",
    "tools.py": "print('the user's own tool')\n",
    ".gitignore": "private/\n",
}
KINDS = ["better", "better", "worse", "crash", "nan", "close"]
WAITS = [30.0, 0.0, 30.0, 0.0, 30.0]  # seconds; 0 leaves the run to go on beside what comes next
OURS = ("autoresearch/", "notes/autoresearch", "heads/autoresearch/t1")


@dataclass
class Belongings:
    """Everything in the checkout that is the user's."""

    files: dict[str, bytes]
    git: dict[str, bytes]  # index, config, HEAD, the stash's list
    refs: str


OPERATIONS: Counter[str] = Counter()


# What either of them may do next, and how often in comparison; Hypothesis calls the first one simplest.
WEIGHTS = {
    "agent_edits_and_tries": 8, "agent_edits_the_value": 2, "agent_edits_the_tail_only": 2,
    "agent_adds_a_file": 1, "agent_deletes_a_file": 1, "agent_tries": 3, "agent_waits": 2,
    "agent_restores": 1, "agent_asks_for_the_status": 1, "stop_and_resume": 2, "a_try_is_killed": 4,
    "user_edits_a_tracked_file": 2, "user_stages_an_edit_and_goes_on": 2, "user_writes_a_new_file": 2,
    "user_makes_a_branch_with_a_commit": 1, "user_commits_on_the_branch": 1, "user_stashes_own_file": 1,
    "user_sets_a_config_key": 1, "user_tags": 1, "user_collects_garbage": 1,
    "a_killed_git_leaves_its_lock": 1,
}  # fmt: skip
NAMES = [name for name, weight in WEIGHTS.items() for _ in range(weight)]


class CheckoutOfTwo(RuleBasedStateMachine):
    """The rules are what either of them may do next; the invariants hold after each."""

    steps: tuple[str, ...] = ()  # where a `try` can be killed

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="beside-"))
        self.world: Project = a_project(self.folder / "project", FILES)
        self.root = self.world.root
        self.number = 0
        self.best = 1.0
        self.proposed: dict[str, dict[str, bytes]] = {}  # hypothesis -> files of model/ as they were tried
        self.pending: dict[str, str] = {}  # file -> line by which an edit that was not tried is known
        self.settled = True  # no process was killed since the last verb that ended
        self.checked: set[str] = set()
        wishes = Wishes("sh train.sh", "val_loss", "min", ("model",), ("train.sh",), (), 30, None, None)
        setup.begin(Lab(self.root), "t1", wishes)
        with self.agent("baseline") as lab:
            with lab.changing("baseline"):
                propose.propose_baseline(lab, 1)
            loop.wait_for(lab, "e000", 300)
        self.belongings = self.look()

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 9999))
    def operate(self, name: str, number: int) -> None:
        getattr(self, name)(number)
        OPERATIONS[name] += 1

    # -- the agent -----------------------------------------------------------------------------------

    def agent(self, verb: str) -> _Agent:
        return _Agent(self, verb)

    def lab(self) -> Lab:
        lab = Lab.find(self.root)
        lab.read()
        return lab

    def agent_edits_the_value(self, number: int) -> None:
        self.edit(KINDS[number % len(KINDS)])

    def edit(self, kind: str) -> None:
        self.number += 1
        value = {
            "better": f"{self.best * 0.97:.3f}{self.number:03d}",
            "worse": f"{2 + self.number}.0",
            "crash": "crash",
            "nan": "nan",
            "close": f"{self.best:.3f}{self.number:03d}",
        }[kind]
        if kind == "better":
            self.best *= 0.97
        lines = self.incumbent()[VALUE].decode().split("\n")
        tail = f"tail {self.number}" if kind in ("crash", "nan") else lines[-2]
        self.write(VALUE, "\n".join([value, *lines[1:-2], tail, ""]), value)

    def agent_edits_the_tail_only(self, number: int) -> None:
        self.number += 1
        text = self.world.read(VALUE)
        if "<<<<<<<" in text:
            return
        self.write(VALUE, text[: text.rindex("tail")] + f"tail {self.number}\n", f"tail {self.number}")

    def agent_adds_a_file(self, number: int) -> None:
        self.number += 1
        self.write(f"model/extra {self.number % 3}.txt", f"more {self.number}\n", f"more {self.number}")

    def agent_deletes_a_file(self, number: int) -> None:
        for path in sorted((self.root / "model").glob("extra*"))[:1]:
            path.unlink()
            self.pending[str(path.relative_to(self.root))] = ""

    def write(self, name: str, text: str, line: str) -> None:
        self.world.write(name, text)
        self.pending[name] = line

    def agent_edits_and_tries(self, number: int) -> None:
        self.edit(KINDS[number % len(KINDS)])
        self.attempt(WAITS[number % len(WAITS)])

    def agent_tries(self, number: int) -> None:
        self.attempt(WAITS[number % len(WAITS)])

    def attempt(self, wait: float) -> None:
        self.number += 1
        hypothesis = f"idea {self.number}"
        with self.agent("try") as lab:
            try:
                experiment = self.propose(lab, hypothesis)
            except LabError as refusal:
                assert refusal.hint
                return
            loop.wait_for(lab, experiment.id, wait)

    def propose(self, lab: Lab, hypothesis: str) -> Experiment:
        with lab.changing("try"):
            loop.advance(lab)
            files = self.model()
            try:
                experiment = propose.propose(lab, hypothesis, {"because": "a reason"}, False, False)
            except LabError as refusal:
                if refusal.code != REFUSED or "tools.py" not in refusal.message:
                    raise
                experiment = propose.propose(lab, hypothesis, {}, True, False)
        self.proposed[hypothesis] = files
        self.pending = {}
        return experiment

    def agent_waits(self, number: int) -> None:
        with self.agent("wait") as lab:
            for experiment in list(lab.read().open()):
                loop.wait_for(lab, experiment.id, 300)

    def agent_restores(self, number: int) -> None:
        with self.agent("restore") as lab, lab.changing("restore") as state:
            settle.catch_up(lab)
            known = list(state.experiments.values())[1:]
            if not known:
                return
            found = known[number % len(known)]
            folder = lab.home / "conflicts" / f"restore-{found.id}"
            lab.workspace.sync(found.parent, found.commit, lab.settings.edit, folder)
            self.pending |= dict.fromkeys(found.files, "")

    def agent_asks_for_the_status(self, number: int) -> None:
        assert self.cli("status").code == 0

    def stop_and_resume(self, number: int) -> None:
        assert self.cli("stop", *(["--now"] if number % 2 else [])).code == 0
        assert self.cli("resume").code == 0

    def a_try_is_killed(self, number: int) -> None:
        """kill -9 of the command or of its supervisor, at any of the named steps."""
        self.number += 1
        hypothesis, files = f"idea {self.number}", self.model()
        before = self.lab().state
        standing = before.incumbent_commit if before.tree_at == before.incumbent_commit else ""
        here = self.steps[number // 2 % len(self.steps)]
        self.cli("try", hypothesis, "--leave-out", "--wait", "20", env={"AUTORESEARCH_DIE_AT": here})
        wait_until(lambda: not carrying(self.folder))
        self.settled = False
        for record in (r for r in self.world.records() if r["event"] == "proposed"):
            # As it was proposed: a keep meanwhile puts it on another parent. A keep that came in first was
            # merged into the edit, and what was tried is not what stood here.
            if record["hypothesis"] == hypothesis:
                same = record["parent"] == standing
                self.proposed[hypothesis] = files if same else self.tree(record["commit"])
                self.pending = {}
        if number % 2:
            assert self.cli("resume").code == 0

    def cli(self, *args: str, env: dict[str, str] | None = None) -> Answer:
        answer = self.world.run("--json", *args, env=env)
        assert answer.code != 1, answer.err
        if answer.code >= 0:
            self.settled = True
        return answer

    # -- the user ------------------------------------------------------------------------------------

    def user(self, *command: str) -> str:
        (self.root / ".git/index.lock").unlink(missing_ok=True)
        return self.world.git(*command)

    def user_edits_a_tracked_file(self, number: int) -> None:
        self.number += 1
        name = ("docs/guide.md", "docs/other.md", "tools.py")[number % 3]
        self.world.write(name, f"the user's words {self.number}\r\n")
        self.belongings = self.look()

    def user_stages_an_edit_and_goes_on(self, number: int) -> None:
        self.number += 1
        name = ("docs/guide.md", "docs/other.md", "docs/new.md")[number % 3]
        self.world.write(name, f"staged {self.number}\n")
        self.user("add", name)
        self.world.write(name, f"staged {self.number}\nand not staged\n")
        self.belongings = self.look()

    def user_writes_a_new_file(self, number: int) -> None:
        self.number += 1
        name = ("draft.txt", "deep/er/bytes.bin", "private/key", "private/data/x", "völlig neu")[number % 5]
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([0, 255, 10, self.number % 256]))
        self.belongings = self.look()

    def user_makes_a_branch_with_a_commit(self, number: int) -> None:
        self.number += 1
        commit = self.user("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", f"side {self.number}")
        self.user("branch", f"side/{self.number}", commit)
        self.belongings = self.look()

    def user_commits_on_the_branch(self, number: int) -> None:
        self.number += 1
        self.world.write("docs/guide.md", f"committed {self.number}\n")
        self.user("commit", "-q", "-m", f"guide {self.number}", "--only", "docs/guide.md")
        self.belongings = self.look()

    def user_stashes_own_file(self, number: int) -> None:
        self.number += 1
        self.world.write("docs/other.md", f"to be stashed {self.number}\n")
        self.user("stash", "push", "-q", "--", "docs/other.md")
        self.belongings = self.look()

    def user_sets_a_config_key(self, number: int) -> None:
        self.number += 1
        self.user("config", "user.favourite", f"number {self.number}")
        self.belongings = self.look()

    def user_tags(self, number: int) -> None:
        self.number += 1
        self.user("tag", "-a", "-m", "a tag", f"v{self.number}")
        self.belongings = self.look()

    def user_collects_garbage(self, number: int) -> None:
        self.user("gc", "-q")
        self.belongings = self.look()

    def a_killed_git_leaves_its_lock(self, number: int) -> None:
        (self.root / ".git/index.lock").touch()
        self.belongings = self.look()

    # -- what must hold ------------------------------------------------------------------------------

    def model(self) -> dict[str, bytes]:
        folder = self.root / "model"
        return {str(p.relative_to(self.root)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def tree(self, commit: str) -> dict[str, bytes]:
        names = self.world.git("ls-tree", "-r", "-z", "--name-only", commit, "model/").split("\0")
        return {name: self.blob(commit, name) for name in names if name}

    def blob(self, commit: str, name: str) -> bytes:
        return (self.world.git("cat-file", "blob", f"{commit}:{name}") + "\n").encode()

    def incumbent(self) -> dict[str, bytes]:
        return self.tree(self.lab().state.incumbent_commit)

    def still(self) -> AbstractContextManager[None]:
        """No mover gives a verdict meanwhile: branch, rows and files are those of one moment."""
        return hold(self.root / ".autoresearch/state.lock", "look", 60)

    def look(self) -> Belongings:
        """The user's things as they are now."""
        with self.still():
            ours = (".git", ".autoresearch", "model", "results.tsv")
            files = {
                str(path.relative_to(self.root)): path.read_bytes()
                for top in self.root.iterdir()
                if top.name not in ours
                for path in ([top] if top.is_file() else top.rglob("*"))
                if path.is_file()
            }
            names = ("index", "config", "HEAD", "logs/refs/stash", "info/exclude", "index.lock")
            git = {
                n: (self.root / ".git" / n).read_bytes() for n in names if (self.root / ".git" / n).exists()
            }
            lines = self.world.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
            return Belongings(
                files,
                git,
                "\n".join(line for line in lines if not line.removeprefix("refs/").startswith(OURS)),
            )

    @invariant()
    def the_user_has_everything(self) -> None:
        if not hasattr(self, "belongings"):
            return
        now = self.look()
        assert now.files == self.belongings.files
        assert now.git == self.belongings.git
        assert now.refs == self.belongings.refs

    @invariant()
    def the_agents_edit_is_not_lost(self) -> None:
        for name, line in getattr(self, "pending", {}).items():
            saved = (self.root / ".autoresearch").glob(f"conflicts/*/{name.replace('/', '__')}/edited")
            texts = [path.read_text() for path in (self.root / name, *saved) if path.exists()]
            assert not line or any(line in text.split("\n") for text in texts), (name, line)

    @invariant()
    def the_branch_is_exactly_the_keeps(self) -> None:
        if not hasattr(self, "belongings") or not self.settled:
            return
        with self.still():
            state = self.lab().state
            keeps = [e.commit for e in state.experiments.values() if e.verdict == "keep"]
            chain = self.world.git("rev-list", "--first-parent", "--reverse", f"{state.base}..{state.branch}")
            assert [state.base, *chain.split()] == keeps
            if state.tree_at == state.incumbent_commit and not self.pending:
                assert self.model() == self.incumbent()

    @invariant()
    def every_row_is_what_ran(self) -> None:
        if not hasattr(self, "belongings") or not self.settled:
            return
        with self.still():
            state = self.lab().state
            given = [e for e in state.experiments.values() if e.verdict]
            rows = [line.split("\t") for line in self.world.read("results.tsv").splitlines()[1:]]
            assert [row[0] for row in rows] == [e.commit[:7] for e in given]
            assert [row[3] for row in rows] == [e.verdict for e in given]
            for experiment in given:
                if experiment.id not in self.checked:
                    self.checked.add(experiment.id)
                    self.compare(experiment)

    def compare(self, experiment: Experiment) -> None:
        """What was proposed, what the commit holds and what ran are the same bytes, and it ran once."""
        records = [r for r in self.world.records() if r.get("experiment") == experiment.id]
        assert sum(r["event"] == "verdict" for r in records) == 1
        first = next(r for r in records if r["event"] == "proposed")
        if experiment.number:
            assert self.tree(first["commit"]) == self.proposed[experiment.hypothesis]
        held = self.tree(experiment.commit)
        for run in experiment.runs:
            folder = self.root / ".autoresearch/runs" / run.id
            if (folder / "ran").exists():
                ran = {f"model/{p.name}": p.read_bytes() for p in (folder / "ran").iterdir()}
                assert ran == held
                assert (folder / "starts").read_text() == "start\n"
            else:
                assert not run.counts

    @invariant()
    def nothing_lies_about(self) -> None:
        if not hasattr(self, "belongings") or not self.settled:
            return
        with self.still():
            if not list(self.lab().state.open()):  # a supervisor at work writes its heartbeat
                assert not list(self.root.rglob("*.autoresearch-tmp"))
            locks = {str(p.relative_to(self.root / ".git")) for p in (self.root / ".git").rglob("*.lock")}
            assert locks <= {"index.lock"}

    def teardown(self) -> None:
        if not hasattr(self, "belongings"):
            return
        try:
            assert self.cli("resume").code == 0
            self.agent_waits(0)
            for check in (
                self.the_user_has_everything,
                self.the_branch_is_exactly_the_keeps,
                self.every_row_is_what_ran,
                self.nothing_lies_about,
            ):
                check()
            assert self.cli("finish").code == 0
            self.the_user_has_everything()
            assert not list(self.lab().state.open())
            wait_until(lambda: not carrying(self.folder, "PATH"))  # a mover may still be about to leave
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


class _Agent:
    """One call of a verb by an agent, with what the command line does around it."""

    def __init__(self, machine: CheckoutOfTwo, verb: str) -> None:
        self.machine, self.verb = machine, verb

    def __enter__(self) -> Lab:
        lab = self.machine.lab()
        self.alone = lab.alone(self.verb)
        self.alone.__enter__()
        return lab

    def __exit__(self, *error: object) -> None:
        self.alone.__exit__(*error)
        if error[0] is None:
            self.machine.settled = True


def steps_of_a_try(folder: Path) -> tuple[str, ...]:
    """Every named step that one kept `try` goes through, the supervisor's among them."""
    world = a_project(folder / "scout", FILES)
    flags = ["--command", "sh train.sh", "--metric", "val_loss", "--goal", "min", "--edit", "model"]
    world.begin(*flags, "--protect", "train.sh")
    world.write(VALUE, FILES[VALUE].replace("1.0", "0.5"))
    names = folder / "steps"
    world.ok("try", "enumerate", env={"AUTORESEARCH_STEPS": str(names)})
    return tuple(dict.fromkeys(names.read_text().split()))


def work_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: int, steps: int, same_each_time: bool
) -> int:
    """Run the machine; return the number of operations done."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    CheckoutOfTwo.steps = steps_of_a_try(tmp_path)
    assert len(CheckoutOfTwo.steps) > 20
    OPERATIONS.clear()
    run_state_machine_as_test(
        CheckoutOfTwo,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=same_each_time,
            # A failure is printed as its list of steps; shrinking would take an hour of real git.
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
        _min_steps=steps - 1,
    )
    done = OPERATIONS.total()
    print(json.dumps({"operations": done, **dict(OPERATIONS.most_common())}))
    print(f"FIGURE P4 operations={done} kills={OPERATIONS['a_try_is_killed']} disturbed=0", flush=True)
    assert not list(tmp_path.glob("beside-*"))
    return done


def test_an_agent_and_a_user_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert work_beside_each_other(tmp_path, monkeypatch, 3, 21, same_each_time=True) >= 60


@pytest.mark.slow
def test_a_thousand_operations_leave_the_users_things_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same thousand at each check, so that a failure comes again; others with `--faults`."""
    fixed = not os.environ.get("FAULTS_EVERY_POINT")
    assert work_beside_each_other(tmp_path, monkeypatch, 26, 40, same_each_time=fixed) >= 1000
