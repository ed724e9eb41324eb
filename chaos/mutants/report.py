"""What a hunt has found, as a table for people, and as a page for the project."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from horologe.chaos.mutants.hunt import Dice, Finding

PAGE_HEAD = """# Mutants

Written by `horologe chaos mutants --write docs/mutants.md`. Each row is the program without one protection: what was switched
off, the story in which it was found, how many seeds and how much simulated time that took, and the invariant that fell. Under
the same seed the healthy program is sound in the same story. *By dice*, if it is there, is what became of it in the random worlds
of `horologe chaos sim`.
"""


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


def words_of(dice: Dice | None) -> str:
    """What dice made of it."""
    if dice is None:
        return "-"
    return f"seed {dice.seeds}: {dice.fell}" if dice.fell else f"nothing in {dice.seeds} seeds"


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
    with_dice = any(finding.dice is not None for finding in findings)
    if with_dice:
        table.add_column("BY DICE", ratio=2)
    for finding in findings:
        course = finding.mutant.course
        table.add_row(
            finding.mutant.name,
            finding.mutant.off,
            course.name,
            str(finding.seeds),
            f"{finding.simulated_seconds:.1f} s",
            f"{finding.wall_seconds:.2f} s",
            reason_of(finding),
            *([words_of(finding.dice)] if with_dice else []),
        )
    console = Console()
    console.width = max(console.width, 150)
    console.print(table)


def page_of(findings: Sequence[Finding]) -> str:
    """A page in Markdown. Wall times are left out, so that it only changes when the findings do."""
    with_dice = any(finding.dice is not None for finding in findings)
    head = ["Mutant", "What is switched off", "World", "Seeds", "Simulated", "What fell", *["By dice"] * with_dice]
    rows = [
        [
            f"`{finding.mutant.name}`",
            finding.mutant.off,
            finding.mutant.course.name,
            str(finding.seeds),
            f"{finding.simulated_seconds:.1f} s",
            reason_of(finding),
            *[words_of(finding.dice)] * with_dice,
        ]
        for finding in findings
    ]
    lines = [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join([PAGE_HEAD, *lines, ""])


def summary_of(findings: Iterable[Finding]) -> str:
    """The last line."""
    found = [finding.is_found for finding in findings]
    return f"{sum(found)} of {len(found)} mutants found"
