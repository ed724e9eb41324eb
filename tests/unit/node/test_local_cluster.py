"""Processes of a local cluster."""

from __future__ import annotations

from pathlib import Path

from horologe.node.local_cluster import LocalProcess


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
