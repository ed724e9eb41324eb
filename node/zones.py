"""Local time: which zones there are, and where their clocks are moved.

Wall times are naive datetimes, instants are aware datetimes in UTC or milliseconds since 1970. Not here: what a schedule
makes of a wall time that does not exist or exists twice (`cron`).
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from horologe.node.cron_words import CronError, quoted

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_MILLISECOND: Final = timedelta(milliseconds=1)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
# `right/` counts leap seconds, and the others mean something else on each machine.
_NOT_ZONES: Final = re.compile(r"(posix|right)/.*|localtime|posixrules|Factory")
_NAME: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_NAME_LENGTH_MAX: Final = 64


class ClockChange(NamedTuple):
    """Clocks moved forward (the span of wall times does not exist) or back (it exists twice)."""

    instant: datetime
    """When, in UTC."""
    start: datetime
    """The first wall time that is left out or repeated."""
    end: datetime
    """The first wall time after them."""
    forward: bool


def instant_from_ms(time_ms: int) -> datetime:
    """The instant in UTC."""
    return EPOCH + timedelta(milliseconds=time_ms)


def ms_from_instant(instant: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return (instant - EPOCH) // _MILLISECOND


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    """The IANA zone of this name; an empty name is UTC. Raises CronError with the nearest name that exists."""
    if not name:
        return ZoneInfo("UTC")
    if len(name) <= _NAME_LENGTH_MAX and _NAME.fullmatch(name) and not _NOT_ZONES.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass  # OSError: the name of a folder of zones, such as `Europe`
    nearest = _nearest_name(name)
    hint = f"; did you mean {quoted(nearest)}?" if nearest else "; names look like `Europe/Berlin`"
    raise CronError(f"{quoted(name)} is not a time zone of the IANA database{hint}")


def _nearest_name(name: str) -> str | None:
    wanted = name[:_NAME_LENGTH_MAX].strip().replace(" ", "_").casefold()
    names = _known_names()
    if wanted in names:
        return names[wanted]
    cities = {folded.rpartition("/")[2]: known for folded, known in names.items()}
    if wanted in cities:
        return cities[wanted]
    # The nearest whole name, or else the nearest city: `Berlim` is nearer to `Berlin` than to any whole name.
    for candidates in (names, cities):
        for nearest in difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.75):
            return candidates[nearest]
    return None


@cache
def _known_names() -> dict[str, str]:
    """All zones of this machine by their names in lower case; asked once, because that reads many files."""
    return {
        known.casefold(): known for known in sorted(zoneinfo.available_timezones()) if not _NOT_ZONES.fullmatch(known)
    }


def utc_offsets(zone: ZoneInfo, wall: datetime) -> tuple[timedelta, timedelta]:
    """The offsets from UTC before and after a change of the clocks around `wall`, equal when there is none (PEP 495).

    The first is larger when `wall` exists twice, smaller when it does not exist.
    """
    before = wall.replace(tzinfo=zone, fold=0).utcoffset()
    after = wall.replace(tzinfo=zone, fold=1).utcoffset()
    assert before is not None and after is not None, "a ZoneInfo always knows its offset"
    return before, after


def instant_of(wall: datetime, offset: timedelta) -> datetime:
    """The instant at which clocks with this offset show `wall`."""
    return (wall - offset).replace(tzinfo=UTC, fold=0)


def clock_change_at(zone: ZoneInfo, wall: datetime) -> ClockChange | None:
    """The change that leaves out or repeats `wall`; None when `wall` exists once."""
    before, after = utc_offsets(zone, wall)
    if before == after:
        return None
    whole_second = wall.replace(microsecond=0)
    one, other = instant_of(whole_second, before), instant_of(whole_second, after)
    return _find_change(zone, min(one, other), max(one, other))


def clock_changes(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[ClockChange]:
    """All changes at instants in (start, end], in order.

    Looks once a day: in all of the IANA database no two changes are nearer than four days.
    """
    low, end = start.replace(microsecond=0), end.replace(microsecond=0)
    while low < end:
        high = min(low + _DAY, end)
        if _offset(zone, low) != _offset(zone, high):
            yield _find_change(zone, low, high)
        low = high


def _find_change(zone: ZoneInfo, low: datetime, high: datetime) -> ClockChange:
    """The one change in (low, high], by halving; both ends and the change are whole seconds."""
    before, after = _offset(zone, low), _offset(zone, high)
    while high - low > _SECOND:
        middle = low + ((high - low) // 2 // _SECOND) * _SECOND
        if _offset(zone, middle) == before:
            low = middle
        else:
            high = middle
    wall_before, wall_after = ((high + offset).replace(tzinfo=None) for offset in (before, after))
    return ClockChange(high, min(wall_before, wall_after), max(wall_before, wall_after), forward=after > before)


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None, "a ZoneInfo always knows its offset"
    return offset
