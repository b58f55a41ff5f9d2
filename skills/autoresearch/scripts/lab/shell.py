"""What a shell line would run, read without running it: its commands, their folders, the files they write.

Quotes, here-documents, substitutions, subshells, `cd`, `bash -c`, `eval` and wrappers such as `sudo` or
`xargs` are followed; text that is only printed or committed is no command. What only the shell can know,
such as a variable set elsewhere, is UNKNOWN in a word. Never raises on malformed lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

UNKNOWN = "\0"
FRESH = "/tmp/.mktemp"  # what `$(mktemp -d)` stands for: a folder that is nobody's project
MAX_CHARACTERS = 200_000
MAX_DEPTH = 12  # of shells in shells; a line deeper than this is nobody's honest work

BLANK = " \t"
ENDS_WORD = set(" \t\n;&|()<>")
REDIRECTION = re.compile(r"&>>|&>|\d*(?:<<<|<<-|<<|<>|<&|<|>>|>\||>&|>)")
NAME = re.compile(r"[A-Za-z_]\w*")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
KEYWORDS = {"if", "then", "elif", "else", "while", "until", "do", "{", "!", "time", "coproc"}
SHELLS = {"bash", "sh", "zsh", "dash", "ksh"}
PRINTERS = {"echo", "printf"}
# Programs that run the rest of their line -> their options that take a value.
WRAPPERS: dict[str, tuple[str, ...]] = {
    "sudo": ("-u", "-g", "-C", "-D", "-h", "-p", "-U"),
    "env": ("-u", "-C", "-S", "--chdir", "--unset"),
    "nohup": (), "command": (), "builtin": (), "exec": ("-a",), "setsid": (), "caffeinate": ("-t", "-w"),
    "nice": ("-n", "--adjustment"), "ionice": ("-c", "-n", "-p"), "stdbuf": ("-i", "-o", "-e"),
    "timeout": ("-k", "-s", "--signal", "--kill-after"),
    "xargs": ("-n", "-I", "-P", "-L", "-d", "-s", "-a", "-E", "--max-args", "--max-procs"),
}  # fmt: skip
FIRST_IS_A_NUMBER = {"timeout"}  # `timeout 10 git ...`


@dataclass(frozen=True)
class Command:
    """One program call. `folder`: None where only the shell knows it; `fed`: a pipe brings more arguments."""

    words: tuple[str, ...]
    folder: Path | None
    writes: tuple[str, ...] = ()
    fed: bool = False
    given: str = ""  # its standard input, as far as the line says it

    @property
    def name(self) -> str:
        """The program without its folder."""
        return self.words[0].rsplit("/", 1)[-1] if self.words else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Everything after the program."""
        return self.words[1:]


@dataclass(frozen=True)
class Variable:
    """A part of a word that is the value of a variable."""

    name: str


@dataclass(frozen=True)
class Substitution:
    """A part of a word that is the output of commands."""

    nodes: list[Simple | Group]


Part = str | Variable | Substitution
Word = list[Part]


@dataclass
class Simple:
    """A simple command as written: words, targets of redirections, text on its standard input."""

    words: list[Word] = field(default_factory=list)
    writes: list[Word] = field(default_factory=list)
    text: list[Word] = field(default_factory=list)
    piped: bool = False


@dataclass
class Group:
    """Commands in parentheses: a subshell, whose `cd` ends with it."""

    nodes: list[Simple | Group]


def commands(text: str, folder: Path, variables: Mapping[str, str] | None = None) -> list[Command]:
    """Give every command that `text` would run in `folder`, in order, those inside substitutions too."""
    state = _State(folder, dict(variables or {}))
    return list(_walk(_Reader(text[:MAX_CHARACTERS]).nodes(), state, 0))


# -- reading -------------------------------------------------------------------------------------------


