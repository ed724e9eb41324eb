"""The commands that this package brings: `horologe verify`, `horologe bench PROFILE`, `horologe chaos ...`.

Heavy modules are imported inside the commands, so that the command line answers quickly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from horologe.chaos.mutants.cli import mutants
from horologe.chaos.sim.cli import sim
from horologe.chaos.verify_cli import verify
from horologe.client.cli.output import Format, print_data

if TYPE_CHECKING:
    from horologe.chaos.bench_profiles import Profile
    from horologe.chaos.run import Plan, Run

PERIOD_SECONDS = 10.0
WORKERS = 1
SLOTS = 10_000
"""As many as a worker may have, so that they are not what is measured."""

bench_app = typer.Typer(
    help="Measure a cluster: one made for the purpose on this machine (durable, fsync on), or one that exists.",
    no_args_is_help=True,
)

chaos_app = typer.Typer(help="Break a cluster of its own on this machine, and judge what it did.", no_args_is_help=True)


Nodes = Annotated[int, typer.Option(min=1, max=9, help="Nodes of the cluster that is started.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")]
Slots = Annotated[int, typer.Option(min=1, max=10_000, help="Attempts that each worker takes at a time.")]
Address = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST:PORT", help="Measure this cluster instead of starting one; repeat for each node."),
]
Pid = Annotated[
    list[int] | None,
    typer.Option(metavar="PID", help="With --address: a node process on this machine to measure; repeat."),
]
Folder = Annotated[
    Path | None,
    typer.Option("--dir", help="Make the scratch folder in here, to measure this disk; it is removed at the end."),
]
Secure = Annotated[
    bool, typer.Option("--secure", help="With TLS, certificates and rights; otherwise the cluster is an insecure one.")
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the report.")]
WarmUp = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Run so long before anything is measured.")]


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the command line."""
    app.add_typer(bench_app, name="bench")
    chaos_app.command("sim")(sim)
    chaos_app.command("mutants")(mutants)
    app.add_typer(chaos_app, name="chaos")
    app.command("verify")(verify)


@bench_app.command("steady")
def steady(
    rate: Annotated[float, typer.Option(min=0.1, help="Executions per second, of all jobs together.")] = 612,
    seconds: Annotated[int, typer.Option(min=1, help="How long to measure.")] = 60,
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
    output: Output = Format.table,
) -> None:
    """Recurring jobs, spread evenly over their period: how late do they start?"""
    from horologe.chaos.bench_profiles import Steady

    period_ms = _period_ms(rate, jobs, interval)
    count = jobs if jobs is not None else max(1, round(rate * period_ms / 1000))
    if readers and (secure or address):
        raise typer.BadParameter("--readers look at a cluster that is started here, and sign in nowhere")
    profile = Steady(count, period_ms, seconds, warm_up, derived_phases, readers)
    _run(profile, nodes, workers, slots, address, pid, folder, secure, output, encrypted=not unencrypted)


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
    output: Output = Format.table,
) -> None:
    """Many jobs due at one instant: how long until all are done, and does anybody else have to wait for them?"""
    from horologe.chaos.bench_profiles import Burst

    _run(Burst(count), nodes, workers, slots, address, pid, folder, secure, output)


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
    output: Output = Format.table,
) -> None:
    """Creating jobs, through all nodes: how many per second, and how long does one take?"""
    from horologe.chaos.bench_profiles import Submit

    profile = Submit(seconds=seconds, in_flight=in_flight, batch=batch, warm_up_seconds=warm_up)
    _run(profile, nodes, 0, 0, address, pid, folder, secure, output)


@bench_app.command("idle")
def idle(
    jobs: Annotated[int, typer.Option(min=1, help="Jobs that are due in ten years.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure.")] = 10.0,
    warm_up: WarmUp = 5.0,
    nodes: Nodes = 3,
    address: Address = None,
    pid: Pid = None,
    folder: Folder = None,
    secure: Secure = False,
    output: Output = Format.table,
) -> None:
    """Many jobs that are not due: how much memory and processor does waiting cost?"""
    from horologe.chaos.bench_profiles import Idle

    _run(Idle(jobs=jobs, seconds=seconds, warm_up_seconds=warm_up), nodes, 0, 0, address, pid, folder, secure, output)


@bench_app.command("core")
def core(
    jobs: Annotated[list[int] | None, typer.Option(min=1, help="Recurring jobs; repeat to compare.")] = None,
    rate: Annotated[int, typer.Option(min=1, help="Due times per simulated second, of all jobs together.")] = 2_000,
    fires: Annotated[int, typer.Option(min=1, help="How many to measure.")] = 100_000,
    folder: Folder = None,
    output: Output = Format.table,
) -> None:
    """What one due time costs the core, from the timer to the recorded outcome; without network, Raft and workers."""
    import tempfile
    from dataclasses import asdict

    from horologe.chaos.bench_core import cost_of_firing

    costs = []
    for count in jobs or [1_000, 10_000, 100_000]:
        with tempfile.TemporaryDirectory(prefix="horologe-bench-", dir=folder) as scratch:
            place = Path(scratch) / "state"
            costs.append(cost_of_firing(place, count, rate, fires, lambda text: typer.echo(text, err=True)))
    if output is Format.table:
        for cost in costs:
            typer.echo(f"{cost.jobs:>9,} jobs: {cost.microseconds_per_fire:.1f} us per due time ({cost.fires:,} fired)")
    else:
        print_data(output, [asdict(cost) | {"microseconds_per_fire": cost.microseconds_per_fire} for cost in costs])


