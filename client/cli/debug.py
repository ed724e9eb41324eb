"""`horologe debug bundle`: one file with what somebody needs who looks for a fault. What is in it says `client/bundle.py`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from horologe.client.cli.output import print_data
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidArgument

__all__ = ["app"]

app = typer.Typer(name="debug", help="Look for a fault.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look for a fault."""


@app.command("bundle")
@connected
def bundle(
    session: Session,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Default: horologe-debug-TIME.tar.gz in this folder."),
    ] = None,
) -> None:
    """Write a tar.gz with status, members, activity, and of each node its options, last log lines, threads, metrics and versions.

    Nothing secret is in it: no tokens, secrets, payloads, outputs or keys. Names of jobs, principals and addresses are. Takes the
    right cluster.write, because logs tell of all namespaces. Exits 1 if a part could not be had: errors.json says which.
    """
    from horologe.client import bundle as bundles
    from horologe.client.cli.health import examine

    now = datetime.now(UTC)
    path = file or Path(f"horologe-debug-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    files = bundles.collect(session.client, examine)
    try:
        bundles.write(files, path, now)
    except FileExistsError as error:
        raise InvalidArgument(
            f"{path} is there already, and nothing is overwritten; name another file with --file, or move that one away"
        ) from error
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror or error}") from error
    is_whole = files["errors.json"].strip() == "{}"
    if session.is_data:
        print_data(session.output, {"file": str(path), "files": sorted(files), "whole": is_whole})
    else:
        typer.echo(f"{path}: {len(files)} files{'' if is_whole else '; some are missing, see errors.json in it'}")
    if not is_whole:
        raise typer.Exit(1)
