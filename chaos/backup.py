"""A backup under load, restored elsewhere: are starts delayed by it, and is every due time accounted for on both sides?

`horologe chaos backup` lets a cluster run jobs that do nothing, first as it is, then while one backup after the other is made of
it. The last one becomes the first node of another cluster, which others join; its pause is ended with catch-up, and
`horologe verify` is asked of both. Delays are what handlers saw.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.delays import Delays, first_starts
from horologe.chaos.evidence import Mark, read_folder
from horologe.chaos.verify import Verification, verify
from horologe.chaos.workload import RecurringJobs
from horologe.client import own_program
from horologe.client.backup_keys import FileKeys
from horologe.client.backup_targets import FolderTarget
from horologe.client.backups import Saved, choose, save
from horologe.client.backups import verify as verify_backup
from horologe.client.client import Client
from horologe.node.local_cluster import listen_of

PERIOD_MS = 1_000
WORKER = "w1"
SLOTS = 5_000
GRACE_MS = 3_000
SETTLE_SECONDS = 60.0
RESTORE_SECONDS = 120.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What came of it."""

    backups: list[Saved]
    quiet: Delays | None
    """From due time to start, before any backup was made."""
    during: Delays | None
    """The same while one after the other was made."""
    origin: Verification
    restored: Verification

    @property
    def is_sound(self) -> bool:
        """Whether everything is accounted for, on both sides, and all members of each hold one state."""
        return all(found.is_sound and found.is_complete and found.due > 0 for found in (self.origin, self.restored))

    def summary(self) -> str:
        """A few lines for people."""
        last = self.backups[-1]
        return (
            f"{len(self.backups)} backups, the last one of revision {last.backup.revision}: {last.record_count} records, "
            f"{last.file_bytes / (1 << 20):.1f} MiB\n"
            f"start delays before: {_text(self.quiet)}\nstart delays meanwhile: {_text(self.during)}\n"
            f"verify of the cluster: {_verdict(self.origin)}\nverify of the restored one: {_verdict(self.restored)}"
        )


async def run(folder: Path, rate: float, seconds: float, say: Say, nodes: int = 3) -> BackupReport:
    """Half of the time without, half of it with backups. The other cluster gets so many `nodes`."""
    work = RecurringJobs(count=max(1, round(rate * PERIOD_MS / 1000)), period_ms=PERIOD_MS)
    target, key_file = FolderTarget(folder / "backups"), folder / "backup.key"
    await asyncio.to_thread(_horologe, "node", "new-key", str(key_file))
    async with ChaosCluster(folder / "origin") as cluster:
        await _begin(cluster)
        await work.create(cluster.client)
        await _fired(cluster, round(rate))
        quiet_from = time.time() * 1000
        await asyncio.sleep(seconds / 2)
        backups_from = time.time() * 1000
        source = (await cluster.followers())[0]
        say(f"{cluster.names} run {rate:g} executions per second; backups are made by {source}")
        backups: list[Saved] = []
        while time.time() * 1000 < backups_from + seconds * 500 or not backups:
            backups.append(await asyncio.to_thread(_save, cluster, source, target, FileKeys(key_file)))
        until = time.time() * 1000
        await _fired(cluster, round(rate))
        origin = await verify(cluster.client, GRACE_MS)
        for worker in cluster.workers.values():
            await worker.stop()
        marks = first_starts(read_folder(cluster.evidence))
    verify_backup(target, choose(target, ""), FileKeys(key_file))
    say("restored into another cluster")
    restored = await _restored(folder, target, key_file, nodes)
    return BackupReport(
        backups, _delays(marks, quiet_from, backups_from), _delays(marks, backups_from, until), origin, restored
    )


async def _restored(folder: Path, target: FolderTarget, key_file: Path, nodes: int) -> Verification:
    """Another cluster, made of the newest backup."""
    place = folder / "elsewhere"
    other = ChaosCluster(place, 1)
    config = place / "cluster" / "n1" / "node.toml"
    await asyncio.to_thread(
        _horologe, "cluster", "restore", target.text(""), "--config", str(config), "--key-file", str(key_file)
    )
    async with other:
        for _ in range(nodes - 1):
            await other.join(await other.new_node(), seconds=RESTORE_SECONDS)
        (pause,) = await other.client.list_pauses()
        assert pause.reason.startswith("restored from revision"), pause
        await _begin(other)
        before = (await other.client.cluster_status()).fired_count
        await other.client.resume_scope(catchup=True)
        await _fired(other, 1, before)
        return await _settled(other)


async def _settled(cluster: ChaosCluster) -> Verification:
    """How it is judged, as soon as what was caught up has been started."""

    async def sound() -> Verification | None:
        found = await verify(cluster.client, GRACE_MS)
        return found if found.is_sound and found.is_complete else None

    try:
        return await eventually(sound, SETTLE_SECONDS, "everything is accounted for")
    except AssertionError:
        return await verify(cluster.client, GRACE_MS)


async def _begin(cluster: ChaosCluster) -> None:
    cluster.add_worker(WORKER, slots=SLOTS).start()
    await cluster.wait_workers(WORKER)


async def _fired(cluster: ChaosCluster, count: int, before: int | None = None) -> None:
    """Until so many executions more have begun."""
    start = (await cluster.client.cluster_status()).fired_count if before is None else before

    async def more() -> bool:
        return (await cluster.client.cluster_status()).fired_count >= start + count

    await eventually(more, SETTLE_SECONDS, f"{count} executions more")


def _save(cluster: ChaosCluster, node: str, target: FolderTarget, key: FileKeys) -> Saved:
    with Client(listen_of(cluster.node(node)), insecure=True, timeout_seconds=RESTORE_SECONDS) as client:
        return save(client, target, secret=key)


def _horologe(*words: str) -> None:
    command = [*own_program.command(), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RESTORE_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"horologe {' '.join(words)}: {done.stderr}")


def _delays(marks: list[Mark], from_ms: float, until_ms: float) -> Delays | None:
    return Delays.of(mark.delay_ms for mark in marks if from_ms <= mark.due_ms < until_ms)


def _text(delays: Delays | None) -> str:
    return "none" if delays is None else f"p50 {delays.p50} ms, p99 {delays.p99} ms, max {delays.max} ms"


def _verdict(found: Verification) -> str:
    state = "sound" if found.is_sound else f"NOT SOUND ({found.wrong})"
    return f"{state}{'' if found.is_complete else ', incomplete'}, {found.due} due times, {len(found.members)} members"
