"""What each dialect of cron allows: its fields in order, their values and names, and the letters that it knows.

Only tables; they are put to use by `cron_fields` (one field) and `cron_syntax` (a whole expression).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from horologe.node.cron_words import Dialect


class Field(NamedTuple):
    """What one field may hold."""

    name: str
    lowest: int
    highest: int
    names: Mapping[str, int] = {}
    full_names: tuple[str, ...] = ()
    """Of those who write the names out: refused, with the short one."""
    last: int = 0
    """The last value that `*` stands for; 7 can be a second name of Sunday, and is not an eighth day."""
    hashed_last: int = 0
    """The last value that `H` stands for, so that every month has the day; 0 where `H` makes no sense."""


class Grammar(NamedTuple):
    """One dialect."""

    dialect: Dialect
    fields: tuple[Field, ...]
    outline: str
    """Its fields, for messages."""
    has_year: bool = False
    """The last field may be left out."""
    first_weekday: int = 0
    """The number of Sunday."""
    every_marks: tuple[str, ...] = ("*",)
    """What stands for every value of a field."""
    counts_days: bool = True
    """`L`, `W` and `#` are read."""
    ranges_wrap: bool = False
    """`22-2` goes on at the beginning of the field."""
    leaves_one_day_field_open: bool = False
    """One of the two day fields, and only one, is `?`."""
    step_is_a_restriction: bool = False
    """`*/2` in a day field restricts the days, as in robfig/cron; in Vixie cron, what begins with `*` does not."""


_FULL_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_FULL_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTH_NAMES: Final = {name[:3]: number for number, name in enumerate(_FULL_MONTHS, 1)}

SECOND: Final = Field("second", 0, 59, last=59, hashed_last=59)
MINUTE: Final = Field("minute", 0, 59, last=59, hashed_last=59)
HOUR: Final = Field("hour", 0, 23, last=23, hashed_last=23)
DAY_OF_MONTH: Final = Field("day of month", 1, 31, last=31, hashed_last=28)
MONTH: Final = Field("month", 1, 12, _MONTH_NAMES, _FULL_MONTHS, last=12, hashed_last=12)
_DAY_NAMES: Final = {name[:3]: number for number, name in enumerate(_FULL_DAYS)}
DAY_OF_WEEK: Final = Field("day of week", 0, 7, _DAY_NAMES, _FULL_DAYS, last=6, hashed_last=6)
# In Quartz, `L` without a weekday is another name of Saturday.
_QUARTZ_DAY_NAMES: Final = {name[:3]: number for number, name in enumerate(_FULL_DAYS, 1)} | {"l": 7}
QUARTZ_DAY_OF_WEEK: Final = Field("day of week", 1, 7, _QUARTZ_DAY_NAMES, _FULL_DAYS, last=7, hashed_last=7)
YEAR: Final = Field("year", 1970, 2099, last=2099)

_UNIX_FIELDS: Final = (MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)

GRAMMARS: Final[Mapping[Dialect, Grammar]] = {
    grammar.dialect: grammar
    for grammar in (
        Grammar(Dialect.UNIX, _UNIX_FIELDS, "five: minute hour day month weekday"),
        Grammar(Dialect.UNIX_SECONDS_FIRST, (SECOND, *_UNIX_FIELDS), "six: second minute hour day month weekday"),
        Grammar(Dialect.UNIX_SECONDS_LAST, (*_UNIX_FIELDS, SECOND), "six: minute hour day month weekday second"),
        Grammar(
            Dialect.QUARTZ,
            (SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, QUARTZ_DAY_OF_WEEK, YEAR),
            "six or seven: second minute hour day month weekday, and perhaps a year",
            has_year=True,
            first_weekday=1,
            ranges_wrap=True,
            every_marks=("*", ""),  # `/5` is `*/5`
            leaves_one_day_field_open=True,
        ),
        Grammar(
            Dialect.KUBERNETES,
            _UNIX_FIELDS,
            "five: minute hour day month weekday",
            every_marks=("*", "?"),
            counts_days=False,
            step_is_a_restriction=True,
        ),
    )
}
