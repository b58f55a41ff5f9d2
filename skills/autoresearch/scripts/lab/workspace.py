"""All talk with git: candidates, the campaign branch, exports, and the `edit:` files of the working tree.

Nothing here moves HEAD, and nothing writes the user's index except `follow_index`, for a user who stands
on the campaign branch. Candidates are built in a private index and live under refs/autoresearch/<tag>/<n>.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.atomic import sweep, write_atomic
from lab.errors import PRECONDITION, LabError
from lab.model import MEMORIES
from lab.steps import step

NOTES_REF = "refs/notes/autoresearch"
# Measured on ext4 and xfs images: without fsync of objects and refs every power cut within half a minute
# of a commit lost it; with it none did. Hooks, signing, fsmonitor and gc are the user's, not ours to run.
SAFE = (
    "core.fsync=all",
    "core.fsyncMethod=fsync",
    f"core.hooksPath={os.devnull}",
    "core.fsmonitor=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "core.quotePath=false",
    f"diff.orderFile={os.devnull}",
)
# Variables a caller may have set that would point git at another repository or at the user's index.
FOREIGN = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_TRACE",
    "GIT_EXTERNAL_DIFF",
)
QUIET = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}
MARKER = b"<<<<<<< "


@dataclass(frozen=True)
class Blob:
    """A file of a commit: git's mode and object id."""

    mode: str
    id: str


@dataclass(frozen=True)
class Changes:
    """How the working tree differs from a commit: paths relative to the repository's top."""

    inside: tuple[str, ...]  # in `edit:`
    protected: tuple[str, ...]  # in `protect:`
    outside: tuple[str, ...]  # every other tracked file


