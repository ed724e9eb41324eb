"""Findings as people and programs read them, and the exit code that they become: 0 all is well, 1 a warning, 2 a failure."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from horologe.client.cli.failures import printable
from horologe.client.cli.output import Format, print_data
from horologe.client.findings import Finding, Grade, as_data, worst

__all__ = ["report"]

_COLORS = {Grade.OK: typer.colors.GREEN, Grade.WARNING: typer.colors.YELLOW, Grade.FAILURE: typer.colors.RED}


def report(findings: Sequence[Finding], output: Format, *, facts: dict[str, object] | None = None) -> None:
    """Prints them, and ends the program with their exit code. `facts`: what else a program is told."""
    if output in (Format.json, Format.yaml):
        print_data(output, {**as_data(findings), **(facts or {})})
    else:
        _print(findings, is_wide=output is Format.wide)
    raise typer.Exit(int(worst(findings)))


def _print(findings: Sequence[Finding], *, is_wide: bool) -> None:
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        grade = typer.style(f"{finding.grade.word:<7}", fg=_COLORS[finding.grade], bold=finding.grade > Grade.OK)
        typer.echo(f"{grade}  {finding.check:<{width}}  {printable(finding.found)}")
        indent = " " * (width + 11)
        if is_wide or finding.grade > Grade.OK:
            typer.echo(f"{indent}why: {finding.why}")
        if finding.do and (is_wide or finding.grade > Grade.OK):
            typer.echo(f"{indent}do:  {printable(finding.do)}")
    counts = [sum(1 for finding in findings if finding.grade is grade) for grade in Grade]
    typer.echo(f"{counts[0]} ok, {counts[1]} warnings, {counts[2]} failures")
