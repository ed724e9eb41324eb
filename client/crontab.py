"""Crontabs, user and system form, to jobs; with a list, by line, of what could not be carried over.

The text is read as cron reads it: environment lines, `@daily`, `%` as line breaks of standard input, `CRON_TZ`. The
schedule itself is checked only as far as a crontab's own rules go; the cluster has the last word on expressions.
How a command becomes a job's name is in `crontab_names.py`.
"""

from __future__ import annotations

import pwd
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from horologe.client import jobs, names, times
from horologe.client.crontab_names import name_jobs
from horologe.client.errors import InvalidFile, Problem
from horologe.v1.job_pb2 import Job

__all__ = ["Crontab", "Entry", "load", "loads"]

DEFAULT_SHELL = "/bin/sh"
RANDOM_DELAY_MINUTES_MAX = 1440
"""A day: more would say that a job need not run when it is due."""

MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Name, lowest, highest, names of the values from the lowest on.
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)

_ENVIRONMENT = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s="']+))\s*=\s*(.*)""", re.DOTALL)
_USER = re.compile(r"[a-z_][a-z0-9_-]*\$?", re.IGNORECASE)
_SYSTEM_FOLDERS = ("/etc/cron.d/",)
_SYSTEM_FILES = ("/etc/crontab",)

# Users that many systems have, and that are called like a command.
_ALSO_COMMANDS = frozenset({"backup", "docker", "games", "git", "halt", "list", "mail", "man", "news", "rsync", "sync"})

