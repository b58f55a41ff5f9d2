"""Handing a campaign to other programs."""

from __future__ import annotations

import click

from lab.campaign import Lab
from lab.export import formats
from lab.export.bundle import bundle
from verbs.shared import Context, verb


@verb()
@click.argument("form", metavar="FORMAT", type=click.Choice(list(formats.names())))
@click.option("--to", metavar="PLACE", help="A folder; for mlflow the server's address.")
def export(obj: Context, form: str, to: str | None) -> None:
    """Write every decided experiment for another program: tensorboard, csv, parquet, mlflow, wandb or trackio

    \b
    tensorboard, csv    need nothing installed; a second export replaces the first
    mlflow              a server's address in --to or MLFLOW_TRACKING_URI; a second export doubles nothing
    wandb               offline runs, sent by nobody but your own `wandb sync`
    parquet, trackio    need pyarrow and trackio where this command runs

    Without --to: .autoresearch/export/FORMAT, which git does not see. The campaign itself is only read.
    """
    lab = Lab.find(obj.folder)
    lab.read()
    found = bundle(lab)
    lines = formats.export(found, form, to, lab.home / "export" / form)
    left = [f"left out: {found.left_out} without a verdict yet"] if found.left_out else []
    fields = {"format": form, "experiments": len(found.experiments), "runs": len(found.runs)}
    obj.say([*lines, *left], {**fields, "left_out": found.left_out, "said": lines})
