"""The flags of `horologe job create`, each with its help. What they mean together is in `job_create.py`.

`FLAGS` lists them in the order of the help; a command takes them all with `with_flags`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from horologe.client import job_defaults as defaults

__all__ = ["FLAGS", "with_flags"]

WHEN = "When (at least one)"
WHAT = "What (exactly one)"
POLICIES = "Policies"

Name = Annotated[str, typer.Argument(metavar="NAME", help="Id in the namespace, or the full name.")]
Command = Annotated[
    list[str] | None, typer.Argument(metavar="CMD ARG", help="The action: a command without a shell. Behind --.")
]
Every = Annotated[
    list[str] | None,
    typer.Option(
        "--every", "--interval", metavar="DURATION", help="At a fixed distance, like 5s.", rich_help_panel=WHEN
    ),
]
Cron = Annotated[
    list[str] | None, typer.Option("--cron", metavar="EXPR", help='Like "0 2 * * *" or @daily.', rich_help_panel=WHEN)
]
At = Annotated[
    list[str] | None,
    typer.Option("--at", "--once", metavar="TIME", help="Once, RFC 3339; local time needs --tz.", rich_help_panel=WHEN),
]
FixedDelay = Annotated[
    str | None, typer.Option("--fixed-delay", metavar="DURATION", help="So long after each end.", rich_help_panel=WHEN)
]
After = Annotated[
    list[str] | None,
    typer.Option("--after", metavar="JOB", help="When another job has ended; repeatable.", rich_help_panel=WHEN),
]
Condition = Annotated[
    str,
    typer.Option(
        "--condition",
        metavar="all_succeeded|all_done|any_succeeded|any_failed",
        help=f"Of --after: how they ended. Default: {defaults.CONDITION}.",
        rich_help_panel=WHEN,
    ),
]
In = Annotated[
    list[str] | None,
    typer.Option("--in", "--delay", metavar="DURATION", help="Once, so long from now.", rich_help_panel=WHEN),
]
Manual = Annotated[bool, typer.Option("--manual", help="Only on request.", rich_help_panel=WHEN)]
Tz = Annotated[
    str,
    typer.Option(
        "--tz",
        "--time-zone",
        metavar="ZONE",
        help=f"Of --cron (default: {defaults.TIME_ZONE}), and of local times, which need it.",
        rich_help_panel=WHEN,
    ),
]
AllowPast = Annotated[bool, typer.Option("--allow-past", help="Accept an --at that has passed.", rich_help_panel=WHEN)]
Phase = Annotated[str | None, typer.Option("--phase", metavar="DURATION", help="Of --every.", rich_help_panel=WHEN)]
Anchor = Annotated[
    str | None, typer.Option("--anchor", metavar="TIME", help="Of --every: a due time.", rich_help_panel=WHEN)
]
Dialect = Annotated[
    str,
    typer.Option(
        "--dialect",
        metavar="unix|unix-seconds-first|unix-seconds-last|quartz|kubernetes",
        help=f"Of --cron. Default: {defaults.DIALECT}.",
        rich_help_panel=WHEN,
    ),
]
DstGap = Annotated[
    str,
    typer.Option(
        "--dst-gap",
        metavar="run_after|skip",
        help=f"Missing local times. Default: {defaults.DST_GAP}.",
        rich_help_panel=WHEN,
    ),
]
DstOverlap = Annotated[
    str,
    typer.Option(
        "--dst-overlap",
        metavar="first|second|both",
        help=f"Repeated local times. Default: {defaults.DST_OVERLAP}.",
        rich_help_panel=WHEN,
    ),
]
DayMatch = Annotated[
    str,
    typer.Option(
        "--day-match",
        metavar="either|both",
        help=f"Of the two day fields. Default: {defaults.DAY_MATCH}.",
        rich_help_panel=WHEN,
    ),
]
StartTime = Annotated[
    str | None, typer.Option("--start-time", metavar="TIME", help="No due time before.", rich_help_panel=WHEN)
]
EndTime = Annotated[
    str | None, typer.Option("--end-time", metavar="TIME", help="No due time from then on.", rich_help_panel=WHEN)
]
MaxExecutions = Annotated[
    int | None, typer.Option("--max-executions", min=1, help="So many due times, then no more.", rich_help_panel=WHEN)
]
Jitter = Annotated[
    str | None, typer.Option("--jitter", metavar="DURATION", help="Starts up to so much later.", rich_help_panel=WHEN)
]
Calendar = Annotated[
    list[str] | None,
    typer.Option("--calendar", metavar="NAME", help="Excludes due times; repeatable.", rich_help_panel=WHEN),
]
OnExclusion = Annotated[
    str,
    typer.Option(
        "--on-exclusion",
        metavar="skip|next_open",
        help=f"An excluded due time. Default: {defaults.ON_EXCLUSION}.",
        rich_help_panel=WHEN,
    ),
]
DeleteWhenFinished = Annotated[
    bool,
    typer.Option("--delete-when-finished", help="Delete the job when nothing is left to do.", rich_help_panel=WHEN),
]
Shell = Annotated[
    str | None, typer.Option("--shell", metavar="SCRIPT", help="A script for /bin/sh.", rich_help_panel=WHAT)
]
Argv = Annotated[
    bool, typer.Option("--argv", help="The action is the command behind --; may be left out.", rich_help_panel=WHAT)
]
Http = Annotated[
    tuple[str, str] | None, typer.Option("--http", metavar="METHOD URL", help="An HTTP request.", rich_help_panel=WHAT)
]
Sql = Annotated[
    tuple[str, str] | None,
    typer.Option("--sql", metavar="CONNECTION STATEMENT", help="An SQL statement.", rich_help_panel=WHAT),
]
Python = Annotated[
    str | None, typer.Option("--python", metavar="HANDLER", help="A registered handler.", rich_help_panel=WHAT)
]
RunMembers = Annotated[
    bool, typer.Option("--run-members", help="The jobs that name this one as --workflow.", rich_help_panel=WHAT)
]
Payload = Annotated[str | None, typer.Option("--payload", metavar="JSON", help="For --python.", rich_help_panel=WHAT)]
Header = Annotated[
    list[str] | None,
    typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="For --http; repeatable.", rich_help_panel=WHAT),
]
Body = Annotated[str | None, typer.Option("--body", metavar="TEXT", help="For --http.", rich_help_panel=WHAT)]
Expect = Annotated[
    list[int] | None, typer.Option("--expect", metavar="STATUS", help="For --http; repeatable.", rich_help_panel=WHAT)
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="KEY=VALUE", help="For a command; repeatable.", rich_help_panel=WHAT),
]
User = Annotated[
    str, typer.Option("--user", metavar="NAME", help="For a command: run as this user.", rich_help_panel=WHAT)
]
Cwd = Annotated[str, typer.Option("--cwd", metavar="DIR", help="For a command.", rich_help_panel=WHAT)]
Stdin = Annotated[str, typer.Option("--stdin", metavar="TEXT", help="For a command.", rich_help_panel=WHAT)]
Interpreter = Annotated[
    str,
    typer.Option("--interpreter", metavar="COMMAND", help="For --shell, like 'bash -eu'.", rich_help_panel=WHAT),
]
SuccessCode = Annotated[
    list[int] | None,
    typer.Option("--success-code", metavar="CODE", help="For a command; repeatable.", rich_help_panel=WHAT),
]
Rlimit = Annotated[
    list[str] | None,
    typer.Option("--rlimit", metavar="NAME=N", help="For a command, like nofile=64; repeatable.", rich_help_panel=WHAT),
]
FollowRedirects = Annotated[bool, typer.Option("--follow-redirects", help="For --http.", rich_help_panel=WHAT)]
ConnectTimeout = Annotated[
    str | None,
    typer.Option("--connect-timeout", metavar="DURATION", help="For --http.", rich_help_panel=WHAT),
]
ReadTimeout = Annotated[
    str | None,
    typer.Option("--read-timeout", metavar="DURATION", help="For --http.", rich_help_panel=WHAT),
]
Parameters = Annotated[
    str | None,
    typer.Option("--parameters", metavar="JSON", help='For --sql, like {"day": 1}.', rich_help_panel=WHAT),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        help=f"Of one attempt, which is ended then. Default: {defaults.TIMEOUT}.",
        rich_help_panel=POLICIES,
    ),
]
Grace = Annotated[
    str | None,
    typer.Option(
        "--grace",
        metavar="DURATION",
        help=f"From SIGTERM to SIGKILL. Default: {defaults.GRACE}.",
        rich_help_panel=POLICIES,
    ),
]
ExecutionTimeout = Annotated[
    str | None,
    typer.Option(
        "--execution-timeout",
        metavar="DURATION",
        help="Of all attempts together. Default: none.",
        rich_help_panel=POLICIES,
    ),
]
Deadline = Annotated[
    str | None,
    typer.Option("--deadline", metavar="DURATION", help="Start by then, or not at all.", rich_help_panel=POLICIES),
]
MaxAttempts = Annotated[
    int | None,
    typer.Option(
        "--max-attempts",
        min=1,
        help=f"In all; 1: no retry. Default: {defaults.MAX_ATTEMPTS}.",
        rich_help_panel=POLICIES,
    ),
]
RetryBackoff = Annotated[
    str,
    typer.Option(
        "--retry-backoff",
        metavar="fixed|linear|exponential",
        help=f"How the delay grows. Default: {defaults.RETRY_BACKOFF}.",
        rich_help_panel=POLICIES,
    ),
]
RetryBase = Annotated[
    str | None,
    typer.Option(
        "--retry-base",
        metavar="DURATION",
        help=f"The first delay. Default: {defaults.RETRY_BASE}.",
        rich_help_panel=POLICIES,
    ),
]
RetryFactor = Annotated[
    float | None,
    typer.Option(
        "--retry-factor", min=1.0, help=f"Growth. Default: {defaults.RETRY_FACTOR:g}.", rich_help_panel=POLICIES
    ),
]
RetryCap = Annotated[
    str | None,
    typer.Option(
        "--retry-cap",
        metavar="DURATION",
        help=f"The longest delay. Default: {defaults.RETRY_CAP}.",
        rich_help_panel=POLICIES,
    ),
]
RetryJitter = Annotated[
    str,
    typer.Option(
        "--retry-jitter",
        metavar="none|full",
        help=f"Of the delay. Default: {defaults.RETRY_JITTER}.",
        rich_help_panel=POLICIES,
    ),
]
RetryOn = Annotated[
    list[str] | None,
    typer.Option(
        "--retry-on",
        metavar="FAILURE",
        help="Only these, like exit:75, http:5xx, timeout; repeatable.",
        rich_help_panel=POLICIES,
    ),
]
DoNotRetryOn = Annotated[
    list[str] | None,
    typer.Option("--do-not-retry-on", metavar="FAILURE", help="Not these; repeatable.", rich_help_panel=POLICIES),
]
RetryWindow = Annotated[
    str | None,
    typer.Option("--retry-window", metavar="DURATION", help="No attempt begins later.", rich_help_panel=POLICIES),
]
Overlap = Annotated[
    str,
    typer.Option(
        "--overlap",
        metavar="skip|allow|queue_one|queue_all|replace",
        help=f"While the previous one runs. Default: {defaults.OVERLAP}.",
        rich_help_panel=POLICIES,
    ),
]
QueueMax = Annotated[
    int | None,
    typer.Option(
        "--queue-max",
        min=1,
        help=f"So many wait with queue_all. Default: {defaults.QUEUE_MAX}.",
        rich_help_panel=POLICIES,
    ),
]
MaxRunning = Annotated[
    int | None, typer.Option("--max-running", min=1, help="So many of this job at a time.", rich_help_panel=POLICIES)
]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", metavar="NAME", help="Shares a limit with other jobs; repeatable.", rich_help_panel=POLICIES
    ),
]
Catchup = Annotated[
    str,
    typer.Option(
        "--catchup",
        metavar="latest|skip|earliest|all",
        help=f"Which of the missed due times run. Default: {defaults.CATCHUP}.",
        rich_help_panel=POLICIES,
    ),
]
CatchupWindow = Annotated[
    str | None,
    typer.Option(
        "--catchup-window",
        metavar="DURATION",
        help="How far back. Default: from one due time to the next, but 1m to 1d; of --at and --in 365d.",
        rich_help_panel=POLICIES,
    ),
]
CatchupMax = Annotated[
    int | None,
    typer.Option(
        "--catchup-max",
        min=1,
        help=f"So many runs with all. Default: {defaults.CATCHUP_MAX}.",
        rich_help_panel=POLICIES,
    ),
]
OnLeaseLoss = Annotated[
    str,
    typer.Option(
        "--on-lease-loss",
        metavar="retry|fail",
        help=f"When a worker is lost. Default: {defaults.ON_LEASE_LOSS}.",
        rich_help_panel=POLICIES,
    ),
]
Queue = Annotated[
    str,
    typer.Option(
        "--queue",
        metavar="NAME",
        help=f"Whose workers run it. Default: {defaults.QUEUE}.",
        rich_help_panel=POLICIES,
    ),
]
Priority = Annotated[
    int | None,
    typer.Option(
        "--priority",
        min=0,
        max=9,
        help=f"Higher first. Default: {defaults.PRIORITY}.",
        rich_help_panel=POLICIES,
    ),
]
WorkerLabel = Annotated[
    list[str] | None,
    typer.Option(
        "--worker-label", metavar="KEY=VALUE", help="Only workers that carry it; repeatable.", rich_help_panel=POLICIES
    ),
]
Workflow = Annotated[
    str, typer.Option("--workflow", metavar="JOB", help="The workflow that runs it.", rich_help_panel=POLICIES)
]
ApplySet = Annotated[str, typer.Option("--apply-set", metavar="NAME", help="What it is applied and pruned with.")]
OutputBytesMax = Annotated[
    int | None,
    typer.Option(
        "--output-bytes-max",
        min=0,
        metavar="N",
        help="Output of an attempt beyond this is dropped. Default: 10 MiB, which is also the most.",
    ),
]
Owner = Annotated[str, typer.Option("--owner", metavar="TEXT", help="Who answers for it.")]
Label = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="For search; repeatable.")]
Description = Annotated[str, typer.Option("--description", metavar="TEXT", help="For people.")]
RequestId = Annotated[
    str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check only; store nothing.")]

FLAGS: dict[str, tuple[Any, Any]] = {
    "name": (Name, inspect.Parameter.empty),
    "command": (Command, None),
    "every": (Every, None),
    "cron": (Cron, None),
    "at": (At, None),
    "in_": (In, None),
    "fixed_delay": (FixedDelay, None),
    "after": (After, None),
    "manual": (Manual, False),
    "tz": (Tz, ""),
    "dialect": (Dialect, ""),
    "allow_past": (AllowPast, False),
    "phase": (Phase, None),
    "anchor": (Anchor, None),
    "dst_gap": (DstGap, ""),
    "dst_overlap": (DstOverlap, ""),
    "day_match": (DayMatch, ""),
    "condition": (Condition, ""),
    "start_time": (StartTime, None),
    "end_time": (EndTime, None),
    "max_executions": (MaxExecutions, None),
    "jitter": (Jitter, None),
    "calendar": (Calendar, None),
    "on_exclusion": (OnExclusion, ""),
    "delete_when_finished": (DeleteWhenFinished, False),
    "shell": (Shell, None),
    "argv": (Argv, False),
    "http": (Http, None),
    "sql": (Sql, None),
    "python": (Python, None),
    "run_members": (RunMembers, False),
    "payload": (Payload, None),
    "header": (Header, None),
    "body": (Body, None),
    "expect": (Expect, None),
    "env": (Env, None),
    "cwd": (Cwd, ""),
    "user": (User, ""),
    "stdin": (Stdin, ""),
    "interpreter": (Interpreter, ""),
    "success_code": (SuccessCode, None),
    "rlimit": (Rlimit, None),
    "follow_redirects": (FollowRedirects, False),
    "connect_timeout": (ConnectTimeout, None),
    "read_timeout": (ReadTimeout, None),
    "parameters": (Parameters, None),
    "timeout": (Timeout, None),
    "execution_timeout": (ExecutionTimeout, None),
    "deadline": (Deadline, None),
    "grace": (Grace, None),
    "max_attempts": (MaxAttempts, None),
    "retry_backoff": (RetryBackoff, ""),
    "retry_base": (RetryBase, None),
    "retry_factor": (RetryFactor, None),
    "retry_cap": (RetryCap, None),
    "retry_jitter": (RetryJitter, ""),
    "retry_on": (RetryOn, None),
    "do_not_retry_on": (DoNotRetryOn, None),
    "retry_window": (RetryWindow, None),
    "overlap": (Overlap, ""),
    "queue_max": (QueueMax, None),
    "max_running": (MaxRunning, None),
    "limit": (Limit, None),
    "catchup": (Catchup, ""),
    "catchup_max": (CatchupMax, None),
    "catchup_window": (CatchupWindow, None),
    "on_lease_loss": (OnLeaseLoss, ""),
    "queue": (Queue, ""),
    "priority": (Priority, None),
    "worker_label": (WorkerLabel, None),
    "workflow": (Workflow, ""),
    "label": (Label, None),
    "output_bytes_max": (OutputBytesMax, None),
    "owner": (Owner, ""),
    "apply_set": (ApplySet, ""),
    "description": (Description, ""),
    "request_id": (RequestId, ""),
    "dry_run": (DryRun, False),
}
"""Each flag with its default, by the name under which a command gets it."""


def with_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a function of (session, **given) all the flags: the command line makes its options from the signature."""
    session = next(iter(inspect.signature(function).parameters.values()))
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in FLAGS.items()
    ]
    function.__signature__ = inspect.Signature([session, *flags])  # type: ignore[attr-defined]
    return function
