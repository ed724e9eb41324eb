"""`@every 1h30m`, written where a cron expression is expected: a fixed period, and so an interval schedule.

Elapsed time, which knows no zones and no daylight saving. The grammar is that of Go, where the macro comes from, with days and
weeks.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from horologe.node.cron_words import CronError, quoted

EVERY_MIN_MS: Final = 1_000
EVERY_MAX_MS: Final = 366 * 86_400_000

_LENGTH_MAX: Final = 100
_UNITS_MS: Final = {
    "w": Decimal(604_800_000),
    "d": Decimal(86_400_000),
    "h": Decimal(3_600_000),
    "m": Decimal(60_000),
    "s": Decimal(1_000),
    "ms": Decimal(1),
    "us": Decimal("0.001"),
    "ns": Decimal("0.000001"),
}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|us|ns|[wdhms])")


def is_every(text: str) -> bool:
    """True when the text can only be meant as this macro."""
    return re.match(r"[ \t]*@every(?![a-z])", text, re.IGNORECASE) is not None


def read_every(text: str) -> int:
    """The period in milliseconds. Raises CronError when it cannot be read, or cannot be a period."""
    given = text.strip(" \t")[len("@every") :].strip(" \t")
    spaceless = re.sub(r"[ \t]+", "", given).lower()
    if len(given) > _LENGTH_MAX or not re.fullmatch(f"(?:{_PART.pattern})+", spaceless):
        raise CronError(
            f"{quoted(text.strip())}: a period is missing or not read; write it like @every 1h30m or @every 90s"
        )
    period_ms = sum((Decimal(number) * _UNITS_MS[unit] for number, unit in _PART.findall(spaceless)), Decimal(0))
    if not EVERY_MIN_MS <= period_ms <= EVERY_MAX_MS:
        raise CronError(f"{quoted(text.strip())}: the period is outside 1 second to 366 days")
    if period_ms != int(period_ms):
        raise CronError(f"{quoted(text.strip())}: the period is not a whole number of milliseconds")
    return int(period_ms)


def next_every_ms(period_ms: int, after_ms: int) -> int:
    """The first multiple of the period, counted from 1970, strictly after an instant."""
    return (after_ms // period_ms + 1) * period_ms
