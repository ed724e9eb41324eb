"""Quartz's triggers as schedules, where these have exactly the same due times; misfire instructions as catch-up policies.

A cron trigger still fires at its end time, a simple one does not any more. A finite simple trigger moves its other times when it
misfires; here they stay where they are, which is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from horologe.client import durations, jobs, times
from horologe.client.imports import Importer
from horologe.client.xml_tree import Element
from horologe.v1.job_pb2 import CATCHUP_POLICY_ALL, CATCHUP_POLICY_LATEST, CATCHUP_POLICY_SKIP, CatchupPolicy, Job

__all__ = ["read_trigger"]

Value = TypeVar("Value")

_COMMON = {
    "name", "group", "description", "job-name", "job-group", "priority", "calendar-name", "job-data-map", "start-time",
    "start-time-seconds-in-future", "end-time", "misfire-instruction",
}  # fmt: skip
_OWN = {
    "cron": {"cron-expression", "time-zone"},
    "simple": {"repeat-count", "repeat-interval"},
    "calendar-interval": {"repeat-interval", "repeat-interval-unit"},
}
_SMART = "MISFIRE_INSTRUCTION_SMART_POLICY"
_MISFIRES: dict[str, CatchupPolicy.ValueType] = {
    "MISFIRE_INSTRUCTION_FIRE_ONCE_NOW": CATCHUP_POLICY_LATEST,
    "MISFIRE_INSTRUCTION_FIRE_NOW": CATCHUP_POLICY_LATEST,
    "MISFIRE_INSTRUCTION_DO_NOTHING": CATCHUP_POLICY_SKIP,
    "MISFIRE_INSTRUCTION_IGNORE_MISFIRE_POLICY": CATCHUP_POLICY_ALL,
    "MISFIRE_INSTRUCTION_RESCHEDULE_NEXT_WITH_REMAINING_COUNT": CATCHUP_POLICY_SKIP,
    "MISFIRE_INSTRUCTION_RESCHEDULE_NEXT_WITH_EXISTING_COUNT": CATCHUP_POLICY_SKIP,
    "MISFIRE_INSTRUCTION_RESCHEDULE_NOW_WITH_REMAINING_REPEAT_COUNT": CATCHUP_POLICY_LATEST,
    "MISFIRE_INSTRUCTION_RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT": CATCHUP_POLICY_LATEST,
}
_UNITS = {"SECOND": "s", "MINUTE": "m", "HOUR": "h"}
"""Of calendar intervals, those that are the same length every time."""
_CAUGHT_UP = timedelta(days=366)
"""Quartz catches up however long ago it was."""
_MILLISECOND = timedelta(milliseconds=1)
FOREVER = -1


def read_trigger(importer: Importer, kind: str, trigger: Element, job: Job) -> None:
    """The schedule, the bounds and the policies of a trigger, into its job."""
    reader = _Trigger(importer, trigger, job)
    match kind:
        case "cron":
            reader.cron()
        case "simple":
            reader.simple()
        case _:
            reader.calendar_interval()
    reader.priority()
    for child in trigger.children:
        if child.name not in _COMMON | _OWN[kind]:
            importer.notice(child.line, f"<{child.name}> is not carried over")
        elif child.name == "calendar-name":
            importer.problem(
                child.line, f"the calendar {child.text.strip()!r} is not in this file: make one, and take this line out"
            )


class _Trigger:
    """One trigger, on its way into a job."""

    def __init__(self, importer: Importer, trigger: Element, job: Job) -> None:
        self._importer = importer
        self._trigger = trigger
        self._job = job
        zone = trigger.text_of("time-zone") or importer.options.time_zone
        self._zone = zone if not zone or self._read("time-zone", zone, times.zone) is not None else ""
        self._start = self._instant("start-time")
        self._end = self._instant("end-time")

    def cron(self) -> None:
        """A Quartz expression."""
        expression = self._trigger.text_of("cron-expression")
        if not expression:
            self._problem("cron-expression", "is missing")
        self._job.schedules.append(jobs.cron(expression, time_zone=self._zone, dialect="quartz"))
        self._bounds(self._start, None if self._end is None else self._after(self._end, _MILLISECOND, 0))
        self._delayed_start()
        self._misfire("MISFIRE_INSTRUCTION_FIRE_ONCE_NOW")

    def simple(self) -> None:
        """So many times, at a fixed distance."""
        count = self._integer("repeat-count", 0, FOREVER, 10**9)
        period = timedelta(milliseconds=self._integer("repeat-interval", 0, 0, 366 * 86_400_000))
        in_seconds = self._trigger.text_of("start-time-seconds-in-future")
        if count == 0:
            if self._start is not None:
                self._job.schedules.append(jobs.once(self._start))
            elif in_seconds:
                seconds = self._integer("start-time-seconds-in-future", 1, 1, 10**9)
                self._job.schedules.append(jobs.after_delay(timedelta(seconds=seconds)))
            else:
                self._importer.problem(
                    self._trigger.line, "fires when it is loaded: give it a <start-time>, or run the job by hand"
                )
            self._misfire("MISFIRE_INSTRUCTION_FIRE_NOW")
            return
        if count != FOREVER and self._start is None:
            self._importer.problem(
                self._trigger.line, "begins when it is loaded, and ends after a count: give it a <start-time>"
            )
            return
        self._interval(period)
        last = None if count == FOREVER or self._start is None else self._after(self._start, period, count)
        ends = [end for end in (last, self._end) if end is not None]
        self._bounds(self._start, min(ends) if ends else None)
        self._delayed_start()
        if count == FOREVER:
            self._misfire("MISFIRE_INSTRUCTION_RESCHEDULE_NEXT_WITH_REMAINING_COUNT")
        else:
            self._misfire("MISFIRE_INSTRUCTION_RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT")

    def calendar_interval(self) -> None:
        """A fixed distance in a unit of the calendar."""
        unit = self._trigger.text_of("repeat-interval-unit") or "DAY"
        count = self._integer("repeat-interval", 1, 1, 366 * 86_400)
        if unit not in _UNITS:
            self._problem("repeat-interval-unit", f"{unit[:20]!r} has no fixed length; use a cron trigger")
            return
        self._interval(durations.parse(f"{count}{_UNITS[unit]}"))
        self._bounds(self._start, self._end)
        self._delayed_start()
        self._misfire("MISFIRE_INSTRUCTION_FIRE_ONCE_NOW")

    def priority(self) -> None:
        """Quartz has any number, and 5 where nothing is said."""
        if self._trigger.text_of("priority"):
            self._job.priority = self._integer("priority", 5, 0, 9)

    def _interval(self, period: timedelta) -> None:
        if not timedelta(seconds=1) <= period <= timedelta(days=366):
            self._problem("repeat-interval", f"must be from 1s to 366d, not {durations.render(period)}")
            return
        if self._start is None:
            self._importer.notice(self._trigger.line, "begins at a phase of its own: there is no <start-time>")
        self._job.schedules.append(jobs.every(period, anchor=self._start))

    def _bounds(self, start: datetime | None, end: datetime | None) -> None:
        if start is not None:
            self._job.start_time.CopyFrom(times.to_proto(start))
        if end is not None:
            self._job.end_time.CopyFrom(times.to_proto(end))

    def _delayed_start(self) -> None:
        if self._trigger.text_of("start-time-seconds-in-future"):
            self._problem("start-time-seconds-in-future", "cannot be carried over: give it a <start-time>")

    def _misfire(self, smart: str) -> None:
        """What happens to missed times; `smart` is what Quartz takes when nothing is said."""
        word = self._trigger.text_of("misfire-instruction") or _SMART
        word = smart if word == _SMART else word
        if word not in _MISFIRES:
            self._problem("misfire-instruction", f"{word[:80]!r} is not known")
            return
        self._job.catchup = _MISFIRES[word]
        if self._job.catchup != CATCHUP_POLICY_SKIP:
            self._job.catchup_window.CopyFrom(durations.to_proto(_CAUGHT_UP))
        if "RESCHEDULE_NOW" in word or "EXISTING_COUNT" in word:
            self._importer.notice(
                self._trigger.line, "a misfire does not move the other times here: one run stands for what was missed"
            )
        if self._job.catchup == CATCHUP_POLICY_ALL:
            self._importer.notice(
                self._trigger.line, "of what was missed, the last 100 run, unless you give it a `catchup_max`"
            )

    def _instant(self, name: str) -> datetime | None:
        text = self._trigger.text_of(name)
        return self._read(name, text, lambda given: times.parse(given, self._zone or "UTC")) if text else None

    def _after(self, start: datetime, span: timedelta, count: int) -> datetime | None:
        """Just after `count` spans."""
        try:
            return start + span * count + _MILLISECOND
        except OverflowError:
            # After the end of the calendar: as good as never.
            return None

    def _integer(self, name: str, default: int, low: int, high: int) -> int:
        text = self._trigger.text_of(name)
        if not text:
            return default
        if text == "REPEAT_INDEFINITELY" and low == FOREVER:
            return FOREVER
        if re.fullmatch(r"-?\d{1,15}", text, re.ASCII) is None or not low <= int(text) <= high:
            self._problem(name, f"must be a number from {low:,} to {high:,}, not {text[:20]!r}")
            return default
        return int(text)

    def _read(self, name: str, text: str, read: Callable[[str], Value]) -> Value | None:
        try:
            return read(text)
        except ValueError as error:
            self._problem(name, str(error))
            return None

    def _problem(self, name: str, text: str) -> None:
        child = self._trigger.first(name)
        self._importer.problem(child.line if child is not None else self._trigger.line, f"<{name}>: {text}")
