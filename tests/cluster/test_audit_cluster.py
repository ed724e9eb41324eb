"""Three secure nodes, callers on all of them, and a leader that is killed: one audit chain, everywhere."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from horologe.client import Client, audit_file, jobs
from horologe.client.audit_chain import Kind
from horologe.client.audit_compare import compare, heads
from horologe.client.errors import HorologeError, NotFound
from horologe.node.local_cluster import TLS_FOLDER, LocalCluster
from horologe.node.tls_folder import CA_FILE
from horologe.v1.audit_service_pb2 import AuditRecord

WAIT_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 0.05


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    options = {"bootstrap_token_file": "admin.token"}
    made = LocalCluster.prepare(tmp_path / "cluster", 3, options, usual_ports=False, secure=True)
    made.start()
    yield made
    made.kill()


def until(condition: Callable[[], bool]) -> None:
    deadline, never = time.monotonic() + WAIT_SECONDS, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        never.wait(LOOK_AGAIN_SECONDS)


def are_level(client: Client) -> bool:
    """Whether all nodes have applied the same records."""
    found = heads(client)
    return all(node.checkpoint is not None for node in found) and len({node.checkpoint.sequence for node in found}) == 1


def first_token(cluster: LocalCluster, ca_file: Path) -> str:
    """The token of the node whose proposal won, once all nodes know it."""
    valid: list[str] = []

    def is_known() -> bool:
        for node in cluster.nodes:
            file = node.folder / "admin.token"
            with suppress(HorologeError, FileNotFoundError):
                token = file.read_text().strip()
                with Client(cluster.addresses, token=token, ca_file=ca_file) as client:
                    valid[:] = [token for each in cluster.addresses if client.at(each).cluster_status().leader]
        return len(valid) == len(cluster.addresses)

    until(is_known)
    return valid[0]


def test_all_nodes_have_one_chain_whoever_is_asked_and_whoever_dies(cluster: LocalCluster) -> None:
    ca_file = cluster.folder / TLS_FOLDER / CA_FILE
    with (
        Client(cluster.addresses, token=first_token(cluster, ca_file), ca_file=ca_file) as admin,
        Client(cluster.addresses, ca_file=ca_file) as nobody,
    ):
        for number, address in enumerate(cluster.addresses):
            admin.at(address).create_job(jobs.job(f"j{number}", jobs.manual(), jobs.shell(["true"])))
            with pytest.raises(NotFound):
                admin.at(address).delete_job("there-is-none")
            with pytest.raises(HorologeError) as refusal:
                nobody.at(address).get_job("j0")
            assert refusal.value.reason == "UNAUTHENTICATED"
        denied: list[AuditRecord] = []

        def are_all_noted() -> bool:
            denied[:] = admin.list_audit_records(method="JobService.GetJob", denied_only=True)
            return sum(each.repeat_count for each in denied) >= len(cluster.addresses)

        until(are_all_noted)
        assert {(each.principal, each.reason, each.repeat_count) for each in denied} == {("", "UNAUTHENTICATED", 1)}
        kept = [node.checkpoint for node in heads(admin) if node.checkpoint is not None]
        assert len(kept) == 3

        leader = next(node for node in cluster.nodes if node.name == admin.cluster_status().leader)
        leader.kill()
        for number in range(3):
            admin.pause_job(f"j{number}")
        leader.start()
        until(lambda: are_level(admin))
        found = compare(admin, kept, full=True)
        assert found.is_sound and found.is_complete and not found.uncompared, found
        assert len({(node.checkpoint.sequence, node.checkpoint.hash) for node in found.nodes}) == 1
        assert len({node.checkpoint.public_key for node in found.nodes}) == 3

        records = list(admin.list_audit_records())[::-1]
        assert (records[0].sequence, records[0].method, records[0].principal) == (1, "begin_security", "admin")
        told = [(each.method, each.principal, each.reason) for each in records if each.allowed or each.principal]
        assert told.count(("JobService.CreateJob", "admin", "")) == 3
        assert told.count(("JobService.DeleteJob", "admin", "JOB_NOT_FOUND")) == 3
        assert told.count(("JobService.PauseJob", "admin", "")) == 3
        assert all(each.source and each.token for each in records if each.principal == "admin" and each.sequence > 1)

    assert cluster.stop() == [0, 0, 0]
    logs = [node.folder / "node.log" for node in cluster.nodes]
    told_to_logs = [checkpoint for log in logs for checkpoint in audit_file.find_checkpoints(str(log), log.read_text())]
    assert {checkpoint.node for checkpoint in told_to_logs} == {"n1", "n2", "n3"}
    lines = [
        audit_file.header_line(audit_file.Header(kept[0].cluster_id, 1, bytes(32))),
        *(audit_file.record_line(record) for record in records),
        audit_file.checkpoint_line(max(told_to_logs, key=lambda each: each.sequence)),
    ]
    report = audit_file.verify("export", map(json.dumps, lines), told_to_logs + kept)
    assert report.finding is None, "what the nodes wrote to their logs lies on the chain"
    cut_off = audit_file.verify("export", map(json.dumps, lines[:-2]), told_to_logs)
    assert cut_off.finding is not None and cut_off.finding.kind is Kind.TRUNCATED
