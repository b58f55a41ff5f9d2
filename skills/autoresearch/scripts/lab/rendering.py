"""autoresearch.yaml as `init` writes it: one line a key, with what it is for."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from lab.settings import Settings


def render(settings: Settings) -> str:
    """Write `settings` as the text of autoresearch.yaml, one comment per key that is not plain."""

    def flow(value: object) -> str:
        text = yaml.safe_dump(
            value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False
        )
        return text.removesuffix("...\n").strip()

    def number(value: float) -> str:
        return f"{value:g}" if value < 1e6 else str(int(value))

    metric = {"name": settings.metric, "goal": settings.goal}
    if settings.take != "only":
        metric["take"] = settings.take
    if settings.pattern:
        metric["pattern"] = settings.pattern
    budget = f"seconds: {number(settings.seconds)}, kill_after: {number(settings.kill_after)}"
    if settings.max_experiments:
        budget += f", experiments: {settings.max_experiments}"
    if settings.max_hours:
        budget += f", hours: {number(settings.max_hours)}"
    seed = "none"
    if settings.seed_env:
        seed = flow({"env": settings.seed_env})
    elif settings.seed_arg:
        seed = flow({"arg": settings.seed_arg})
    effect = "auto" if settings.min_effect is None else number(settings.min_effect)
    price = "" if settings.price is None else f", price: {number(settings.price)}"
    lines = [
        (f"command: {flow(settings.command)}", "runs in an export of the candidate commit"),
        (f"metric: {flow(metric)}", "as the program prints it: `name: value`"),
        (f"budget: {{{budget}}}", "the program's own budget; when the supervisor ends it"),
        (f"edit: {flow(list(settings.edit))}", "what a candidate may change"),
        (f"protect: {flow(list(settings.protect))}", "hash-checked before and after every run"),
        (f"share: {flow(list(settings.share))}", "git-ignored paths a run sees by link"),
        (f"seed: {seed}", "env: VARIABLE or arg: --option sets it; none: repeats measure run noise only"),
        (
            f"decision: {{method: paired, confidence: {settings.confidence:g}, min_effect: {effect}, "
            f"max_runs: {settings.max_runs or 'auto'}, mode: {settings.decision_mode}{price}}}",
            "min_effect: the smallest gain that counts; mode: fast, balanced, strict or seed-table",
        ),
        *_confirm_line(settings, flow),
        *_evaluate_line(settings, flow),
        *_sandbox_lines(settings, flow),
        (f"runner: {flow(_runner(settings))}", ""),
        (f"mode: {settings.mode}", ""),
    ]
    return "".join(f"{text:<56}  # {why}\n" if why else f"{text}\n" for text, why in lines)


def _runner(settings: Settings) -> dict[str, object]:
    chosen = list(settings.slots) if isinstance(settings.slots, tuple) else settings.slots
    values = {"kind": settings.runner, "slots": chosen or "auto", **settings.cluster.as_settings()}
    if settings.preflight is not None:
        values["preflight"] = settings.preflight or "on"
    return values if settings.when_busy == "run" else {**values, "when_busy": settings.when_busy}


def _confirm_line(settings: Settings, flow: Callable[[object], str]) -> list[tuple[str, str]]:
    if not (settings.confirm_env or settings.confirm_metric):
        return []
    values: dict[str, object] = {}
    if settings.confirm_env:
        values["env"] = dict(settings.confirm_env)
    if settings.confirm_metric:
        values["metric"] = settings.confirm_metric
    return [(f"confirm: {flow(values)}", "the held-out split, which only `confirm` scores")]


def _evaluate_line(settings: Settings, flow: Callable[[object], str]) -> list[tuple[str, str]]:
    if not settings.evaluate:
        return []
    values: dict[str, object] = {"command": settings.evaluate, "level": settings.evaluate_level}
    if settings.evaluate_hidden:
        values["hidden"] = settings.evaluate_hidden
    if settings.evaluate_hide:
        values["hide"] = list(settings.evaluate_hide)
    return [(f"evaluate: {flow(values)}", "scores what a run exported, in a process of its own")]


def _sandbox_lines(settings: Settings, flow: Callable[[object], str]) -> list[tuple[str, str]]:
    """The keys that were changed: the defaults need no line."""
    values: dict[str, object] = {} if settings.sandbox == "auto" else {"mode": settings.sandbox}
    values |= {} if settings.sandbox_kind == "auto" else {"kind": settings.sandbox_kind}
    for name, paths in (
        ("write", settings.sandbox_write),
        ("read", settings.sandbox_read),
        ("env", settings.sandbox_env),
    ):
        if paths:
            values[name] = list(paths)
    if settings.sandbox_disk_gb != Settings.sandbox_disk_gb:
        values["disk_gb"] = settings.sandbox_disk_gb
    lines = [(f"sandbox: {flow(values)}", "what a run may do beyond its own folders")] if values else []
    return [*lines, *([("network: true", "runs may reach the internet")] if settings.network else [])]
