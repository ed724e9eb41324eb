"""One run of a benchmark, from a profile to its report: bounded in time, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import tempfile
from pathlib import Path

import uvloop

from horologe.chaos import bench_reference
from horologe.chaos.bench_fleet import BenchError, Fleet, FleetOptions
from horologe.chaos.bench_profiles import Profile
from horologe.chaos.bench_progress import Steps
from horologe.chaos.bench_report import Report
from horologe.chaos.bench_stage import Stage
from horologe.client.errors import HorologeError
from horologe.node.open_files import raise_limit

CLEAR_SECONDS = 60.0


class InterruptedRunError(BenchError):
    """Somebody pressed Ctrl-C, or the process was told to end."""


def run(profile: Profile, options: FleetOptions, *, progress: bool | None = None) -> Report:
    """Carries a profile out. Raises BenchError if that was not possible; all processes and files are gone in any case.

    `progress` shows bars on standard error; by default when that is a terminal.
    """
    raise_limit()
    load_average = os.getloadavg()[0]
    before = reference_at(options.folder)
    with Steps(enabled=progress) as steps, Fleet(options, f"bench-{secrets.token_hex(3)}") as fleet:
        try:
            report = uvloop.run(_play(profile, fleet, steps))
        except asyncio.CancelledError:
            raise InterruptedRunError("interrupted; everything was stopped and removed") from None
        except (HorologeError, BaseExceptionGroup) as error:
            raise _as_bench_error(error) from error
    report.parameters = {
        "nodes": options.nodes if fleet.is_own else len(fleet.addresses),
        "workers": options.workers,
        "slots": options.slots,
        "own_cluster": fleet.is_own,
        "secure": options.secure,
        "encrypted": options.encrypted,
        **report.parameters,
    }
    report.load_average_before = round(load_average, 2)
    report.reference = bench_reference.Reference.mean(before, reference_at(options.folder))
    return report


def reference_at(folder: Path | None) -> bench_reference.Reference:
    """What this machine does now, on the disk of this folder (of the system's temporary folder, if there is none)."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="horologe-reference-", dir=folder) as scratch:
        return bench_reference.measure(Path(scratch))


async def _play(profile: Profile, fleet: Fleet, steps: Steps) -> Report:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    # The collector must not stop the clock of a load generator that makes many messages.
    gc.freeze()
    try:
        async with asyncio.timeout(profile.seconds_max):
            async with Stage(fleet, steps) as stage:
                try:
                    return await profile.play(stage)
                finally:
                    async with asyncio.timeout(CLEAR_SECONDS):
                        await stage.clear()
    except TimeoutError:
        fleet.check()
        raise BenchError(f"given up: it was not done within {profile.seconds_max:.0f} s") from None


def _as_bench_error(error: BaseException) -> BaseException:
    """What went wrong first, in words if it is known."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return BenchError(f"the cluster refused: {error}") if isinstance(error, HorologeError) else error
