"""What a piece of Python touches that an experiment should not change without a word: one rule, one function.

A rule looks at one node and gives (kind, what stands there) pairs. It knows nothing of the other version of
the file; `diff.py` compares the two lists.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lab.lint import shapes


@dataclass(frozen=True)
class About:
    """What the settings say that the rules need."""

    metric: str
    seed_env: str | None = None
    protected: frozenset[str] = frozenset()  # modules behind the protected files


@dataclass
class Names:
    """What the imports of one file bind: alias -> dotted name."""

    bound: dict[str, str] = field(default_factory=dict)

    def dotted(self, node: ast.AST) -> str:
        """`torch.nn.Linear` for the node behind `nn.Linear`; "" for what is no plain name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute) or _got(node):
            parts.append(node.attr if isinstance(node, ast.Attribute) else _got(node))
            node = node.value if isinstance(node, ast.Attribute) else node.args[0]  # type: ignore[attr-defined]
        if not isinstance(node, ast.Name):
            return f".{'.'.join(reversed(parts))}" if parts else ""
        return ".".join([self.bound.get(node.id, node.id), *reversed(parts)])

    def is_imported(self, node: ast.AST) -> bool:
        """Whether the name at the root of a chain of attributes comes from an import."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and (node.id in self.bound or node.id == "__builtins__")


def _got(node: ast.AST) -> str:
    """`load` for getattr(torch, "load"), which is another way to write an attribute; else ""."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        named = node.args[1] if len(node.args) > 1 else None
        return str(named.value) if isinstance(named, ast.Constant) else ""
    return ""


Touch = tuple[str, str]
Rule = Callable[[ast.AST, Names, About], Iterator[Touch]]


