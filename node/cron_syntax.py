"""How a cron expression is read: text in, sets of numbers out, or an error that says what to write instead.

Here belongs what concerns an expression as a whole: macros, the number of fields, the rules about the two day fields. What one
field may hold is in `cron_fields`, how dialects differ in `cron_dialects`, which days and instants an expression names in
`cron_days` and `cron`, and what it means in English in `cron_preview`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from horologe.node.cron_days import MonthDay, MonthWeekday
from horologe.node.cron_dialects import DAY_OF_MONTH, GRAMMARS, HOUR, MINUTE, MONTH, SECOND, YEAR, Field, Grammar
from horologe.node.cron_every import is_every, read_every
from horologe.node.cron_fields import FieldValues, read_field, uses_hash
from horologe.node.cron_words import CronError, Dialect, quoted

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

_DAY_OF_WEEK: Final = "day of week"
_DAY_FIELDS: Final = (DAY_OF_MONTH.name, _DAY_OF_WEEK)
_ON_THE_MINUTE: Final = FieldValues(frozenset({0}), frozenset(), frozenset())
_QUARTZ_IN_SHORT: Final = "seconds first, perhaps a year last, 1 is Sunday, one of the two day fields is `?`"
_NO_YEARS: Final = FieldValues(frozenset(), frozenset(), frozenset())


class FieldText(NamedTuple):
    """A field as it was written."""

    field: Field
    text: str


@dataclass(frozen=True, slots=True)
class CronFields:
    """An expression, read. The numbers are sorted; Sunday is 0."""

    texts: tuple[FieldText, ...]
    """As they were written, in the order of the dialect."""
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days_of_month: tuple[int, ...]
    counted_days: frozenset[MonthDay]
    months: tuple[int, ...]
    days_of_week: tuple[int, ...]
    counted_weekdays: frozenset[MonthWeekday]
    years: tuple[int, ...]
    """Empty: all."""
    follows_elapsed_time: bool
    """True when the hour field is `*` or a step of `*`: such expressions do not care what the clocks show."""
    restricts_both_days: bool
    """True when the dialect takes neither day field for unrestricted, so that `day_match` decides."""

    def text_of(self, name: str) -> str:
        """What was written in the field of this name; empty when the dialect has no such field."""
        return next((text for field, text in self.texts if field.name == name), "")


def read_expression(expression: str, dialect: Dialect = Dialect.UNIX, identity: str = "") -> CronFields:
    """Read an expression or a macro; `identity` is what `H` is hashed from. Raises CronError."""
    return _read(expression, dialect, identity if uses_hash(expression) else "")


def forget() -> None:
    """Forget all expressions that were read."""
    _read.cache_clear()


@lru_cache(maxsize=4096)
def _read(expression: str, dialect: Dialect, identity: str) -> CronFields:
    if len(expression) > EXPRESSION_LENGTH_MAX:
        raise CronError(
            f"the expression has {len(expression):,} characters; at most {EXPRESSION_LENGTH_MAX:,} are read"
        )
    text = expression.strip(" \t")
    grammar = GRAMMARS[dialect]
    if not text:
        raise CronError(f"the expression is empty; the {dialect} dialect has {grammar.outline}")
    if text.startswith("@"):
        text, grammar = _expand_macro(text), GRAMMARS[Dialect.UNIX]
    texts = _split(grammar, text)
    values = {
        field.name: read_field(grammar, field, part, identity) for field, part in _without_open_day(grammar, texts)
    }
    days_of_month, days_of_week = values[DAY_OF_MONTH.name], values[_DAY_OF_WEEK]
    return CronFields(
        texts=texts,
        seconds=_sorted(values.get(SECOND.name, _ON_THE_MINUTE)),
        minutes=_sorted(values[MINUTE.name]),
        hours=_sorted(values[HOUR.name]),
        days_of_month=_sorted(days_of_month),
        counted_days=days_of_month.counted_days,
        months=_sorted(values[MONTH.name]),
        days_of_week=_sorted(days_of_week),
        counted_weekdays=days_of_week.counted_weekdays,
        years=_sorted(values.get(YEAR.name, _NO_YEARS)),
        follows_elapsed_time=any(field is HOUR and _is_star(grammar, part) for field, part in texts),
        restricts_both_days=all(_restricts(grammar, part) for field, part in texts if field.name in _DAY_FIELDS),
    )


def _sorted(values: FieldValues) -> tuple[int, ...]:
    return tuple(sorted(values.numbers))


def _is_star(grammar: Grammar, text: str) -> bool:
    """True for `*` and its steps."""
    base, slash, step = text.partition("/")
    return base in grammar.every_marks and (not slash or step.isdigit())


def _restricts(grammar: Grammar, text: str) -> bool:
    """Whether a day field restricts the days. In Vixie cron what begins with `*` does not; in robfig/cron a step does."""
    if not grammar.step_is_a_restriction:
        return not text.startswith(("*", "?"))
    return not any(
        _is_star(grammar, item) and item.partition("/")[2].lstrip("0") in ("", "1") for item in text.split(",")
    )


def _expand_macro(text: str) -> str:
    expanded = MACROS.get(text.lower())
    if expanded is not None:
        return expanded
    if is_every(text):
        read_every(text)
        raise CronError(f"{quoted(text)}: a fixed period is an interval schedule, not a cron expression")
    if text.lower() == "@reboot":
        raise CronError('"@reboot": a job has due times, not machines that start; run it on request instead')
    raise CronError(f"{quoted(text)} is not a macro; known are {', '.join(MACROS)} and @every")


def _split(grammar: Grammar, text: str) -> tuple[FieldText, ...]:
    """The fields with their texts; a year that was left out is left out."""
    texts = re.split(r"[ \t]+", text)
    fields = grammar.fields
    if grammar.has_year and len(texts) == len(fields) - 1:
        fields = fields[:-1]
    if len(texts) != len(fields):
        raise CronError(_wrong_field_count(grammar, text, texts))
    return tuple(map(FieldText, fields, texts))


def _without_open_day(grammar: Grammar, texts: tuple[FieldText, ...]) -> tuple[FieldText, ...]:
    """Quartz: the day field that is `?` names every day, because the other one decides; and so does a year of `*`."""
    if not grammar.leaves_one_day_field_open:
        return texts
    day_texts = [text for field, text in texts if field.name in _DAY_FIELDS]
    if day_texts.count("?") != 1:
        found = "both of them are" if "?" in day_texts else "neither of them is"
        raise CronError(
            f"day of month {quoted(day_texts[0])} and day of week {quoted(day_texts[1])}: {found} `?`; in the "
            f"{grammar.dialect} dialect exactly one is, and the other one names the days"
        )
    return tuple(
        FieldText(field, "*" if text == "?" and field.name in _DAY_FIELDS else text)
        for field, text in texts
        if (field, text) != (YEAR, "*")
    )


def _wrong_field_count(grammar: Grammar, text: str, texts: list[str]) -> str:
    if texts[0].upper().startswith(("CRON_TZ=", "TZ=")):
        return f"{quoted(texts[0])}: the time zone is a field of its own (time_zone, --tz), not part of the expression"
    count = f"{len(texts)} field{'' if len(texts) == 1 else 's'}"
    message = f"{quoted(text)} has {count}; the {grammar.dialect} dialect has {grammar.outline}"
    if len(texts) == 5:
        return f"{message}. Five are read as unix or kubernetes: choose the dialect, or add what is missing"
    if len(texts) == 6:
        first = f"{quoted(' '.join(texts[1:]))} at second {quoted(texts[0])}"
        last = f"{quoted(' '.join(texts[:-1]))} at second {quoted(texts[-1])}"
        return (
            f"{message}. Six can be read as unix-seconds-first ({first}), as unix-seconds-last ({last}) or as quartz "
            f"({_QUARTZ_IN_SHORT}): choose the dialect (dialect, --dialect), or leave the seconds out"
        )
    if len(texts) == 7:
        return (
            f"{message}. Seven can only be read as quartz ({_QUARTZ_IN_SHORT}): choose that dialect (dialect, --dialect), "
            "or leave the seconds and the year out"
        )
    return message
