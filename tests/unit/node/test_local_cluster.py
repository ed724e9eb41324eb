"""Processes of a local cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from horologe.node.certificates import Role, checked_identity
from horologe.node.config_sources import load_config
from horologe.node.local_cluster import TLS_FOLDER, TOKEN_FILE, LocalCluster, LocalProcess
from horologe.node.tls_folder import CaFolder, expiry_of


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
