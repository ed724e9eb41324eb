"""The commands `horologe cron next` and `horologe cron explain`: what an expression means, without a cluster.

Only arguments in and text out; the answers come from `cron` and `cron_preview`, which are imported when a command runs.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import typer

from horologe.node.cron_words import CronError, DayMatch, Dialect, GapPolicy, OverlapPolicy, quoted

if TYPE_CHECKING:
    from horologe.node.cron import CronRule
    from horologe.node.cron_preview import Occurrence

COUNT_MAX: Final = 10_000
COUNT_DEFAULT: Final = 5
LINE_LENGTH_MAX: Final = 64 * 1024

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_TEXT_KEYS: Final = ("expr", "dialect", "tz", "dst_gap", "dst_overlap", "day_match", "identity", "from")


Member = TypeVar("Member", bound=StrEnum)


class OutputFormat(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


_EXPRESSION_HELP: Final = "The fields in quotes, or a macro; for example '0 2 * * *', @daily, '@every 1h30m'."
Expression = Annotated[str, typer.Argument(metavar="EXPR", help=_EXPRESSION_HELP)]
OptionalExpression = Annotated[str | None, typer.Argument(metavar="[EXPR]", help=_EXPRESSION_HELP)]
Zone = Annotated[str, typer.Option("--tz", metavar="ZONE", help="IANA time zone, for example Europe/Berlin.")]
DialectOption = Annotated[Dialect, typer.Option("--dialect", help="How the fields are read.")]
GapOption = Annotated[GapPolicy, typer.Option("--dst-gap", help="Local times that daylight saving leaves out.")]
OverlapOption = Annotated[
    OverlapPolicy, typer.Option("--dst-overlap", help="Local times that daylight saving repeats.")
]
DayMatchOption = Annotated[DayMatch, typer.Option("--day-match", help="When both day fields are restricted.")]
Identity = Annotated[
    str, typer.Option("--identity", metavar="NAME", help="What H is hashed from: namespaces/NAMESPACE/jobs/JOB.")
]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="RFC 3339, exclusive. Default: now.")]
Count = Annotated[int, typer.Option("--count", metavar="N", help=f"How many times to show, up to {COUNT_MAX:,}.")]
Output = Annotated[OutputFormat, typer.Option("--output", "-o", help="How the answer is written.")]
Bulk = Annotated[
    bool,
    typer.Option("--stdin", help="Read one JSON object per line (the options' names as keys), answer each in a line."),
]


def register(app: typer.Typer) -> None:
    """Add the group `cron` to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Preview and explain cron expressions.")
    group.command("next")(next_times)
    group.command("explain")(explain)
    app.add_typer(group, name="cron")


def next_times(
    expression: OptionalExpression = None,
    time_zone: Zone = "UTC",
    dialect: DialectOption = Dialect.UNIX,
    dst_gap: GapOption = GapPolicy.RUN_AFTER,
    dst_overlap: OverlapOption = OverlapPolicy.FIRST,
    day_match: DayMatchOption = DayMatch.EITHER,
    identity: Identity = "",
    after: From = None,
    count: Count = COUNT_DEFAULT,
    output: Output = OutputFormat.TABLE,
    stdin: Bulk = False,
) -> None:
    """Show the next times of an expression, marked where daylight saving moved or repeated them."""
    if stdin:
        if expression is not None:
            _fail("give either EXPR or --stdin, not both")
        _answer_lines(sys.stdin.buffer)
        return
    if expression is None:
        _fail("EXPR is missing; give a cron expression in quotes, for example '0 2 * * *', or --stdin")
    from horologe.node.cron_preview import occurrences

    try:
        rule = _rule(expression, time_zone, dst_gap, dst_overlap, day_match, dialect, identity)
        found = list(occurrences(rule, _after_ms(after), _checked_count(count)))
    except CronError as error:
        _fail(str(error))
    if output is OutputFormat.TABLE:
        _print_table(found)
    else:
        print_data([_as_data(occurrence) for occurrence in found], output)


