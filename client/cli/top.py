"""`horologe top`: how the cluster stands, again and again, until Ctrl-C. What a frame looks like is in `top_frame.py`.

It asks like any other client, so it goes on with another node when one is gone; meanwhile it shows what it knew, and says so.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from horologe.client.cli.session import Session, connected
from horologe.client.errors import DeadlineExceeded, OutcomeUnknown, PermissionDenied, Unavailable

if TYPE_CHECKING:
    from horologe.client.cli.top_frame import Frame

__all__ = ["top"]

WINDOW_SECONDS = 60
CALL_SECONDS = 5.0
ROWS_MAX = 100
"""Read of each list; a screen shows fewer."""
INTERVAL_SECONDS_MIN = 0.2
EVERYWHERE = "namespaces/-/jobs/-"
PASSING = (Unavailable, DeadlineExceeded, OutcomeUnknown)

Item = TypeVar("Item")


@connected
def top(
    session: Session,
    interval: Annotated[str, typer.Option("--interval", metavar="DURATION", help="From one frame to the next.")] = "1s",
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Lines of text instead of a screen, as into a pipe: for who listens to them."),
    ] = False,
) -> None:
    """Show who leads, how busy the cluster is, what waits, runs and failed, again and again, until Ctrl-C.

    Goes on by itself on another node when one is gone.
    """
    seconds = _seconds(interval)
    if session.is_data:
        _repeat(session, seconds, once=once, show=lambda frame: _print_record(frame))
    elif plain or not sys.stdout.isatty():
        _repeat(session, seconds, once=once, show=lambda frame: _print_lines(frame))
    elif once:
        _print_screen(_read(session))
    else:
        _live(session, seconds)


def _seconds(interval: str) -> float:
    from horologe.client import durations

    try:
        seconds = durations.parse(interval).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--interval") from error
    if seconds < INTERVAL_SECONDS_MIN:
        raise typer.BadParameter(f"the least is {INTERVAL_SECONDS_MIN:g} s", param_hint="--interval")
    return seconds


def _repeat(session: Session, seconds: float, *, once: bool, show: Callable[[Frame], None]) -> None:
    frame = _read(session)
    show(frame)
    while not once:
        session.pause(seconds)
        frame = _next(session, frame)
        show(frame)


def _live(session: Session, seconds: float) -> None:
    from rich.console import Console
    from rich.live import Live

    from horologe.client.cli.top_frame import screen

    console = Console()
    frame = _read(session)
    with Live(screen(frame, console.height), console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(screen(frame, console.height), refresh=True)
            session.pause(seconds)
            frame = _next(session, frame)


def _print_screen(frame: Frame) -> None:
    from rich.console import Console

    from horologe.client.cli.top_frame import screen

    console = Console()
    console.print(screen(frame, console.height))


def _print_lines(frame: Frame) -> None:
    from horologe.client.cli.top_frame import lines

    typer.echo("\n".join([*lines(frame), ""]))
    sys.stdout.flush()


def _print_record(frame: Frame) -> None:
    from horologe.client.cli.output import print_json_line
    from horologe.client.cli.top_frame import record

    print_json_line(record(frame))


def _next(session: Session, frame: Frame) -> Frame:
    """Another frame, or the last one with what is in the way."""
    from dataclasses import replace

    try:
        return _read(session)
    except PASSING as error:
        return replace(frame, trouble=str(error))


def _read(session: Session) -> Frame:
    """Asks for everything. Raises HorologeError; what the caller may not see is left out."""
    from datetime import UTC, datetime

    from horologe.client.cli.top_frame import Frame
    from horologe.v1.execution_pb2 import Execution

    client = session.client.with_timeout(CALL_SECONDS)
    failed = [Execution.STATE_FAILED, Execution.STATE_DEAD]
    return Frame(
        time=datetime.now(UTC),
        status=client.cluster_status(),
        activity=_allowed(lambda: client.activity(window_seconds=WINDOW_SECONDS)),
        members=_some(lambda: client.list_members()),
        queues=_some(lambda: client.list_queues()),
        running=_some(lambda: client.list_executions(EVERYWHERE, states=[Execution.STATE_RUNNING], page_size=ROWS_MAX)),
        failed=_some(lambda: client.list_executions(EVERYWHERE, states=failed, page_size=ROWS_MAX)),
        workers=_some(lambda: client.list_workers()),
    )


def _allowed(ask: Callable[[], Item]) -> Item | None:
    try:
        return ask()
    except PermissionDenied:
        return None


def _some(ask: Callable[[], Iterable[Item]]) -> list[Item] | None:
    return _allowed(lambda: list(itertools.islice(ask(), ROWS_MAX)))
