"""Printing data: tables for people, JSON and YAML for programs.

A table is rich on a terminal, and plain aligned columns elsewhere, never cut. What is printed is in `records.py`, and the
columns are with the commands.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from horologe.client.cli.failures import printable, printable_json

__all__ = ["Column", "Format", "print_data", "print_details", "print_json_line", "print_table"]

Record = Mapping[str, Any]

_STYLES = {
    "completed": "green",
    "succeeded": "green",
    "ready": "green",
    "leader": "green",
    "ran": "green",
    "running": "cyan",
    "failed": "red",
    "dead": "red",
    "lost": "red",
    "missed": "red",
    "timed_out": "red",
    "paused": "yellow",
    "skipped": "yellow",
    "cancelled": "yellow",
    "draining": "yellow",
}


class Format(enum.StrEnum):
    """How data is printed."""

    table = "table"
    wide = "wide"
    json = "json"
    yaml = "yaml"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    header: str
    value: str | Callable[[Record], object]
    """A key of the record, or a function of it."""
    is_wide: bool = False
    """Only shown with `-o wide`."""

    def text(self, record: Record) -> str:
        """The cell."""
        found = record.get(self.value) if isinstance(self.value, str) else self.value(record)
        return _cell(found)


def print_data(chosen: Format, data: object) -> None:
    """JSON or YAML of any plain data."""
    if chosen is Format.yaml:
        from horologe.client.documents import dump

        typer.echo(dump(data), nl=False)
    else:
        typer.echo(printable_json(json.dumps(data, indent=2, ensure_ascii=False)))


def print_json_line(data: object) -> None:
    """One object of a stream, on one line, at once."""
    typer.echo(printable_json(json.dumps(data, ensure_ascii=False)))
    sys.stdout.flush()


def print_table(chosen: Format, records: Iterable[Record], columns: Sequence[Column], nothing: str) -> None:
    """Records as rows. `nothing` is said on standard error when there are none."""
    shown = [column for column in columns if chosen is Format.wide or not column.is_wide]
    rows = [[column.text(record) for column in shown] for record in records]
    if not rows:
        typer.echo(nothing, err=True)
    elif sys.stdout.isatty():
        _print_rich(shown, rows)
    else:
        _print_plain([[column.header for column in shown], *rows])


def print_details(pairs: Iterable[tuple[str, object]]) -> None:
    """Labels and values, one to a line; what is empty is left out."""
    shown = [(label, _cell(value)) for label, value in pairs if value not in (None, "", [], {})]
    width = max((len(label) for label, _ in shown), default=0) + 1
    for label, text in shown:
        typer.echo(f"{typer.style(f'{label}:'.ljust(width), bold=True)} {text}")


def _print_plain(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return printable(", ".join(f"{name}={item}" for name, item in value.items())) or "-"
    if isinstance(value, list | tuple):
        return printable(", ".join(str(item) for item in value)) or "-"
    return printable(str(value)) or "-"
