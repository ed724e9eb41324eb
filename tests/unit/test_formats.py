"""docs/formats.md names the numbers that the program has."""

from __future__ import annotations

import re
from pathlib import Path

from horologe.client.session import PROTOCOL_VERSION as OF_WORKERS
from horologe.log.v1 import log_pb2
from horologe.node.admission import PROTOCOL_VERSION as OF_NODES
from horologe.node.worker_service import PROTOCOL_VERSION as OF_GATEWAYS
from horologe.raft.cluster_version import FIELDS, KINDS, RELEASES, THIS_PROGRAM
from horologe.raft.store import FORMAT, FORMATS

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_numbers_of_this_program() -> None:
    versions = THIS_PROGRAM.versions
    assert [row[1] for row in rows("The numbers of this program")] == [
        str(versions.newest),
        str(versions.oldest),
        str(FORMAT),
        str(OF_NODES),
        str(OF_WORKERS),
        "horologe.v1",
    ]
    assert OF_WORKERS == OF_GATEWAYS


def test_the_formats_of_the_store() -> None:
    assert {int(row[0]): row[1] for row in rows("The store")} == FORMATS
    assert max(FORMATS) == FORMAT


def test_every_kind_of_command_is_in_the_table_with_its_version() -> None:
    found = {kind: int(row[0]) for row in rows("The log") for kind in re.findall(r"`(\w+)`", row[2])}
    assert found == {kind: version for version, kinds in KINDS.items() for kind in kinds}
    assert found.keys() == {field.name for field in log_pb2.Command.DESCRIPTOR.oneofs_by_name["kind"].fields}
    assert {int(row[0]): row[1] for row in rows("The log")} == RELEASES
    assert not FIELDS, "name them in the table too"
