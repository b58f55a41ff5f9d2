"""An agent without a thought: it runs what the last `next:` line names, and edits when told to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from world import Answer, Project

NEXT = re.compile(r"^next: (.+)$", re.MULTILINE)
COMMAND = re.compile(r"`([a-z]+)([^`]*)`|^([a-z]+)(?=[,;.]|$)")  # in backticks, or a word at the start
CALLS_ALLOWED = 80  # an agent that goes in circles is stopped


@dataclass(frozen=True)
class Edit:
    """One prepared idea."""

    hypothesis: str
    old: str
    new: str
    flags: tuple[str, ...] = ()


@dataclass
class DumbAgent:
    """Follows `next:` lines in `project` until `finish` succeeds; `before(n)` is the world around it."""

    project: Project
    edits: list[Edit]
    before: Callable[[int], None] = lambda _: None
    calls: list[tuple[tuple[str, ...], Answer]] = field(default_factory=list)
    _edited: Edit | None = None  # what stands in the working tree and has not become an experiment

    def work(self, *first: str) -> None:
        """Begin with the command `first` and go on until the campaign is finished."""
        command = first
        while True:
            self.before(len(self.calls))
            answer = self._run(command)
            if command[0] == "finish" and answer.code == 0:
                return
            assert len(self.calls) < CALLS_ALLOWED, self.story()
            command = self._next(answer)

    def _run(self, command: tuple[str, ...]) -> Answer:
        answer = self.project.run(*command)
        self.calls.append((command, answer))
        if command[0] == "try" and answer.code in (0, 124):
            self._edited = None
        return answer

    def _next(self, answer: Answer) -> tuple[str, ...]:
        """The next command: the first one of the last `next:` line; `status` where there is no such line."""
        lines = NEXT.findall(answer.out)
        if not lines:
            assert self.calls[-1][0] != ("status",), self.story()
            return ("status",)
        named = COMMAND.search(lines[-1])
        assert named, f"no command in {lines[-1]!r}\n{self.story()}"
        verb, rest = named[1] or named[3], (named[2] or "").strip()
        if verb == "try":
            return self._try()
        # A word in capitals stands for something to think of, which is not this agent's strength.
        assert not re.search(r"\b[A-Z]{2,}\b", rest), f"cannot fill in {lines[-1]!r}\n{self.story()}"
        return (verb, *rest.split())

    def _try(self) -> tuple[str, ...]:
        if self._edited is None:
            assert self.edits, f"asked for more than was prepared\n{self.story()}"
            self._edited = self.edits.pop(0)
            self.project.edit(self._edited.old, self._edited.new)
        return ("try", self._edited.hypothesis, *self._edited.flags)

    def story(self) -> str:
        """Every call with its exit code and the end of what came back."""
        return "\n".join(
            f"{' '.join(c)} -> {a.code}: {(a.out + a.err).strip()[-200:]}" for c, a in self.calls[-12:]
        )
