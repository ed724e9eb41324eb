"""`horologe audit` against fake nodes: lists, exports that verify, and nodes whose chains differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path

import pytest
from fake_cluster import FakeCluster, failure
from support.audit_chains import Signer, chain_of, sealed
from typer.testing import Result

from horologe.client import AsyncClient, Client
from horologe.v1.cluster_service_pb2 import Member

Run = Callable[..., Result]
RECORDS = chain_of(8)


@pytest.fixture
def nodes(fake: FakeCluster) -> Iterator[list[FakeCluster]]:
    """Three members with one chain; the second has not applied the last two records yet. The first is asked."""
    with ExitStack() as stack:
        found = [fake]
        for number in (2, 3):
            node = FakeCluster()
            stack.callback(node.stop)
            node.signer = Signer(f"n{number}")
            found.append(node)
        for node in found:
            node.audit = deepcopy(RECORDS)
        found[1].audit = found[1].audit[:-2]
        fake.members = [Member(name=node.signer.node, address=node.address) for node in found]
        yield found


@pytest.fixture
def exported(fake: FakeCluster, run: Run, tmp_path: Path) -> Path:
    fake.audit = deepcopy(RECORDS)
    path = tmp_path / "audit.jsonl"
    assert run("audit", "export", str(path)).exit_code == 0
    return path


def test_a_list_says_who_did_what(fake: FakeCluster, run: Run) -> None:
    fake.audit = deepcopy(RECORDS[:2])
    fake.audit[0].object_count = 3
    fake.audit[0].repeat_count = 1
    header, newest, oldest = run("audit", "list").stdout.splitlines()
    assert header.split() == ["RECORD", "TIME", "PRINCIPAL", "METHOD", "OBJECTS", "RESULT"]
    assert newest.split()[0] == "2" and newest.endswith("JOB_PAUSED (2 times)")
    assert "ann" in oldest and "namespaces/default/jobs/j1 and 2 more" in oldest and oldest.endswith("done")
    (first, _) = json.loads(run("audit", "list", "-o", "json").stdout)
    assert (first["sequence"], first["reason"], first["token"]) == (2, "JOB_PAUSED", "0123456789abcdef")
    assert first["hash"] == RECORDS[1].hash.hex()


def test_filters_of_a_list(fake: FakeCluster, run: Run) -> None:
    run(
        *(
            "audit",
            "list",
            "--principal",
            "ann",
            "--method",
            "JobService.PauseJob",
            "--object",
            "executions/3",
            "--denied",
        ),
        *("--from", "2027-01-01T00:00:00Z", "--before", "2027-01-02T00:00:00Z", "--limit", "7"),
    )
    (asked,) = fake.requests("ListAuditRecords")
    assert (asked.principal, asked.method, asked.object, asked.denied_only, asked.page_size) == (
        *("ann", "JobService.PauseJob", "executions/3", True, 7),
    )
    assert getattr(asked, "from").ToJsonString() == "2027-01-01T00:00:00Z"
    assert asked.before.ToJsonString() == "2027-01-02T00:00:00Z"
    assert run("audit", "list", "--from", "yesterday").exit_code == 2


def test_an_export_verifies(exported: Path, fake: FakeCluster, run: Run) -> None:
    kinds = [json.loads(line)["kind"] for line in exported.read_text().splitlines()]
    assert kinds == ["header", *["record"] * 8, "checkpoint"]
    result = run("audit", "verify", str(exported), "--key", fake.signer.public_key.hex())
    assert result.exit_code == 0
    assert "Records 1 to 8 fit together." in result.stdout and "was not changed" in result.stdout
    found = json.loads(run("audit", "verify", str(exported), "--checkpoint", str(exported), "-o", "json").stdout)
    assert (found["sound"], found["last_record"], found["kept_checkpoints_compared"]) == (True, 8, 1)
    assert not exported.with_name("audit.jsonl.part").exists()


def test_an_export_goes_to_standard_output_and_comes_from_standard_input(fake: FakeCluster, run: Run) -> None:
    fake.audit = deepcopy(RECORDS)
    text = run("audit", "export", "--from", "4").stdout
    header, first, *_ = map(json.loads, text.splitlines())
    assert (header["first_sequence"], header["base_hash"], first["sequence"]) == (4, RECORDS[2].hash.hex(), 4)
    assert run("audit", "verify", "-", input=text).exit_code == 0


def test_an_export_that_breaks_off_leaves_no_file(fake: FakeCluster, run: Run, tmp_path: Path) -> None:
    fake.failures["ExportAuditRecords"].append(failure("OUT_OF_RANGE", "AUDIT_RECORDS_GONE", "record 1 was dropped"))
    path = tmp_path / "audit.jsonl"
    result = run("audit", "export", str(path), "--from", "1")
    assert result.exit_code == 4 and "record 1 was dropped" in result.stderr
    assert list(tmp_path.glob("audit*")) == []


def test_changes_of_an_export_are_named(exported: Path, run: Run, tmp_path: Path) -> None:
    lines = exported.read_text().splitlines()
    for name, changed, text in (
        ("altered", [*lines[:3], lines[3].replace('"ann"', '"bob"'), *lines[4:]], "altered: record 3 was altered"),
        ("missing", [*lines[:3], *lines[4:]], "missing: record 4 stands in the place of record 3"),
        ("cut off", lines[:-1], "truncated: it ends after record 8 without a checkpoint"),
    ):
        path = tmp_path / name
        path.write_text("\n".join(changed))
        result = run("audit", "verify", str(path))
        assert (result.exit_code, text in result.stdout) == (1, True), result.output


def test_a_rewritten_chain_is_found_by_what_was_kept(
    exported: Path, fake: FakeCluster, run: Run, tmp_path: Path
) -> None:
    other = deepcopy(RECORDS)
    other[4].principal = "bob"
    rewritten = tmp_path / "rewritten.jsonl"
    rewritten.write_text("\n".join(map(json.dumps, fake.signer.export(sealed(other)))))
    assert run("audit", "verify", str(rewritten)).exit_code == 0
    result = run("audit", "verify", str(rewritten), "--checkpoint", str(exported), "-o", "json")
    assert result.exit_code == 1
    assert [(found["kind"], found["record"]) for found in json.loads(result.stdout)["findings"]] == [("rewritten", 8)]


def test_files_and_keys_that_are_none(run: Run, tmp_path: Path) -> None:
    assert run("audit", "verify", str(tmp_path / "none")).exit_code == 2
    assert run("audit", "verify", "--checkpoint", str(tmp_path / "none")).exit_code == 2
    result = run("audit", "verify", "--key", "12")
    assert result.exit_code == 2 and "64 hexadecimal digits" in result.stderr
    assert run("audit", "export", str(tmp_path / "none" / "file")).exit_code == 2


def test_nodes_with_one_chain(nodes: list[FakeCluster], run: Run) -> None:
    result = run("audit", "verify")
    assert result.exit_code == 0, result.output
    assert "Records 7 to 8 fit together." in result.stdout
    assert "One chain leads to the heads of all nodes" in result.stdout
    nodes[1].audit = deepcopy(RECORDS)
    assert "--full reads all." in run("audit", "verify").stdout
    nodes[1].audit = nodes[1].audit[:-2]
    found = json.loads(run("audit", "verify", "--full", "-o", "json").stdout)
    assert (found["sound"], found["complete"], found["first_record"], found["last_record"]) == (True, True, 1, 8)
    assert [node["sequence"] for node in found["nodes"]] == [8, 6, 8]


@pytest.mark.parametrize("first", range(1, 9))
def test_the_first_record_that_a_node_has_otherwise_is_named(nodes: list[FakeCluster], run: Run, first: int) -> None:
    nodes[2].audit[first - 1].principal = "eve"
    nodes[2].audit = sealed(nodes[2].audit)
    result = run("audit", "verify", "-o", "json")
    assert result.exit_code == 1
    assert [(found["kind"], found["record"]) for found in json.loads(result.stdout)["findings"]] == [
        ("rewritten", first)
    ]


def test_a_change_below_a_head_that_fits_is_found_by_reading_everything(nodes: list[FakeCluster], run: Run) -> None:
    nodes[2].audit[2].principal = "eve"
    assert run("audit", "verify").exit_code == 0, "only what lies between the heads was read"
    result = run("audit", "verify", "--full")
    assert result.exit_code == 1 and "altered: node n3: record 3 was altered" in result.stdout


def test_kept_checkpoints_against_the_cluster(
    exported: Path, nodes: list[FakeCluster], run: Run, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(run("audit", "checkpoint", "-o", "json").stdout)
    assert len(json.loads(kept.read_text())) == 3
    assert run("audit", "verify", "--checkpoint", str(kept)).exit_code == 0
    for node in nodes:
        node.audit[1].principal = "eve"
        node.audit = sealed(node.audit)
    assert run("audit", "verify").exit_code == 0, "all nodes were rewritten alike"
    result = run("audit", "verify", "--checkpoint", str(kept))
    assert result.exit_code == 1 and "rewritten: node n1: record 6 is not the one that node n2" in result.stdout
    assert run("audit", "verify", "--key", nodes[0].signer.public_key.hex()).exit_code == 1, (
        "the others have other keys"
    )


def test_kept_checkpoints_of_records_that_are_gone(nodes: list[FakeCluster], run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps([json.loads(json.dumps(line)) for line in Signer().export(RECORDS[:1])[-1:]]))
    for node in nodes:
        node.audit_base, node.audit = node.audit[2].hash, node.audit[3:]
    result = run("audit", "verify", "--checkpoint", str(kept))
    assert result.exit_code == 0 and "1 of 1 kept checkpoints are of records that are too old" in result.stdout


def test_a_node_that_does_not_answer(nodes: list[FakeCluster], run: Run) -> None:
    nodes[0].members[2].address = ""
    result = run("audit", "verify")
    assert result.exit_code == 2 and "Not all nodes answered." in result.stderr and "not connected" in result.stdout
    nodes[0].members[2].address = nodes[1].address
    assert "is node n2" in run("audit", "checkpoint").stdout
    nodes[1].failures["GetAuditCheckpoint"] += [failure("PERMISSION_DENIED", "PERMISSION_DENIED", "no")] * 2
    assert run("audit", "checkpoint").exit_code == 2


async def test_both_clients(fake: FakeCluster) -> None:
    fake.audit = deepcopy(RECORDS)
    with Client(fake.address, insecure=True) as client:
        assert [record.sequence for record in client.list_audit_records(principal="ann")] == [8, 7, 6, 5, 4, 3, 2, 1]
        assert client.audit_checkpoint().sequence == 8
    async with AsyncClient(fake.address, insecure=True) as asynchronous:
        answers = [answer async for answer in asynchronous.export_audit_records(6)]
    assert [record.sequence for answer in answers for record in answer.records] == [6, 7, 8]
    assert answers[0].base_hash == RECORDS[4].hash and answers[-1].checkpoint.sequence == 8
