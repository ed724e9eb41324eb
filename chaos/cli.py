"""The commands that this package brings: `horologe verify`, `horologe bench PROFILE`, `horologe chaos ...`.

Heavy modules are imported inside the commands, so that the command line answers quickly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from horologe.chaos.bench_cli import bench_app
from horologe.chaos.mutants.cli import mutants
from horologe.chaos.sim.cli import sim
from horologe.chaos.verify_cli import verify
from horologe.client.cli.output import Format, print_data

if TYPE_CHECKING:
    from horologe.chaos.members import MembersReport
    from horologe.chaos.run import Plan, Run
    from horologe.chaos.upgrade import UpgradeReport

chaos_app = typer.Typer(help="Break a cluster of its own on this machine, and judge what it did.", no_args_is_help=True)

Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the report.")]


def register(app: typer.Typer) -> None:
    """Adds this package's commands to the command line."""
    app.add_typer(bench_app, name="bench")
    chaos_app.command("sim")(sim)
    chaos_app.command("mutants")(mutants)
    app.add_typer(chaos_app, name="chaos")
    app.command("verify")(verify)


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
    _end(report, late)


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


@chaos_app.command("backup")
def backup(
    rate: Annotated[float, typer.Option(min=1, help="Executions per second.")] = 600,
    seconds: Annotated[float, typer.Option("--for", min=2, help="Half of it without, half of it with backups.")] = 20,
    folder: Annotated[Path | None, typer.Option("--dir", help="Keep everything here, for a look afterwards.")] = None,
) -> None:
    """Make backups under load and restore one elsewhere; exit 1 unless `horologe verify` is clean on both sides."""
    import asyncio
    import shutil
    import tempfile

    from horologe.chaos import backup as backup_module

    kept = Path(tempfile.mkdtemp(prefix="horologe-chaos-")) if folder is None else folder
    kept.mkdir(parents=True, exist_ok=True)
    try:
        report = asyncio.run(backup_module.run(kept, rate, seconds, typer.echo))
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
    typer.echo(report.summary())
    raise typer.Exit(0 if report.is_sound else 1)


@chaos_app.command("upgrade")
def upgrade(
    tree: Annotated[Path, typer.Option(help="The source tree of which both releases are built.")] = Path(),
    older: Annotated[Path | None, typer.Option(help="A wheel in place of the older one.", metavar="WHEEL")] = None,
    newer: Annotated[Path | None, typer.Option(help="A wheel in place of the newer one.", metavar="WHEEL")] = None,
    rate: Annotated[float, typer.Option(min=1, help="Executions per second, of recurring jobs.")] = 100,
    period: Annotated[float, typer.Option(min=1, help="Seconds between two due times of a job.")] = 10,
    late: Annotated[float, typer.Option(help="Seconds from due time to start that are allowed.")] = 3.0,
    folder: Annotated[Path | None, typer.Option("--dir", help="Keep everything here, for a look afterwards.")] = None,
) -> None:
    """Upgrade three nodes one by one under load, back, and again; exit 1 if anything is lost, doubled or too late."""
    import asyncio
    import shutil
    import tempfile

    from horologe.chaos import programs
    from horologe.chaos import upgrade as upgrade_module
    from horologe.chaos.cluster import NotInTimeError
    from horologe.client.errors import HorologeError

    if (older is None) != (newer is None):
        raise typer.BadParameter("give both wheels, --older and --newer, or none")
    kept = Path(tempfile.mkdtemp(prefix="horologe-chaos-")) if folder is None else folder.resolve()
    kept.mkdir(parents=True, exist_ok=True)
    try:
        if older is None or newer is None:
            releases = programs.releases_of(tree.resolve(), kept / "programs")
        else:
            releases = programs.wheels_of(older, newer, kept / "programs")
        typer.echo(f"horologe {releases.older.version} and {releases.newer.version} are installed side by side")
        report = asyncio.run(upgrade_module.run(kept, releases, rate, period, typer.echo))
    except (programs.ProgramError, HorologeError, NotInTimeError, OSError) as error:
        typer.echo(f"horologe: the upgrade could not be carried out: {error}", err=True)
        raise typer.Exit(2) from error
    except upgrade_module.UpgradeError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(1) from error
    finally:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
    _end(report, late)


def _end(report: MembersReport | UpgradeReport, late_seconds: float) -> NoReturn:
    """Says what came of changes under load; exit code 1 if that is not good."""
    typer.echo(report.summary())
    too_late = [name for name, delay_ms in report.max_delays_ms.items() if delay_ms >= late_seconds * 1000]
    if too_late:
        typer.echo(f"starts were {late_seconds:g} s late or more while: {', '.join(too_late)}", err=True)
    raise typer.Exit(0 if report.is_sound and not too_late else 1)
