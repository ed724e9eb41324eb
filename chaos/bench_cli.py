"""`horologe bench PROFILE` for everything that needs a cluster: one command for each figure that is published.

What is measured without a cluster is in bench_parts_cli.py. Heavy modules are imported inside the commands.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from horologe.chaos import bench_parts_cli
from horologe.chaos.bench_options import Address, Folder, Nodes, Output, Pid, Save, Secure, Slots, WarmUp, Workers
from horologe.client.cli.output import Format, print_data

if TYPE_CHECKING:
    from horologe.chaos.bench_profiles import Profile

PERIOD_SECONDS = 10.0
WORKERS = 1
SLOTS = 10_000
"""As many as a worker may have, so that they are not what is measured."""

bench_app = typer.Typer(
    help="Measure a cluster: one made for the purpose on this machine (durable, fsync on), or one that exists.",
    no_args_is_help=True,
)


@bench_app.command("steady")
def steady(
    rate: Annotated[float, typer.Option(min=0.1, help="Executions per second, of all jobs together.")] = 612,
    seconds: Annotated[int, typer.Option(min=1, help="How long to measure.")] = 60,
    minutes: Annotated[
        int,
        typer.Option(
            min=0, help="Measure so long instead, tell each minute by itself, and keep a minute's executions only."
        ),
    ] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Recurring jobs (default: rate x interval).")] = None,
    interval: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Their period (default: 10s, or jobs / rate).")
    ] = None,
    derived_phases: Annotated[
        bool, typer.Option("--derived-phases", help="Leave the phases to the cluster, as for jobs of people.")
    ] = False,
    readers: Annotated[
        int,
        typer.Option(min=0, max=300, help="So many people have the dashboard open, and look at a page every second."),
    ] = 0,
    warm_up: WarmUp = 5.0,
    nodes: Nodes = 3,
    workers: Workers = WORKERS,
    slots: Slots = SLOTS,
    address: Address = None,
    pid: Pid = None,
    folder: Folder = None,
    secure: Secure = False,
    unencrypted: Annotated[
        bool,
        typer.Option(
            "--unencrypted", help="Nodes that encrypt nothing they write, which exist for this comparison only."
        ),
    ] = False,
    save: Save = None,
    output: Output = Format.table,
) -> None:
    """Recurring jobs, spread evenly over their period: how late do they start?"""
    from horologe.chaos.bench_profiles import Steady

    period_ms = _period_ms(rate, jobs, interval)
    count = jobs if jobs is not None else max(1, round(rate * period_ms / 1000))
    if readers and (secure or address):
        raise typer.BadParameter("--readers look at a cluster that is started here, and sign in nowhere")
    profile = Steady(
        jobs=count,
        period_ms=period_ms,
        seconds=60 * minutes or seconds,
        warm_up_seconds=warm_up,
        derived_phases=derived_phases,
        readers=readers,
        history_count=max(1, round(60 * rate)) if minutes else 0,
        by_minute=minutes > 0,
    )
    _run(profile, nodes, workers, slots, address, pid, folder, secure, output, save, encrypted=not unencrypted)


@bench_app.command("burst")
def burst(
    count: Annotated[int, typer.Option(min=1, help="Jobs due at one instant.")] = 10_000,
    nodes: Nodes = 3,
    workers: Workers = WORKERS,
    slots: Slots = SLOTS,
    address: Address = None,
    pid: Pid = None,
    folder: Folder = None,
    secure: Secure = False,
    save: Save = None,
    output: Output = Format.table,
) -> None:
    """Many jobs due at one instant: how long until all are done, and does anybody else have to wait for them?"""
    from horologe.chaos.bench_profiles import Burst

    _run(Burst(count), nodes, workers, slots, address, pid, folder, secure, output, save)


@bench_app.command("submit")
def submit(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure.")] = 10.0,
    in_flight: Annotated[
        int, typer.Option(min=1, max=10_000, help="Callers at a time; 1 measures the commit of one command.")
    ] = 64,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="Jobs per call.")] = 1,
    warm_up: WarmUp = 2.0,
    nodes: Nodes = 3,
    address: Address = None,
    pid: Pid = None,
    folder: Folder = None,
    secure: Secure = False,
    save: Save = None,
    output: Output = Format.table,
) -> None:
    """Creating jobs, through all nodes: how many per second, and how long does one take?"""
    from horologe.chaos.bench_profiles import Submit

    profile = Submit(seconds=seconds, in_flight=in_flight, batch=batch, warm_up_seconds=warm_up)
    _run(profile, nodes, 0, 0, address, pid, folder, secure, output, save)


@bench_app.command("idle")
def idle(
    jobs: Annotated[int, typer.Option(min=1, help="Daily jobs that are not due within the next two hours.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure.")] = 10.0,
    restarts: Annotated[
        int, typer.Option(min=0, help="Then kill a node so often, one after the other: how long until it serves again?")
    ] = 0,
    warm_up: WarmUp = 5.0,
    nodes: Nodes = 3,
    address: Address = None,
    pid: Pid = None,
    folder: Folder = None,
    secure: Secure = False,
    save: Save = None,
    output: Output = Format.table,
) -> None:
    """Many jobs that are not due: how much memory and processor does waiting cost?"""
    from horologe.chaos.bench_profiles import Idle

    if restarts and address:
        raise typer.BadParameter("--restarts kills nodes that were started here, and contradicts --address")
    profile = Idle(jobs=jobs, seconds=seconds, warm_up_seconds=warm_up, restarts=restarts)
    _run(profile, nodes, 0, 0, address, pid, folder, secure, output, save)


@bench_app.command("workers")
def workers_(
    streams: Annotated[int, typer.Option(min=1, max=30_000, help="Workers, each with a stream of its own.")] = 10_000,
    slots: Annotated[int, typer.Option(min=0, help="Of all of them together.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure.")] = 30.0,
    lease_term: Annotated[
        str, typer.Option(metavar="DURATION", help="Of the cluster; five heartbeats are due in it.")
    ] = "30s",
    failover: Annotated[bool, typer.Option(help="Kill the leader then, and count who has to connect again.")] = True,
    nodes: Nodes = 3,
    folder: Folder = None,
    save: Save = None,
    output: Output = Format.table,
) -> None:
    """Many workers that only stay: are heartbeats on time, what does a stream cost, who reconnects when the leader dies?"""
    from horologe.chaos.bench_streams import Streams

    profile = Streams(streams, slots, seconds, failover)
    _run(
        profile,
        nodes,
        0,
        0,
        None,
        None,
        folder,
        False,
        output,
        save,
        lease_term_ms=_milliseconds(lease_term, "--lease-term"),
    )


@bench_app.command("all")
def all_(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the page, its charts and the figures go.")],
    runs: Annotated[int, typer.Option(min=1, help="How often each command is run.")] = 3,
    short: Annotated[bool, typer.Option("--short", help="To try the commands: the figures mean nothing.")] = False,
    folder: Folder = None,
) -> None:
    """The standard measurements, up to two hours on a quiet machine, and a page of them."""
    from horologe.chaos import bench_page
    from horologe.chaos.bench_suite import Plan, run_all

    plan = Plan(runs, short, folder)
    outcomes = []
    for outcome in run_all(plan, lambda line: typer.echo(line, err=True)):
        outcomes.append(outcome)
        # After each row: whoever stops it keeps what there is.
        bench_page.write(outcomes, plan, out)
        kept = {"rows": {one.row.label: one.records for one in outcomes}}
        (out / "benchmarks.json").write_text(json.dumps(kept, indent=1) + "\n")
    raise typer.Exit(0 if all(outcome.is_sound for outcome in outcomes) else 1)


@bench_app.command("compare")
def compare_(
    old: Annotated[Path, typer.Argument(help="A report that was kept with --save, or benchmarks.json.")],
    new: Annotated[Path, typer.Argument(help="Another one.")],
    output: Output = Format.table,
) -> None:
    """Two reports by ratios: as they are, and relative to what the machine did by itself before and after each."""
    from dataclasses import asdict

    from horologe.chaos.bench_figures import compare, load
    from horologe.client.cli.output import Column, print_table

    try:
        changes = compare(load(old), load(new))
    except ValueError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(2) from error
    records = [asdict(change) | {"ratio": change.ratio} for change in changes]
    if output in (Format.json, Format.yaml):
        print_data(output, records)
        return
    for record in records:
        record |= {name: f"{record[name]:.3g}" for name in ("old", "new")}
        record |= {name: "-" if record[name] is None else f"{record[name]:.2f}" for name in ("ratio", "relative")}
    keys = ("label", "figure", "old", "new", "ratio", "relative")
    print_table(output, records, [Column(key.upper(), key) for key in keys], "the two reports have no figure in common")


bench_parts_cli.register(bench_app)


def _period_ms(rate: float, jobs: int | None, interval: str | None) -> int:
    """The period that makes `jobs` come to `rate`, or the one that was asked for."""
    if jobs is not None and interval is not None:
        raise typer.BadParameter("give the number of jobs or their interval; the other follows from the rate")
    if interval is None:
        period_ms = round(jobs * 1000 / rate) if jobs is not None else int(PERIOD_SECONDS * 1000)
    else:
        period_ms = _milliseconds(interval, "--interval")
    if period_ms < 1000:
        raise typer.BadParameter(f"a period of {period_ms} ms is too short, the least is 1 s; give more jobs")
    return period_ms


def _milliseconds(duration: str, option: str) -> int:
    from horologe.client import durations

    try:
        return round(durations.parse(duration).total_seconds() * 1000)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _run(
    profile: Profile,
    nodes: int,
    workers: int,
    slots: int,
    address: list[str] | None,
    pid: list[int] | None,
    folder: Path | None,
    secure: bool,
    output: Format,
    save: Path | None,
    *,
    encrypted: bool = True,
    lease_term_ms: int = 0,
) -> None:
    from horologe.chaos.bench import InterruptedRunError, run
    from horologe.chaos.bench_fleet import BenchError, FleetOptions
    from horologe.chaos.bench_report import print_report

    if pid and not address:
        raise typer.BadParameter("--pid belongs to --address; nodes that are started here are always measured")
    if secure and address:
        raise typer.BadParameter("--secure is about a cluster that is started here, and contradicts --address")
    if not encrypted and address:
        raise typer.BadParameter("--unencrypted is about a cluster that is started here, and contradicts --address")
    addresses = tuple(one for given in address or () for one in given.split(",") if one)
    options = FleetOptions(nodes, workers, slots, addresses, tuple(pid or ()), secure, encrypted, lease_term_ms, folder)
    try:
        report = run(profile, options)
    except InterruptedRunError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(130) from error
    except BenchError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(2) from error
    if save is not None:
        save.write_text(json.dumps(report.to_record(), indent=1) + "\n")
    if output in (Format.json, Format.yaml):
        print_data(output, report.to_record())
    else:
        print_report(report)
    raise typer.Exit(0 if report.is_sound else 1)
