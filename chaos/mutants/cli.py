"""The command `horologe chaos mutants`: hunts every mutant, or some, and says what it took to find each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from horologe.client.cli.output import Format

Only = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this mutant; repeat.")]
Short = Annotated[bool, typer.Option("--short", help="Only the stories, without dice: a minute or less.")]
Seeds = Annotated[
    int, typer.Option(min=1, help="For so many seeds of `horologe chaos sim` dice hunt each mutant beside its story.")
]
Write = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the findings down as a page in Markdown.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the findings.")]


def mutants(
    only: Only = None, short: Short = False, seeds: Seeds = 3, write: Write = None, output: Output = Format.table
) -> None:
    """Switch off each protection, one at a time, in simulated clusters; exit 1 if nobody notices."""
    from horologe.chaos.mutants.catalogue import MUTANTS
    from horologe.chaos.mutants.hunt import Hunt
    from horologe.chaos.mutants.report import line_of, page_of, print_table, summary_of
    from horologe.client.cli.output import print_data

    names = [mutant.name for mutant in MUTANTS]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no mutant; they are {', '.join(names)}", param_hint="--only")
    chosen = [mutant for mutant in MUTANTS if not only or mutant.name in only]
    hunt = Hunt(dice_seeds=0 if short else seeds)
    findings = hunt.all(chosen, lambda finding: typer.echo(line_of(finding), err=True))
    if write is not None:
        write.write_text(page_of(findings))
    if output in (Format.json, Format.yaml):
        print_data(output, [finding.to_record() for finding in findings])
    else:
        print_table(findings)
    typer.echo(summary_of(findings), err=True)
    raise typer.Exit(0 if all(finding.is_found for finding in findings) else 1)