@bench_app.command("cron")
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


@bench_app.command("missed")
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


@bench_app.command("history")
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


@bench_app.command("search")
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


@bench_app.command("pages")
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


def _period_ms(rate: float, jobs: int | None, interval: str | None) -> int:
    """The period that makes `jobs` come to `rate`, or the one that was asked for."""
    from horologe.client import durations

    if jobs is not None and interval is not None:
        raise typer.BadParameter("give the number of jobs or their interval; the other follows from the rate")
    if interval is None:
        period_ms = round(jobs * 1000 / rate) if jobs is not None else int(PERIOD_SECONDS * 1000)
    else:
        try:
            period_ms = round(durations.parse(interval).total_seconds() * 1000)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--interval") from error
    if period_ms < 1000:
        raise typer.BadParameter(f"a period of {period_ms} ms is too short, the least is 1 s; give more jobs")
    return period_ms


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
    *,
    encrypted: bool = True,
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
    options = FleetOptions(nodes, workers, slots, addresses, tuple(pid or ()), secure, encrypted, folder)
    try:
        report = run(profile, options)
    except InterruptedRunError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(130) from error
    except BenchError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(2) from error
    if output in (Format.json, Format.yaml):
        print_data(output, report.to_record())
    else:
        print_report(report)
    raise typer.Exit(0 if report.is_sound else 1)


@chaos_app.command("kill-leader")
def kill_leader(
    rounds: Annotated[int, typer.Option(min=1, help="How often.")] = 10,
    rate: Annotated[float, typer.Option(min=1, help="Executions per second, of recurring jobs.")] = 600,
    period: Annotated[float, typer.Option(min=1, help="Seconds between two due times of a job.")] = 10,
    nodes: Annotated[int, typer.Option(min=3, max=9, help="Nodes of the cluster.")] = 3,
    gap: Annotated[float, typer.Option(help="Seconds without a start that are allowed.")] = 2.0,
    folder: Annotated[Path | None, typer.Option("--dir", help="Keep everything here, for a look afterwards.")] = None,
) -> None:
    """Kill the leader again and again (SIGKILL) under load; exit 1 if anything is lost or doubled, or stands still."""
    import asyncio
    import shutil
    import tempfile

    from horologe.chaos import kill_leader as kill_leader_module

    kept = Path(tempfile.mkdtemp(prefix="horologe-chaos-")) if folder is None else folder
    kept.mkdir(parents=True, exist_ok=True)
    try:
        report = asyncio.run(kill_leader_module.run(kept, rounds, rate, period, nodes, typer.echo))
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
    typer.echo(report.summary())
    too_long = [one for one in report.gaps_seconds if one >= gap]
    if too_long:
        typer.echo(f"{len(too_long)} gaps of {gap:g} s or more", err=True)
    raise typer.Exit(0 if report.is_sound and not too_long else 1)