class _Reader:
    """A position in a text, moved forward by each reading method."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.waiting: list[tuple[Simple, str]] = []  # here-documents whose body comes after the line

    def nodes(self, end: str = "") -> list[Simple | Group]:
        """Read commands up to an unmatched `end`, or the end of the text."""
        found: list[Simple | Group] = []
        simple = Simple()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.at = len(self.text)

        def close(piped: bool = False) -> None:
            nonlocal simple
            if simple.words or simple.writes:
                found.append(simple)
            simple = Simple(piped=piped)

        while self.at < len(self.text):
            sign = self.text[self.at]
            if sign in BLANK or self._continued():
                self.at += 2 if sign == "\\" else 1
            elif sign == "#":
                self._skip_to("\n")
            elif sign == "\n":
                self.at += 1
                close()
                self._bodies()
            elif redirection := REDIRECTION.match(self.text, self.at):
                self._redirect(simple, redirection)
            elif sign in ";&|":
                close(piped=self._operator() in ("|", "|&"))
            elif sign == ")":
                self.at += 1
                if end == ")":
                    break
                close()
            elif sign == "(":
                self._parenthesis(simple, found)
            else:
                simple.words.append(self._word())
        close()
        self._bodies()
        self.depth -= 1
        return found

    def _continued(self) -> bool:
        return self.text.startswith("\\\n", self.at)

    def _skip_to(self, mark: str) -> str:
        """Move before `mark` (or to the end) and give what was passed."""
        stop = self.text.find(mark, self.at)
        stop = len(self.text) if stop < 0 else stop
        passed, self.at = self.text[self.at : stop], stop
        return passed

    def _operator(self) -> str:
        began = self.at
        while self.at < len(self.text) and self.text[self.at] in ";&|" and self.at - began < 2:
            self.at += 1
        return self.text[began : self.at]

    def _parenthesis(self, simple: Simple, found: list[Simple | Group]) -> None:
        if self.text.startswith("((", self.at) and not simple.words:
            self._skip_to("))")
            self.at += 2
            return
        self.at += 1
        inside = self.nodes(")")
        if simple.words:  # `f()` defines a function, `a=(...)` an array: no call
            simple.words.clear()
        else:
            found.append(Group(inside))

    def _redirect(self, simple: Simple, found: re.Match[str]) -> None:
        sign = found[0].lstrip("0123456789")
        self.at = found.end()
        if sign in ("<", ">") and self.text.startswith("(", self.at):  # <(...) and >(...)
            self.at += 1
            simple.words.append([Substitution(self.nodes(")"))])
            return
        while self.at < len(self.text) and self.text[self.at] in BLANK:
            self.at += 1
        if sign in ("<<", "<<-"):
            self.waiting.append((simple, _literal(self._word())))
            return
        target = self._word()
        if sign == "<<<":
            simple.text.append(target)
        elif ">" in sign and sign != "<>" and not re.fullmatch(r"\d+-?|-", _literal(target)):
            simple.writes.append(target)

    def _bodies(self) -> None:
        """Read the here-documents that the line before asked for."""
        for simple, mark in self.waiting:
            lines = []
            while self.at < len(self.text):
                line = self._skip_to("\n")
                self.at += 1
                if line.strip("\t") == mark or (line.rstrip(") \t") == mark and mark):
                    self.at -= (
                        1 + len(line) - line.find(mark) - len(mark)
                    )  # what follows on that line is code
                    break
                lines.append(line)
            simple.text.append(["\n".join(lines)])
        self.waiting = []

    def _word(self) -> Word:
        """Read one word; quotes are taken away, expansions become parts."""
        parts: Word = []
        while self.at < len(self.text) and self.text[self.at] not in ENDS_WORD:
            sign = self.text[self.at]
            self.at += 1
            if sign == "'":
                parts.append(self._skip_to("'"))
                self.at += 1
            elif sign == '"':
                parts += self._double_quoted()
            elif sign == "\\":
                if not self.text.startswith("\n", self.at):
                    parts.append(self.text[self.at : self.at + 1])
                self.at += 1
            elif sign == "$":
                parts += self._dollar()
            elif sign == "`":
                parts.append(self._backticks())
            elif sign == "~" and not parts:
                parts.append(Variable("HOME"))
            else:
                parts.append(sign)
        if not parts and self.at < len(self.text) and self.text[self.at] in "<>":
            self.at += 1  # a redirection without a target: go on behind it
        return parts or [""]

    def _double_quoted(self) -> Word:
        parts: Word = [""]
        while self.at < len(self.text):
            sign = self.text[self.at]
            self.at += 1
            if sign == '"':
                break
            if sign == "\\" and self.text[self.at : self.at + 1] in ("$", "`", '"', "\\", "\n"):
                parts.append(self.text[self.at].strip("\n"))
                self.at += 1
            elif sign == "$":
                parts += self._dollar(quoted=True)
            elif sign == "`":
                parts.append(self._backticks())
            else:
                parts.append(sign)
        return parts

    def _dollar(self, quoted: bool = False) -> Word:
        """Read what stands behind a `$`."""
        rest = self.text[self.at : self.at + 2]
        if rest == "((":
            self._skip_to("))")
            self.at += 2
            return [UNKNOWN]
        if rest[:1] == "(":
            self.at += 1
            return [Substitution(self.nodes(")"))]
        if rest[:1] == "{":
            self.at += 1
            inside = self._skip_to("}")
            self.at += 1
            return [Variable(inside) if NAME.fullmatch(inside) else UNKNOWN]
        if rest[:1] == "'" and not quoted:
            self.at += 1
            text = self._skip_to("'")
            self.at += 1
            return [text]
        if name := NAME.match(self.text, self.at):
            self.at = name.end()
            return [Variable(name[0])]
        if rest[:1] in set("@*#?$!-0123456789") and rest:
            self.at += 1
            return [UNKNOWN]
        return ["$"]

    def _backticks(self) -> Substitution:
        inside = self._skip_to("`")
        self.at += 1
        return Substitution(_Reader(inside).nodes())


def _literal(word: Word) -> str:
    return "".join(part if isinstance(part, str) else UNKNOWN for part in word)


# -- following -----------------------------------------------------------------------------------------


@dataclass
class _State:
    """Where a shell stands and what it knows."""

    folder: Path | None
    variables: dict[str, str]

    def copy(self) -> _State:
        return _State(self.folder, dict(self.variables))

    def go(self, target: str) -> None:
        """Follow a `cd`."""
        if UNKNOWN in target or target == "-":
            self.folder = Path(target) if target.startswith("/") and UNKNOWN not in target else None
        elif self.folder is not None or target.startswith("/"):
            self.folder = (self.folder or Path("/")) / target


def _walk(nodes: list[Simple | Group], state: _State, depth: int) -> Iterator[Command]:
    if depth > MAX_DEPTH:
        return
    printed = ""
    for node in nodes:
        if isinstance(node, Group):
            yield from _walk(node.nodes, state.copy(), depth + 1)
            continue
        for word in (*node.words, *node.writes):
            for part in word:
                if isinstance(part, Substitution):
                    yield from _walk(part.nodes, state.copy(), depth + 1)
        words = [_expand(word, state) for word in node.words]
        writes = tuple(_expand(word, state) for word in node.writes)
        given = "\n".join(_expand(word, state) for word in node.text) or (printed if node.piped else "")
        yield from _follow(words, writes, given, state, depth)
        printed = " ".join(words[1:]) if words and words[0] in PRINTERS else ""


def _expand(word: Word, state: _State) -> str:
    return "".join(_value(part, state) for part in word)


def _value(part: Part, state: _State) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Variable):
        if part.name == "PWD" and state.folder:
            return str(state.folder)
        return state.variables.get(part.name, UNKNOWN)
    inside = list(_walk(part.nodes, state.copy(), MAX_DEPTH))
    if len(inside) == 1 and inside[0].words == ("pwd",) and state.folder:
        return str(state.folder)
    if len(inside) == 1 and inside[0].words == ("git", "rev-parse", "--show-toplevel") and state.folder:
        return str(top_level(state.folder) or UNKNOWN)
    if len(inside) == 1 and inside[0].name == "mktemp":
        return FRESH
    return UNKNOWN


def _follow(
    words: list[str], writes: tuple[str, ...], given: str, state: _State, depth: int
) -> Iterator[Command]:
    """Give the command itself, or what it would run in its place."""
    while words and words[0] in KEYWORDS:
        words = words[1:]
    words = _assign(words, state)
    fed = False
    if words and words[0].rsplit("/", 1)[-1] == "cd" or words[:1] == ["pushd"]:
        targets = [word for word in words[1:] if not re.fullmatch(r"-[LPe@n]+|--", word)]
        state.go(targets[0] if targets else state.variables.get("HOME", UNKNOWN))
        return
    inner = state
    while words and (name := words[0].rsplit("/", 1)[-1]) in WRAPPERS:
        inner, fed = inner.copy(), fed or name == "xargs"
        words = _unwrap(name, words[1:], inner)
    if not words:
        if writes:
            yield Command((), inner.folder, writes)
        return
    name = words[0].rsplit("/", 1)[-1]
    script = _script(name, words, given)
    if script is not None:
        shell = inner if name == "eval" else inner.copy()
        yield from _walk(_Reader(script[:MAX_CHARACTERS]).nodes(), shell, depth + 1)
    yield Command(tuple(words), inner.folder, writes, fed, given)
    yield from _executed(name, words, inner)


def _assign(words: list[str], state: _State) -> list[str]:
    """Take leading assignments off; without a command behind them they last."""
    found: dict[str, str] = {}
    rest = words[1:] if words[:1] in (["export"], ["local"], ["declare"]) else words
    while rest and (match := ASSIGNMENT.fullmatch(rest[0])):
        found[match[1]] = match[2]
        rest = rest[1:]
    if not rest:
        state.variables.update(found)
    return rest


def _unwrap(name: str, words: list[str], state: _State) -> list[str]:
    """Take the wrapper's own options off its line."""
    valued = WRAPPERS[name]
    while words and words[0].startswith("-") and words[0] != "-":
        option, *words = words
        if option == "--":
            break
        if option in valued and words:
            value, *words = words
            if name == "env" and option in ("-C", "--chdir"):
                state.go(value)
    if name in FIRST_IS_A_NUMBER:
        words = words[1:]
    return _assign(words, state) if name in ("env", "sudo") else words


def _script(name: str, words: list[str], given: str) -> str | None:
    """The text that a shell call runs: of `-c`, of eval, or what it reads."""
    if name == "eval":
        return " ".join(words[1:])
    if name not in SHELLS:
        return None
    for position, word in enumerate(words[1:], 1):
        if re.fullmatch(r"-[a-z]*c", word):
            return words[position + 1] if len(words) > position + 1 else None
        if not word.startswith("-"):
            return None  # a script file
    return given or None


def _executed(name: str, words: list[str], state: _State) -> Iterator[Command]:
    """What `find -exec` runs."""
    if name != "find":
        return
    for position, word in enumerate(words):
        if word in ("-exec", "-execdir", "-ok", "-okdir"):
            rest = words[position + 1 :]
            ends = [place for place, one in enumerate(rest) if one in (";", "+")]
            yield Command(tuple(rest[: ends[0]] if ends else rest), state.folder, fed=True)


def top_level(folder: Path, exists: Callable[[Path], bool] = Path.exists) -> Path | None:
    """The nearest folder at or above `folder` that git takes for a working tree."""
    return next((place for place in (folder, *folder.parents) if exists(place / ".git")), None)
