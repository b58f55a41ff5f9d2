from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from world import Project, a_project

from lab.chain import linked
from lab.model import State


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A campaign with a keep and a discard, to copy."""
    world = a_project(tmp_path_factory.mktemp("verify") / "p")
    world.begin(repeats=2)
    world.edit("LR = 1.00", "LR = 0.50")
    world.ok("try", "better")
    world.edit("LR = 0.50", "LR = 0.90")
    world.ok("try", "worse")
    return world


@pytest.fixture
def world(measured: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(measured.root, tmp_path / "p", symlinks=True), dict(measured.env))


def journal(world: Project) -> Path:
    return world.root / ".autoresearch" / "journal.jsonl"


def rewrite(world: Project, change: Callable[[dict], object]) -> None:
    """Change records and make the whole chain anew, as somebody who knows the tool would."""
    end, lines = "", []
    for record in world.records():
        change(record)
        record.pop("link")
        lines.append(linked(json.dumps(record, separators=(",", ":")).encode(), end or _start()))
        end = json.loads(lines[-1])["link"]
    journal(world).write_bytes(b"".join(lines))


def _start() -> str:
    from lab.chain import Chain

    return Chain().end


def set_metric(run: str, value: float) -> Callable[[dict], object]:
    def change(record: dict) -> None:
        if record.get("run") == run and record["event"] == "run_ended":
            record["metric"] = value
        if record["event"] == "verdict" and record["experiment"] == run[:4]:
            record["metric"] = value

    return change


def forge_result(world: Project, run: str, value: float) -> None:
    path = world.root / ".autoresearch/runs" / run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "metric": value}))


def forge_log(world: Project, run: str, value: float) -> None:
    path = world.root / ".autoresearch/runs" / run / "run.log"
    path.write_text(f"val_bpb: {value}\n")


def test_an_honest_record_holds(world: Project) -> None:
    before = journal(world).read_bytes()
    found = world.ok("verify")
    assert found["holds"] is True and found["first"] is None and found["misfits"] == []
    assert (found["held_from"], found["experiments"], found["exported"]) == (1, 3, 3)
    assert (found["reread"], found["unread"]) == (5, 0)
    assert found["records"] == len(world.records()) and journal(world).read_bytes() == before
    assert world.run("verify").out.startswith("RECORD HOLDS")


def a_number_by_hand(world: Project) -> None:
    journal(world).write_bytes(journal(world).read_bytes().replace(b'"metric":0.5', b'"metric":0.1'))


def a_number_with_a_new_chain(world: Project) -> None:
    rewrite(world, set_metric("e001.1", 0.1))


def a_number_and_its_result(world: Project) -> None:
    rewrite(world, set_metric("e001.1", 0.1))
    forge_result(world, "e001.1", 0.1)


def a_number_its_result_and_its_log(world: Project) -> None:
    rewrite(world, set_metric("e001.1", 0.1))
    forge_result(world, "e001.1", 0.1)
    forge_log(world, "e001.1", 0.1)


def a_discard_made_a_keep(world: Project) -> None:
    rewrite(world, lambda r: r.update(verdict="keep") if r.get("verdict") == "discard" else None)


def a_record_taken_out(world: Project) -> None:
    lines = journal(world).read_bytes().splitlines(keepends=True)
    journal(world).write_bytes(b"".join(lines[:9] + lines[10:]))


def the_last_verdict_cut_off(world: Project) -> None:
    lines = journal(world).read_bytes().splitlines(keepends=True)
    end = next(n for n in range(len(lines) - 1, 0, -1) if b'"event":"verdict"' in lines[n])
    journal(world).write_bytes(b"".join(lines[:end]))


def the_last_experiment_cut_off(world: Project) -> None:
    lines = journal(world).read_bytes().splitlines(keepends=True)
    end = next(n for n in range(len(lines)) if b'"proposed","experiment":"e002"' in lines[n])
    journal(world).write_bytes(b"".join(lines[:end]))


def another_commit_in_the_record(world: Project) -> None:
    other = world.git("commit-tree", "main^{tree}", "-p", "main", "-m", "not what ran")
    mine = next(r["commit"] for r in world.records() if r.get("experiment") == "e001")
    rewrite(world, lambda r: r.update(commit=other) if r.get("commit") == mine else None)


def a_ref_moved(world: Project) -> None:
    world.git("update-ref", "refs/autoresearch/t1/2", "main")


def the_branch_moved(world: Project) -> None:
    world.git("update-ref", "refs/heads/autoresearch/t1", "refs/autoresearch/t1/2")


def the_code_of_a_commit_replaced(world: Project) -> None:
    """The object of the kept commit itself, under its old name."""
    name = world.git("rev-parse", "refs/autoresearch/t1/1")
    path = world.root / ".git/objects" / name[:2] / name[2:]
    text = zlib.decompress(path.read_bytes())
    path.chmod(0o644)
    path.write_bytes(zlib.compress(text.replace(b"better", b"wonder")))


def a_spec_of_another_evaluation(world: Project) -> None:
    path = world.root / ".autoresearch/runs/e001.1/spec.json"
    spec = json.loads(path.read_text())
    path.write_text(json.dumps({**spec, "protected": {name: "0" * 64 for name in spec["protected"]}}))


def another_nonce(world: Project) -> None:
    path = world.root / ".autoresearch/runs/e001.1/run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "nonce": "f" * 16}))


def a_row_in_the_table(world: Project) -> None:
    world.write("results.tsv", world.read("results.tsv").replace("0.900000", "0.400000"))


TAMPERED = (
    a_number_by_hand, a_number_with_a_new_chain, a_number_and_its_result, a_number_its_result_and_its_log,
    a_discard_made_a_keep, a_record_taken_out, the_last_verdict_cut_off, the_last_experiment_cut_off,
    another_commit_in_the_record, a_ref_moved, the_branch_moved, the_code_of_a_commit_replaced,
    a_spec_of_another_evaluation, another_nonce, a_row_in_the_table,
)  # fmt: skip
FIRST = {
    a_number_by_hand: "chain", a_number_with_a_new_chain: "run.json says 0.5",
    a_number_and_its_result: "its log says 0.5", a_number_its_result_and_its_log: "git's note says 0.500000",
    a_record_taken_out: "journal.jsonl:10 (chain)", another_commit_in_the_record: "(e001)",
    a_ref_moved: "(e002)", the_branch_moved: "autoresearch/t1",
    the_code_of_a_commit_replaced: "its content is not its own", a_row_in_the_table: "results.tsv",
    the_last_verdict_cut_off: "lines were cut off", the_last_experiment_cut_off: "lines were cut off",
}  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda t: t.__name__)
def test_what_was_tampered_with_is_named(world: Project, tamper: Callable[[Project], None]) -> None:
    tamper(world)
    answer = world.run("--json", "verify")
    assert answer.code == 4, answer.out + answer.err
    found = answer.json
    assert found["holds"] is False and found["misfits"]
    said = " ".join(f"{m['what']}: {m['text']}" for m in found["misfits"])
    wanted = FIRST.get(tamper, "")
    assert wanted in found["first"] or wanted in said, found


def test_what_does_not_fit_is_the_first_line_a_person_reads(world: Project) -> None:
    a_number_with_a_new_chain(world)
    told = world.run("verify")
    assert told.code == 4 and told.out.startswith("RECORD DOES NOT FIT  journal.jsonl:")
    assert "(e001.1): the journal says 0.1, run.json says 0.5" in told.out.splitlines()[0]


@pytest.mark.parametrize("line", ["17", "[]", "{", '{"event":"verdict"}', '{"event":"teleported"}'])
def test_a_line_that_is_no_record_is_named_and_is_no_bug(world: Project, line: str) -> None:
    lines = journal(world).read_text().splitlines()
    journal(world).write_text("\n".join([*lines[:5], line, *lines[5:], ""]))
    answer = world.run("--json", "verify")
    assert answer.code == 4 and answer.json["first"].startswith("journal.jsonl:6 "), answer.out


def test_rows_measured_again_are_told_and_are_no_evidence(world: Project) -> None:
    before = world.ok("status")
    done = world.ok("verify", "--rerun", "3")
    rows = done["rerun"]["rows"]
    assert [row["experiment"] for row in rows] == ["e000", "e001", "e002"]
    assert all(row["within"] and row["is"] == row["was"] for row in rows)
    assert world.records()[-1]["event"] == "verified"
    after = world.ok("status")
    assert (after["experiments"], after["noise"]) == (before["experiments"], before["noise"])
    assert not (world.root / ".autoresearch/verify.json").exists()
    trees = {p.name for p in (world.root / ".autoresearch/worktrees").iterdir()}
    assert not any(name.startswith("v") for name in trees)
    assert world.ok("verify")["holds"] is True


@pytest.mark.slow
def test_a_made_up_number_does_not_come_out_again(tmp_path: Path) -> None:
    """The metric depends on a file that is there during the campaign only; no commit explains it."""
    world = a_project(tmp_path / "p")
    luck = tmp_path / "luck"
    world.edit("value = LR", f"value = (0.3 if os.path.exists({str(luck)!r}) else 1.0) * LR")
    world.commit()
    world.begin()
    luck.touch()
    world.edit("LR = 1.00", "LR = 0.99")
    assert world.ok("try", "lucky")["verdict"] == "keep"
    luck.unlink()
    done = world.ok("verify", "--rerun", "2")
    assert [row["within"] for row in done["rerun"]["rows"]] == [True, False]
    assert "1 of 2 rows come out the same" in world.run("verify", "--rerun", "2").out


@pytest.mark.slow
def test_a_verify_killed_at_any_step_goes_on_and_is_told_once(world: Project, tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    world.ok("verify", "--rerun", "1", env={"AUTORESEARCH_STEPS": str(steps)})
    points = [p for p in dict.fromkeys(steps.read_text().split()) if not p.startswith("supervisor")]
    assert len(points) >= 8, points
    for number, point in enumerate(points):
        before = [r["event"] for r in world.records()].count("verified")
        world.run("verify", "--rerun", "1", env={"AUTORESEARCH_DIE_AT": point})
        world.ok("verify", "--rerun", "1")
        told = [r["verification"] for r in world.records() if r["event"] == "verified"]
        assert len(told) == len(set(told)) and len(told) - before in (1, 2), (point, told)
        assert not list(world.root.glob(".autoresearch/worktrees/v*")), (number, point)
    assert world.ok("verify")["holds"] is True


def test_a_state_keeps_what_was_verified_through_a_snapshot() -> None:
    from lab.frozen import freeze, thaw

    state = State(verified={"verification": "v1", "rows": []})
    assert thaw(freeze(state)).verified == state.verified