# Variables that mean something to cron itself and nothing to the command.
_CRON_ONLY = {
    "MAILTO": "no mail is sent; the output is kept, see `horologe execution logs`",
    "MAILFROM": "no mail is sent",
    "CONTENT_TYPE": "no mail is sent",
    "CONTENT_TRANSFER_ENCODING": "no mail is sent",
    "START_HOURS_RANGE": "it belongs to anacron",
    "CRON_TZ": "",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line that runs something."""

    line: int
    expression: str
    time_zone: str
    user: str
    """Empty in the user form."""
    command: str
    stdin: str
    shell: str
    environment: tuple[tuple[str, str], ...]
    random_delay_minutes: int = 0
    """It starts up to so much later."""


@dataclass(slots=True)
class Crontab:
    """What a crontab says, as jobs, and what of it gets lost."""

    file: str
    is_system: bool
    entries: list[Entry] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    """One for each entry, in the same order."""
    notices: list[Problem] = field(default_factory=list)
    """What could not be carried over, and does not stop the import."""


def load(
    path: str | Path,
    *,
    system: bool | None = None,
    time_zone: str = "",
    namespace: str = names.DEFAULT_NAMESPACE,
    prefix: str = "",
    skip_unsupported: bool = False,
) -> Crontab:
    """Reads a crontab file; see `loads`."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidFile([Problem(str(path), 0, 0, f"cannot be read: {error.strerror or error}")]) from error
    return loads(
        content,
        str(path),
        system=system,
        time_zone=time_zone,
        namespace=namespace,
        prefix=prefix,
        skip_unsupported=skip_unsupported,
    )


def loads(
    content: str | bytes,
    file: str = "<crontab>",
    *,
    system: bool | None = None,
    time_zone: str = "",
    namespace: str = names.DEFAULT_NAMESPACE,
    prefix: str = "",
    skip_unsupported: bool = False,
) -> Crontab:
    """Reads the text of a crontab. InvalidFile lists every line that is wrong, and then nothing is to be imported.

    `system` says whether there is a user column; None finds out from the file's place and the columns. `time_zone` is
    for entries without CRON_TZ. `prefix` goes before each job's name. Entries that Horologe cannot run (`@reboot`) are
    errors, or with `skip_unsupported` notices.
    """
    lines = _split_lines(content, file)
    if system is None:
        system = _is_system(file, lines)
    reader = _Reader(file, system, time_zone, skip_unsupported)
    for number, line in enumerate(lines, start=1):
        reader.line(number, line)
    if not reader.entries and not reader.problems:
        reader.problems.append(Problem(file, max(len(lines), 1), 0, "holds no entry that could be imported"))
    if reader.problems:
        raise InvalidFile(reader.problems)
    crontab = Crontab(file, system, reader.entries, notices=reader.notices)
    identities = [(entry.expression, entry.user, entry.command, entry.stdin) for entry in reader.entries]
    ids = name_jobs([entry.command for entry in reader.entries], identities, prefix)
    crontab.jobs = [_job(entry, job_id, namespace, file) for entry, job_id in zip(reader.entries, ids, strict=True)]
    return crontab


def _split_lines(content: str | bytes, file: str) -> list[str]:
    if isinstance(content, bytes):
        raw = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        lines = []
        problems = []
        for number, line in enumerate(raw, start=1):
            try:
                lines.append(line.decode())
            except UnicodeDecodeError:
                problems.append(Problem(file, number, 0, "is not UTF-8 text"))
        if problems:
            raise InvalidFile(problems)
    else:
        lines = content.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


class _Reader:
    """Goes through the lines from the top: environment lines hold for the entries below them."""

    def __init__(self, file: str, is_system: bool, time_zone: str, skip_unsupported: bool) -> None:
        self.problems: list[Problem] = []
        self.notices: list[Problem] = []
        self.entries: list[Entry] = []
        self._file = file
        self._is_system = is_system
        self._time_zone = time_zone
        self._skip_unsupported = skip_unsupported
        self._shell = DEFAULT_SHELL
        self._environment: dict[str, str] = {}
        self._random_delay_minutes = 0

    def line(self, number: int, line: str) -> None:
        """Reads one line."""
        if not line.strip() or line.lstrip().startswith("#"):
            return
        if "\0" in line:
            self._problem(number, "contains a NUL character")
            return
        assignment = _ENVIRONMENT.fullmatch(line)
        if assignment is not None:
            name = next(part for part in assignment.groups()[:3] if part is not None)
            self._variable(number, name, _unquote(assignment[4]))
        else:
            self._entry(number, line.lstrip())

    def _variable(self, number: int, name: str, value: str) -> None:
        if not name:
            self._problem(number, "a variable without a name")
        elif name == "CRON_TZ":
            try:
                times.zone(value)
            except ValueError as error:
                self._problem(number, f"CRON_TZ: {error}")
            else:
                self._time_zone = value
        elif name == "RANDOM_DELAY":
            if not _is_number(value) or int(value) > RANDOM_DELAY_MINUTES_MAX:
                self._problem(number, f"RANDOM_DELAY: {value!r} is not a number of minutes")
            else:
                self._random_delay_minutes = int(value)
        elif name in _CRON_ONLY:
            if value:
                self._notice(number, f"{name} is not carried over: {_CRON_ONLY[name]}")
        else:
            if name == "TZ":
                self._notice(
                    number, "TZ goes to the commands, as in cron, and does not move the schedule; CRON_TZ does"
                )
            if name == "SHELL":
                self._shell = value or DEFAULT_SHELL
            self._environment[name] = value

    def _entry(self, number: int, line: str) -> None:
        if line.startswith("-"):
            line = line[1:]
            self._notice(number, "the leading '-' (do not log) is not carried over")
        expression, rest = self._expression(number, line)
        if expression is None:
            return
        user = ""
        if self._is_system:
            parts = rest.split(None, 1)
            user, rest = (parts[0], parts[1]) if len(parts) == 2 else (parts[0] if parts else "", "")
            if user and _USER.fullmatch(user) is None:
                self._problem(number, f"{user!r} is not a user's name; is this the user form (--user)?")
                return
        command, stdin = _split_command(rest.strip(" \t"))
        if not command.strip():
            missing = "the command is missing" if user or not self._is_system else "user and command are missing"
            self._problem(number, missing + ("; is this the user form (--user)?" if self._is_system else ""))
            return
        if user:
            self._notice(number, f"runs as the worker's user, not as {user!r}")
        self.entries.append(
            Entry(
                number,
                expression,
                self._time_zone,
                user,
                command,
                stdin,
                self._shell,
                tuple(sorted(self._environment.items())),
                self._random_delay_minutes,
            )
        )

    def _expression(self, number: int, line: str) -> tuple[str | None, str]:
        if line.startswith("@"):
            macro, _, rest = line.replace("\t", " ").partition(" ")
            rest = line[len(macro) :]
            if macro.lower() in MACROS:
                return macro.lower(), rest
            if macro.lower() == "@reboot":
                self._unsupported(number, "@reboot cannot be carried over: a cluster has no start of the machine")
            else:
                self._problem(number, f"{macro!r} is not known; there are {', '.join(MACROS)}")
            return None, ""
        parts = line.split(None, 5)
        if len(parts) < 5:
            self._problem(number, "is neither an entry (five fields and a command), NAME=value, nor a comment")
            return None, ""
        good = True
        for text, (name, low, high, words) in zip(parts[:5], _FIELDS, strict=True):
            wrong = _check_field(text, low, high, words)
            if wrong:
                self._problem(number, f"{name} {text!r}: {wrong}")
                good = False
        return (" ".join(parts[:5]) if good else None), (parts[5] if len(parts) > 5 else "")

    def _problem(self, number: int, text: str) -> None:
        self.problems.append(Problem(self._file, number, 0, text))

    def _notice(self, number: int, text: str) -> None:
        self.notices.append(Problem(self._file, number, 0, text))

    def _unsupported(self, number: int, text: str) -> None:
        (self._notice if self._skip_unsupported else self._problem)(number, text)


def _unquote(value: str) -> str:
    """The value of a variable: blanks around it do not count, unless they are in quotes. Nothing is expanded."""
    value = value.strip(" \t")
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def _split_command(text: str) -> tuple[str, str]:
    r"""Command and standard input: the first `%` ends the command, the others are line breaks; `\%` is a percent sign."""
    parts = [""]
    escaped = False
    for character in text:
        if character == "%" and escaped:
            parts[-1] = parts[-1][:-1] + "%"
        elif character == "%":
            parts.append("")
        else:
            parts[-1] += character
        escaped = character == "\\" and not escaped
    stdin = "\n".join(parts[1:])
    if stdin and not stdin.endswith("\n"):
        stdin += "\n"
    return parts[0], stdin


def _check_field(text: str, low: int, high: int, words: Sequence[str]) -> str:
    """What is wrong with one field of an expression; empty when nothing is."""
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if slash and (not _is_number(step) or int(step) == 0):
            return "the step after / must be a number above 0"
        if span == "*":
            continue
        first, dash, last = span.partition("-")
        ends = [_number(end, low, words) for end in ([first, last] if dash else [first])]
        if any(end is None for end in ends):
            allowed = f" or a name like {words[0]}" if words else ""
            return f"{item!r} is not *, a number{allowed}, a range or a step"
        numbers = [end for end in ends if end is not None]
        if any(not low <= end <= high for end in numbers):
            return f"must be from {low} to {high}"
        if dash and numbers[0] > numbers[1]:
            return f"the range {span} runs backwards"
        if slash and not dash:
            return "a step needs * or a range before it"
    return ""


def _number(text: str, low: int, words: Sequence[str]) -> int | None:
    if _is_number(text):
        return int(text)
    return words.index(text.lower()) + low if text.lower() in words else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _is_system(file: str, lines: Sequence[str]) -> bool:
    """Whether there is a user column: by the file's place, else when each entry has a user's name where one would be.

    Some users are called like commands (`mail`, `sync`), so at least one name must not be a command.
    """
    absolute = str(Path(file).absolute())
    if absolute in _SYSTEM_FILES or absolute.startswith(_SYSTEM_FOLDERS):
        return True
    users = {entry.pw_name for entry in pwd.getpwall()} | {"root", "www-data", "nobody"}
    found = []
    for line in lines:
        bare = line.strip()
        if not bare or bare.startswith("#") or _ENVIRONMENT.fullmatch(line):
            continue
        parts = bare.split(None, 2) if bare.startswith("@") else bare.split(None, 6)
        column = 1 if bare.startswith("@") else 5
        found.append(parts[column] if len(parts) > column + 1 else "")
    certain = [name for name in found if name not in _ALSO_COMMANDS and shutil.which(name) is None]
    return bool(certain) and all(name in users for name in found)


def _job(entry: Entry, job_id: str, namespace: str, file: str) -> Job:
    environment = dict(entry.environment)
    return jobs.job(
        names.job_name(job_id, namespace),
        jobs.cron(entry.expression, time_zone=entry.time_zone, dialect="unix"),
        jobs.shell(
            entry.command,
            interpreter=[entry.shell],
            env=environment,
            # cron starts a command in its HOME.
            cwd=environment.get("HOME", ""),
            stdin=entry.stdin,
        ),
        jitter=timedelta(minutes=entry.random_delay_minutes) if entry.random_delay_minutes else None,
        description=f"Imported from {Path(file).name}",
    )
