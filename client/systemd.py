"""systemd timers to jobs: the `.timer` says when, the `.service` beside it what.

Calendar events are translated in `systemd_calendar.py`, files are read in `systemd_units.py`. Sandboxing, users and dependencies
of the service are not carried over, and listed.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from horologe.client import durations, jobs
from horologe.client.errors import InvalidFile, Problem
from horologe.client.imports import Imported, Importer, Options, read_text
from horologe.client.systemd_calendar import read_calendar
from horologe.client.systemd_units import Setting, Unit, read_span, read_unit, split_words
from horologe.v1.job_pb2 import CATCHUP_POLICY_LATEST, CATCHUP_POLICY_SKIP, LEASE_LOSS_POLICY_FAIL, Action, Job

__all__ = ["load", "loads"]

_AT_START = ("OnBootSec", "OnStartupSec", "OnActiveSec")
_TIMER_READ = {
    "OnCalendar", "OnUnitActiveSec", "OnUnitInactiveSec", *_AT_START, "Persistent", "RandomizedDelaySec",
    "AccuracySec", "Unit", "RemainAfterElapse", "FixedRandomDelay",
}  # fmt: skip
_SERVICE_READ = {
    "Type", "ExecStartPre", "ExecStart", "ExecStartPost", "Environment", "WorkingDirectory", "TimeoutStartSec",
    "RuntimeMaxSec", "TimeoutStopSec", "TimeoutSec", "SuccessExitStatus", "User", "Group", "StandardOutput", "StandardError",
    "SyslogIdentifier", "RemainAfterExit",
}  # fmt: skip
# DATAERR, TEMPFAIL and so on, as sysexits.h numbers them.
_EXIT_CODES = {name.removeprefix("EX_"): code for name, code in vars(os).items() if name.startswith("EX_")}
_CAUGHT_UP = "366d"
"""Persistent timers catch up whatever was missed, however long ago."""
_REFERENCE = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)", re.ASCII)
_EXPANDED_LENGTH_MAX = 64 << 10


def load(paths: Sequence[Path], options: Options) -> Imported:
    """Reads timers, or all those of a folder, each with its service. InvalidFile lists everything that stands in the way."""
    files: list[Path] = []
    for path in paths:
        files += sorted(path.glob("*.timer")) if path.is_dir() else [path]
    importer = Importer(str(paths[0]), options)
    for file in files:
        importer.file = str(file)
        unit = read_unit(importer, _read(file))
        service = file.with_name(_service_name(unit, file.name))
        _read_timer(importer, unit, str(file), str(service), _read(service) if service.is_file() else None)
    return importer.finish()


def loads(timer: bytes, file: str, service: bytes | None, options: Options) -> Imported:
    """Reads a timer and its service (None if there is none). InvalidFile lists everything that stands in the way."""
    importer = Importer(file, options)
    unit = read_unit(importer, read_text(timer, file))
    service_file = str(Path(file).with_suffix(".service"))
    _read_timer(importer, unit, file, service_file, None if service is None else read_text(service, service_file))
    return importer.finish()


def _read(path: Path) -> str:
    try:
        return read_text(path.read_bytes(), str(path))
    except OSError as error:
        raise InvalidFile([Problem(str(path), 0, 0, f"cannot be read: {error.strerror or error}")]) from error


def _service_name(unit: Unit, file: str) -> str:
    """The unit that is started, in the folder of the timer, whatever a file says of other folders."""
    setting = unit.last("Timer", "Unit")
    return Path(setting.value).name if setting is not None else f"{Path(file).stem}.service"


def _read_timer(importer: Importer, unit: Unit, file: str, service_file: str, service: str | None) -> None:
    job = Job()
    line = _read_schedules(importer, unit, job)
    _read_delays(importer, unit, job)
    _report_left_out(importer, unit, "Timer", _TIMER_READ)
    _report_conditions(importer, unit)
    description = unit.last("Unit", "Description")
    if service is None:
        importer.problem(line, f"{Path(service_file).name}, which it starts, is not beside it")
        return
    importer.file = service_file
    _read_service(importer, read_unit(importer, service), job)
    importer.file = file
    job.description = description.value if description is not None else ""
    # systemd starts nothing twice, and tries nothing again by itself.
    job.retry.max_attempts = 1
    job.on_lease_loss = LEASE_LOSS_POLICY_FAIL
    importer.add(line, Path(file).stem, job)


# When


def _read_schedules(importer: Importer, unit: Unit, job: Job) -> int:
    """The schedules of a timer, and the line of the first."""
    found = [(setting, _calendar) for setting in unit.all("Timer", "OnCalendar")]
    found += [(setting, _interval) for setting in unit.all("Timer", "OnUnitActiveSec")]
    found += [(setting, _fixed_delay) for setting in unit.all("Timer", "OnUnitInactiveSec")]
    for setting, read in found:
        try:
            read(importer, setting, job)
        except ValueError as error:
            importer.problem(setting.line, str(error))
    at_start = [setting for key in _AT_START for setting in unit.all("Timer", key)]
    for setting in at_start:
        said = "a cluster has no start of the machine"
        if found:
            importer.notice(setting.line, f"the first run so long after a start is not carried over: {said}")
        else:
            importer.problem(setting.line, f"cannot be carried over: {said}")
    if not found and not at_start:
        importer.problem(1, "has no OnCalendar=, OnUnitActiveSec= or OnUnitInactiveSec=")
    persistent = unit.last("Timer", "Persistent")
    if persistent is not None and _is_true(persistent.value):
        job.catchup = CATCHUP_POLICY_LATEST
        job.catchup_window.CopyFrom(durations.to_proto(durations.parse(_CAUGHT_UP)))
    elif unit.all("Timer", "OnCalendar"):
        job.catchup = CATCHUP_POLICY_SKIP
    return min((setting.line for setting in [*(setting for setting, _ in found), *at_start]), default=1)


def _calendar(importer: Importer, setting: Setting, job: Job) -> None:
    job.schedules.append(read_calendar(setting.value, importer.options.time_zone))


def _interval(importer: Importer, setting: Setting, job: Job) -> None:
    job.schedules.append(jobs.every(read_span(setting.value)))
    importer.notice(setting.line, "counts from a phase of its own, not from the last start")


def _fixed_delay(importer: Importer, setting: Setting, job: Job) -> None:
    del importer
    job.schedules.append(jobs.fixed_delay(read_span(setting.value)))


def _read_delays(importer: Importer, unit: Unit, job: Job) -> None:
    setting = unit.last("Timer", "RandomizedDelaySec")
    if setting is not None:
        _span_into(importer, setting, job, "jitter")
        fixed = unit.last("Timer", "FixedRandomDelay")
        if fixed is not None and _is_true(fixed.value):
            importer.notice(fixed.line, "the delay follows from the due time too, and is not the same each time")


# What


def _read_service(importer: Importer, unit: Unit, job: Job) -> None:
    kind = unit.last("Service", "Type")
    if kind is not None and kind.value not in ("oneshot", "simple", "exec", "idle"):
        importer.problem(kind.line, f"Type={kind.value}: a job is one process that runs until it is done")
    environment = _environment(importer, unit)
    settings = [
        setting for key in ("ExecStartPre", "ExecStart", "ExecStartPost") for setting in unit.all("Service", key)
    ]
    if not unit.all("Service", "ExecStart"):
        importer.problem(1, "has no ExecStart=")
    has_file = bool(unit.all("Service", "EnvironmentFile"))
    commands = [command for setting in settings for command in _commands(importer, setting, environment, has_file)]
    if commands:
        job.action.CopyFrom(_action(commands, environment, _folder(importer, unit), _codes(importer, unit)))
    is_oneshot = kind is not None and kind.value == "oneshot"
    for key, field in (
        ("TimeoutStartSec" if is_oneshot else "RuntimeMaxSec", "timeout"),
        ("TimeoutSec", "timeout"),
        ("TimeoutStopSec", "grace"),
    ):
        found = unit.last("Service", key)
        if found is not None and found.value != "infinity":
            _span_into(importer, found, job, field)
    user = unit.last("Service", "User")
    if user is not None:
        importer.notice(user.line, f"runs as the worker's user, not as {user.value!r}")
    _report_left_out(importer, unit, "Service", _SERVICE_READ)
    _report_conditions(importer, unit)


def _environment(importer: Importer, unit: Unit) -> dict[str, str]:
    found: dict[str, str] = {}
    for setting in unit.all("Service", "Environment"):
        try:
            for word in split_words(_without_specifiers(setting.value)):
                name, separator, value = word.partition("=")
                if not separator:
                    raise ValueError(f"{word[:60]!r} is not NAME=value")
                found[name] = value
        except ValueError as error:
            importer.problem(setting.line, str(error))
    return found


def _commands(
    importer: Importer, setting: Setting, environment: Mapping[str, str], has_file: bool
) -> list[tuple[bool, list[str]]]:
    """The commands of a line: may it fail, and its words."""
    text = setting.value
    prefix = re.match(r"[-@:+!|]*", text)
    marks = prefix[0] if prefix is not None else ""
    try:
        if "@" in marks or "|" in marks:
            raise ValueError(f"the prefix {marks!r} cannot be carried over")
        if "+" in marks or "!" in marks:
            importer.notice(setting.line, "runs as the worker's user, without privileges of its own")
        words = split_words(_without_specifiers(text[len(marks) :]))
        groups: list[list[str]] = [[]]
        for word in words:
            if word == ";":
                groups.append([])
            else:
                groups[-1] += [word] if ":" in marks else _expanded(word, environment, has_file)
        if not any(groups):
            raise ValueError("has no command")
    except ValueError as error:
        importer.problem(setting.line, str(error))
        return []
    return [("-" in marks, group) for group in groups if group]


def _without_specifiers(text: str) -> str:
    """`%%` is a percent sign; what else begins with one, only systemd knows."""
    found = re.search(r"%(?!%)", text.replace("%%", ""))
    if found is not None:
        raise ValueError("has a specifier (%n, %h and so on); write what it stands for")
    return text.replace("%%", "%")


def _expanded(word: str, environment: Mapping[str, str], has_file: bool) -> list[str]:
    """A word with its variables; `$NAME` alone becomes as many words as its value has."""
    left = _EXPANDED_LENGTH_MAX

    def value(match: re.Match[str]) -> str:
        nonlocal left
        name = match[1] or match[2]
        if name is None:
            return "$"
        if name not in environment and has_file:
            raise ValueError(f"${name} comes from a file that is not read")
        left -= len(environment.get(name, ""))
        if left < 0:
            raise ValueError(f"has more than {_EXPANDED_LENGTH_MAX:,} characters with its variables in it")
        return environment.get(name, "")

    alone = re.fullmatch(r"\$(\w+)", word, re.ASCII)
    expanded = _REFERENCE.sub(value, word)
    return expanded.split() if alone else [expanded]


def _action(
    commands: Sequence[tuple[bool, list[str]]], environment: Mapping[str, str], folder: str, codes: Sequence[int]
) -> Action:
    """One command as it is; several as a script that ends with the first that fails."""
    if len(commands) == 1:
        may_fail, words = commands[0]
        return jobs.shell(words, env=environment, cwd=folder, success_codes=range(256) if may_fail else codes)
    lines = [f"{shlex.join(words)}{' || true' if may_fail else ''}" for may_fail, words in commands]
    return jobs.shell("\n".join(["set -e", *lines, ""]), env=environment, cwd=folder, success_codes=codes)


def _folder(importer: Importer, unit: Unit) -> str:
    setting = unit.last("Service", "WorkingDirectory")
    if setting is None:
        return "/"
    folder = setting.value.removeprefix("-")
    if folder == "~":
        importer.problem(setting.line, "WorkingDirectory=~: write the folder's name")
    return folder


def _codes(importer: Importer, unit: Unit) -> list[int]:
    codes = {0}
    for setting in unit.all("Service", "SuccessExitStatus"):
        for word in setting.value.split():
            if word in _EXIT_CODES:
                codes.add(_EXIT_CODES[word])
            elif re.fullmatch(r"\d{1,3}", word, re.ASCII) and int(word) < 256:
                codes.add(int(word))
            else:
                importer.problem(setting.line, f"SuccessExitStatus={word[:60]}: only exit codes can be carried over")
    return sorted(codes) if len(codes) > 1 else []


def _span_into(importer: Importer, setting: Setting, job: Job, field: str) -> None:
    try:
        getattr(job, field).CopyFrom(durations.to_proto(read_span(setting.value)))
    except ValueError as error:
        importer.problem(setting.line, str(error))


def _report_left_out(importer: Importer, unit: Unit, section: str, read: set[str]) -> None:
    for key, settings in unit.sections.get(section, {}).items():
        if key not in read and settings:
            importer.notice(settings[-1].line, f"{key}= is not carried over")


def _report_conditions(importer: Importer, unit: Unit) -> None:
    """Under which nothing is started there."""
    for key, settings in unit.sections.get("Unit", {}).items():
        if key.startswith(("Condition", "Assert")):
            for setting in settings:
                importer.notice(setting.line, f"{key}={setting.value[:60]} is not carried over: it is not asked here")


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "yes", "y", "true", "t", "on")
