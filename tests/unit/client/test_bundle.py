"""A bundle as a file, and with parts that could not be had."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_cluster import FakeCluster
from typer.testing import Result

from horologe.client import bundle
from horologe.client.client import Client
from horologe.client.errors import PermissionDenied

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def client() -> Iterator[Client]:
    cluster = FakeCluster()
    with Client(cluster.address, insecure=True, timeout_seconds=5.0) as client:
        yield client
    cluster.stop()


def test_a_file_that_only_its_owner_reads_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    bundle.write({"status.json": "{}\n", "nodes/n1/log.jsonl": "ä\n"}, path, NOW)
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["b/nodes/n1/log.jsonl", "b/status.json"]
        assert archive.extractfile("b/nodes/n1/log.jsonl").read() == "ä\n".encode()  # type: ignore[union-attr]
    with pytest.raises(FileExistsError):
        bundle.write({}, path, NOW)


def test_a_file_that_is_there_stays_and_another_name_is_asked_for(run: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    path.write_text("mine")
    result = run("debug", "bundle", "--file", str(path))
    assert result.exit_code == 2
    assert f"{path} is there already, and nothing is overwritten; name another file with --file" in result.stderr
    assert path.read_text() == "mine"


def test_what_cannot_be_had_is_told(client: Client) -> None:
    def health(_: Client) -> list[object]:
        raise PermissionDenied("not you", reason="PERMISSION_DENIED")

    files = bundle.collect(client, health)  # type: ignore[arg-type]
    problems = json.loads(files["errors.json"])
    assert problems["health.json"] == "PERMISSION_DENIED: not you"
    # This one has no such service, and the other members are not there.
    assert {f"nodes/{member['name']}" for member in json.loads(files["members.json"])} <= problems.keys()
    assert "status.json" in files