def explain(
    expression: Expression,
    time_zone: Zone = "UTC",
    dialect: DialectOption = Dialect.UNIX,
    dst_gap: GapOption = GapPolicy.RUN_AFTER,
    dst_overlap: OverlapOption = OverlapPolicy.FIRST,
    day_match: DayMatchOption = DayMatch.EITHER,
    identity: Identity = "",
    after: From = None,
    count: Count = COUNT_DEFAULT,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Say in English what an expression means, when it is due next, and what may surprise."""
    from horologe.node import cron_preview, cron_sentence

    try:
        rule = _rule(expression, time_zone, dst_gap, dst_overlap, day_match, dialect, identity)
        after_ms = _after_ms(after)
        found = list(cron_preview.occurrences(rule, after_ms, _checked_count(count)))
        sentence = cron_sentence.describe_cron(rule)
        warnings = cron_preview.warnings(rule, after_ms)
    except CronError as error:
        _fail(str(error))
    if output is not OutputFormat.TABLE:
        times = [_as_data(occurrence) for occurrence in found]
        print_data({"description": sentence, "dialect": str(dialect), "times": times, "warnings": warnings}, output)
        return
    typer.echo(sentence)
    typer.echo()
    _print_table(found)
    for warning in warnings:
        typer.echo(f"Warning: {warning}")


def _rule(
    expression: str,
    time_zone: str,
    gap: GapPolicy,
    overlap: OverlapPolicy,
    day_match: DayMatch,
    dialect: Dialect,
    identity: str,
) -> CronRule:
    from horologe.node.cron import CronRule

    return CronRule(expression, time_zone, gap, overlap, day_match, dialect, identity)


def _checked_count(count: int) -> int:
    if not 1 <= count <= COUNT_MAX:
        raise CronError(f"count {count} is outside 1 to {COUNT_MAX:,}")
    return count


def _after_ms(text: str | None) -> int:
    """The time given with --from, or else now."""
    return time.time_ns() // 1_000_000 if text is None else _time_ms(text)


def _time_ms(text: str) -> int:
    from horologe.node.cron_preview import ms_from_text

    try:
        if _TIME.fullmatch(text):
            return ms_from_text(text)
    except (ValueError, OverflowError):
        pass  # for example the 31st of February, or an offset that leads out of the calendar
    raise CronError(
        f"the time {quoted(text)} is not RFC 3339 with an offset from UTC, "
        "as 2027-01-31T09:00:00Z or 2027-01-31T10:00:00+01:00"
    )


# Many at once


def _answer_lines(lines: Iterable[bytes]) -> None:
    for line in lines:
        if line.strip():
            typer.echo(json.dumps(_answer(line)))


def _answer(line: bytes) -> dict[str, object]:
    """The answer to one line: `times`, or `error`."""
    from horologe.node.cron_preview import due_times, utc_text
    from horologe.node.zones import instant_from_ms

    try:
        request = _read_request(line)
        rule = _rule(
            request["expr"],
            request.get("tz", "UTC"),
            _member(GapPolicy, request, "dst_gap", GapPolicy.RUN_AFTER),
            _member(OverlapPolicy, request, "dst_overlap", OverlapPolicy.FIRST),
            _member(DayMatch, request, "day_match", DayMatch.EITHER),
            _member(Dialect, request, "dialect", Dialect.UNIX),
            request.get("identity", ""),
        )
        count = _checked_count(request.get("count", COUNT_DEFAULT))
        times = [utc_text(instant_from_ms(due_ms)) for due_ms in due_times(rule, _after_ms(request.get("from")), count)]
    except CronError as error:
        return {"error": str(error)}
    return {"times": times}


def _read_request(line: bytes) -> dict[str, Any]:
    """One line as a dictionary whose values have the right types; a `null` counts as absent. Raises CronError."""
    if len(line) > LINE_LENGTH_MAX:
        raise CronError(f"the line has {len(line):,} bytes; at most {LINE_LENGTH_MAX:,} are read")
    try:
        loaded = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CronError(f"the line is not JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise CronError("the line is not a JSON object")
    request = {key: value for key, value in loaded.items() if value is not None}
    for key, value in request.items():
        if key in _TEXT_KEYS:
            if not isinstance(value, str):
                raise CronError(f"{key} must be a text")
        elif key != "count":
            raise CronError(f"{quoted(key)} is not a known key; known are {', '.join(_TEXT_KEYS)} and count")
        elif type(value) is not int:
            raise CronError("count must be a whole number")
    if "expr" not in request:
        raise CronError("expr is missing")
    return request


def _member(kind: type[Member], request: Mapping[str, Any], key: str, default: Member) -> Member:
    """A word of a policy or dialect, as here or as in job files: `unix_seconds_first` is `unix-seconds-first`."""
    text = str(request.get(key, default))
    for word in (text, text.replace("_", "-"), text.replace("-", "_")):
        if word in kind.__members__.values():
            return kind(word)
    raise CronError(f"{key} {quoted(text)} is not known; use {' or '.join(kind)}")


# Writing


def _as_data(occurrence: Occurrence) -> dict[str, str]:
    from horologe.node.cron_preview import utc_text

    return {"time": utc_text(occurrence.instant), "local": occurrence.local.isoformat(), "note": occurrence.note}


def _print_table(found: list[Occurrence]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    has_notes = any(occurrence.note for occurrence in found)
    for heading in ("TIME (UTC)", "LOCAL", "NOTE") if has_notes else ("TIME (UTC)", "LOCAL"):
        table.add_column(heading, no_wrap=heading != "NOTE")
    for occurrence in found:
        row = _as_data(occurrence)
        cells = (row["time"], f"{occurrence.local:%a} {row['local']}", row["note"])
        table.add_row(*cells[: len(table.columns)])
    Console(highlight=False).print(table)


def print_data(data: object, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    import yaml

    typer.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)


def _fail(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(2)
