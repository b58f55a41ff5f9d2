"""What an agent's tool call may not do while a campaign is active, as a reason in words, or None.

A rule is a function from a command to a reason, and a row in a table. The rules cover the forms that slips
take; they are no wall: the tool itself checks every protected file before and after each run.
"""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.model import HOME
from lab.shell import UNKNOWN, Command, commands, top_level

RESULTS = "results.tsv"
PATCHED = re.compile(r"^\*\*\* (?:(?:Add|Update|Delete) File|Move to): (.+)$", re.MULTILINE)
GLOB_SIGNS = re.compile(r"[*?\[]")
GLOB_LIMIT = 1000


@dataclass(frozen=True)
class Ground:
    """The campaign's place: `root` is the project folder, `repository` the working tree of git around it."""

    root: Path
    repository: Path
    tag: str
    edit: tuple[str, ...]
    protect: tuple[str, ...]
    command: str

    @classmethod
    def of(cls, root: Path, tag: str, edit: Sequence[str], protect: Sequence[str], command: str) -> Ground:
        """Find the working tree around `root`."""
        root = Path(os.path.realpath(root))
        return cls(root, top_level(root) or root, tag, tuple(edit), tuple(protect), command)

    def here(self, folder: Path | None) -> bool:
        """Whether git called in `folder` works on the campaign's tree; an unknown folder may be it."""
        return folder is None or top_level(Path(os.path.realpath(folder))) == self.repository

    def relative(self, path: str, folder: Path | None) -> str | None:
        """The path inside the project, or None when it lies elsewhere."""
        if UNKNOWN in path or not path:
            return None
        found = os.path.realpath((folder or self.root) / path)
        if found == str(self.root):
            return "."
        return os.path.relpath(found, self.root) if found.startswith(f"{self.root}{os.sep}") else None


Rule = Callable[[Sequence[str], Command, Ground], "str | None"]


def of_shell(text: str, folder: Path, variables: dict[str, str], ground: Ground) -> str | None:
    """Why the shell line must not run, or None."""
    found = commands(text, folder, variables)
    for command in found:
        reason = _of_command(command, ground)
        if reason:
            return reason
    return _kill_by_search(found, ground)


def of_edit(paths: Iterable[str], folder: Path, ground: Ground) -> str | None:
    """Why these files must not be edited, or None."""
    return next((reason for path in paths if (reason := owned(path, folder, ground))), None)


def owned(path: str, folder: Path | None, ground: Ground) -> str | None:
    """Why `path` is not the agent's to write, or None."""
    name = ground.relative(path, folder)
    if name is None:
        return None
    if name.split("/")[0] == HOME:
        return f"{name} is written by the tool alone: the journal there is the record of the campaign"
    if name == RESULTS:
        return f"{RESULTS} is rewritten from the journal; a number that was not measured cannot be put there"
    if covers(ground.protect, name):
        return (
            f"{name} is protected in campaign {ground.tag}: with another one, results before and after "
            f"cannot be compared. Take the idea into {', '.join(ground.edit)}; if it is wrong, tell the user"
        )
    return None


def covers(patterns: Iterable[str], name: str) -> bool:
    """Whether a file, folder or glob of `patterns` names the path or a folder above it."""
    return any(
        pattern in (".", name) or name.startswith(f"{pattern}/") or fnmatch.fnmatch(name, pattern)
        for pattern in patterns
    )


def _of_command(command: Command, ground: Ground) -> str | None:
    for path in command.writes:
        if reason := owned(path, command.folder, ground):
            return reason
    if not command.words or UNKNOWN in command.words[0]:
        return None
    if KILL_BY_NAME.fullmatch(command.name):
        return _kill_by_name(command.name, command.arguments, ground)
    rule = RULES.get(command.name)
    return rule(command.arguments, command, ground) if rule else None


# -- git -----------------------------------------------------------------------------------------------

GIT_VALUED = {"-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path", "--config-env"}


