"""Switches in a Python file: truth values that a run can have the other way round.

Options of argparse that are stored as true or false, and constants of a module or a class (`USE_X = False`,
`use_x: bool = True` in a dataclass). The source is read, never run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

OPTION, CONSTANT = "option", "constant"


@dataclass(frozen=True)
class Switch:
    """Something that is on or off by default."""

    name: str  # --use-x, USE_X or Config.use_x
    kind: str  # option or constant
    default: bool
    turned: str = ""  # of an option: the word that turns it
    line: int = 0  # of a constant: from 1
    column: int = 0  # where its value stands, in bytes


def switches(source: str) -> list[Switch]:
    """Every switch of a source file, in its order; [] for what is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    found = [*_constants(tree.body, ""), *_options(tree)]
    return list({switch.name: switch for switch in found}.values())


def _constants(body: list[ast.stmt], inside: str) -> Iterator[Switch]:
    """Constants at the top of a module or a class; in a module only names in capitals."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not inside:
            yield from _constants(node.body, f"{node.name}.")
        target = _target(node)
        value = getattr(node, "value", None)
        if target is None or not isinstance(value, ast.Constant) or not isinstance(value.value, bool):
            continue
        if inside or target.isupper():
            name = inside + target
            yield Switch(name, CONSTANT, value.value, line=value.lineno, column=value.col_offset)


def _target(node: ast.stmt) -> str | None:
    """The plain name that a statement gives a value to."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def _options(tree: ast.Module) -> Iterator[Switch]:
    """`add_argument("--x", action="store_true")` and its relatives."""
    asked = {
        name for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp) for name in _asked(node.test)
    }
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if not called or node.func.attr != "add_argument":  # type: ignore[attr-defined]
            continue
        assert isinstance(node, ast.Call)
        names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        name = next((n for n in names if n.startswith("--")), "")
        given = {word.arg: word.value for word in node.keywords}
        made = _option(name, _word(given.get("action")), given.get("default"))
        if name[2:].replace("-", "_") in asked and _word(given.get("type")) == "int":
            made = made or _number_option(name, given.get("default"))
        if name and made:
            yield made


def _asked(test: ast.expr) -> Iterator[str]:
    """What `if args.x`, `if not args.x` and `if args.x and …` ask for."""
    if isinstance(test, ast.Attribute):
        yield test.attr
    for part in [test.operand] if isinstance(test, ast.UnaryOp) else []:
        yield from _asked(part)
    for part in test.values if isinstance(test, ast.BoolOp) else []:
        yield from _asked(part)


def _number_option(name: str, default: ast.expr | None) -> Switch | None:
    """`--x 0` and `--x 1`, where the program asks `if args.x`."""
    value = default.value if isinstance(default, ast.Constant) else None
    if not isinstance(value, int) or isinstance(value, bool) or value not in (0, 1):
        return None
    return Switch(name, OPTION, value == 1, turned=f"{name} {1 - value}")


def _word(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _option(name: str, action: str, default: ast.expr | None) -> Switch | None:
    on = isinstance(default, ast.Constant) and default.value is True
    if action == "store_true" and not on:
        return Switch(name, OPTION, False, turned=name)
    if action == "store_false" and (default is None or on):
        return Switch(name, OPTION, True, turned=name)
    if action == "BooleanOptionalAction":
        return Switch(name, OPTION, on, turned=f"--no-{name[2:]}" if on else name)
    return None


def turned(source: str, wanted: list[Switch]) -> str:
    """The source with each of these constants the other way round."""
    lines = source.encode().split(b"\n")
    # From the end, so that no column moves before it is used.
    for switch in sorted(wanted, key=lambda s: (s.line, s.column), reverse=True):
        line, old = lines[switch.line - 1], str(switch.default).encode()
        place = slice(switch.column, switch.column + len(old))
        assert line[place] == old, f"{switch.name} is not at {switch.line}:{switch.column}"
        lines[switch.line - 1] = line[: switch.column] + str(not switch.default).encode() + line[place.stop :]
    return b"\n".join(lines).decode()
