"""`horologe job logs`: what the latest executions of a job printed, and the lines of it that contain a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.failures import printable
from horologe.client.cli.output import print_data
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.output_service_pb2 import SearchOutputResponse

__all__ = ["logs"]


@connected
def logs(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Id in the namespace, or the full name.")],
    grep: Annotated[str, typer.Option("--grep", "-g", metavar="TEXT", help="Only lines that contain this.")] = "",
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", "-i", help="Capital and small letters are the same.")
    ] = False,
    last: Annotated[int, typer.Option("--last", min=1, help="Look at so many of its latest executions.")] = 100,
) -> None:
    """Print what its latest executions printed, newest first, at most 50 lines of each attempt.

    Each line begins with the numbers of the execution and the attempt. With --grep it exits with 1 if there is no such line. It
    exits with 2 if nodes that keep a part of the output could not be asked.
    """
    from horologe.client import records

    matches: list[dict[str, Any]] = []
    away: set[str] = set()
    unread = 0
    for page in _pages(session, name, grep, ignore_case, last):
        away |= set(page.unreachable_nodes)
        unread += page.unread_attempt_count
        for match in page.matches:
            matches.append(records.output_match(match))
            if not session.is_data:
                _print(matches[-1])
    if session.is_data:
        print_data(session.output, matches)
    if away:
        left_out = f"the output of {unread} attempts is kept only there" if unread else "others have what they keep"
        typer.echo(f"could not be asked: {', '.join(sorted(away))}; {left_out}", err=True)
    if not matches and not session.is_data:
        typer.echo("No such lines." if grep else "No output.", err=True)
    if unread or (grep and not matches):
        raise typer.Exit(2 if unread else 1)


def _pages(session: Session, name: str, text: str, ignore_case: bool, last: int) -> Iterator[SearchOutputResponse]:
    """Pages until so many executions were looked at."""
    token = ""
    while last > 0:
        page = session.client.search_output(name, text, ignore_case=ignore_case, page_size=last, page_token=token)
        yield page
        last -= page.execution_count
        token = page.next_page_token
        if not token:
            return


def _print(match: dict[str, Any]) -> None:
    start = f"{match['id']}.{match['attempt']}"
    if match["omitted_line_count"]:
        typer.echo(f"{start}  ({match['omitted_line_count']} lines before these)", err=True)
    for line in match["lines"]:
        typer.echo(f"{start}  {printable(line['text'])}")
