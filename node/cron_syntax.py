"""How a cron expression is read: text in, sets of numbers out, or an error that says what to write instead.

Here belong the `unix` dialect (five fields, as in Vixie cron) and the words for the policies that come with an expression.
Not here: which days and instants an expression names (`cron`), what it means in English (`cron_preview`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

EXPRESSION_LENGTH_MAX: Final = 1_000

MACROS: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class CronError(ValueError):
    """The expression, its zone or its policies cannot be used; the text names the value, the rule and the way out."""


class Dialect(StrEnum):
    """How the fields of an expression are read."""

    UNIX = "unix"


class GapPolicy(StrEnum):
    """What becomes of local times that daylight saving leaves out."""

    RUN_AFTER = "run_after"
    SKIP = "skip"


class OverlapPolicy(StrEnum):
    """What becomes of local times that daylight saving repeats."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


class DayMatch(StrEnum):
    """Which days match when day of month and day of week are both restricted."""

    EITHER = "either"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class CronFields:
    """An expression, read. The numbers are sorted; Sunday is 0."""

    texts: tuple[str, str, str, str, str]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days_of_month: tuple[int, ...]
    months: tuple[int, ...]
    days_of_week: tuple[int, ...]

    @property
    def follows_elapsed_time(self) -> bool:
        """True when the hour field is `*` or a step of `*`: such expressions do not care what the clocks show."""
        return re.fullmatch(r"\*(/\d+)?", self.texts[1]) is not None

    @property
    def restricts_both_days(self) -> bool:
        """True when neither day field starts with `*`, which is what Vixie cron calls restricted."""
        return not self.texts[2].startswith("*") and not self.texts[4].startswith("*")


class _Field(NamedTuple):
    """What one of the five fields may hold."""

    name: str
    lowest: int
    highest: int
    names: Mapping[str, int]
    full_names: tuple[str, ...] = ()
    star_highest: int | None = None

    def end_of_star(self) -> int:
        """The last value that `*` stands for; 7 is a second name of Sunday, not an eighth day."""
        return self.highest if self.star_highest is None else self.star_highest


_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november")
_FULL_MONTHS = (*_MONTHS, "december")
_FULL_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")

_FIELDS: Final = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, {name[:3]: number for number, name in enumerate(_FULL_MONTHS, 1)}, _FULL_MONTHS),
    _Field("day of week", 0, 7, {name[:3]: number for number, name in enumerate(_FULL_DAYS)}, _FULL_DAYS, 6),
)

# Forms of other dialects, told apart so that the message can say what was meant.
_FOREIGN_FORMS: Final = (
    (re.compile(r".*\?.*"), "`?` is Quartz; write `*`"),
    (re.compile(r".*#.*"), "`#` (the n-th weekday of a month) is not part of the unix dialect"),
    (re.compile(r"lw|l?\d+w|w\d+"), "`W` (the nearest working day) is not part of the unix dialect"),
    (re.compile(r"l|l-\d+|l\d+|\d+l|[a-z]{3}l"), "`L` (the last day) is not part of the unix dialect"),
    (
        re.compile(r"h|h\(.*"),
        "`H` (a value hashed from the job's name) is not part of the unix dialect; write a number",
    ),
    (re.compile(r"r|r\(.*|.*~.*"), "random values are not supported: every node must find the same due times"),
)


def quoted(text: str) -> str:
    """`text` for a message: in quotes, control characters escaped, shortened when long."""
    return json.dumps(text if len(text) <= 80 else text[:77] + "...", ensure_ascii=False)


@lru_cache(maxsize=4096)
def read_expression(expression: str) -> CronFields:
    """Read a `unix` expression or a macro. Raises CronError."""
    if len(expression) > EXPRESSION_LENGTH_MAX:
        raise CronError(
            f"the expression has {len(expression):,} characters; at most {EXPRESSION_LENGTH_MAX:,} are read"
        )
    text = expression.strip(" \t")
    if not text:
        raise CronError("the expression is empty; write five fields, for example `0 2 * * *`")
    if text.startswith("@"):
        text = _expand_macro(text)
    texts = re.split(r"[ \t]+", text)
    if len(texts) != len(_FIELDS):
        raise CronError(_wrong_field_count(text, texts))
    minutes, hours, days_of_month, months, days_of_week = (
        _read_field(field, part) for field, part in zip(_FIELDS, texts, strict=True)
    )
    return CronFields(
        texts=(texts[0], texts[1], texts[2], texts[3], texts[4]),
        minutes=minutes,
        hours=hours,
        days_of_month=days_of_month,
        months=months,
        days_of_week=tuple(sorted({day % 7 for day in days_of_week})),
    )


