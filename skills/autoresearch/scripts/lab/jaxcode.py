"""What reading JAX and Flax code shows: static arguments, init against apply, switches, keys used twice."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

JIT = {"jit", "jax.jit", "pjit", "nn.jit", "eqx.filter_jit"}
SPENDERS = {"normal", "uniform", "bernoulli", "categorical", "permutation", "randint", "truncated_normal",
            "choice", "gumbel", "dropout"}  # fmt: skip


@dataclass(frozen=True)
class Remark:
    """One line of the code that may not do what it seems to."""

    line: int
    what: str
    shows: str
    attempt: str


@dataclass(frozen=True)
class Jitted:
    """A function under jit, with the names that are static."""

    function: ast.FunctionDef
    static: frozenset[str]


def uses_jax(source: str) -> bool:
    return any(name in ("jax", "flax") for name in _imported(source))


def remarks(source: str) -> list[Remark]:
    """Every remark, in the order of the lines; none for code that does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    return sorted((found for check in CHECKS.values() for found in check(tree)), key=lambda one: one.line)


def _imported(source: str) -> set[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return set()
    plain = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    return plain | {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _arguments(function: ast.FunctionDef) -> list[str]:
    return [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]


def jitted(tree: ast.AST) -> list[Jitted]:
    """Functions decorated with jit (plain or through partial), and those passed to jit by name."""
    by_name = {f.name: f for f in _functions(tree)}
    found = []
    for function in by_name.values():
        for decorator in function.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else None
            words = [ast.unparse(n) for n in ([call.func, *call.args] if call else [decorator])]
            if JIT & set(words):
                found.append(Jitted(function, _static(call, function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in JIT and node.args:
            inner = node.args[0]
            if isinstance(inner, ast.Name) and inner.id in by_name:
                found.append(Jitted(by_name[inner.id], _static(node, by_name[inner.id])))
    return found


def _static(call: ast.Call | None, function: ast.FunctionDef) -> frozenset[str]:
    names: set[str] = set()
    for keyword in call.keywords if call else []:
        values = [n.value for n in ast.walk(keyword.value) if isinstance(n, ast.Constant)]
        if keyword.arg == "static_argnames":
            names |= {str(v) for v in values}
        elif keyword.arg == "static_argnums":
            arguments = _arguments(function)
            names |= {
                arguments[v] for v in values if isinstance(v, int) and -len(arguments) <= v < len(arguments)
            }
    return frozenset(names)


# -- checks: a function and a row in CHECKS ------------------------------------------------------------


def python_values(tree: ast.AST) -> Iterator[Remark]:
    """An argument of a jitted function that decides a branch, a range or a shape must be static."""
    for one in jitted(tree):
        traced = set(_arguments(one.function)) - one.static - {"self"}
        for node in ast.walk(one.function):
            if isinstance(node, ast.If | ast.While | ast.IfExp):
                used = _plain_names(node.test) & traced
                where = "decides a branch"
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "range":
                used = {a.id for a in node.args if isinstance(a, ast.Name)} & traced
                where = "is the length of a loop"
            else:
                continue
            for name in sorted(used):
                shows = f"`{name}` {where} in the jitted `{one.function.name}` and is traced"
                yield Remark(
                    node.lineno, "not static", shows, f'static_argnames=("{name}",), or jax.lax.cond'
                )


def _plain_names(test: ast.expr) -> set[str]:
    """Names whose value a test looks at; `x is None` and `x.shape` are known while tracing."""
    hidden: set[int] = set()
    for node in ast.walk(test):
        fixed = isinstance(node, ast.Attribute) and node.attr in ("shape", "ndim", "dtype", "size")
        none = isinstance(node, ast.Compare) and all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)
        kind = isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "len", "hasattr")
        if fixed or none or kind:
            hidden |= {id(inner) for inner in ast.walk(node)}
    return {n.id for n in ast.walk(test) if isinstance(n, ast.Name) and id(n) not in hidden}


def init_and_apply(tree: ast.AST) -> Iterator[Remark]:
    """`model.init` and `model.apply` must be called with the same switches, or parameters are missing."""
    calls: dict[str, dict[str, ast.Call]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, method = ast.unparse(node.func.value), node.func.attr
            if method in ("init", "apply") and not owner.startswith(("optimizer", "tx", "opt", "optax")):
                calls.setdefault(owner, {}).setdefault(method, node)
    ignored = {"rngs", "mutable", "method", "train", "deterministic", "training"}
    for owner, pair in calls.items():
        if len(pair) < 2:
            continue
        names = {m: {k.arg for k in call.keywords if k.arg} - ignored for m, call in pair.items()}
        # init(key, x, ...) and apply(variables, x, ...) have equally many positional arguments.
        counts = {m: len(call.args) for m, call in pair.items()}
        for name in sorted(names["init"] ^ names["apply"]):
            where = "init" if name in names["init"] else "apply"
            shows = f"`{name}` is given to {owner}.{where} alone"
            yield Remark(pair[where].lineno, "init unlike apply", shows, "give both the same switches")
        if counts["init"] != counts["apply"] and not any(
            isinstance(a, ast.Starred) for c in pair.values() for a in c.args
        ):
            shows = f"{owner}.init gets {counts['init']} arguments, {owner}.apply {counts['apply']}"
            yield Remark(pair["apply"].lineno, "init unlike apply", shows, "call both with the same inputs")


def switches(tree: ast.AST) -> Iterator[Remark]:
    """A switch of the command line that a jitted function reads as a global is frozen at the first call."""
    parsed = {
        ast.unparse(t)
        for n in ast.walk(tree)
        if isinstance(n, ast.Assign) and "parse_args" in ast.unparse(n.value)
        for t in n.targets
    } | {"FLAGS"}
    for one in jitted(tree):
        own = set(_arguments(one.function))
        for node in ast.walk(one.function):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = node.value.id
                if name in parsed and name not in own:
                    shows = f"`{name}.{node.attr}` is read inside the jitted `{one.function.name}`: "
                    shows += "its value at the first call stays for all later ones"
                    yield Remark(node.lineno, "switch in jit", shows, "pass it as a static argument")


def unread_switches(tree: ast.AST) -> Iterator[Remark]:
    """A switch that is declared and read nowhere changes nothing."""
    text = ast.unparse(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add_argument") and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and str(first.value).startswith("--"):
                name = str(first.value)[2:].replace("-", "_")
                named = [ast.literal_eval(k.value) for k in node.keywords if k.arg == "dest"]
                kept = str(named[0]) if named else name
                if f".{kept}" not in text and "vars(" not in text:
                    yield Remark(node.lineno, "unread switch", f"`{first.value!s}` is read nowhere", "use it")


def keys_twice(tree: ast.AST) -> Iterator[Remark]:
    """A random key that is spent twice gives the same numbers twice."""
    for function in _functions(tree):
        spent: Counter[tuple[str, int]] = Counter()
        version: Counter[str] = Counter()
        for node in _in_order(function):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    version.update(n.id for n in ast.walk(target) if isinstance(n, ast.Name))
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Name):
                words = ast.unparse(node.func).split(".")
                if words[-1] in SPENDERS and ("random" in words or "jr" in words):
                    key = (node.args[0].id, version[node.args[0].id])
                    spent[key] += 1
                    if spent[key] == 2:
                        shows = f"`{key[0]}` is spent twice in `{function.name}`: the same numbers twice"
                        yield Remark(node.lineno, "key used twice", shows, "jax.random.split before each use")


def _in_order(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Calls before the assignment of what they give, statement by statement."""
    for statement in function.body:
        inner = [n for n in ast.walk(statement) if isinstance(n, ast.Call | ast.Assign)]
        yield from sorted(inner, key=lambda n: (n.lineno, isinstance(n, ast.Assign)))


CHECKS: dict[str, Callable[[ast.AST], Iterator[Remark]]] = {
    "not static": python_values,
    "init unlike apply": init_and_apply,
    "switch in jit": switches,
    "unread switch": unread_switches,
    "key used twice": keys_twice,
}
