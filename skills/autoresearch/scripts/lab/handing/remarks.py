"""What the person said in between: in journal and memories/said.md, before the agent until it is handled."""

from __future__ import annotations

from lab import notes
from lab.campaign import Lab
from lab.errors import LabError
from lab.model import State
from lab.redact import hide_secrets, one_line
from lab.steps import step

FILE = "said.md"
HEAD = "# What the user said\n\nTheir words, as `note` took them; a tick means handled.\n\n"
SHOWN = 400  # characters
LISTED = 5


def say(lab: Lab, text: str) -> str:
    """Take a remark down; the same words twice while the first is open are one remark."""
    text = one_line(hide_secrets(" ".join(text.split())), 2000)
    if not text:
        raise LabError("the note is empty", 'say it: note "leave the tokenizer alone"')
    known = next((r for r in lab.state.remarks if r["text"] == text and not r["done"]), None)
    if known is None:
        lab.journal.append("remarked", remark=f"n{len(lab.state.remarks) + 1}", text=text, by="user")
        step("note.journalled")
        known = lab.state.remarks[-1]
    follow(lab)
    return str(known["remark"])


def done(lab: Lab, identity: str) -> None:
    """Mark a remark as handled."""
    known = next((r for r in lab.state.remarks if r["remark"] == identity), None)
    if known is None:
        listed = ", ".join(str(r["remark"]) for r in lab.state.remarks) or "none"
        raise LabError(f"there is no note {identity!r}", f"known: {listed}")
    if not known["done"]:
        lab.journal.append("remark_done", remark=identity)
        step("note.done")
    follow(lab)


def acknowledge(lab: Lab) -> None:
    """Journal that the agent was shown what is new."""
    if fresh(lab.state):
        with lab.changing("note") as state:
            unseen = [remark["remark"] for remark in state.remarks if not remark["seen"]]
            answers = [
                asked["checkpoint"]
                for asked in state.checkpoints
                if asked["answer"] and not asked.get("seen")
            ]
            if unseen or answers:
                lab.journal.append("remark_seen", remarks=[*unseen, *answers])


def fresh(state: State) -> list[str]:
    """Lines for the top of the next answer: what no agent was shown yet."""
    lines = [shown(r) for r in state.remarks if not r["seen"] and not r["done"]][:LISTED]
    lines += [
        answered(asked) for asked in state.checkpoints[-1:] if asked["answer"] and not asked.get("seen")
    ]
    return lines


def shown(remark: dict[str, object]) -> str:
    """A remark in one line, marked as the user's words."""
    text, name = one_line(str(remark["text"]), SHOWN), remark["remark"]
    return f'the user says ({name}, {str(remark["at"])[:16]}): "{text}" - `note --done {name}` when handled'


def answered(asked: dict[str, object]) -> str:
    """An answered checkpoint in one line."""
    return f'the user answered {asked["checkpoint"]}: "{one_line(str(asked["answer"]), SHOWN)}"'


def follow(lab: Lab) -> None:
    """Let memories/said.md say what the journal knows; harmless to repeat."""
    path = notes.memory_file(lab.root, FILE)
    with lab.noting("note"):
        notes.change(path, lambda data: _written(data, lab.state))


def _written(data: bytes, state: State) -> bytes:
    """The file with a line for each remark of this campaign, ticked when it is handled."""
    lines = notes.lines_of(data or HEAD.encode())
    for remark in state.remarks:
        mark = f"{{{state.tag}/{remark['remark']}}}".encode()
        box = b"- [x] " if remark["done"] else b"- [ ] "
        at = next((n for n, line in enumerate(lines) if line.rstrip().endswith(mark)), None)
        if at is None:
            words = f"{str(remark['at'])[:16]} {remark['text']} ".encode()
            lines.append(box + words + mark + b"\n")
        elif remark["done"] and lines[at].startswith(b"- [ ] "):
            lines[at] = box + lines[at][len(box) :]
    return b"".join(lines)