@chaos_app.command("run")
def run_chaos(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long faults strike.")] = 5,
    nodes: Annotated[int, typer.Option(min=3, max=9, help="Nodes of the cluster.")] = 3,
    faults: Annotated[
        str,
        typer.Option(metavar="LIST", help="Names or families of faults, joined by commas; `horologe chaos faults`."),
    ] = "all",
    seed: Annotated[
        int | None, typer.Option(help="Chooses the faults; by default a new one, which is printed.")
    ] = None,
    rate: Annotated[float, typer.Option(min=20, help="Executions per second, of recurring jobs.")] = 100,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Worker processes.")] = 3,
    callers: Annotated[int, typer.Option(min=1, max=16, help="Callers who create, run, cancel, pause, change.")] = 3,
    pause: Annotated[float, typer.Option(min=0, help="Seconds of peace between faults, on average.")] = 4,
    namespaces: Annotated[
        bool, typer.Option(help="Give each process a network namespace of its own, where root allows it.")
    ] = True,
    folder: Annotated[Path | None, typer.Option("--dir", help="Keep everything here, for a look afterwards.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the run into this file, .svg or .html.", metavar="FILE")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Break a cluster of its own in every way this machine can, under load, and judge it; exit 1 if a promise broke."""
    import random

    from horologe.chaos.faults import chosen
    from horologe.chaos.run import Plan

    try:
        kinds = chosen(faults)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--faults") from error
    if picture is not None and picture.suffix not in (".svg", ".html"):
        raise typer.BadParameter(f"{picture} is neither .svg nor .html", param_hint="--picture")
    chosen_seed = random.SystemRandom().randrange(1 << 31) if seed is None else seed
    plan = Plan(minutes, nodes, workers, callers, rate, pause, kinds, chosen_seed)
    raise typer.Exit(_play(plan, folder, picture, output, namespaces=namespaces))


def _play(plan: Plan, folder: Path | None, picture: Path | None, output: Format, *, namespaces: bool) -> int:
    import shutil
    import tempfile

    from horologe.chaos import picture as picture_module
    from horologe.chaos import report

    kept = Path(tempfile.mkdtemp(prefix="horologe-chaos-")) if folder is None else folder.resolve()
    kept.mkdir(parents=True, exist_ok=True)
    try:
        result = _run_chaos(kept, plan, namespaces=namespaces)
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
    record, text = report.to_record(result), report.summary(result)
    if folder is not None:
        (folder / "summary.txt").write_text(text + "\n")
        (folder / "summary.json").write_text(json.dumps(record, indent=1) + "\n")
        (folder / "operations.jsonl").write_text("".join(report.operation_lines(result)))
    if picture is not None:
        picture.write_text(picture_module.draw(result, as_page=picture.suffix == ".html"))
    if output in (Format.json, Format.yaml):
        print_data(output, record)
    else:
        typer.echo(text)
    return 0 if result.is_sound else 1


def _run_chaos(folder: Path, plan: Plan, *, namespaces: bool) -> Run:
    import asyncio
    import signal

    from horologe.chaos.cluster import NotInTimeError
    from horologe.chaos.network import NetworkError, open_network
    from horologe.chaos.run import run
    from horologe.client.errors import HorologeError

    async def play() -> Run:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await run(folder, plan, network, lambda line: typer.echo(line, err=True))

    try:
        with open_network(namespaces=namespaces) as network:
            return asyncio.run(play())
    except asyncio.CancelledError:
        typer.echo("horologe: interrupted; everything was stopped and removed", err=True)
        raise typer.Exit(130) from None
    except (HorologeError, NetworkError, NotInTimeError, OSError) as error:
        typer.echo(f"horologe: the run could not be carried out: {error}", err=True)
        raise typer.Exit(2) from error


@chaos_app.command("faults")
def list_faults(output: Annotated[Format, typer.Option("--output", "-o", help="How to print.")] = Format.table) -> None:
    """List the faults that `horologe chaos run` knows, by family."""
    from horologe.chaos.faults import FAULTS

    found = [(kind.name, kind.family, (kind.__doc__ or "").splitlines()[0]) for kind in FAULTS]
    if output in (Format.json, Format.yaml):
        print_data(output, [{"name": name, "family": family, "meaning": meaning} for name, family, meaning in found])
        return
    for name, family, meaning in found:
        typer.echo(f"{name:24} {family:10} {meaning}")


@chaos_app.command("members")
def members(
    rate: Annotated[float, typer.Option(min=1, help="Executions per second, of recurring jobs.")] = 600,
    period: Annotated[float, typer.Option(min=1, help="Seconds between two due times of a job.")] = 10,
    late: Annotated[float, typer.Option(help="Seconds from due time to start that are allowed.")] = 3.0,
    folder: Annotated[Path | None, typer.Option("--dir", help="Keep everything here, for a look afterwards.")] = None,
) -> None:
    """Add two nodes, replace a dead one and remove the leader under load; exit 1 if anything is lost, doubled or too late."""
    import asyncio
    import shutil
    import tempfile

    from horologe.chaos import members as members_module

    kept = Path(tempfile.mkdtemp(prefix="horologe-chaos-")) if folder is None else folder
    kept.mkdir(parents=True, exist_ok=True)
    try:
        report = asyncio.run(members_module.run(kept, rate, period, typer.echo))
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
    typer.echo(report.summary())
    too_late = [name for name, delay_ms in report.max_delays_ms.items() if delay_ms >= late * 1000]
    if too_late:
        typer.echo(f"starts were {late:g} s late or more while: {', '.join(too_late)}", err=True)
    raise typer.Exit(0 if report.is_sound and not too_late else 1)


@chaos_app.command("snapshot")
def snapshot(
    megabytes: Annotated[int, typer.Option(min=1, help="How large the state is.")] = 500,
    folder: Annotated[Path | None, typer.Option("--dir", help="Keep everything here, for a look afterwards.")] = None,
) -> None:
    """Give a large state to a new node under load; exit 1 if the leader's steps came late or its memory grew too much."""
    import asyncio
    import shutil
    import tempfile

    from horologe.chaos import snapshot as snapshot_module

    kept = Path(tempfile.mkdtemp(prefix="horologe-chaos-")) if folder is None else folder
    kept.mkdir(parents=True, exist_ok=True)
    try:
        report = asyncio.run(snapshot_module.run(kept, megabytes, typer.echo))
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
    typer.echo(report.summary())
    raise typer.Exit(0 if report.is_in_bounds else 1)
