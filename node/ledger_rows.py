"""Walks over the ledger of one job."""

from __future__ import annotations

from collections.abc import Iterator

from horologe.node import errors
from horologe.raft.records import LEDGER_KEY, U64, LedgerEntry
from horologe.raft.tables import Tables


def job_number(tables: Tables, name: str) -> int:
    """The job that has the name now. Raises an ApiError if there is none."""
    key = tables.job_name.get(name.encode())
    if key is None:
        raise errors.job_not_found(name)
    return int(U64.unpack(key)[0])


def numbers_of_job(tables: Tables, name: str, below: bytes | None) -> Iterator[tuple[bytes, int]]:
    """Rows of a job, latest first: the execution's number, or 0 for rows without one of their own."""
    job = job_number(tables, name)
    for key, value in tables.ledger.scan_down(below or LEDGER_KEY.pack(job + 1, 0, 0)):
        if LEDGER_KEY.unpack(key)[0] != job:
            return
        entry = LedgerEntry.unpack(value)
        yield bytes(key), entry.execution if entry.is_of_execution else 0
