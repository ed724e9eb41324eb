"""`horologe bench PART`: what one part costs by itself, the core or the dashboard for example, without a cluster around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from horologe.chaos.bench_options import Folder, Output, Save
from horologe.client.cli.output import Format, print_data


def register(app: typer.Typer) -> None:
    """Adds these commands to `horologe bench`."""
    for command in (core, cron, missed, history, search, pages):
        app.command(command.__name__)(command)


def core(
    jobs: Annotated[list[int] | None, typer.Option(min=1, help="Recurring jobs; repeat to compare.")] = None,
    rate: Annotated[
        int, typer.Option(min=1, help="Due times per simulated second, of all jobs together; a job has one at most.")
    ] = 1_000,
    fires: Annotated[int, typer.Option(min=1, help="How many to measure.")] = 100_000,
    folder: Folder = None,
    save: Save = None,
    output: Output = Format.table,
) -> None:
    """What one due time costs the core, from the timer to the recorded outcome; without network, Raft and workers."""
    import tempfile
    from dataclasses import asdict

    from horologe.chaos.bench import reference_at
    from horologe.chaos.bench_core import costs_of_firing, flatness

    before = reference_at(folder)
    with tempfile.TemporaryDirectory(prefix="horologe-bench-", dir=folder) as scratch:
        counts = jobs or [1_000, 10_000, 100_000]
        costs = costs_of_firing(Path(scratch), counts, rate, fires, lambda text: typer.echo(text, err=True))
    record = {
        "profile": "core",
        "parameters": {"rate": rate, "fires": fires},
        "costs": [asdict(cost) | {"microseconds_per_fire": cost.microseconds_per_fire} for cost in costs],
        "flatness": round(flatness(costs), 4),
        "reference": asdict(before.mean(before, reference_at(folder))),
        "is_sound": True,
    }
    if save is not None:
        save.write_text(json.dumps(record, indent=1) + "\n")
    if output is not Format.table:
        print_data(output, record)
        return
    for cost in costs:
        typer.echo(f"{cost.jobs:>9,} jobs: {cost.microseconds_per_fire:.1f} us per due time ({cost.fires:,} fired)")
    typer.echo(f"the dearest costs {flatness(costs):.0%} more than the cheapest")


def cron(
    count: Annotated[int, typer.Option(min=1, help="How many times to ask.")] = 20_000, output: Output = Format.table
) -> None:
    """The next due time of a cron expression: common ones, and the worst that are legal; exit 1 if one is too slow."""
    from horologe.chaos.bench_cron import measure, summary

    figures = measure(count)
    if output in (Format.json, Format.yaml):
        print_data(output, figures.to_record())
    else:
        typer.echo(summary(figures))
    raise typer.Exit(0 if figures.is_sound else 1)


def missed(
    count: Annotated[int, typer.Option(min=1, help="How many due times a job has missed.")] = 10_000,
    folder: Folder = None,
    output: Output = Format.table,
) -> None:
    """A job that has missed thousands of due times: how long do others wait while it is settled? Exits 1 if too long."""
    import tempfile

    from horologe.chaos.bench_missed import measure
    from horologe.client.cli.output import Column, print_data, print_table

    found = []
    for policy in ("latest", "earliest", "all", "skip"):
        with tempfile.TemporaryDirectory(prefix="horologe-bench-", dir=folder) as scratch:
            found.append(measure(Path(scratch) / "state", policy, count))
    records = [each.to_record() for each in found]
    if output in (Format.json, Format.yaml):
        print_data(output, records)
    else:
        keys = ("policy", "missed", "ledger_rows", "steps", "usual_step_ms", "longest_step_ms")
        print_table(output, records, [Column(key.replace("_", " ").upper(), key) for key in keys], "")
    raise typer.Exit(0 if all(each.is_sound for each in found) else 1)


def history(
    executions: Annotated[int, typer.Option(min=1, help="Executions in the store.")] = 1_000_000,
    jobs: Annotated[int, typer.Option(min=1, help="Jobs that they are of.")] = 10_000,
    folder: Folder = None,
    output: Output = Format.table,
) -> None:
    """Dropping history out of a store that is filled for the purpose: how long does a step take?"""
    import tempfile

    from horologe.chaos import bench_history
    from horologe.client.cli.output import Column, print_data, print_table

    with tempfile.TemporaryDirectory(prefix="horologe-bench-", dir=folder) as scratch:
        walks = bench_history.run(Path(scratch), jobs, executions, lambda line: typer.echo(line, err=True))
    records = [walk.to_record() for walk in walks]
    if output in (Format.json, Format.yaml):
        print_data(output, records)
        return
    print_table(output, records, [Column(key.replace("_", " ").upper(), key) for key in records[0]], "")


def search(
    executions: Annotated[int, typer.Option(min=1, help="Executions in the store.")] = 1_000_000,
    jobs: Annotated[int, typer.Option(min=1, help="Jobs that they are of.")] = 100_000,
    folder: Folder = None,
    output: Output = Format.table,
) -> None:
    """Lists with filters over a store that is filled for the purpose: how long does a page take?"""
    import tempfile

    from horologe.chaos import bench_search
    from horologe.client.cli.output import Column, print_data, print_table

    with tempfile.TemporaryDirectory(prefix="horologe-bench-", dir=folder) as scratch:
        report = bench_search.run(Path(scratch), jobs, executions, lambda line: typer.echo(line, err=True)).to_record()
    if output in (Format.json, Format.yaml):
        print_data(output, report)
        return
    keys = ("filter", "found", "is_complete", "pages", "page_ms_median", "page_ms_max", "all_ms")
    columns = [Column(key.replace("_", " ").upper(), key) for key in keys]
    print_table(output, report["lists"], columns, "")
    typer.echo(f"{executions} executions of {jobs} jobs; {report['apply_us_per_execution']} us to apply one")


def pages(
    executions: Annotated[int, typer.Option(min=1, help="Executions in the node's history.")] = 1_000_000,
    jobs: Annotated[int, typer.Option(min=1, help="Jobs that they are of.")] = 100_000,
    streams: Annotated[int, typer.Option(min=0, max=1_000, help="Streams of changes open on the idle node.")] = 500,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Fill the node here, and use it again next time.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """The dashboard of a node that is filled for the purpose: how long does a page take, and what do its readers cost?"""
    import tempfile

    from horologe.chaos import bench_pages
    from horologe.chaos.bench_fleet import BenchError
    from horologe.client.cli.output import Column, print_data, print_table

    def say(line: str) -> None:
        typer.echo(line, err=True)

    try:
        with tempfile.TemporaryDirectory(prefix="horologe-bench-") as scratch:
            report = bench_pages.run(keep or Path(scratch), jobs, executions, streams, say).to_record()
    except BenchError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(2) from error
    if output in (Format.json, Format.yaml):
        print_data(output, report)
        return
    keys = ("path", "status", "bytes", "cpu_ms", "p50_ms", "p95_ms", "max_ms")
    print_table(output, report["pages"], [Column(key.replace("_", " ").upper(), key) for key in keys], "")
    for path, paint_ms in report["first_paint_ms"].items():
        typer.echo(f"first paint of {path}: {paint_ms} ms")
    typer.echo(f"the idle node: {report['idle_cores']} cores, with {streams} streams {report['streaming_cores']} cores")
