"""The command `horologe chaos sim`: many seeds or one, a summary for people or programs, and a story for each failure."""

from __future__ import annotations

from typing import Annotated

import typer

from horologe.client.cli.output import Format

Seeds = Annotated[int, typer.Option(min=1, help="How many seeds, from 1 on (or from --seed on).")]
Seconds = Annotated[float, typer.Option(min=1, help="Simulated seconds of faults per seed; a calm follows.")]
Seed = Annotated[int | None, typer.Option(help="Begin with this seed; alone, run only this one.")]
Nodes = Annotated[int, typer.Option(min=0, max=7, help="Nodes of each cluster; 0: each seed decides.")]
Workers = Annotated[int, typer.Option(min=0, max=9, help="Workers of each cluster; 0: each seed decides.")]
Without = Annotated[
    list[str] | None, typer.Option(metavar="FAULT", help="Leave a class of faults out, or `all`; repeat.")
]
Only = Annotated[list[str] | None, typer.Option(metavar="FAULT", help="Only these classes of faults; repeat.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="A few jobs and no callers.")]
Story = Annotated[bool, typer.Option("--story", help="Tell what happened, line by line (with one seed).")]
Processes = Annotated[int, typer.Option(min=0, help="Seeds at a time; 0: one per core.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the summary.")]

STORY_LINES = 80


def sim(
    seeds: Seeds = 1,
    seconds: Seconds = 60.0,
    seed: Seed = None,
    nodes: Nodes = 0,
    workers: Workers = 0,
    without: Without = None,
    only: Only = None,
    quiet: Quiet = False,
    story: Story = False,
    processes: Processes = 0,
    output: Output = Format.table,
) -> None:
    """Live through whole clusters in simulated time, with faults, from seeds; exit 1 if a promise is broken."""
    from horologe.chaos.sim.nemesis import FAULTS
    from horologe.chaos.sim.report import SimReport, run_seeds
    from horologe.chaos.sim.seeds import SeedOptions
    from horologe.chaos.sim.shrink import EVERYTHING
    from horologe.client.cli.output import print_data

    unknown = sorted({*(without or ()), *(only or ())} - FAULTS.keys() - {EVERYTHING})
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no class of faults; they are {', '.join(FAULTS)}")
    off = frozenset(FAULTS if EVERYTHING in (without or ()) else without or ())
    if only:
        off |= FAULTS.keys() - set(only)
    options = SeedOptions(seconds, nodes, workers, off, quiet=quiet, keep_story=story)
    first = 1 if seed is None else seed
    report = SimReport(judges_idleness=not off and not quiet)
    for result in run_seeds(range(first, first + seeds), options, 1 if seeds == 1 else processes):
        report.add(result)
        if output is Format.table and (seeds == 1 or not result.is_sound):
            typer.echo(f"seed {result.seed}: {result.nodes} nodes, trace {result.trace_hash}")
            typer.echo("\n".join(result.story))
    if output in (Format.json, Format.yaml):
        print_data(output, report.to_record())
    else:
        typer.echo("\n".join(report.lines()))
    for failed in report.failed[:3]:
        _explain(failed)
    raise typer.Exit(0 if report.is_sound else 1)


def _explain(failed: object) -> None:
    from horologe.chaos.sim.seeds import SeedResult
    from horologe.chaos.sim.shrink import command_of, shrink

    assert isinstance(failed, SeedResult)
    typer.echo(f"\nseed {failed.seed} broke a promise: {failed.text}", err=True)
    typer.echo(f"again: {command_of(failed)}", err=True)
    smallest = shrink(failed, lambda line: typer.echo(line, err=True))
    typer.echo("\n".join(smallest.story[-STORY_LINES:]), err=True)
    typer.echo(f"{smallest.text}\nagain, smaller: {command_of(smallest)} --story", err=True)
