"""`horologe job create`: a job from flags. The names of the flags are the keys of a job file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from horologe.client.cli import job_options as options
from horologe.client.cli.job_mistakes import check_http
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.job_pb2 import Action, Job, RetryPolicy, Schedule

__all__ = ["create", "json_value", "pairs"]

Read = TypeVar("Read")


@connected
@options.with_flags
def create(session: Session, **given: Any) -> None:
    """Create a job.

    For example: horologe job create hello --every 5s --shell 'echo hello'
    """
    stored = session.client.create_job(_job(given), request_id=given["request_id"], validate_only=given["dry_run"])
    from horologe.client.cli.job import COLUMNS
    from horologe.client.jobfile import to_mapping

    session.print_one(to_mapping(stored), COLUMNS)


_AS_GIVEN = (
    *("max_executions", "jitter", "on_exclusion", "delete_when_finished", "timeout", "execution_timeout", "deadline"),
    *("grace", "overlap", "queue_max", "max_running", "catchup", "catchup_max", "catchup_window", "on_lease_loss"),
    *("queue", "priority", "output_bytes_max", "workflow", "owner", "apply_set", "description"),
)
"""Flags whose value is that of the job's field of the same name."""


def _job(given: dict[str, Any]) -> Job:
    from horologe.client import jobs, times

    bounds: dict[str, Any] = {
        field: _read(lambda text: times.parse(text, given["tz"]), given[field], f"--{field.replace('_', '-')}")
        for field in ("start_time", "end_time")
        if given[field]
    }
    return jobs.job(
        given["name"],
        _schedules(given),
        _action(given),
        retry=_retry(given),
        calendars=given["calendar"] or (),
        limits=given["limit"] or (),
        labels=pairs(given["label"], "--label"),
        worker_labels=pairs(given["worker_label"], "--worker-label"),
        **bounds,
        **{field: given[field] for field in _AS_GIVEN if given[field] is not None},
    )


def _schedules(given: dict[str, Any]) -> list[Schedule]:
    from horologe.client import jobs

    zone = given["tz"]
    rules = {key: given[key] for key in ("dialect", "dst_gap", "dst_overlap", "day_match")}
    intervals = {key: given[key] for key in ("phase", "anchor")}
    schedules = [jobs.every(period, **intervals) for period in given["every"] or ()]
    schedules += [jobs.cron(expression, time_zone=zone, **rules) for expression in given["cron"] or ()]
    schedules += [jobs.once(time, time_zone=zone, allow_past=given["allow_past"]) for time in given["at"] or ()]
    schedules += [jobs.after_delay(delay) for delay in given["in_"] or ()]
    schedules += [jobs.fixed_delay(given["fixed_delay"])] if given["fixed_delay"] else []
    schedules += [jobs.after(given["after"], condition=given["condition"])] if given["after"] else []
    if given["manual"] == bool(schedules):
        raise typer.BadParameter(
            "give one or more of --every, --cron, --at, --in, --fixed-delay and --after, or --manual alone",
            param_hint="schedule",
        )
    has_local_times = any(given[flag] for flag in ("cron", "at", "start_time", "end_time"))
    _only_with(given, "--tz", "tz", has_local_times, "--cron, --at, --start-time or --end-time")
    for key in intervals:
        _only_with(given, f"--{key}", key, bool(given["every"]), "--every")
    _only_with(given, "--allow-past", "allow_past", bool(given["at"]), "--at")
    _only_with(given, "--condition", "condition", bool(given["after"]), "--after")
    for key in rules:
        _only_with(given, f"--{key.replace('_', '-')}", key, bool(given["cron"]), "--cron")
    return schedules or [jobs.manual()]


