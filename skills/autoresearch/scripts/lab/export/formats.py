"""The formats of an export, each a function from the bundle and a place to what was done, in words."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab.atomic import write_atomic
from lab.errors import LabError
from lab.export import clients, tfevents, tracking
from lab.export.bundle import Bundle
from lab.redact import one_line
from lab.steps import step

Cell = str | float | int | None
Table = tuple[list[str], list[list[Cell]]]
FORMULA = ("=", "@", "+", "-", "\t", "\r")  # at the start of a cell a spreadsheet takes it for a formula
EVENTS = "events.out.tfevents"  # TensorBoard knows its files by this name


def tensorboard(bundle: Bundle, to: Path) -> list[str]:
    """One folder for each run, and `campaign` with the metric and the best by experiment."""
    course = [("metric", n, v) for n, v in bundle.values] + [("best", n, v) for n, v in bundle.best]
    first = min((row.started for row in bundle.runs), default=0.0)
    about = {"campaign": f"{one_line(bundle.campaign, 100)}: {bundle.metric}, {bundle.goal} is better"}
    _write(to / "campaign" / f"{EVENTS}.{int(first)}.campaign", tfevents.event_file(first, course, about))
    for row in bundle.runs:
        number = int(row.experiment[1:])
        scalars = [("loss", x, y) for x, y in row.points]
        scalars += [(f"result/{name}", number, value) for name, value in row.numbers.items()]
        # The text tab takes Markdown, images from elsewhere included: as a code block it stays text.
        words = {k: f"    {text}" for k, text in row.words.items() if k not in ("run", "experiment")}
        words["numbers"] = f"    {json.dumps(row.numbers)}"  # whole: a scalar of the format has 32 bits
        text = tfevents.event_file(row.started, scalars, words)
        _write(to / row.id / f"{EVENTS}.{int(row.started)}.{row.id}", text)
    return [f"{len(bundle.runs)} runs written: {to}", f"look: tensorboard --logdir {to}"]


def mlflow(bundle: Bundle, to: str | None) -> list[str]:
    """To a server's REST interface."""
    return tracking.send(bundle, to)


def csv_files(bundle: Bundle, to: Path) -> list[str]:
    """Three files: experiments, runs, curves."""
    for name, (heads, rows) in tables(bundle).items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(heads)
        writer.writerows([_cell(value) for value in row] for row in rows)
        _write(to / f"{name}.csv", text.getvalue().encode())
    return [f"{len(bundle.experiments)} experiments, {len(bundle.runs)} runs written: {to}"]


def parquet(bundle: Bundle, to: Path) -> list[str]:
    """The same three tables, with types."""
    arrow, files = clients.needed("pyarrow"), clients.needed("pyarrow.parquet")
    for name, (heads, rows) in tables(bundle).items():
        columns: list[Sequence[Cell]] = list(zip(*rows, strict=True)) if rows else [()] * len(heads)
        out = io.BytesIO()
        files.write_table(arrow.table(dict(zip(heads, map(list, columns), strict=True))), out)
        _write(to / f"{name}.parquet", out.getvalue())
    return [f"{len(bundle.experiments)} experiments, {len(bundle.runs)} runs written: {to}"]


def tables(bundle: Bundle) -> dict[str, Table]:
    """Experiments, runs and curves, each as heads and rows."""
    experiments = [dict(row) for row in bundle.experiments]
    runs: list[dict[str, Cell]] = [
        {**row.words, **{f"number.{name}": value for name, value in row.numbers.items()}}
        for row in bundle.runs
    ]
    points: list[list[Cell]] = [[row.id, x, y] for row in bundle.runs for x, y in row.curve]
    return {
        "experiments": _table(experiments, ["experiment"]),
        "runs": _table(runs, ["run"]),
        "curves": (["run", "step", "loss"], points),
    }


def _table(rows: Sequence[dict[str, Cell]], first: list[str]) -> Table:
    heads = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
    return heads, [[row.get(name) for name in heads] for row in rows]


def _cell(value: Cell) -> Cell:
    """A text that a spreadsheet would run gets an apostrophe before it; a number stays one."""
    if not isinstance(value, str) or not value.startswith(FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data, durable=False)
    step("export.file")


FILES: dict[str, Callable[[Bundle, Path], list[str]]] = {
    "tensorboard": tensorboard,
    "csv": csv_files,
    "parquet": parquet,
    "wandb": clients.wandb_offline,
    "trackio": clients.trackio,
}
SERVERS: dict[str, Callable[[Bundle, str | None], list[str]]] = {"mlflow": mlflow}


def names() -> Iterator[str]:
    """Every format."""
    yield from sorted([*FILES, *SERVERS])


def export(bundle: Bundle, name: str, to: str | None, usual: Path) -> list[str]:
    """Bring the bundle to a place in one format; say what was done."""
    if not bundle.runs:
        raise LabError("nothing has been decided yet", "`baseline` first")
    if name in SERVERS:
        return SERVERS[name](bundle, to)
    place = Path(to).expanduser().absolute() if to else usual
    if place.exists() and not place.is_dir():
        raise LabError(f"{place} is a file", "name a folder: --to FOLDER")
    return FILES[name](bundle, place)
