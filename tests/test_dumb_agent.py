from __future__ import annotations

from pathlib import Path

import pytest
import world
from dumb_agent import COMMAND, NEXT, DumbAgent, Edit

EDITS = (
    Edit("a lower rate", "LR = 1.00", "LR = 0.90"),
    Edit("lower still", "LR = 0.90", "LR = 0.80"),
    Edit("too low", "LR = 0.80", "LR = 0.95"),
    Edit("no rate at all", "LR = 0.80", "LR = 1 / 0"),
    Edit("with a short look only", "LR = 0.80", "LR = 0.70", flags=("--wait", "0.01")),
    Edit("a rate too many", "LR = 0.70", "LR = 0.75"),
    Edit("after the stop", "LR = 0.70", "LR = 0.60"),
    Edit("another print", "step 1 loss 3.2", "step 1 loss 3.1"),
    Edit("back up", "LR = 0.60", "LR = 0.65"),
    Edit("the last", "LR = 0.60", "LR = 0.50"),
)


@pytest.mark.slow
def test_following_next_lines_alone_completes_a_campaign_of_ten(tmp_path: Path) -> None:
    gate = tmp_path / "gate"  # the run that is looked at shortly goes on when that was done
    held = f"while LR == 0.70 and not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)\n"
    files = {"train.py": "import time\n" + world.TRAIN.replace('print("---")', f'{held}print("---")')}
    project = world.a_project(tmp_path / "project", {"prepare.py": world.PREPARE, **files})
    stops: list[int] = []

    def the_user_stops_once(call: int) -> None:
        if agent.calls and agent.calls[-1][1].code == 124:
            gate.touch()
        tried = (project.root / "results.tsv").exists() and len(project.results())
        if not stops and tried == 7:  # the baseline and six
            stops.append(call)
            project.ok("stop")

    agent = DumbAgent(project, list(EDITS), before=the_user_stops_once)
    agent.work("init", "--tag", "t1", "--experiments", "10")

    verdicts = [row[3] for row in project.results()]
    wanted = "keep keep keep discard crash keep discard keep discard discard keep"
    assert verdicts == wanted.split(), agent.story()
    codes = [(command[0], answer.code) for command, answer in agent.calls if answer.code]
    assert codes == [("try", 124), ("try", 4)], agent.story()  # the short look, and the user's stop
    verbs = [command[0] for command, _ in agent.calls]
    assert verbs.count("resume") == 1 and verbs.count("baseline") == 1 and verbs[-1] == "finish"
    assert verbs.count("try") == 11 and not agent.edits
    assert project.records()[-1]["event"] == "finished"
    assert project.git("status", "--porcelain", "--untracked-files=no") == ""


def test_every_answer_on_the_way_names_one_next_line_that_starts_with_a_known_verb(tmp_path: Path) -> None:
    project = world.a_project(tmp_path / "project")
    seen = []
    for command in (
        ("init", "--tag", "t1"),
        ("baseline", "--repeats", "1"),
        ("stop",),
        ("resume",),
        ("status",),
    ):
        answer = project.run(*command)
        seen.append((command[0], [COMMAND.search(line)[0].strip("`") for line in NEXT.findall(answer.out)]))
    assert seen == [
        ("init", ["doctor"]),
        ("baseline", ['try "HYPOTHESIS"']),
        ("stop", ["resume"]),
        ("resume", ['try "HYPOTHESIS"']),
        ("status", ['try "HYPOTHESIS"']),
    ]