def _action(given: dict[str, Any]) -> Action:
    from horologe.client import jobs

    check_http(given["http"])
    chosen = [kind for kind in ("shell", "argv", "http", "sql", "python", "run_members") if given[kind]]
    if not chosen and given["command"]:
        # As docker and kubectl take it: what stands behind -- is the command.
        chosen = ["argv"]
    if len(chosen) != 1:
        raise typer.BadParameter(
            "give exactly one of --shell, --argv, --http, --sql, --python and --run-members, or a command behind --",
            param_hint="action",
        )
    kind = chosen[0]
    command = given["command"] or []
    if command and kind != "argv":
        raise typer.BadParameter(f"unexpected {command[0]!r}; there is another action already", param_hint="action")
    if kind == "argv" and not command:
        raise typer.BadParameter("the command is missing: -- CMD ARG...", param_hint="--argv")
    _refuse_flags_of_others(given, kind)
    match kind:
        case "shell" | "argv":
            return jobs.shell(
                command if kind == "argv" else given["shell"],
                interpreter=shlex.split(given["interpreter"]),
                env=pairs(given["env"], "--env"),
                cwd=given["cwd"],
                stdin=given["stdin"],
                success_codes=given["success_code"] or (),
                user=given["user"],
                rlimits=_numbers(given["rlimit"], "--rlimit"),
            )
        case "http":
            return jobs.http(
                *given["http"],
                headers=pairs(given["header"], "--header", separator=":"),
                body=given["body"] or b"",
                expect=given["expect"] or (),
                follow_redirects=given["follow_redirects"],
                connect_timeout=given["connect_timeout"],
                read_timeout=given["read_timeout"],
            )
        case "sql":
            connection, statement = given["sql"]
            return jobs.sql(connection, statement, _object(given["parameters"], "--parameters"))
        case "run_members":
            return jobs.workflow()
    return jobs.python(given["python"], json_value(given["payload"], "--payload"))


def _refuse_flags_of_others(given: dict[str, Any], kind: str) -> None:
    """A flag that means nothing to this kind of action is a mistake."""
    is_command = kind in ("shell", "argv")
    for key in ("header", "body", "expect", "follow_redirects", "connect_timeout", "read_timeout"):
        _only_with(given, f"--{key.replace('_', '-')}", key, kind == "http", "--http")
    for key in ("env", "cwd", "user", "stdin", "success_code", "rlimit"):
        _only_with(given, f"--{key.replace('_', '-')}", key, is_command, "--shell or --argv")
    _only_with(given, "--interpreter", "interpreter", kind == "shell", "--shell")
    _only_with(given, "--parameters", "parameters", kind == "sql", "--sql")
    _only_with(given, "--payload", "payload", kind == "python", "--python")


def _numbers(items: Iterable[str] | None, flag: str) -> dict[str, int]:
    """NAME=NUMBER flags as a mapping."""
    named = pairs(items, flag)
    wrong = next((f"{name}={text}" for name, text in named.items() if not text.isascii() or not text.isdigit()), None)
    if wrong is not None:
        raise typer.BadParameter(f"{wrong!r} is not NAME=NUMBER", param_hint=flag)
    return {name: int(text) for name, text in named.items()}


def _object(text: str | None, flag: str) -> dict[str, object] | None:
    """A flag's value, which is a JSON object."""
    value = json_value(text, flag)
    if value is not None and not isinstance(value, dict):
        raise typer.BadParameter(f"{text!r} is no JSON object", param_hint=flag)
    return value


def _retry(given: dict[str, Any]) -> RetryPolicy | None:
    from horologe.client import jobs

    asked = {
        "max_attempts": given["max_attempts"],
        "backoff": given["retry_backoff"],
        "base": given["retry_base"],
        "factor": given["retry_factor"],
        "cap": given["retry_cap"],
        "jitter": given["retry_jitter"],
        "retry_on": given["retry_on"],
        "do_not_retry_on": given["do_not_retry_on"],
        "retry_window": given["retry_window"],
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
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}", param_hint=flag) from error


def _read(reader: Callable[[str], Read], text: str, flag: str) -> Read:
    try:
        return reader(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error
