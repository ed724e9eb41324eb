"""`horologe cluster export|import`: what people have defined, as lines of JSON."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from horologe.client.cli.output import Column, Record
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidArgument

__all__ = ["register"]

COLUMNS = (Column("KIND", "kind"), Column("NAME", "name"), Column("OUTCOME", "outcome"))


def register(app: typer.Typer) -> None:
    """Adds these commands to `horologe cluster`."""
    app.command("export")(export)
    app.command("import")(import_)


@connected
def export(
    session: Session,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Default, as with -: standard output.")] = None,
) -> None:
    """Write what people have defined as JSON lines: namespaces, queues, limits, calendars, grants, jobs, notification rules."""
    from horologe.client import portable

    lines = (definition.line() for definition in portable.export(session.client))
    if file is None or str(file) == "-":
        for line in lines:
            sys.stdout.write(line + "\n")
        return
    # The whole file, or none of it.
    text = "".join(line + "\n" for line in lines)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be written: {error.strerror or error}") from error
    typer.echo(f"{file}: {text.count(chr(10))} definitions", err=True)


@connected
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote; - for standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Make the cluster hold the definitions of a file, and say what that changed. Doing it again changes nothing."""
    from horologe.client import portable

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file} is not UTF-8 text (byte {error.start})") from error
    wanted = portable.parse(text.splitlines(), str(file))
    found: list[Record] = [
        {"kind": change.kind, "name": change.name, "outcome": change.outcome}
        for change in portable.import_(session.client, wanted, dry_run=dry_run)
    ]
    counts = Counter(record["outcome"] for record in found)
    shown = found if session.is_data else [record for record in found if record["outcome"] != "unchanged"]
    session.print_list(shown, COLUMNS, "Nothing changes." if dry_run else "Nothing changed.")
    typer.echo(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())), err=True)
