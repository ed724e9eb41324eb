"""`horologe secret`: texts that jobs use and nobody reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from horologe.client.cli.limit import RequestIdOption
from horologe.client.cli.output import Column, print_data
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidArgument

__all__ = ["app"]

app = typer.Typer(name="secret", help="Secrets that jobs name and nobody reads.", no_args_is_help=True)

COLUMNS = (
    Column("NAMESPACE", "namespace", is_wide=True),
    Column("NAME", "name"),
    Column("VERSION", "version"),
    Column("JOBS", "job_count"),
    Column("CREATED", "create_time", is_wide=True),
    Column("SET", "update_time"),
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The secret's id, or its full name.")]


@app.command("set")
@connected
def set_(
    session: Session,
    name: NameArgument,
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", metavar="FILE", help="Where the value is. Default: standard input, or a question."),
    ] = None,
    keep_newline: Annotated[
        bool, typer.Option("--keep-newline", help="Keep a newline at the end; otherwise one is taken off.")
    ] = False,
    request_id: RequestIdOption = "",
) -> None:
    """Make a secret, or give it another value. The value is never an argument: everybody here could see those.

    For example: horologe secret set db-password --from-file password.txt
    """
    from horologe.client import access_records

    value = _value(session, from_file)
    if not keep_newline:
        # What an editor or `echo` adds belongs to no password.
        value = value.removesuffix(b"\n").removesuffix(b"\r")
    session.print_one(access_records.secret(session.client.set_secret(name, value, request_id=request_id)), COLUMNS)


@app.command("list")
@connected
def list_(session: Session) -> None:
    """List the secrets of a namespace. Nobody can show their values."""
    from horologe.client import access_records

    found = session.client.list_secrets()
    session.print_list((access_records.secret(entry) for entry in found), COLUMNS, "There are no secrets.")


@app.command("delete")
@connected
def delete(session: Session, name: NameArgument, request_id: RequestIdOption = "") -> None:
    """Delete a secret that no job names."""
    from horologe.client.names import secret_name

    session.client.delete_secret(name, request_id=request_id)
    full = secret_name(name, session.namespace)
    if session.is_data:
        print_data(session.output, {"name": full, "outcome": "deleted"})
    else:
        typer.echo(f"deleted {full}")


def _value(session: Session, file: Path | None) -> bytes:
    from horologe.client.secret_calls import VALUE_BYTES_MAX

    if file is None and session.is_interactive():
        answer: str = typer.prompt("Value", hide_input=True, confirmation_prompt=True, err=True)
        return answer.encode()
    try:
        if file is None:
            return sys.stdin.buffer.read(VALUE_BYTES_MAX + 2)
        with file.open("rb") as stream:
            return stream.read(VALUE_BYTES_MAX + 2)
    except OSError as error:
        raise InvalidArgument(f"{file or 'standard input'} cannot be read: {error.strerror or error}") from error
