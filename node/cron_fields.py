"""How one field of a cron expression is read: `*`, values, names, ranges, steps, hashed values and counted days.

Which of these a field may have is in `cron_dialects`; what belongs to the expression as a whole is in `cron_syntax`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from horologe.node.cron_days import LAST, MonthDay, MonthWeekday
from horologe.node.cron_dialects import DAY_OF_MONTH, YEAR, Field, Grammar
from horologe.node.cron_words import CronError, quoted

_NTH_MAX: Final = 5
_DAYS_BEFORE_LAST_MAX: Final = 30

# [0-9] and not \d, which also fits digits of other scripts.
_HASHED: Final = re.compile(r"h(?:\(([^()]*)\))?")
_RANDOM: Final = re.compile(r"r|r\(.*|.*~.*")
_FROM_LAST_DAY: Final = re.compile(r"l(?:-([0-9]+))?(w?)")
_NEAREST_WORKING_DAY: Final = re.compile(r"([0-9]+)w")
_NTH_WEEKDAY: Final = re.compile(r"([^#]*)#([^#]*)")
_LAST_WEEKDAY: Final = re.compile(r"([^l]+)l")
_USES_HASH: Final = re.compile(r"(?:^|[\s,])h(?=$|[\s,/(])", re.IGNORECASE)


class FieldValues(NamedTuple):
    """What a field stands for."""

    numbers: frozenset[int]
    counted_days: frozenset[MonthDay]
    counted_weekdays: frozenset[MonthWeekday]


def uses_hash(expression: str) -> bool:
    """True when the expression means something else for each job."""
    return _USES_HASH.search(expression) is not None


def read_field(grammar: Grammar, field: Field, text: str, identity: str) -> FieldValues:
    """Read a field. `identity` is what `H` is hashed from. Weekdays come with Sunday as 0. Raises CronError."""
    return _FieldReader(grammar, field, text, identity).read()


@dataclass(frozen=True, slots=True)
class _FieldReader:
    grammar: Grammar
    field: Field
    text: str
    identity: str

    def read(self) -> FieldValues:
        numbers: set[int] = set()
        days: set[MonthDay] = set()
        weekdays: set[MonthWeekday] = set()
        for item in self.text.lower().split(","):
            if not item:
                raise self._error("there is nothing between two commas, or beside one")
            counted = self._read_counted(item)
            if isinstance(counted, MonthDay):
                days.add(counted)
            elif isinstance(counted, MonthWeekday):
                weekdays.add(counted)
            else:
                numbers.update(self._read_numbers(item))
        if self._is_weekday:
            numbers = {self._weekday(number) for number in numbers}
        return FieldValues(frozenset(numbers), frozenset(days), frozenset(weekdays))

    # Days counted within a month

    def _read_counted(self, item: str) -> MonthDay | MonthWeekday | None:
        """`L`, `W` and `#` with what belongs to them; None when there is none of these."""
        if item in self.field.names or not self._looks_counted(item):
            return None
        if not self.grammar.counts_days:
            raise self._error(
                f"`L`, `W` and `#` are not part of the {self.grammar.dialect} dialect; the unix and quartz dialects have them"
            )
        return self._read_month_weekday(item) if self._is_weekday else self._read_month_day(item)

    def _looks_counted(self, item: str) -> bool:
        if self._is_weekday:
            return re.search("[l#]|^[0-9]*w[0-9]*$", item) is not None
        return self.field is DAY_OF_MONTH and re.search("[lw#]", item) is not None

    def _read_month_day(self, item: str) -> MonthDay:
        if match := _FROM_LAST_DAY.fullmatch(item):
            days_before = int(match[1] or 0)
            if days_before > _DAYS_BEFORE_LAST_MAX:
                raise self._error(f"{quoted(item)} is before every month; use L-{_DAYS_BEFORE_LAST_MAX} at most")
            return MonthDay(days_before, from_end=True, nearest_working_day=bool(match[2]))
        if match := _NEAREST_WORKING_DAY.fullmatch(item):
            return MonthDay(self._read_value(match[1]), nearest_working_day=True)
        raise self._error(
            f"{quoted(item)} is not read; days are counted as in L (the last), L-3 (three before it), "
            "15W (the working day nearest to the 15th) and LW (the last working day)"
        )

    def _read_month_weekday(self, item: str) -> MonthWeekday:
        if match := _NTH_WEEKDAY.fullmatch(item):
            nth = int(match[2]) if re.fullmatch("[0-9]+", match[2]) else 0
            if not 1 <= nth <= _NTH_MAX:
                raise self._error(f"{quoted(match[2])} after `#` is not a number from 1 to {_NTH_MAX}")
            return MonthWeekday(self._weekday(self._read_value(match[1])), nth)
        if match := _LAST_WEEKDAY.fullmatch(item):
            return MonthWeekday(self._weekday(self._read_value(match[1])), LAST)
        raise self._error(
            f"{quoted(item)} is not read; weekdays are counted as in fri#3 (the third Friday) and friL (the last Friday)"
        )

    # Numbers

    def _read_numbers(self, item: str) -> Iterable[int]:
        """`*`, a value, a range or a hashed value, each with or without a step."""
        base, slash, step_text = item.partition("/")
        if _RANDOM.fullmatch(base):
            raise self._error("random values are not supported: every node must find the same due times; see `H`")
        step = self._read_step(step_text) if slash else 1
        if match := _HASHED.fullmatch(base):
            return self._read_hashed(match[1], step if slash else None)
        if base in self.grammar.every_marks:
            return range(self.field.lowest, self.field.last + 1, step)
        if "?" in base:
            raise self._error(self._misplaced_question_mark())
        low_text, dash, high_text = base.partition("-")
        low = self._read_value(low_text)
        if dash:
            return self._range(low, self._read_value(high_text), step)
        if slash:
            # A start with a step runs to the end of the field; the seventh name of a weekday is its first.
            return range(low if low <= self.field.last else self.field.lowest, self.field.last + 1, step)
        return (low,)

    def _range(self, low: int, high: int, step: int) -> Iterable[int]:
        if low <= high:
            return range(low, high + 1, step)
        if not self.grammar.ranges_wrap or self.field is YEAR:
            raise self._error(self._backwards(low, high))
        first, size = self.field.lowest, self.field.last - self.field.lowest + 1
        return [first + (number - first) % size for number in range(low, high + size + 1, step)]

    def _read_hashed(self, bounds: str | None, step: int | None) -> Iterable[int]:
        """A value of the range, or with a step the first of several, that is always the same for one job."""
        if not self.field.hashed_last:
            raise self._error("`H` does not stand for a year")
        low, high = self.field.lowest, self.field.hashed_last
        if bounds is not None:
            low_text, dash, high_text = bounds.partition("-")
            if not dash:
                raise self._error(f"the range in {quoted(f'H({bounds})')} is not two values such as 0-29")
            low, high = self._read_value(low_text), self._read_value(high_text)
            if high < low:
                raise self._error(f"the range in {quoted(f'H({bounds})')} runs backwards")
        digest = hashlib.sha256(f"{self.field.name}\0{self.identity}".encode("utf-8", "surrogatepass")).digest()
        chosen = int.from_bytes(digest[:8], "big")
        size = high - low + 1
        if step is None:
            return (low + chosen % size,)
        return range(low + chosen % min(step, size), high + 1, step)

    def _read_step(self, text: str) -> int:
        if not re.fullmatch("[0-9]+", text):
            raise self._error(f"the step {quoted(text)} is not a whole number")
        step = int(text)
        if step == 0:
            raise self._error("a step of 0 never moves on; use 1 or more")
        return step

    def _read_value(self, text: str) -> int:
        if re.fullmatch("[0-9]+", text):
            number = int(text)
            if not self.field.lowest <= number <= self.field.highest:
                hint = "; in Quartz 1 is Sunday and 7 is Saturday" if self._is_weekday and self.field.lowest else ""
                raise self._error(f"{quoted(text)} is outside {self.field.lowest} to {self.field.highest}{hint}")
            return number
        if text in self.field.names:
            return self.field.names[text]
        raise self._error(self._not_a_value(text))

    @property
    def _is_weekday(self) -> bool:
        return self.field.name == "day of week"

    def _weekday(self, number: int) -> int:
        return (number - self.grammar.first_weekday) % 7

    # What is wrong

    def _error(self, problem: str) -> CronError:
        return CronError(f"{self.field.name} field {quoted(self.text)}: {problem}")

    def _not_a_value(self, value: str) -> str:
        if not value:
            return "a number is missing before or after `-`, or before `/`"
        if value in self.field.full_names:
            return f"full names are not read; write {quoted(value[:3])}"
        names = f", or a name such as {next(iter(self.field.names))}" if self.field.names else ""
        return f"{quoted(value)} is not a number from {self.field.lowest} to {self.field.highest}{names}"

    def _backwards(self, low: int, high: int) -> str:
        message = f"the range {low}-{high} runs backwards"
        if self.field is YEAR:
            return message
        if self._is_weekday and high == 0:
            return f"{message}; as the end of a range, Sunday is 7: write {low}-7"
        return f"{message}; write it as two: {low}-{self.field.last},{self.field.lowest}-{high}"

    def _misplaced_question_mark(self) -> str:
        if self.grammar.leaves_one_day_field_open:
            return "`?` is all of a day field, and of only one of the two"
        return "`?` is Quartz; write `*`"
