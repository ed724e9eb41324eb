"""Errors as people see them: one red line, what exactly is wrong, a hint, and an exit code that scripts can rely on.

0  done
1  the thing itself failed (an execution that ended badly, a defect)
2  wrong usage: arguments, a job file, a context file, a field that breaks a rule
3  there is no such thing
4  conflict: not allowed, the name is taken, it changed in between, or this is not the moment
5  the cluster does not answer, or has no room
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import typer

from horologe.client import errors
from horologe.client.errors import HorologeError

__all__ = ["EXIT_CODES", "exit_code", "printable", "printable_json", "report", "warn"]

STEERING = r"\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Of a class of characters: controls beyond ASCII's first ones, and what turns the direction of text around."""

EXIT_CODES: Mapping[type[HorologeError], int] = {
    errors.InvalidArgument: 2,
    errors.InvalidFile: 2,
    errors.InvalidContext: 2,
    errors.NotFound: 3,
    errors.Unauthenticated: 4,
    errors.PermissionDenied: 4,
    errors.AlreadyExists: 4,
    errors.Conflict: 4,
    errors.FailedPrecondition: 4,
    errors.OutOfRange: 4,
    errors.ResourceExhausted: 5,
    errors.Unavailable: 5,
    errors.OutcomeUnknown: 5,
    errors.DeadlineExceeded: 5,
    errors.Internal: 1,
    errors.HorologeError: 1,
}

_HINTS: Mapping[str, str] = {
    "JOB_NOT_FOUND": "`horologe job list` shows the jobs of a namespace (--namespace)",
    "EXECUTION_NOT_FOUND": "`horologe execution list` shows the executions",
    "WORKER_NOT_FOUND": "`horologe worker list` shows the workers",
    "LIMIT_NOT_FOUND": "`horologe limit list` shows the limits of a namespace, `horologe limit set` makes one",
    "LIMIT_IN_USE": "`horologe limit list` shows how many jobs name it",
    "QUEUE_NOT_FOUND": "`horologe queue list` shows the queues",
    "QUEUE_PAUSED": "`horologe queue resume` starts what waits",
    "NAMESPACE_NOT_FOUND": "`horologe namespace list` shows the namespaces",
    "JOB_EXISTS": "to change it: `horologe job get NAME -o yaml > NAME.yaml`, edit that file, `horologe job apply -f NAME.yaml`; "
    "`horologe job delete NAME` removes it",
    "VERSION_NOT_FOUND": "`horologe job history` lists the versions of a job",
    "ETAG_MISMATCH": "somebody changed it in between; read it again, then decide",
    "CALENDAR_NOT_FOUND": "`horologe calendar list` shows the calendars of a namespace (--namespace)",
    "SCOPE_PAUSED": "`horologe cluster pauses` shows what is paused, by whom and why",
    "SCOPE_NOT_PAUSED": "`horologe cluster pauses` shows what is paused",
    "JOB_PAUSED": "`horologe job resume` follows its schedule again",
    "OVERLAP": "--force runs it although another execution is not finished",
    "MEMBER_NOT_FOUND": "`horologe cluster members` shows the members",
    "MEMBER_BEHIND": "`horologe cluster members -o wide` shows who is connected and how far it is, as the leader sees it",
    "QUORUM_AT_RISK": "`horologe cluster members` shows who can be reached",
    "VERSION_TOO_LOW": "`horologe cluster upgrade` shows what the cluster's next version waits for",
    "VERSION_NOT_READY": "`horologe cluster members` shows who runs which program, and who is connected",
    "NO_LEADER": "the cluster has no leader now; `horologe cluster members` shows who can be reached",
    "EVENTS_GONE": "`horologe watch` without --from begins now; `horologe execution list` shows what has happened before",
    "HANDSHAKE_FAILED": "`horologe context show` shows what is known of the cluster; `horologe login` makes a context",
    "UNAUTHENTICATED": "no token was sent, or it is wrong, revoked, expired or of another cluster; `horologe login` takes one "
    "and keeps it, HOROLOGE_TOKEN gives one for a call, `horologe context show` shows what is used without it",
    "PERMISSION_DENIED": "`horologe whoami` shows who you are there, and what you may do",
    "SECRET_NOT_FOUND": "`horologe secret list` shows the secrets of a namespace (--namespace)",
    "TOKEN_NOT_FOUND": "`horologe token list` shows the tokens",
    "GRANT_NOT_FOUND": "`horologe grant list` shows who may do what",
    "PRINCIPAL_NOT_FOUND": "`horologe principal list` shows who is known to the cluster",
    "INTERNAL": "this is a defect of the cluster; its log says more",
}


def exit_code(error: HorologeError) -> int:
    """The exit code for an error: that of its nearest known class."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def report(error: HorologeError) -> int:
    """Shows an error on standard error and returns the exit code."""
    if isinstance(error, errors.InvalidFile):
        for problem in error.problems:
            _line(str(problem))
        count = len(error.problems)
        _line(f"Error: {count} problem{'s' if count > 1 else ''}; nothing was changed", colour=True)
        return exit_code(error)
    for problem in error.problems:
        _line(str(problem))
    _line(f"Error: {error.message}", colour=True)
    for violation in () if error.problems else error.violations:
        # A single violation is usually what the message says already.
        if violation.description not in error.message or violation.field not in error.message:
            _line(f"  {violation.field}: {violation.description}")
    hint = _hint(error)
    if hint:
        _line(f"Hint: {hint}")
    return exit_code(error)


def warn(text: str) -> None:
    """A line on standard error that is no failure."""
    typer.secho(printable(text), fg=typer.colors.YELLOW, err=True)


def printable(text: str) -> str:
    """The text without control characters: what comes from elsewhere must not steer the terminal, nor the order of letters."""
    return re.sub(rf"[^\S ]+|[\x00-\x1f{STEERING}]", " ", text)


def printable_json(text: str) -> str:
    """JSON in which these characters are written as escapes; of those below a space, JSON itself does that."""
    return re.sub(f"[{STEERING}]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _line(text: str, colour: bool = False) -> None:
    typer.secho(printable(text), fg=typer.colors.RED if colour else None, err=True)


def _hint(error: HorologeError) -> str:
    if error.reason in _HINTS:
        return _HINTS[error.reason]
    if isinstance(error, errors.OutcomeUnknown) and error.request_id:
        return f"repeat it with --request-id {error.request_id}: it will not happen twice"
    if isinstance(error, errors.Unavailable):
        return "is a node running there? `horologe dev` starts a cluster; --address or HOROLOGE_CONTEXT names another"
    if isinstance(error, errors.ResourceExhausted) and error.retry_after is not None:
        return f"try again in {error.retry_after:g} s"
    return ""