def _expand_macro(text: str) -> str:
    expanded = MACROS.get(text.lower())
    if expanded is not None:
        return expanded
    if text.lower().startswith("@every"):
        raise CronError(f"{quoted(text)}: a fixed period is an interval schedule, not a cron expression")
    if text.lower() == "@reboot":
        raise CronError('"@reboot": a job has due times, not machines that start; run it on request instead')
    raise CronError(f"{quoted(text)} is not a macro; known are {', '.join(MACROS)}")


def _wrong_field_count(text: str, texts: list[str]) -> str:
    if texts[0].upper().startswith(("CRON_TZ=", "TZ=")):
        return f"{quoted(texts[0])}: the time zone is a field of its own (time_zone, --tz), not part of the expression"
    count = f"{len(texts)} field{'' if len(texts) == 1 else 's'}"
    message = f"{quoted(text)} has {count}; the unix dialect has five: minute hour day month weekday"
    if len(texts) == 6:
        first, last = quoted(" ".join(texts[1:])), quoted(" ".join(texts[:-1]))
        return (
            f"{message}. Six can be read with seconds first ({first} at second {texts[0]}), with seconds last "
            f"({last} at second {texts[-1]}) or as Quartz (seconds first, 1 is Sunday). None of these is read in this "
            "release: leave the seconds out"
        )
    if len(texts) == 7:
        return (
            f"{message}. Seven are read by Quartz (seconds first, year last, 1 is Sunday), which is not read in this "
            "release: leave the seconds and the year out"
        )
    return message


def _read_field(field: _Field, text: str) -> tuple[int, ...]:
    values: set[int] = set()
    for item in text.lower().split(","):
        if not item:
            raise CronError(f"{field.name} field {quoted(text)}: there is nothing between two commas, or beside one")
        values.update(_read_item(field, item, text))
    return tuple(sorted(values))


def _read_item(field: _Field, item: str, text: str) -> range:
    """`*`, a value or a range, each with or without a step."""
    base, slash, step_text = item.partition("/")
    for form, meaning in _FOREIGN_FORMS:
        if form.fullmatch(base):
            raise CronError(f"{field.name} field {quoted(text)}: {meaning}")
    step = _read_step(field, step_text, text) if slash else 1
    if base == "*":
        return range(field.lowest, field.end_of_star() + 1, step)
    low_text, dash, high_text = base.partition("-")
    low = _read_value(field, low_text, text)
    if dash:
        high = _read_value(field, high_text, text)
        if high < low:
            raise CronError(_backwards_range(field, text, low, high))
        return range(low, high + 1, step)
    if slash:
        # A start with a step runs to the end of the field; the seventh name of a weekday is its first.
        low = low % 7 if field.star_highest is not None else low
        return range(low, field.end_of_star() + 1, step)
    return range(low, low + 1)


def _read_step(field: _Field, step_text: str, text: str) -> int:
    # int() would also read digits of other scripts.
    if not (step_text.isascii() and step_text.isdigit()):
        raise CronError(f"{field.name} field {quoted(text)}: the step {quoted(step_text)} is not a whole number")
    step = int(step_text)
    if step == 0:
        raise CronError(f"{field.name} field {quoted(text)}: a step of 0 never moves on; use 1 or more")
    return step


def _read_value(field: _Field, value: str, text: str) -> int:
    if value.isascii() and value.isdigit():
        number = int(value)
        if not field.lowest <= number <= field.highest:
            raise CronError(
                f"{field.name} field {quoted(text)}: {quoted(value)} is outside {field.lowest} to {field.highest}"
            )
        return number
    if value in field.names:
        return field.names[value]
    raise CronError(_not_a_value(field, value, text))


def _not_a_value(field: _Field, value: str, text: str) -> str:
    where = f"{field.name} field {quoted(text)}"
    if not value:
        return f"{where}: a number is missing before or after `-`, or before `/`"
    if value in field.full_names:
        return f"{where}: full names are not read; write {quoted(value[:3])}"
    names = f", or a name such as {next(iter(field.names))}" if field.names else ""
    return f"{where}: {quoted(value)} is not a number from {field.lowest} to {field.highest}{names}"


def _backwards_range(field: _Field, text: str, low: int, high: int) -> str:
    message = f"{field.name} field {quoted(text)}: the range {low}-{high} runs backwards"
    if field.star_highest is not None and high == 0:
        return f"{message}; as the end of a range, Sunday is 7: write {low}-7"
    return f"{message}; write it as two: {low}-{field.end_of_star()},{field.lowest}-{high}"
