"""`horologe cluster backup --schedule`, as docs/backup.md tells it: a job makes the backups, with a token for nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_dev import dev, horologe

from horologe.chaos.cluster import eventually
from horologe.client import backups
from horologe.client.backup_targets import FolderTarget
from horologe.node.local_cluster import LocalCluster

WAIT_SECONDS = 90.0
PASSPHRASE = "correct horse battery staple"


def must(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def prepare(cluster: LocalCluster, folder: Path) -> list[str]:
    """What the page tells an administrator to do before; answers what the job is given."""
    token, passphrase, context = folder / "backup.token", folder / "passphrase", folder / "backup.toml"
    passphrase.write_text(PASSPHRASE + "\n")
    # Where the cluster is, and nothing that says who asks.
    context.write_text(f'addresses = ["{cluster.addresses[0]}"]\nca_file = "{cluster.folder}/tls/ca.pem"\n')
    for words in (
        ["grant", "set", "backup", "--verb", "cluster.backup", "--verb", "cluster.read", "--everywhere"],
        ["token", "create", "backup", "--ttl", "1d", "--out", str(token)],
        ["secret", "set", "backup-token", "--from-file", str(token)],
        ["secret", "set", "backup-passphrase", "--from-file", str(passphrase)],
    ):
        must(horologe(cluster.folder, *words))
    values = {
        "HOROLOGE_CONTEXT": str(context),
        "HOROLOGE_TOKEN": '{{ secrets["backup-token"] }}',
        "HOROLOGE_BACKUP_PASSPHRASE": '{{ secrets["backup-passphrase"] }}',
    }
    return [word for name, value in values.items() for word in ("--env", f"{name}={value}")]


@pytest.mark.timeout(300)
async def test_a_job_backs_the_cluster_up_and_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The worker starts the program as its machine has it installed.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    folder, place = tmp_path / "dev", tmp_path / "backups"
    target = FolderTarget(place)
    with dev(folder) as cluster:
        env = prepare(cluster, tmp_path)
        schedule = ["--to", str(place), "--keep", "2", "--schedule", "@every 1s", "--name", "often", *env]
        assert "jobs/often created: horologe cluster backup" in must(horologe(folder, "cluster", "backup", *schedule))

        async def has_one() -> bool:
            return bool(target.names())

        await eventually(has_one, WAIT_SECONDS, "there is a backup")
        first = target.names()[0]

        async def is_deleted() -> bool:
            return first not in target.names()

        await eventually(is_deleted, WAIT_SECONDS, "the first backup was deleted for newer ones")
        must(horologe(folder, "job", "pause", "often"))

        def states() -> set[str]:
            executions = json.loads(must(horologe(folder, "execution", "list", "often", "-o", "json")))
            return {execution["state"] for execution in executions}

        async def have_ended() -> bool:
            # A backup that was due before the pause may still wait for its worker.
            return states().isdisjoint({"scheduled", "queued", "running"})

        await eventually(have_ended, WAIT_SECONDS, "the last backup is made")
        kept = backups.names_of(target)
        assert len(kept) == 2
        assert sorted(path.name for path in place.iterdir()) == sorted(each.name for each in kept)
        assert states() <= {"completed", "skipped"}
        completed = json.loads(
            must(horologe(folder, "execution", "list", "often", "--state", "completed", "-o", "json"))
        )
        assert "written and read back" in must(horologe(folder, "execution", "logs", str(completed[0]["id"])))
    # Without the cluster, and with nothing but the passphrase.
    for place_or_name in (place, place / kept[0].name):
        words = ["verify", str(place_or_name), "--passphrase-file", str(tmp_path / "passphrase")]
        assert "is whole: revision" in must(horologe(folder, "cluster", "backup", *words))
