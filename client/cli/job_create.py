"""`horologe job create`: a job from flags. The names of the flags are the keys of a job file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.job_pb2 import Action, Job, RetryPolicy, Schedule

__all__ = ["create", "json_value", "pairs"]

Read = TypeVar("Read")

_WHEN = "When (at least one)"
_WHAT = "What (exactly one)"
_POLICIES = "Policies"


@connected
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Id in the namespace, or the full name.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- CMD ARG...]", help="With --argv: the command.")
    ] = None,
    every: Annotated[
        list[str] | None,
        typer.Option("--every", metavar="DURATION", help="At a fixed distance, like 5s.", rich_help_panel=_WHEN),
    ] = None,
    cron: Annotated[
        list[str] | None,
        typer.Option("--cron", metavar="EXPR", help='Like "0 2 * * *" or @daily.', rich_help_panel=_WHEN),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="TIME", help="Once, RFC 3339; local time needs --tz.", rich_help_panel=_WHEN),
    ] = None,
    in_: Annotated[
        list[str] | None,
        typer.Option("--in", metavar="DURATION", help="Once, so long from now.", rich_help_panel=_WHEN),
    ] = None,
    manual: Annotated[bool, typer.Option("--manual", help="Only on request.", rich_help_panel=_WHEN)] = False,
    tz: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="Time zone of --cron and --at.", rich_help_panel=_WHEN)
    ] = "",
    allow_past: Annotated[
        bool, typer.Option("--allow-past", help="Accept an --at that has passed.", rich_help_panel=_WHEN)
    ] = False,
    phase: Annotated[
        str | None, typer.Option("--phase", metavar="DURATION", help="Of --every.", rich_help_panel=_WHEN)
    ] = None,
    dst_gap: Annotated[
        str, typer.Option("--dst-gap", metavar="run_after|skip", rich_help_panel=_WHEN, help="Missing local times.")
    ] = "",
    dst_overlap: Annotated[
        str,
        typer.Option("--dst-overlap", metavar="first|second|both", rich_help_panel=_WHEN, help="Repeated local times."),
    ] = "",
    day_match: Annotated[
        str, typer.Option("--day-match", metavar="either|both", rich_help_panel=_WHEN, help="Of the two day fields.")
    ] = "",
    shell: Annotated[
        str | None, typer.Option("--shell", metavar="SCRIPT", help="A script for /bin/sh.", rich_help_panel=_WHAT)
    ] = None,
    argv: Annotated[
        bool, typer.Option("--argv", help="A command without a shell: --argv -- CMD ARG...", rich_help_panel=_WHAT)
    ] = False,
    http: Annotated[
        tuple[str, str] | None,
        typer.Option("--http", metavar="METHOD URL", help="An HTTP request.", rich_help_panel=_WHAT),
    ] = None,
    sql: Annotated[
        tuple[str, str] | None,
        typer.Option("--sql", metavar="CONNECTION STATEMENT", help="An SQL statement.", rich_help_panel=_WHAT),
    ] = None,
    python: Annotated[
        str | None, typer.Option("--python", metavar="HANDLER", help="A registered handler.", rich_help_panel=_WHAT)
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="For --python.", rich_help_panel=_WHAT)
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="For --http; repeatable.", rich_help_panel=_WHAT),
    ] = None,
    body: Annotated[
        str | None, typer.Option("--body", metavar="TEXT", help="For --http.", rich_help_panel=_WHAT)
    ] = None,
    expect: Annotated[
        list[int] | None,
        typer.Option("--expect", metavar="STATUS", help="For --http; repeatable.", rich_help_panel=_WHAT),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="KEY=VALUE", help="For a command; repeatable.", rich_help_panel=_WHAT),
    ] = None,
    cwd: Annotated[str, typer.Option("--cwd", metavar="DIR", help="For a command.", rich_help_panel=_WHAT)] = "",
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Of one attempt.", rich_help_panel=_POLICIES)
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="DURATION", help="From SIGTERM to SIGKILL.", rich_help_panel=_POLICIES),
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", min=1, help="1: no retry.", rich_help_panel=_POLICIES)
    ] = None,
    retry_backoff: Annotated[
        str,
        typer.Option(
            "--retry-backoff", metavar="fixed|linear|exponential", help="How it grows.", rich_help_panel=_POLICIES
        ),
    ] = "",
    retry_base: Annotated[
        str | None,
        typer.Option("--retry-base", metavar="DURATION", help="The first delay.", rich_help_panel=_POLICIES),
    ] = None,
    retry_factor: Annotated[
        float | None, typer.Option("--retry-factor", min=1.0, help="Growth.", rich_help_panel=_POLICIES)
    ] = None,
    retry_cap: Annotated[
        str | None,
        typer.Option("--retry-cap", metavar="DURATION", help="The longest delay.", rich_help_panel=_POLICIES),
    ] = None,
    overlap: Annotated[
        str,
        typer.Option("--overlap", metavar="skip|allow", help="While the previous one runs.", rich_help_panel=_POLICIES),
    ] = "",
    catchup: Annotated[
        str,
        typer.Option("--catchup", metavar="latest|skip", help="Missed due times.", rich_help_panel=_POLICIES),
    ] = "",
    catchup_window: Annotated[
        str | None,
        typer.Option("--catchup-window", metavar="DURATION", help="How far back.", rich_help_panel=_POLICIES),
    ] = None,
    on_lease_loss: Annotated[
        str,
        typer.Option("--on-lease-loss", metavar="retry|fail", help="When a worker is lost.", rich_help_panel=_POLICIES),
    ] = "",
    queue: Annotated[
        str, typer.Option("--queue", metavar="NAME", help="Whose workers run it.", rich_help_panel=_POLICIES)
    ] = "",
    priority: Annotated[
        int | None, typer.Option("--priority", min=0, max=9, help="Higher first.", rich_help_panel=_POLICIES)
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="For search; repeatable.")
    ] = None,
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="For people.")] = "",
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only; store nothing.")] = False,
) -> None:
    """Create a job.

    For example: horologe job create hello --every 5s --shell 'echo hello'
    """
    given = dict(locals())
    job = _job(given)
    stored = session.client.create_job(job, request_id=request_id, validate_only=dry_run)
    from horologe.client.cli.job import COLUMNS
    from horologe.client.jobfile import to_mapping

    session.print_one(to_mapping(stored), COLUMNS)


def _job(given: dict[str, Any]) -> Job:
    from horologe.client import jobs

    return jobs.job(
        given["name"],
        _schedules(given),
        _action(given),
        retry=_retry(given),
        labels=pairs(given["label"], "--label"),
        **{
            key: given[key]
            for key in (
                "timeout",
                "grace",
                "overlap",
                "catchup",
                "catchup_window",
                "on_lease_loss",
                "queue",
                "priority",
                "description",
            )
        },
    )


def _schedules(given: dict[str, Any]) -> list[Schedule]:
    from horologe.client import jobs

    zone = given["tz"]
    rules = {key: given[key] for key in ("dst_gap", "dst_overlap", "day_match")}
    schedules = [jobs.every(period, phase=given["phase"]) for period in given["every"] or ()]
    schedules += [jobs.cron(expression, time_zone=zone, **rules) for expression in given["cron"] or ()]
    schedules += [jobs.once(time, time_zone=zone, allow_past=given["allow_past"]) for time in given["at"] or ()]
    schedules += [jobs.after_delay(delay) for delay in given["in_"] or ()]
    if given["manual"] == bool(schedules):
        raise typer.BadParameter(
            "give one or more of --every, --cron, --at and --in, or --manual alone", param_hint="schedule"
        )
    _only_with(given, "--tz", "tz", bool(given["cron"] or given["at"]), "--cron or --at")
    _only_with(given, "--phase", "phase", bool(given["every"]), "--every")
    _only_with(given, "--allow-past", "allow_past", bool(given["at"]), "--at")
    for key in rules:
        _only_with(given, f"--{key.replace('_', '-')}", key, bool(given["cron"]), "--cron")
    return schedules or [jobs.manual()]


def _action(given: dict[str, Any]) -> Action:
    from horologe.client import jobs

    chosen = [kind for kind in ("shell", "argv", "http", "sql", "python") if given[kind]]
    if len(chosen) != 1:
        raise typer.BadParameter("give exactly one of --shell, --argv, --http, --sql and --python", param_hint="action")
    kind = chosen[0]
    command = given["command"] or []
    if command and kind != "argv":
        raise typer.BadParameter(f"unexpected {command[0]!r}; a command goes behind --argv --", param_hint="action")
    if kind == "argv" and not command:
        raise typer.BadParameter("the command is missing: --argv -- CMD ARG...", param_hint="--argv")
    is_command = kind in ("shell", "argv")
    for flag in ("header", "body", "expect"):
        _only_with(given, f"--{flag}", flag, kind == "http", "--http")
    for flag in ("env", "cwd"):
        _only_with(given, f"--{flag}", flag, is_command, "--shell or --argv")
    _only_with(given, "--payload", "payload", kind == "python", "--python")
    if is_command:
        return jobs.shell(
            command if kind == "argv" else given["shell"], env=pairs(given["env"], "--env"), cwd=given["cwd"]
        )
    if kind == "http":
        headers = pairs(given["header"], "--header", separator=":")
        return jobs.http(*given["http"], headers=headers, body=given["body"] or b"", expect=given["expect"] or ())
    if kind == "sql":
        return jobs.sql(*given["sql"])
    return jobs.python(given["python"], json_value(given["payload"], "--payload"))


def _retry(given: dict[str, Any]) -> RetryPolicy | None:
    from horologe.client import jobs

    asked = {
        "max_attempts": given["max_attempts"],
        "backoff": given["retry_backoff"],
        "base": given["retry_base"],
        "factor": given["retry_factor"],
        "cap": given["retry_cap"],
    }
    wanted = {key: value for key, value in asked.items() if value}
    return jobs.retry(**wanted) if wanted else None


def _only_with(given: dict[str, Any], flag: str, key: str, fits: bool, partner: str) -> None:
    if given[key] and not fits:
        raise typer.BadParameter(f"only goes with {partner}", param_hint=flag)


def pairs(entries: Iterable[str] | None, flag: str, separator: str = "=") -> dict[str, str]:
    """`KEY=VALUE` texts as a dictionary; wrong usage when one has no separator."""
    found = {}
    for entry in entries or ():
        name, middle, value = entry.partition(separator)
        if not middle or not name.strip():
            shape = "'NAME: VALUE'" if separator == ":" else "KEY=VALUE"
            raise typer.BadParameter(f"{entry!r} is not {shape}", param_hint=flag)
        found[name.strip()] = value.strip() if separator == ":" else value
    return found


def json_value(text: str | None, flag: str) -> object:
    """The value of a JSON text; None where none was given. Wrong usage when it is not JSON."""
    if text is None:
        return None
    return _read(json.loads, text, flag)


def _read(reader: Callable[[str], Read], text: str, flag: str) -> Read:
    try:
        return reader(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}", param_hint=flag) from error
