"""The flags of `horologe job create`, each with its help. What they mean together is in `job_create.py`."""

from __future__ import annotations

from typing import Annotated

import typer

WHEN = "When (at least one)"
WHAT = "What (exactly one)"
POLICIES = "Policies"

Name = Annotated[str, typer.Argument(metavar="NAME", help="Id in the namespace, or the full name.")]
Command = Annotated[list[str] | None, typer.Argument(metavar="CMD ARG", help="With --argv: the command.")]
Every = Annotated[
    list[str] | None,
    typer.Option("--every", metavar="DURATION", help="At a fixed distance, like 5s.", rich_help_panel=WHEN),
]
Cron = Annotated[
    list[str] | None, typer.Option("--cron", metavar="EXPR", help='Like "0 2 * * *" or @daily.', rich_help_panel=WHEN)
]
At = Annotated[
    list[str] | None,
    typer.Option("--at", metavar="TIME", help="Once, RFC 3339; local time needs --tz.", rich_help_panel=WHEN),
]
In = Annotated[
    list[str] | None, typer.Option("--in", metavar="DURATION", help="Once, so long from now.", rich_help_panel=WHEN)
]
Manual = Annotated[bool, typer.Option("--manual", help="Only on request.", rich_help_panel=WHEN)]
Tz = Annotated[str, typer.Option("--tz", metavar="ZONE", help="Time zone of --cron and --at.", rich_help_panel=WHEN)]
AllowPast = Annotated[bool, typer.Option("--allow-past", help="Accept an --at that has passed.", rich_help_panel=WHEN)]
Phase = Annotated[str | None, typer.Option("--phase", metavar="DURATION", help="Of --every.", rich_help_panel=WHEN)]
DstGap = Annotated[
    str, typer.Option("--dst-gap", metavar="run_after|skip", rich_help_panel=WHEN, help="Missing local times.")
]
DstOverlap = Annotated[
    str, typer.Option("--dst-overlap", metavar="first|second|both", rich_help_panel=WHEN, help="Repeated local times.")
]
DayMatch = Annotated[
    str, typer.Option("--day-match", metavar="either|both", rich_help_panel=WHEN, help="Of the two day fields.")
]
Shell = Annotated[
    str | None, typer.Option("--shell", metavar="SCRIPT", help="A script for /bin/sh.", rich_help_panel=WHAT)
]
Argv = Annotated[
    bool, typer.Option("--argv", help="A command without a shell: --argv -- CMD ARG...", rich_help_panel=WHAT)
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
Cwd = Annotated[str, typer.Option("--cwd", metavar="DIR", help="For a command.", rich_help_panel=WHAT)]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="DURATION", help="Of one attempt.", rich_help_panel=POLICIES)
]
Grace = Annotated[
    str | None, typer.Option("--grace", metavar="DURATION", help="From SIGTERM to SIGKILL.", rich_help_panel=POLICIES)
]
MaxAttempts = Annotated[
    int | None, typer.Option("--max-attempts", min=1, help="1: no retry.", rich_help_panel=POLICIES)
]
RetryBackoff = Annotated[
    str,
    typer.Option("--retry-backoff", metavar="fixed|linear|exponential", help="How it grows.", rich_help_panel=POLICIES),
]
RetryBase = Annotated[
    str | None, typer.Option("--retry-base", metavar="DURATION", help="The first delay.", rich_help_panel=POLICIES)
]
RetryFactor = Annotated[float | None, typer.Option("--retry-factor", min=1.0, help="Growth.", rich_help_panel=POLICIES)]
RetryCap = Annotated[
    str | None, typer.Option("--retry-cap", metavar="DURATION", help="The longest delay.", rich_help_panel=POLICIES)
]
Overlap = Annotated[
    str,
    typer.Option(
        "--overlap",
        metavar="skip|allow|queue_one|queue_all|replace",
        help="While the previous one runs.",
        rich_help_panel=POLICIES,
    ),
]
Catchup = Annotated[
    str, typer.Option("--catchup", metavar="latest|skip", help="Missed due times.", rich_help_panel=POLICIES)
]
CatchupWindow = Annotated[
    str | None, typer.Option("--catchup-window", metavar="DURATION", help="How far back.", rich_help_panel=POLICIES)
]
OnLeaseLoss = Annotated[
    str, typer.Option("--on-lease-loss", metavar="retry|fail", help="When a worker is lost.", rich_help_panel=POLICIES)
]
Queue = Annotated[str, typer.Option("--queue", metavar="NAME", help="Whose workers run it.", rich_help_panel=POLICIES)]
Priority = Annotated[
    int | None, typer.Option("--priority", min=0, max=9, help="Higher first.", rich_help_panel=POLICIES)
]
Label = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="For search; repeatable.")]
Description = Annotated[str, typer.Option("--description", metavar="TEXT", help="For people.")]
RequestId = Annotated[
    str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check only; store nothing.")]
