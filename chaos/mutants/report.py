"""What a hunt has found, as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from horologe.chaos.mutants.hunt import Finding


def line_of(finding: Finding) -> str:
    """One finding, as soon as it is there."""
    mark = "found   " if finding.is_found else "SURVIVED"
    return f"{mark}  {finding.mutant.name:34} {finding.wall_seconds:6.2f} s  {reason_of(finding)}"


def reason_of(finding: Finding) -> str:
    """The invariant that fell; or why that is no proof."""
    fell = finding.run.fell
    if not fell:
        return f"nothing fell in {finding.seeds} seeds"
    if fell not in finding.mutant.falls:
        return f"{fell}, where {' or '.join(finding.mutant.falls)} was expected: {finding.run.story}"
    if finding.control is not None and finding.control.fell:
        return f"the healthy program fails as well, in {finding.mutant.course.name!r}: {finding.control.story}"
    return fell


def print_table(findings: Sequence[Finding]) -> None:
    """Every mutant with what it took to find it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("MUTANT", no_wrap=True)
    table.add_column("SWITCHED OFF", ratio=3)
    table.add_column("WORLD", ratio=2)
    for header in ("SEEDS", "SIMULATED", "WALL"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("FELL", ratio=2)
    for finding in findings:
        course = finding.mutant.course
        table.add_row(
            finding.mutant.name,
            finding.mutant.off,
            f"{course.name} ({'dice' if course.by_dice else 'story'})",
            str(finding.seeds),
            f"{finding.simulated_seconds:.1f} s",
            f"{finding.wall_seconds:.2f} s",
            reason_of(finding),
        )
    console = Console()
    console.width = max(console.width, 150)
    console.print(table)


def summary_of(findings: Iterable[Finding]) -> str:
    """The last line."""
    found = [finding.is_found for finding in findings]
    return f"{sum(found)} of {len(found)} mutants found"
