"""A backup of a running node is whole, cannot be read without its key, and becomes a new cluster that says where it came from."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from one_node import OneNode, one_node
from test_at_rest import Marks, plant

from horologe.client import backups, jobs
from horologe.client.async_client import AsyncClient
from horologe.client.backup_keys import FileKeys, Passphrase
from horologe.client.backup_targets import FolderTarget
from horologe.client.client import Client
from horologe.client.errors import InvalidBackup, NotFound
from horologe.node import restore as restore_module
from horologe.node.config import NodeConfig
from horologe.node.key_sources import FileKeys as NodeFileKeys
from horologe.node.node import Node
from horologe.node.restore import CannotRestoreError, restore
from horologe.raft.digest import digest_of

PASSPHRASE = Passphrase("correct horse battery staple")


def saved_from(here: OneNode, target: FolderTarget, secret: Passphrase | FileKeys | None = None) -> backups.Saved:
    with Client(here.address, insecure=True) as client:
        return backups.save(client, target, secret=secret)


def restored(config: NodeConfig, target: FolderTarget, secret: Passphrase | FileKeys) -> restore_module.Restored:
    name = backups.choose(target, "")
    with closing(target.open(name)) as source:
        return restore(config, source, name, secret)


def config_like(here: OneNode, folder: Path) -> NodeConfig:
    """Of another node, which takes the place of this one."""
    ports = {"listen": here._config.listen, "peer_listen": here._config.peer_listen}
    return NodeConfig(name="m1", data_dir=folder, insecure=True, drain_seconds=2.0, **ports)


async def test_a_backup_becomes_a_new_cluster(tmp_path: Path) -> None:
    marks, target = Marks(), FolderTarget(tmp_path / "backups")
    async with one_node(tmp_path) as here:
        printed = await plant(here, marks)
        await here.client.create_job(jobs.job("often", jobs.every("1h"), jobs.python("returns")))
        before = await here.client.get_execution(printed)
        job_names = [job.name async for job in here.client.list_jobs()]
        saved = await asyncio.to_thread(saved_from, here, target)
        again = await asyncio.to_thread(saved_from, here, target, PASSPHRASE)
        assert here.node is not None
        with here.node.context.store.read() as tables:
            digest = digest_of(tables)
        assert (again.state_digest, again.record_count) == (digest.digest, digest.record_count)
        assert again.backup.revision >= saved.backup.revision

    files = [(path.name, path.read_bytes()) for path in (tmp_path / "backups").iterdir()]
    assert len(files) == 2
    assert marks.found_in(files) == []
    assert not [name for name, data in files if b"often" in data or b"returns" in data]

    key = FileKeys(tmp_path / "data" / "node.key")
    first, second = (each.name for each in backups.names_of(target))
    assert backups.verify(target, first, key).backup == saved.backup
    assert backups.verify(target, second, PASSPHRASE).backup == again.backup

    config = config_like(here, tmp_path / "other")
    done = restored(config, target, PASSPHRASE)
    assert done.cluster_id != again.backup.cluster_id
    with pytest.raises(CannotRestoreError, match="holds a node's state already"):
        restored(config, target, PASSPHRASE)
    node = Node(config)
    await node.start()
    try:
        async with AsyncClient(config.listen, insecure=True, timeout_seconds=60) as client:
            assert [job.name async for job in client.list_jobs()] == job_names
            after = await client.get_execution(printed)
            assert after.idempotency_key == before.idempotency_key
            # What it printed is in no backup. Nobody waits for the nodes of the old cluster to come back.
            printed_bytes = after.attempts[-1].output_bytes
            with pytest.raises(
                NotFound, match=f"attempt 1 printed {printed_bytes} bytes, and no node keeps them any more"
            ):
                _ = [piece async for piece in client.read_output(printed)]
            assert (await client.cluster_status()).cluster_id == done.cluster_id
            (pause,) = await client.list_pauses()
            assert f"revision {again.backup.revision} of cluster {again.backup.cluster_id}" in pause.reason
            execution = await client.run_job("often")
            assert int(execution.name.rsplit("/", 1)[1]) > 1_000_000_000
            records = [record async for record in client.list_audit_records(method=restore_module.METHOD)]
            assert f"clusters/{again.backup.cluster_id}" in records[0].objects
    finally:
        await node.stop()


async def test_without_its_key_nothing_is_restored_and_nothing_is_left(tmp_path: Path) -> None:
    target = FolderTarget(tmp_path / "backups")
    async with one_node(tmp_path) as here:
        await asyncio.to_thread(saved_from, here, target)
    config = config_like(here, tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "node.key").write_bytes(b"")
    with closing(target.open(backups.choose(target, ""))) as source, pytest.raises(InvalidBackup, match="give a file"):
        restore(config, source, "backup")
    with pytest.raises(InvalidBackup, match="not with a passphrase"):
        restored(config, target, PASSPHRASE)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["node.key"]
    # A key of the node that is to be: the old one below the new one.
    old = (tmp_path / "data" / "node.key").read_text()
    (tmp_path / "other" / "node.key").unlink()
    restore_module.key_source_of(config).prepare()
    key_file = tmp_path / "other" / "node.key"
    key_file.write_text(key_file.read_text() + old)
    with closing(target.open(backups.choose(target, ""))) as source:
        assert restore(config, source, "backup").record_count
    assert NodeFileKeys(key_file).current != FileKeys(tmp_path / "data" / "node.key").wrap(bytes(32)).name