class Workspace:
    """The git side of one project folder.

    `root` is the folder with autoresearch.yaml; `top` the repository's top; `prefix` the way from top to
    root ("" or "sub/"). Paths in and out are relative to `top`.
    """

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.home = home  # .autoresearch
        for name in FOREIGN:
            os.environ.pop(name, None)
        os.environ.update(QUIET)
        try:
            import git.cmd  # 0.05 s: only the verbs that need git pay for it
        except ImportError as error:  # GitPython also raises this when there is no git program
            raise LabError(f"git cannot be used: {error}", "install git 2.36 or newer") from error
        self._git = git.cmd.Git(str(root))
        # The top comes last: a path may hold a newline.
        found = self.run("rev-parse", "--git-common-dir", "--show-toplevel", ok=(0, 128))
        common, _, top = found.removesuffix(b"\n").partition(b"\n")
        if not top:
            raise LabError(
                f"{root} is not in a git repository",
                "run `git init`, add your files and commit them once",
            )
        self.top = Path(os.fsdecode(top))
        self.common = root / os.fsdecode(common)  # the .git folder shared by all worktrees
        self.prefix = "" if root == self.top else f"{root.relative_to(self.top).as_posix()}/"
        self._git = git.cmd.Git(str(self.top))
        self._index_at = ""  # the commit our private index holds

    def run(
        self,
        *args: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        ok: Sequence[int] = (0,),
    ) -> bytes:
        """Run `git ARGS` and return its output; an exit code outside `ok` is a `LabError`."""
        command = ["git", *(word for setting in SAFE for word in ("-c", setting)), *args]
        feed = None
        if stdin is not None:
            feed = tempfile.TemporaryFile()  # noqa: SIM115 - closed below; GitPython wants a real file
            feed.write(stdin)
            feed.seek(0)
        try:
            code, out, err = self._git.execute(
                command,
                istream=feed,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                env=dict(env or {}),
            )
        finally:
            if feed:
                feed.close()
        if code not in ok:
            raise LabError(*_git_error(args[0], code, err))
        return bytes(out) if code == 0 else b""

    # -- looking -----------------------------------------------------------------------------

    def head(self) -> tuple[str | None, str]:
        """Return (branch name or None when detached, commit)."""
        commit = self.run("rev-parse", "--verify", "-q", "HEAD^{commit}", ok=(0, 1, 128)).decode().strip()
        if not commit:
            raise LabError("this repository has no commit yet", "commit your training code once")
        name = self.run("symbolic-ref", "-q", "--short", "HEAD", ok=(0, 1)).decode().strip()
        return name or None, commit

    def read_ref(self, ref: str) -> str | None:
        """Return the commit a full ref names, or None."""
        found = self.run("rev-parse", "--verify", "-q", ref, ok=(0, 1, 128)).decode().strip()
        return found or None

    def exclude(self, lines: Iterable[str]) -> None:
        """Add `lines` to the repository's own exclude file unless they stand there."""
        path = self.common / "info" / "exclude"
        old = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
        missing = [line for line in lines if line not in old.splitlines()]
        if missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            glue = "" if not old or old.endswith("\n") else "\n"
            text = old + glue + "".join(f"{line}\n" for line in missing)
            write_atomic(path, text.encode("utf-8", "surrogateescape"))

    def ignored(self, names: Iterable[str]) -> set[str]:
        """Which of these entries of `root` git ignores."""
        paths = b"".join(os.fsencode(self.prefix + name) + b"\0" for name in names)
        out = self.run("check-ignore", "-z", "--stdin", stdin=paths, ok=(0, 1))
        return {name.removeprefix(self.prefix) for name in _names(out)}

    def dirty(self) -> list[str]:
        """Tracked files that differ from HEAD, staged or not."""
        out = self.run(
            "status",
            "--porcelain=v1",
            "-z",
            "--no-renames",
            "--untracked-files=no",
            "--ignore-submodules=dirty",
        )
        return [os.fsdecode(entry[3:]) for entry in out.split(b"\0") if len(entry) > 3]

    def files(self, commit: str, patterns: Sequence[str]) -> dict[str, Blob]:
        """Files of `commit` that match `patterns` (paths, folders or globs relative to `root`)."""
        if not patterns:
            return {}
        changed = self._changed(self._nothing, commit, patterns)
        return {path: blob for path, (_, blob) in changed.items() if blob}

    def changes(
        self, commit: str, edit: Sequence[str], protect: Sequence[str], inbox: str | None = None
    ) -> Changes:
        """Compare the working tree with `commit`: untracked files count only in `edit:`, notes nowhere."""
        env = self._index(commit)
        self.run("update-index", "-q", "--refresh", env=env, ok=(0, 1))
        specs = self._pathspecs(edit)
        fresh = _names(self.run("ls-files", "-z", "--others", "--exclude-standard", "--", *specs, env=env))
        tracked = self._differing(env)
        inside = self._differing(env, edit) if tracked else set()
        guarded = self._differing(env, protect) if tracked - inside and protect else set()
        ours = {f"{self.prefix}autoresearch.yaml", f"{self.prefix}results.tsv"}
        return Changes(
            tuple(sorted(self.without_notes((inside | set(fresh)) - guarded, inbox))),
            tuple(sorted(guarded)),
            tuple(sorted(self.without_notes(tracked - inside - guarded - ours, inbox))),
        )

    def without_notes(self, paths: Iterable[str], inbox: str | None) -> set[str]:
        """The paths but for memories/ and the inbox of ideas, which change beside the loop."""
        folder = f"{self.prefix}{MEMORIES}/"
        note = os.path.realpath(self.root / os.path.expanduser(inbox)) if inbox else ""  # noqa: PTH111
        return {path for path in paths if not path.startswith(folder) and str(self.top / path) != note}

    def _differing(self, env: Mapping[str, str], patterns: Sequence[str] = ()) -> set[str]:
        """Tracked files whose working copy differs from the index of `env`."""
        specs = ("--", *self._pathspecs(patterns)) if patterns else ()
        return set(
            _names(self.run("diff-files", "--name-only", "-z", "--ignore-submodules=dirty", *specs, env=env))
        )

    def conflicted(self, paths: Iterable[str]) -> list[str]:
        """Files among `paths` that hold a conflict marker."""
        return [p for p in paths if any(line.startswith(MARKER) for line in _read(self.top / p).splitlines())]

    def fingerprint(self, path: str) -> str:
        """A hash of the file as it stands in the working tree ("" when it is gone)."""
        return hashlib.sha256(_read(self.top / path)).hexdigest() if (self.top / path).exists() else ""

    def numstat(self, old: str, new: str) -> tuple[int, int]:
        """Lines added and removed from `old` to `new`; a binary file counts as none."""
        added = removed = 0
        out = self.run("diff-tree", "-r", "--no-renames", "--numstat", "-z", old, new)
        for entry in out.split(b"\0")[:-1]:
            plus, minus, _ = entry.split(b"\t", 2)
            if plus != b"-":
                added, removed = added + int(plus), removed + int(minus)
        return added, removed

    def diff(self, old: str, new: str) -> str:
        """The unified diff from `old` to `new`, without colour or external programs."""
        out = self.run("diff-tree", "-r", "-p", "--no-ext-diff", "--no-textconv", "--no-renames", old, new)
        return out.decode("utf-8", "replace")

    def diffs(self, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
        """The unified diff of each (old, new) commit by `new`, from one git process for all of them."""
        lines = "".join(f"{new} {old}\n" for old, new in pairs).encode()
        options = ("--stdin", "-r", "-p", "--no-ext-diff", "--no-textconv", "--no-renames")
        out = self.run("diff-tree", *options, stdin=lines).decode("utf-8", "replace") if pairs else ""
        found: dict[str, str] = {}
        # Before each diff stands the commit's own line, which no line of a diff can look like.
        for part in re.split(r"(?m)^(?=[0-9a-f]{40,64}$)", out):
            commit, _, text = part.partition("\n")
            if commit:
                found[commit] = text
        return found

    def merge_base(self, one: str, other: str) -> str:
        """The newest commit that both come from."""
        found = self.run("merge-base", one, other, ok=(0, 1)).decode().split()
        if not found:
            raise LabError(
                f"{one[:7]} and {other[:7]} have no commit in common", "check the project's branch out"
            )
        return found[0]

    def contains(self, whole: str, part: str) -> bool:
        """Whether `part` is `whole` or one of its ancestors."""
        return (
            not self.run("rev-list", "--count", "--max-count=1", f"{whole}..{part}")
            .decode()
            .strip()
            .strip("0")
        )

    def outside(self, old: str, new: str, patterns: Sequence[str]) -> list[str]:
        """Files that differ between two commits and match none of `patterns`."""
        return sorted(set(self._changed(old, new)) - set(self._changed(old, new, patterns)))

    # -- candidates --------------------------------------------------------------------------

    def write_tree(self, commit: str, paths: Sequence[str]) -> str:
        """Return the tree of `commit` with `paths` as they stand in the working tree, durably stored."""
        env = self._index(commit)
        names = b"".join(os.fsencode(path) + b"\0" for path in paths)
        self._index_at = ""
        self.run("update-index", "-z", "--add", "--remove", "--stdin", stdin=names, env=env)
        return self.run("write-tree", env=env).decode().strip()

    def tree_with(self, commit: str, contents: Mapping[str, bytes]) -> str:
        """Return the tree of `commit` with other contents of files that it has, durably stored."""
        known, lines = self._changed(self._nothing, commit), b""
        for path, content in contents.items():
            _, blob = known[path]
            assert blob
            stored = self.run("hash-object", "-w", "--stdin", stdin=content).decode().strip()
            lines += _index_line(path, Blob(blob.mode, stored), commit)
        env = self._index(commit)
        self._index_at = ""
        self.run("update-index", "-z", "--index-info", stdin=lines, env=env)
        return self.run("write-tree", env=env).decode().strip()

    def blob_of(self, commit: str, path: str) -> Blob | None:
        """The file of a commit, or None."""
        row = self.run("ls-tree", "-z", "--full-tree", commit, "--", path).split(b"\0")[0].split()
        return Blob(row[0].decode(), row[2].decode()) if row and row[1] == b"blob" else None

    def content(self, blob: Blob) -> bytes:
        """The bytes of a file as git has them."""
        return self._blob(blob) or b""

    def tree_of(self, commit: str) -> str:
        """The tree of a commit."""
        return self.run("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()

    def commit_tree(self, tree: str, parent: str, message: str, at: str) -> str:
        """Store a commit; the same arguments give the same id, so that a redo changes nothing."""
        env = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at, **self._identity}
        text = message.replace("\0", "").encode("utf-8", "replace")
        return self.run("commit-tree", tree, "-p", parent, "-F", "-", stdin=text, env=env).decode().strip()

    def update_ref(self, ref: str, new: str, old: str | None) -> None:
        """Move `ref` from `old` (None: it must not exist) to `new`; anything else there is an error."""
        self._clear_stale_lock(ref)
        step("git.update_ref.before")
        self.run("update-ref", "-m", "autoresearch", ref, new, old or "")
        step("git.update_ref.after")

    def push(self, remote: str, branch: str, commit: str, limit_seconds: float) -> tuple[str, str]:
        """Send `commit` to the branch of that name at `remote`: (pushed, rejected or failed, why).

        Never forced, nothing else goes along, nobody is asked for a password, and no hook runs. A remote
        that does not answer within the limit is left; whatever git had started ends with it.
        """
        spec = f"{commit}:refs/heads/{branch}"
        options = ("--porcelain", "--no-follow-tags", "--recurse-submodules=no", "--no-signed", "--no-verify")
        command = ["git", *(word for setting in SAFE for word in ("-c", setting)),
                   "push", "--no-force", *options, "--", remote, spec]  # fmt: skip
        quiet = {"GIT_ASKPASS": "true", "SSH_ASKPASS_REQUIRE": "never"}
        if not self.run("config", "core.sshCommand", ok=(0, 1)):
            quiet["GIT_SSH_COMMAND"] = os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        env = {**os.environ, **quiet}
        process = subprocess.Popen(
            command, cwd=self.top, env=env, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "failed", f"no answer in {limit_seconds:g} s"
        if process.returncode == 0:
            return "pushed", ""
        return _push_error(said.decode("utf-8", "replace"))

    def remotes(self) -> tuple[list[str], str]:
        """The names of the remotes, and the one that git's settings push to, or ""."""
        wanted = self.run("config", "remote.pushDefault", ok=(0, 1)).decode().strip()
        return self.run("remote").decode().split(), wanted

    def ensure_ref(self, ref: str, commit: str) -> None:
        """Make `ref` name `commit`; used for refs only we write."""
        old = self.read_ref(ref)
        if old != commit:
            self.update_ref(ref, commit, old)

    def delete_ref(self, ref: str) -> None:
        """Delete a ref of our own."""
        self.run("update-ref", "-d", ref)

    def note(self, commit: str, text: str) -> None:
        """Set our git note on `commit`."""
        self._clear_stale_lock(NOTES_REF)
        self.run(
            "notes", f"--ref={NOTES_REF}", "add", "-f", "-F", "-", commit,
            stdin=text.encode("utf-8", "replace"), env=self._identity,
        )  # fmt: skip

    def rebase(self, base: str, theirs: str, onto: str, workdir: Path) -> str | None:
        """Three-way merge of the change base→theirs onto `onto`; return the tree, or None on conflict."""
        changed = self._changed(base, theirs)
        target = self._changed(base, onto)
        env = self._index(onto)
        lines = b""
        for path, (_, new) in changed.items():
            if path not in target:
                lines += _index_line(path, new, onto)
                continue
            ours = target[path][1]
            if ours == new:
                continue
            before = self._blob(changed[path][0])
            merged = self._merge3(before, self._blob(ours), self._blob(new), workdir)
            if merged is None or new is None:
                return None
            stored = self.run("hash-object", "-w", "--stdin", stdin=merged).decode().strip()
            lines += _index_line(path, Blob(new.mode, stored), onto)
        self._index_at = ""
        self.run("update-index", "-z", "--index-info", stdin=lines, env=env)
        return self.run("write-tree", env=env).decode().strip()

    def clashing(self, base: str, theirs: str, onto: str, workdir: Path) -> dict[str, bytes | None]:
        """The files in which the changes base→onto and base→theirs conflict, with markers around both sides.

        None where there are no lines to show: a side deleted the file, or it is binary.
        """
        changed, target = self._changed(base, theirs), self._changed(base, onto)
        found: dict[str, bytes | None] = {}
        for path in changed.keys() & target.keys():
            (old, new), ours = changed[path], target[path][1]
            before, mine, other = self._blob(old), self._blob(ours), self._blob(new)
            if ours != new and self._merge3(before, mine, other, workdir) is None:
                lines = self._merge_file(before or b"", mine or b"", other or b"", workdir)[0]
                found[path] = lines if ours and new else None
        return dict(sorted(found.items()))

    # -- exports -----------------------------------------------------------------------------

    def export(self, commit: str, folder: Path) -> None:
        """Write the files of `commit` into the new folder `folder`."""
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        index = folder.with_name(f"{folder.name}.index")
        folder.with_name(f"{index.name}.lock").unlink(missing_ok=True)  # of a git that was cut off in here
        env = {"GIT_INDEX_FILE": str(index)}
        self.run("read-tree", commit, env=env)
        self.run("checkout-index", "-a", "-f", "-q", f"--prefix={folder}/", env=env)
        index.unlink(missing_ok=True)

    # -- the working tree ----------------------------------------------------------------------

    def sync(self, old: str, new: str, edit: Sequence[str], save_to: Path) -> list[str]:
        """Carry the `edit:` files of the working tree from `old` to `new`; return files in conflict.

        A file that stands as in `old` becomes as in `new`. A file edited since is merged; where that
        fails it gets conflict markers and all three versions are kept under `save_to`.
        """
        conflicts = []
        for path, (before, after) in self._changed(old, new, edit).items():
            place = self.top / path
            mine = self._working(place)
            base, theirs = self._content(old, path, before), self._content(new, path, after)
            if mine == theirs:
                pass
            elif mine == base:
                self._put(place, theirs, after)
            elif self._merge_into(place, base, mine, theirs, save_to / path.replace("/", "__")):
                conflicts.append(path)
            if before and after and before.mode != after.mode:
                _make_executable(place, after)
            step("sync.file")
        return conflicts

    def _merge_into(
        self, place: Path, base: bytes | None, mine: bytes | None, theirs: bytes | None, save_to: Path
    ) -> bool:
        """Merge `theirs` into an edited file; return whether a conflict is left for the agent."""
        if mine is not None and any(line.startswith(MARKER) for line in mine.splitlines()):
            return True  # a merge that a crash cut short after it had written its markers
        for name, data in (("base", base), ("edited", mine), ("incumbent", theirs)):
            if data is not None:
                save_to.mkdir(parents=True, exist_ok=True)
                write_atomic(save_to / name, data)
        merged, clean = self._merge_file(base or b"", mine or b"", theirs or b"", save_to)
        if mine is None or theirs is None or merged is None:
            return True  # deleted on one side, or binary: the edited file stays as it is
        if self._working(place) == mine:
            self._put(place, merged, None)
        return not clean

    def _merge3(
        self, base: bytes | None, ours: bytes | None, theirs: bytes | None, workdir: Path
    ) -> bytes | None:
        if base is None or ours is None or theirs is None:
            return None
        merged, clean = self._merge_file(base, ours, theirs, workdir)
        return merged if clean else None

    def _merge_file(self, base: bytes, mine: bytes, theirs: bytes, folder: Path) -> tuple[bytes | None, bool]:
        """`git merge-file`: return (merged content or None when it cannot, whether it is clean)."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            names = [Path(scratch) / name for name in ("mine", "base", "theirs")]
            for name, data in zip(names, (mine, base, theirs), strict=True):
                name.write_bytes(data)
            labels = ("-L", "your edit", "-L", "before", "-L", "incumbent")
            command = ["merge-file", "-q", *labels, *(str(name) for name in names)]
            try:
                # -p would give the text on stdout, where the exit code (number of conflicts) hides it.
                self.run(*command)
                return names[0].read_bytes(), True
            except LabError:
                text = names[0].read_bytes()
                return (text, False) if MARKER in text else (None, False)

    def _put(self, place: Path, content: bytes | None, blob: Blob | None) -> None:
        if content is None:
            place.unlink(missing_ok=True)
            return
        if blob and blob.mode == "120000":
            place.unlink(missing_ok=True)
            place.symlink_to(os.fsdecode(content))
            return
        mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o644
        if blob:
            mode = _mode(mode, blob)
        place.parent.mkdir(parents=True, exist_ok=True)
        sweep(place.parent)
        write_atomic(place, content, mode, name="tree.file")
        place.chmod(mode)

    def _working(self, place: Path) -> bytes | None:
        if place.is_symlink():
            return os.fsencode(place.readlink())
        return place.read_bytes() if place.is_file() else None

    def follow_index(self, branch: str, old: str, new: str) -> None:
        """For a user who has the campaign branch checked out: let unstaged entries follow the branch."""
        if self.run("symbolic-ref", "-q", "HEAD", ok=(0, 1)).decode().strip() != f"refs/heads/{branch}":
            return
        lines = b""
        for path, (before, after) in self._changed(old, new).items():
            entry = self.run("ls-files", "-s", "-z", "--", f":(top,literal){path}")
            if before is None or entry.startswith(f"{before.mode} {before.id} 0\t".encode()):
                lines += _index_line(path, after, new)
        if lines:
            self.run("update-index", "-z", "--index-info", stdin=lines)

    # -- small print ---------------------------------------------------------------------------

    def _changed(
        self, old: str, new: str, patterns: Sequence[str] = ()
    ) -> dict[str, tuple[Blob | None, Blob | None]]:
        specs = ("--", *self._pathspecs(patterns)) if patterns else ()
        # `diff-tree` knows no glob pathspecs; the pathspecs of `git diff` are the whole set.
        out = self.run(
            "diff", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-ext-diff", old, new, *specs
        )
        fields = out.split(b"\0")[:-1]
        changed = {}
        for meta, path in zip(fields[::2], fields[1::2], strict=True):
            old_mode, new_mode, old_id, new_id, _ = meta.decode().removeprefix(":").split()
            before = Blob(old_mode, old_id) if old_id.strip("0") else None
            after = Blob(new_mode, new_id) if new_id.strip("0") else None
            changed[os.fsdecode(path)] = (before, after)
        return changed

    def _content(self, commit: str, path: str, blob: Blob | None) -> bytes | None:
        """The file as a checkout would write it (line endings and filters applied)."""
        if blob is None:
            return None
        if blob.mode == "120000":
            return self._blob(blob)
        return self.run("cat-file", "--filters", f"{commit}:{path}")

    def _blob(self, blob: Blob | None) -> bytes | None:
        return self.run("cat-file", "blob", blob.id) if blob else None

    def _index(self, commit: str) -> dict[str, str]:
        """Point the private index at `commit`; it keeps the file times it knows, so it stays quick."""
        index = self.home / "index"
        env = {"GIT_INDEX_FILE": str(index)}
        if self._index_at == commit:
            return env
        self._index_at = ""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "index.lock").unlink(missing_ok=True)  # ours alone, and we hold the state lock
        if index.exists():
            try:
                self.run("read-tree", "-m", commit, env=env)
                self._index_at = commit
                return env
            except LabError:
                index.unlink()  # cut by a crash: it is a cache
        self.run("read-tree", commit, env=env)
        self._index_at = commit
        return env

    def forget(self) -> None:
        """Another process may have changed the private index since: believe nothing of it."""
        self._index_at = ""

    def _pathspecs(self, patterns: Sequence[str]) -> list[str]:
        return [f":(top,glob){self.prefix}{'' if p == '.' else p}" for p in patterns]

    @cached_property
    def _nothing(self) -> str:
        """The empty tree; its id depends on the repository's hash."""
        return self.run("hash-object", "-t", "tree", "--stdin", stdin=b"").decode().strip()

    @cached_property
    def _identity(self) -> dict[str, str]:
        """The user's git identity, or ours where none is set."""
        try:
            self.run("var", "GIT_COMMITTER_IDENT")
            return {}
        except LabError:
            who = {"NAME": "autoresearch", "EMAIL": "autoresearch@localhost"}
            return {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}

    def _clear_stale_lock(self, ref: str) -> None:
        """Remove the lock a killed git left on a ref that only we write, under our own lock."""
        (self.common / f"{ref}.lock").unlink(missing_ok=True)


def _mode(mode: int, blob: Blob) -> int:
    """`mode` with the executable bits that git's mode asks for."""
    return mode | 0o111 if blob.mode == "100755" else mode & ~0o111


def _make_executable(place: Path, blob: Blob) -> None:
    """Give a plain file the executable bits of `blob`, or take them."""
    if place.is_file() and not place.is_symlink() and blob.mode != "120000":
        place.chmod(_mode(stat.S_IMODE(place.stat().st_mode), blob))


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _names(out: bytes) -> list[str]:
    return [os.fsdecode(name) for name in out.split(b"\0") if name]


def _index_line(path: str, blob: Blob | None, commit: str) -> bytes:
    """A line for `update-index --index-info`; `commit` says how long this repository's ids are."""
    mode, name = (blob.mode, blob.id) if blob else ("0", "0" * len(commit))
    return f"{mode} {name}\t".encode() + os.fsencode(path) + b"\0"


def _push_error(said: str) -> tuple[str, str]:
    """Why a push failed; the address, which may hold a key, is not repeated."""
    lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:", "!", "remote: "))]
    words = re.sub(r"[a-z+]+://\S+|\S+@\S+:\S*|'[^']*'", "...", lines[0] if lines else "git push failed")
    return ("rejected" if re.search(r"(?m)^!.*\[(remote )?rejected\]", said) else "failed"), words[
        :200
    ].strip()


def _git_error(verb: str, code: int, err: bytes | str) -> tuple[str, str, int]:
    text = (err.decode("utf-8", "replace") if isinstance(err, bytes) else err).strip()
    lines = text.splitlines() or ["no message"]
    said = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[0])
    hint = "run `doctor`: it probes the repository and names the fix"
    if "No space left" in text:
        hint = "free some disk space, then run `resume`; nothing was lost"
    elif "Permission denied" in text or "Read-only" in text or "insufficient permission" in text:
        hint = "let this user write to .git (a sandbox may forbid it), then run `doctor`"
    elif ".lock" in text and "File exists" in text:
        hint = "another git command is at work, or one was killed: when none runs, remove that lock file"
    return f"git {verb} failed (exit {code}): {said[:300]}", hint, PRECONDITION
