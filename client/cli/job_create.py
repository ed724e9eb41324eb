"""`horologe job create`: a job from flags. The names of the flags are the keys of a job file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from horologe.client.cli import job_options as options
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.job_pb2 import Action, Job, RetryPolicy, Schedule

__all__ = ["create", "json_value", "pairs"]

Read = TypeVar("Read")


@connected
def create(
    session: Session,
    name: options.Name,
    command: options.Command = None,
    every: options.Every = None,
    cron: options.Cron = None,
    at: options.At = None,
    in_: options.In = None,
    manual: options.Manual = False,
    tz: options.Tz = "",
    allow_past: options.AllowPast = False,
    phase: options.Phase = None,
    dst_gap: options.DstGap = "",
    dst_overlap: options.DstOverlap = "",
    day_match: options.DayMatch = "",
    shell: options.Shell = None,
    argv: options.Argv = False,
    http: options.Http = None,
    sql: options.Sql = None,
    python: options.Python = None,
    payload: options.Payload = None,
    header: options.Header = None,
    body: options.Body = None,
    expect: options.Expect = None,
    env: options.Env = None,
    cwd: options.Cwd = "",
    timeout: options.Timeout = None,
    grace: options.Grace = None,
    max_attempts: options.MaxAttempts = None,
    retry_backoff: options.RetryBackoff = "",
    retry_base: options.RetryBase = None,
    retry_factor: options.RetryFactor = None,
    retry_cap: options.RetryCap = None,
    overlap: options.Overlap = "",
    catchup: options.Catchup = "",
    catchup_window: options.CatchupWindow = None,
    on_lease_loss: options.OnLeaseLoss = "",
    queue: options.Queue = "",
    priority: options.Priority = None,
    label: options.Label = None,
    description: options.Description = "",
    request_id: options.RequestId = "",
    dry_run: options.DryRun = False,
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