def names_of(tree: ast.AST) -> Names:
    """What the file's imports bind."""
    names = Names()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names.bound[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names.bound[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
    return names


def touches(text: str, about: About) -> list[tuple[str, str, int]]:
    """Every (kind, what, line) of a file, in its order; [] where it is no Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = names_of(tree)
    found = []
    for node in ast.walk(tree):
        for rule in RULES if isinstance(node, LOOKED_AT) else ():
            found += [(kind, what, getattr(node, "lineno", 1)) for kind, what in rule(node, names, about)]
    return sorted(found, key=lambda row: row[2])


def _shown(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


def _calls(node: ast.AST, names: Names, wanted: re.Pattern[str]) -> bool:
    return isinstance(node, ast.Call) and bool(wanted.search(names.dotted(node.func)))


def _assigns(node: ast.AST, wanted: re.Pattern[str]) -> bool:
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return False
    return any(wanted.search(name) for name in _targets(node))


def _imports(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    modules: list[str] = []
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        modules = [node.module or "."]
    for module in modules:
        top = module.split(".")[0]
        reaching = top in shapes.REACHING or shapes.REACHING_PARTS.search(module)
        if reaching or (top not in shapes.USUAL and top not in about.protected):
            yield "import", f"import {module}"


def _seed(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    if _calls(node, names, shapes.SEEDS) or _assigns(node, shapes.SEED_NAME):
        yield "seed", _shown(node)
    elif isinstance(node, ast.Constant) and about.seed_env and node.value == about.seed_env:
        yield "seed", repr(node.value)


def _budget(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    if _calls(node, names, shapes.BUDGET) or _assigns(node, shapes.BUDGET):
        yield "time budget", _shown(node)
    elif isinstance(node, ast.FunctionDef | ast.ClassDef) and shapes.BUDGET.search(node.name):
        yield "time budget", f"{node.name}: {_shown(node)}"
    elif isinstance(node, ast.While) or (isinstance(node, ast.If) and shapes.CLOCK.search(_shown(node.test))):
        shown = _shown(node.test)
        if shapes.BUDGET.search(shown) or shapes.CLOCK.search(shown):
            yield "time budget", f"{'while' if isinstance(node, ast.While) else 'if'} {shown}"


def _evaluation(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    if _calls(node, names, shapes.EVALUATION):
        yield "evaluation", _shown(node)
    elif isinstance(node, ast.FunctionDef) and shapes.EVALUATION.search(node.name):
        yield "evaluation", f"def {node.name}: {_shown(node)}"
    elif isinstance(getattr(node, "value", None), ast.Lambda) and _assigns(node, shapes.EVALUATION):
        yield "evaluation", _shown(node)


def _reads(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    if _calls(node, names, shapes.LOADS):
        yield "loaded file", _shown(node)
    elif _calls(node, names, shapes.READS):
        yield "data path", _shown(node)
    text = _text(node)
    if shapes.PATHLIKE.match(text) and shapes.SPLIT.search(text):
        yield "data path", repr(text)


def _metric(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    """Texts that name the metric: it is what the tool reads."""
    text = _text(node)
    if len(text) < shapes.LONG_TEXT and (about.metric in text or text == "metrics.json"):
        yield "printed metric", repr(text)


def _text(node: ast.AST) -> str:
    value = node.value if isinstance(node, ast.Constant) else ""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _patched(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    """Something imported is changed from outside: torch.nn.Linear.forward = ..."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = list(node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    flat = [item for t in targets for item in (t.elts if isinstance(t, ast.Tuple | ast.List) else [t])]
    if any(_is_foreign(target, node, names) for target in flat) or _calls(node, names, shapes.PATCHES):
        yield "monkeypatching", _shown(node)


def _is_foreign(target: ast.expr, node: ast.AST, names: Names) -> bool:
    """Whether an assignment reaches into something that came from an import."""
    if isinstance(target, ast.Subscript):
        held = names.dotted(target.value)
        return held in ("sys.modules", "os.environ") or held.endswith(".__dict__")
    if not isinstance(target, ast.Attribute):
        return False
    # torch.backends.cuda.matmul.allow_tf32 = True is a setting, made to be set.
    setting = isinstance(getattr(node, "value", None), ast.Constant) and shapes.SETTING.search(
        names.dotted(target)
    )
    return (names.is_imported(target) and not setting) or target.attr in ("__code__", "__class__", "__dict__")


def _exits(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id == "SystemExit":
        yield "exit", _shown(node)
    if not isinstance(node, ast.Call):
        return
    called = names.dotted(node.func)
    quiet = not node.args or (isinstance(node.args[0], ast.Constant) and node.args[0].value in (0, None))
    if shapes.EXITS.match(called) or (shapes.QUITS.match(called) and quiet):
        yield "exit", _shown(node)
    elif shapes.REACHES.match(called):
        yield "reach", _shown(node)


def _shadows(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    """A name that came from a protected module, or is Python's own, is bound to something else."""
    name = ""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        name = node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        name = node.id
    origin = names.bound.get(name, "")
    if name in about.protected or (name and origin.split(".")[0] in about.protected):
        yield "shadowed name", f"{name} (which is {origin or name} of a protected file)"
    elif name in shapes.BUILTINS:
        yield "shadowed name", f"{name} (which is Python's own)"


def _literals(node: ast.AST, names: Names, about: About) -> Iterator[Touch]:
    """Something long enough to hold results or data learned elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        if len(node.value) >= shapes.LONG_TEXT:
            yield "built-in data", f"a literal of {len(node.value)} characters"
    elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict | ast.BinOp):
        inside = list(_constants(node))
        numbers = sum(isinstance(value, int | float) for value in inside)
        characters = sum(len(value) for value in inside if isinstance(value, str | bytes))
        if numbers >= shapes.MANY_NUMBERS:
            yield "built-in data", f"a literal with {numbers} numbers"
        elif characters >= shapes.LONG_TEXT:
            yield "built-in data", f"a literal of {characters} characters in pieces"


def _constants(node: ast.AST) -> Iterator[object]:
    """The values in a literal, whatever lists and signs lie between."""
    if isinstance(node, ast.Constant):
        yield node.value
    elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict | ast.BinOp | ast.UnaryOp):
        for part in ast.iter_child_nodes(node):
            yield from _constants(part)


def _targets(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> list[str]:
    """The names an assignment binds, attributes with their dots, unpacked tuples one by one."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    flat = [item for t in targets for item in (t.elts if isinstance(t, ast.Tuple | ast.List) else [t])]
    named = (t for t in flat if isinstance(t, ast.Name | ast.Attribute))
    return [t.id if isinstance(t, ast.Name) else ast.unparse(t) for t in named]


# Most nodes are contexts, which no rule looks at.
LOOKED_AT = (
    ast.Import, ast.ImportFrom, ast.Call, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Delete, ast.Constant,
    ast.While, ast.If, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.List, ast.Tuple, ast.Set,
    ast.Dict, ast.Name, ast.Raise, ast.BinOp,
)  # fmt: skip
RULES: tuple[Rule, ...] = (
    _imports, _seed, _budget, _evaluation, _reads, _metric, _patched, _exits, _shadows, _literals,
)  # fmt: skip
