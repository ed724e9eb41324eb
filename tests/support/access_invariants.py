"""What must hold of owners and tokens; see invariants.py."""

from __future__ import annotations

from collections import Counter

from horologe.log.v1 import log_pb2
from horologe.raft.access import is_secure
from horologe.raft.model import JobFlag
from horologe.raft.records import U32, U64, JobState
from horologe.raft.tables import Tables


def check_access(tables: Tables) -> None:
    """Each job's owner is known by name and number, and each principal counts the jobs that run in its name."""
    principals = {key.decode(): log_pb2.PrincipalRecord.FromString(value) for key, value in tables.principal.scan()}
    names = {U32.unpack(key)[0]: value.decode() for key, value in tables.principal_name.scan()}
    assert names == {record.id: name for name, record in principals.items()}
    owned: Counter[str] = Counter()
    for key, value in tables.job.scan():
        record = log_pb2.JobRecord.FromString(value)
        state = JobState.unpack(tables.job_state.get(key) or b"")
        assert names.get(state.run_as, "") == record.run_as, f"job {U64.unpack(key)[0]}"
        assert bool(state.flags & JobFlag.SECRETS) == bool(record.secrets), f"job {U64.unpack(key)[0]}"
        if not record.deleted:
            owned[record.run_as] += 1
    del owned[""]
    assert {name: record.job_count for name, record in principals.items() if record.job_count} == owned
    for _, value in tables.token.scan():
        assert log_pb2.TokenRecord.FromString(value).token.principal in principals
    assert is_secure(tables) or not principals
