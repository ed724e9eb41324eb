"""How long it takes to find the next due time of a cron expression: common ones, and the worst that are legal.

No cluster and no files. Processor time, because on a machine that has other things to do, the clock on the wall measures those;
the wall is reported beside it. Nothing is remembered from one question to the next but what a node remembers as well: common
expressions are read once, the worst ones each time anew.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from horologe.chaos.bench_evidence import Distribution
from horologe.node.cron import CronRule, forget, next_due_ms
from horologe.node.cron_words import DayMatch, Dialect, GapPolicy

COMMON_P99_US_MAX: Final = 200.0
WORST_US_MAX: Final = 50_000.0

_FROM_MS: Final = 1_798_761_600_000  # 2027
_YEARS_MS: Final = 5 * 365 * 86_400_000
_ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
_COMMON: Final = (
    *("* * * * *", "*/5 * * * *", "0 * * * *", "0 2 * * *", "30 17 * * mon-fri", "*/15 9-17 * * 1-5", "0 0 1 * *"),
    *("0 0 1 1 *", "0 6 L * *", "0 9 * * mon#1", "0 9 LW * *", "0 0 13 * 5", "@daily", "@weekly"),
)
_COMMON_IN_DIALECTS: Final = (
    (Dialect.QUARTZ, "0 15 10 ? * MON-FRI"),
    (Dialect.QUARTZ, "0 0 0 L * ? *"),
    (Dialect.UNIX_SECONDS_FIRST, "*/10 * * * * *"),
    (Dialect.KUBERNETES, "0 */2 * * *"),
)
_BOTH: Final = DayMatch.BOTH
WORST: Final = (
    CronRule("0 0 29 2 mon", day_match=_BOTH),
    CronRule("0 0 29W 2 mon", day_match=_BOTH),
    CronRule("0 0 L-29 2 7", day_match=_BOTH),
    CronRule("0 0 30 2 *"),
    CronRule("0 0 0 29 2 ? 2095-2099", dialect=Dialect.QUARTZ),
    CronRule("30 2 31 3 0", "Europe/Berlin", GapPolicy.SKIP, day_match=_BOTH),
    CronRule("30 2 29 3 0L", "Europe/Berlin", GapPolicy.SKIP, day_match=_BOTH),
    CronRule("* 2 * 3 7#2", "America/New_York", GapPolicy.SKIP),
    CronRule("* * 2 ? 3 1L 1970-2099", "Europe/Berlin", GapPolicy.SKIP, dialect=Dialect.QUARTZ),
    CronRule(f"{','.join(['0-59'] * 190)} * * * *"),
    CronRule(f"0 0 * * {','.join(['mon#5'] * 160)}"),
)
"""What is rare, what daylight saving leaves out every year, and what is long; the last of these years of search are in vain."""


@dataclass(frozen=True, slots=True)
class CronFigures:
    """In microseconds."""

    common: Distribution
    common_wall: Distribution
    first: Distribution
    """Of common expressions that have to be read first."""
    worst: dict[str, float]
    """The slowest of a few tries, by expression."""

    @property
    def is_sound(self) -> bool:
        """Within what is promised."""
        return self.common.p99 < COMMON_P99_US_MAX and max(self.worst.values()) < WORST_US_MAX

    def to_record(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"is_sound": self.is_sound}


def measure(count: int, seed: int = 1) -> CronFigures:
    """Ask `count` times for common expressions, and a few times for each of the worst."""
    dice = random.Random(seed)
    asked = list(_questions(dice, count))
    for rule, after_ms in asked:  # they are read, as they are in a node that has these jobs
        next_due_ms(rule, after_ms - 1_000 * 86_400_000)
    answered = [_time(rule, after_ms) for rule, after_ms in asked]
    first = []
    for rule, after_ms in asked[: max(1, count // 10)]:
        forget()
        first.append(_time(rule, after_ms)[0])
    worst = {rule.expression[:40]: max(_worst_times(rule)) for rule in WORST}
    common, common_wall, firsts = (
        Distribution.of(values) for values in ([cpu for cpu, _ in answered], [wall for _, wall in answered], first)
    )
    assert common is not None and common_wall is not None and firsts is not None, "at least one question is asked"
    return CronFigures(common, common_wall, firsts, worst)


def summary(figures: CronFigures) -> str:
    """A few lines for people."""
    kinds = (("common", figures.common), ("on the wall", figures.common_wall), ("read first", figures.first))
    lines = [
        f"{name:12} p50 {times.p50:,.0f} us, p99 {times.p99:,.0f} us, max {times.max:,.0f} us" for name, times in kinds
    ]
    worst = sorted(figures.worst.items(), key=lambda pair: -pair[1])
    return "\n".join([*lines, "worst:", *(f"  {us:8,.0f} us  {expression}" for expression, us in worst)])


def _questions(dice: random.Random, count: int) -> Iterator[tuple[CronRule, int]]:
    kinds = [(Dialect.UNIX, expression) for expression in _COMMON] + list(_COMMON_IN_DIALECTS)
    for _ in range(count):
        dialect, expression = dice.choice(kinds)
        rule = CronRule(expression, dice.choice(_ZONES), dialect=dialect)
        yield rule, _FROM_MS + dice.randrange(_YEARS_MS)


def _worst_times(rule: CronRule) -> Iterator[float]:
    for year in (0, 20, 46, 69):
        forget()
        yield _time(rule, _FROM_MS + year * 31_556_952_000)[0]


def _time(rule: CronRule, after_ms: int) -> tuple[float, float]:
    """Processor and wall time of one answer, in microseconds."""
    wall, processor = time.perf_counter_ns(), time.thread_time_ns()
    next_due_ms(rule, after_ms)
    return (time.thread_time_ns() - processor) / 1000, (time.perf_counter_ns() - wall) / 1000
