"""In whose name a job runs, and whether that principal still may: asked whenever an execution comes into being.

The owner is who wrote the definition last. Without the right to run jobs in the namespace, or to use secrets if the job names
some, nothing of it starts: due times are SKIPPED (not_permitted), and whoever asks by hand is refused. An execution that is there
already goes on, with all its attempts. Jobs that were written before the cluster had security run in nobody's name.
"""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.access import Verb, rights_of
from horologe.raft.limits import namespace_of
from horologe.raft.model import JobFlag
from horologe.raft.records import U32, U64, JobState
from horologe.raft.state import State


def may_run(state: State, job: int, job_state: JobState) -> bool:
    """Looked up once in each entry for all jobs of one owner in one namespace."""
    if not job_state.run_as:
        return True
    key = (job_state.run_as, job_state.namespace, job_state.flags & JobFlag.SECRETS)
    known = state.owners.get(key)
    if known is None:
        known = state.owners[key] = not missing_right(state, job, job_state)
    return known


def missing_right(state: State, job: int, job_state: JobState) -> str:
    """What the owner of a job lacks, for people; empty if nothing."""
    name = state.tables.principal_name.get(U32.pack(job_state.run_as)) if job_state.run_as else None
    raw = state.tables.job.get(U64.pack(job))
    if name is None or raw is None:
        return "" if not job_state.run_as else "its owner is not known"
    owner = bytes(name).decode()
    namespace = namespace_of(log_pb2.JobRecord.FromString(bytes(raw)).job.name)
    principal = log_pb2.PrincipalRecord.FromString(bytes(state.tables.principal.get(owner.encode()) or b""))
    rights = rights_of(state.tables, owner, principal.groups)
    verbs = [Verb.JOB_RUN, *([Verb.SECRET_USE] if job_state.flags & JobFlag.SECRETS else [])]
    missing = next((verb for verb in verbs if not rights.may(verb, namespace)), None)
    return "" if missing is None else f"{owner}, in whose name it runs, may not {missing} in namespaces/{namespace}"
