#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "click==8.5.1",
#     "pyyaml==6.0.3",
#     "gitpython==3.2.1",
#     "psutil==7.2.2",
#     "jinja2==3.1.6",
# ]
# ///
"""The command line of autoresearch: starts anywhere, finds the verb, turns errors into exit codes."""

from __future__ import annotations

import sys
from pathlib import Path

import bootstrap

bootstrap.start(Path(__file__).resolve(), sys.argv[1:])

import importlib  # noqa: E402 - everything below may need the packages that the line above found
import json  # noqa: E402
import os  # noqa: E402

import click  # noqa: E402

from lab import errors  # noqa: E402
from lab.errors import LabError  # noqa: E402
from lab.redact import hide_secrets  # noqa: E402
from verbs.shared import Context, everywhere  # noqa: E402

VERSION = "0.1.0"
# Verb -> the module of verbs/ that has it; only the module of the verb in use is imported.
VERBS = {
    "init": "measuring", "doctor": "measuring", "baseline": "measuring", "try": "measuring",
    "wait": "measuring", "move": "moving",
    "status": "looking", "log": "looking", "show": "looking", "diff": "looking", "restore": "looking",
    "sweep": "sweeping", "confirm": "evidence", "ablate": "ablating", "isolate": "ablating",
    "diagnose": "diagnosing", "health": "diagnosing",
    "verify-metric": "diagnosing",
    "verify": "verifying",
    "wake": "people", "report": "people", "watch": "watching", "serve": "watching",
    "export": "exporting",
    "handoff": "collaborating", "ingest": "collaborating", "note": "talking",
    "checkpoint": "talking",
    "remember": "knowing", "recall": "knowing", "ideas": "knowing",
    "papers": "reading",
    "bootstrap": "beginning", "document": "writing",
    "stop": "ending", "resume": "ending", "finish": "ending",
    "notify": "notifying", "drive": "driving",
    "hook": "hooks",
}  # fmt: skip


class Verbs(click.Group):
    """The verbs of the table, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the verb; None when there is no such verb."""
        if name not in VERBS:
            return None
        module = importlib.import_module(f"verbs.{VERBS[name]}")
        found = next(v for v in vars(module).values() if isinstance(v, click.Command) and v.name == name)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@everywhere
@click.version_option(VERSION, message="autoresearch %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run experiments on training code: propose, measure, decide, remember.

    \b
    Exit codes: 0 done, whatever the verdict · 2 usage · 3 configuration · 4 precondition not met
    8 busy · 9 refused · 124 the wait ended before the run · 130 interrupted · 1 a bug
    """
    ctx.ensure_object(Context).verb = ctx.invoked_subcommand or ""


# -- the way out ---------------------------------------------------------------------------------------


def main() -> int:
    """Run the command line and return its exit code."""
    obj = Context()
    own = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    obj.json = "--json" in own  # so that a usage error is JSON too; behind `--` stands another program's
    try:
        cli.main(args=sys.argv[1:], prog_name="autoresearch", obj=obj, standalone_mode=False)
        return errors.OK
    except LabError as error:
        return _failed(obj, error.code, error.message, error.hint)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return errors.USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context else "--help lists the verbs"
        return _failed(obj, errors.USAGE, error.format_message(), hint)
    except (KeyboardInterrupt, click.Abort):
        return _failed(
            obj, errors.INTERRUPTED, "interrupted", "`status` gives the present; runs go on by themselves"
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.OK
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else errors.BUG
    except Exception as error:
        if obj.json:
            obj.write(
                json.dumps(
                    {"ok": False, "code": errors.BUG, "message": repr(error), "fix": "report this bug"}
                )
            )
        raise


def _failed(obj: Context, code: int, message: str, hint: str) -> int:
    message, hint = hide_secrets(message), hide_secrets(hint)
    if obj.json:
        obj.write(json.dumps({"ok": False, "code": code, "message": message, "fix": hint}))
    else:
        text = f"Error: {message}" + (f"\nhint: {hint}" if hint else "")
        sys.stderr.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