def _git(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    """Find the verb behind git's own options, and the folder it works in."""
    folder, rest = command.folder, list(words)
    while rest and rest[0].startswith("-"):
        option, *rest = rest
        if option in GIT_VALUED and rest:
            value, *rest = rest
            if option == "-C":
                folder = None if UNKNOWN in value or folder is None else folder / value
                folder = Path(value) if value.startswith("/") and UNKNOWN not in value else folder
            elif option == "--work-tree" and folder is not None and UNKNOWN not in value:
                folder = folder / value
    rule = GIT_RULES.get(rest[0]) if rest else None
    if rule is None or not ground.here(folder):
        return None
    return rule(rest[1:], Command(tuple(rest), folder, fed=command.fed), ground)


def _flags(words: Sequence[str]) -> set[str]:
    """The options, short ones of a cluster each by itself; what follows `--` is no option."""
    found: set[str] = set()
    for word in itertools.takewhile(lambda word: word != "--", words):
        if word.startswith("--"):
            found.add(word.split("=")[0])
        elif word.startswith("-"):
            found |= {f"-{letter}" for letter in word[1:]}
    return found


def _operands(words: Sequence[str], valued: Sequence[str] = ()) -> list[str]:
    """What is neither an option nor the value of one of `valued`."""
    found: list[str] = []
    skip = False
    for position, word in enumerate(words):
        if word == "--":
            return [*found, *words[position + 1 :]]
        if skip or word.startswith("-") and word != "-":
            skip = not skip and word in valued
        else:
            found.append(word)
    return found


def _tree(what: str, ground: Ground) -> str:
    edited = ground.edit[0] if ground.edit else "FILE"
    return (
        f"{what} while campaign {ground.tag} is active: the working tree belongs to it, and the tool does "
        f"its git. To drop an edit that was not tried: git show autoresearch/{ground.tag}:{edited} > {edited}"
    )


def _reset(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    for flag in _flags(words):
        if flag in ("--merge", "--keep") or (len(flag) > 4 and "--hard".startswith(flag)):
            return _tree(f"git reset with {flag} would overwrite files", ground)
    return None


def _clean(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    if _flags(words) & {"-n", "--dry-run", "-h", "--help"}:
        return None
    return _tree("deleting untracked files is not allowed", ground)


def _put_aside(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    if words[:1] and words[0] in ("list", "show", "create"):
        return None
    return _tree("putting changes aside would take the incumbent's files away", ground)


def _check_out(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    flags = _flags(words)
    if flags & {"-f", "--force"}:
        return _tree("a forced checkout would overwrite files", ground)
    if flags & {"-b", "-B", "--orphan", "-h"}:
        return None
    return _back_to_git(_operands(words, ("--pathspec-from-file",)), command, ground)


def _restore(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    flags = _flags(words)
    if flags & {"-S", "--staged"} and not flags & {"-W", "--worktree"}:
        return None
    return _back_to_git(_operands(words, ("-s", "--source")), command, ground)


def _back_to_git(specs: Iterable[str], command: Command, ground: Ground) -> str | None:
    """Refuse when a pathspec takes in a file that the campaign edits."""
    for spec in specs:
        spec = str(ground.repository / spec[2:]) if spec.startswith(":/") else spec
        name = ground.relative(spec, command.folder)
        above = name is None and ground.root.is_relative_to(
            os.path.realpath((command.folder or ground.root) / spec.replace(UNKNOWN, ""))
        )
        if above or (name is not None and any(_overlap(name, pattern) for pattern in ground.edit)):
            return _tree(f"taking {spec} back from git would overwrite the incumbent's files", ground)
    return None


def _overlap(name: str, pattern: str) -> bool:
    return (
        "." in (name, pattern)
        or name == pattern
        or name.startswith(f"{pattern}/")
        or pattern.startswith(f"{name}/")
        or fnmatch.fnmatch(name, pattern)
        or fnmatch.fnmatch(pattern, name)
    )


def _switch(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    if _flags(words) & {"-f", "--force", "--discard-changes"}:
        return _tree("a forced switch would overwrite files", ground)
    return None


def _push(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    flags = _flags(words) - {"--force-if-includes"}
    forced = flags & {"-f", "--force", "--force-with-lease", "--mirror"}
    if forced or any(
        word.startswith("+") for word in _operands(words, ("-o", "--push-option", "--repo"))[1:]
    ):
        return (
            f"a forced push rewrites what others have; no experiment of campaign {ground.tag} needs it. "
            "If the user wants it, they do it themselves or after `finish`"
        )
    return None


def _branch(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    if not _flags(words) & {"-d", "-D", "--delete", "-m", "-M", "--move"}:
        return None
    if any(re.match(r"(refs/heads/)?autoresearch/", name) for name in _operands(words)):
        return _refs(ground)
    return None


def _update_ref(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    named = any(re.match(r"refs/(heads/)?autoresearch/", name) for name in _operands(words, ("-m",)))
    return _refs(ground) if named or (command.fed and "-d" in words) else None


def _refs(ground: Ground) -> str:
    return (
        f"the branch autoresearch/{ground.tag} and the refs under refs/autoresearch/ hold every candidate "
        "and keep; only the tool moves them"
    )


# Written as keywords, and the last one by its own name, because each is the word git knows.
GIT_RULES: dict[str, Rule] = {
    **dict(reset=_reset, clean=_clean, stash=_put_aside, checkout=_check_out, restore=_restore),
    **dict(switch=_switch, push=_push, branch=_branch),
    "update-ref": _update_ref,
}


# -- files ---------------------------------------------------------------------------------------------


def _targets(operands: Iterable[str], folder: Path | None, ground: Ground) -> Iterator[str]:
    """The paths, globs replaced by what they match now."""
    for operand in operands:
        if GLOB_SIGNS.search(operand) and UNKNOWN not in operand:
            pattern = os.path.join(folder or ground.root, operand)  # noqa: PTH118 - an operand may be absolute
            yield from itertools.islice(glob.iglob(pattern), GLOB_LIMIT)  # noqa: PTH207 - as a shell does it
        else:
            yield operand


def _remove(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    deep = bool(_flags(words) & {"-r", "-R", "--recursive"})
    for path in _targets(_operands(words), command.folder, ground):
        if reason := owned(path, command.folder, ground) or (_whole(path, command, ground) if deep else None):
            return reason
    return None


def _whole(path: str, command: Command, ground: Ground) -> str | None:
    """Refuse a folder that holds the journal or the repository."""
    if UNKNOWN in path or (command.folder is None and not path.startswith("/")):
        return None
    found = Path(os.path.realpath((command.folder or ground.root) / path))
    for place, what in ((ground.root / HOME, "the journal"), (ground.repository / ".git", "the repository")):
        if place == found or place.is_relative_to(found):
            return (
                f"{path} holds {what} of campaign {ground.tag}; without it nothing measured could be believed"
            )
    return None


def _find(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    starts = list(itertools.takewhile(lambda word: word[:1] not in ("-", "(", "!"), words))
    deletes = "-delete" in words or any(a == "-exec" and b == "rm" for a, b in itertools.pairwise(words))
    if not deletes:
        return None
    chosen = any(word in ("-name", "-iname", "-path", "-regex", "-newer", "-mtime") for word in words)
    for path in starts or ["."]:
        if reason := owned(path, command.folder, ground) or (
            None if chosen else _whole(path, command, ground)
        ):
            return reason
    return None


def _write_all(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    paths = _targets(_operands(words), command.folder, ground)
    return next((reason for path in paths if (reason := owned(path, command.folder, ground))), None)


def _write_last(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    operands = _operands(words, ("-t", "--target-directory", "-m", "-o", "-g", "-S"))
    if len(operands) < 2:
        return None
    target, sources = operands[-1], operands[:-1]
    inside = [f"{target}/{Path(source).name}" for source in sources]
    return next((r for path in [target, *inside] if (r := owned(path, command.folder, ground))), None)


def _move(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    return _write_all(words, command, ground) or _write_last(words, command, ground)


def _edit_in_place(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    in_place = any(re.match(r"-[nErsuzpla0w]*i|--in-place", word) for word in words)
    return _write_all(words, command, ground) if in_place else None


def _patch(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    """Codex's way of editing, called as a program."""
    return of_edit(PATCHED.findall("\n".join([command.given, *words])), command.folder or ground.root, ground)


def _copy_blocks(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    return _write_all([word[3:] for word in words if word.startswith("of=")], command, ground)


# -- processes -----------------------------------------------------------------------------------------

KILL_BY_NAME = re.compile(r"(?:p|sk)kill|kill(?:all)5?")
SEARCHES = {"pgrep", "pidof"}
KILL_VALUED = ("-u", "-U", "-G", "-P", "-g", "-t", "-s", "-F", "--signal", "--parent", "--euid", "--uid")
BY_NUMBER = (
    "a run ends by its own limit or by `stop --now`, which ends only what belongs to it; "
    "a process of your own ends by its number"
)


def _kill_by_name(name: str, words: Sequence[str], ground: Ground) -> str | None:
    patterns = _operands(words, KILL_VALUED)
    everything = name.endswith("5") or (not patterns and _flags(words) & {"-u", "-U", "--euid", "--uid"})
    whole = name.startswith("kill") or "-x" in words
    if everything or any(_hits(pattern, "-f" in _flags(words), whole, ground) for pattern in patterns):
        return f"killing by name may end another person's processes, or the campaign's own: {BY_NUMBER}"
    return None


def _hits(pattern: str, full: bool, whole: bool, ground: Ground) -> bool:
    """Whether a search by name finds the training command or the tool."""
    try:
        program = Path(shlex.split(ground.command)[0]).name
    except (ValueError, IndexError):
        program = "python"
    names = ["python", "python3", program]
    lines = [f"{name} {rest}" for name in names for rest in ("lab/supervisor.py", "autoresearch.py")]
    candidates = [*lines, f"/usr/bin/{ground.command}"] if full else names
    try:
        search = re.compile(pattern)
    except re.error:
        search = re.compile(re.escape(pattern))
    return any(search.fullmatch(text) if whole else search.search(text) for text in candidates)


def _kill(words: Sequence[str], command: Command, ground: Ground) -> str | None:
    targets = [word for word in words[1:] if word == "-1"]  # the first may be the signal 1
    return f"kill with -1 ends every process of the user: {BY_NUMBER}" if targets else None


def _kill_by_search(found: Sequence[Command], ground: Ground) -> str | None:
    """Refuse `kill $(pgrep …)` and `pgrep … | xargs kill`: killing by name in two steps."""
    searched = any(
        _hits(pattern, "-f" in _flags(command.arguments), command.name == "pidof", ground)
        for command in found
        if command.name in SEARCHES
        for pattern in _operands(command.arguments, KILL_VALUED)
    )
    unknown = any(c.name == "kill" and (c.fed or UNKNOWN in "".join(c.arguments)) for c in found)
    if searched and unknown:
        return f"killing what a search by name finds may end another person's processes: {BY_NUMBER}"
    return None


RULES: dict[str, Rule] = {
    "git": _git,
    "kill": _kill,
    "rm": _remove,
    "unlink": _remove,
    "rmdir": _remove,
    "find": _find,
    "mv": _move,
    "cp": _write_last,
    "install": _write_last,
    "ln": _write_last,
    "sed": _edit_in_place,
    "perl": _edit_in_place,
    "tee": _write_all,
    "truncate": _write_all,
    "shred": _write_all,
    "patch": _write_all,
    "dd": _copy_blocks,
    "apply_patch": _patch,
}
