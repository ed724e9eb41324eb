"""Processes of a local cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from horologe.node import dev
from horologe.node.certificates import Role, checked_identity
from horologe.node.config_sources import load_config
from horologe.node.local_cluster import TLS_FOLDER, TOKEN_FILE, LocalCluster, LocalProcess, count_in, running_in
from horologe.node.tls_folder import CaFolder, expiry_of
from horologe.raft.store import Store


def test_what_runs_is_not_started_again(tmp_path: Path) -> None:
    process = LocalProcess("n1", tmp_path, ("node", "run"), prefix=("sh", "-c", "exec sleep 60"))
    try:
        process.start()
        first = process.pid
        process.start()
        assert process.pid == first
        process.kill()
        assert not process.is_running
        process.start()
        assert process.pid != first
    finally:
        process.kill()


def test_a_folder_that_is_moved_is_whole(tmp_path: Path) -> None:
    LocalCluster.prepare(tmp_path / "old", 1, usual_ports=False, secure=True)
    (tmp_path / "old").rename(tmp_path / "new")
    cluster = LocalCluster.prepare(tmp_path / "new", 1, secure=True)
    config = load_config(tmp_path / "new" / "n1" / "node.toml", {}, {})
    assert config.tls_dir is not None
    assert config.tls_dir.resolve() == cluster.certificate(Role.NODE, "n1")
    assert config.bootstrap_token_file is not None
    assert config.bootstrap_token_file.resolve() == tmp_path / "new" / TOKEN_FILE
    assert "/old/" not in cluster.context_file.read_text()


def test_certificates_that_end_soon_are_renewed(tmp_path: Path) -> None:
    cluster = LocalCluster.prepare(tmp_path, 1, usual_ports=False, secure=True)
    node, worker = cluster.certificate(Role.NODE, "n1"), tmp_path / TLS_FOLDER / "workers" / "w1"
    CaFolder.open(tmp_path / TLS_FOLDER).issue(worker, checked_identity(Role.WORKER, "w1"), days=10)
    lasting = expiry_of(node)
    LocalCluster.prepare(tmp_path, 1, secure=True)
    assert expiry_of(node) == lasting
    assert expiry_of(worker) > datetime.now(UTC) + timedelta(days=60)


async def test_nothing_is_written_where_a_cluster_runs(tmp_path: Path) -> None:
    cluster = LocalCluster.prepare(tmp_path, 2, usual_ports=False, secure=True)
    context = cluster.context_file.read_text()
    assert running_in(tmp_path) == ()
    store = Store(tmp_path / "n2" / "state", "n2")
    try:
        assert running_in(tmp_path) == ("n2",)
        (tmp_path / "n2" / "node.pid").write_text("4711\n")
        with pytest.raises(dev.DevError, match=r"already, n2 \(process 4711\): use it .*, or give another --dir"):
            await dev.run(1, tmp_path, 0, None)
    finally:
        store.close()
    assert cluster.context_file.read_text() == context
    # A file that is left of a node that was killed says nothing.
    assert running_in(tmp_path) == ()


async def test_a_folder_keeps_the_number_of_its_nodes(tmp_path: Path) -> None:
    assert count_in(tmp_path) == 0
    cluster = LocalCluster.prepare(tmp_path, 3, usual_ports=False, secure=True)
    cluster.new_node("n4")
    assert count_in(tmp_path) == 3
    context = cluster.context_file.read_text()
    for other in (1, 4):
        with pytest.raises(dev.DevError, match=r"is a cluster of 3 nodes: give --nodes 3, or another --dir"):
            await dev.run(other, tmp_path, 0, None)
    assert cluster.context_file.read_text() == context
