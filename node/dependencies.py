"""What a definition says of other jobs: its workflow and the jobs that it is after. Only what can be known from it alone.

Whether those jobs exist, and whether they make a cycle, is known where the state is: see horologe.raft.dependencies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from horologe.node import views
from horologe.node.names import ID_RULE, is_id, shorten
from horologe.node.schedule import Violation
from horologe.raft.dependencies import NEIGHBOURS_MAX, NODES_MAX, after_of, short_name, sibling
from horologe.raft.tables import Tables
from horologe.v1 import job_pb2

_NOT_OF_WORKFLOWS = (
    "workflow",
    "max_running",
    "limits",
    "deadline",
    "execution_timeout",
    "worker_labels",
)
"""Fields that mean nothing to a workflow, which no worker runs."""


def complete_dependencies(job: job_pb2.Job, path: str) -> list[Violation]:
    """Writes the defaults out, and answers all that is wrong. Before the other policies: members may overlap by default."""
    if job.workflow:
        job.overlap = job.overlap or job_pb2.OVERLAP_POLICY_ALLOW
    for each in job.schedules:
        if each.HasField("after"):
            each.after.condition = each.after.condition or job_pb2.AfterSchedule.CONDITION_ALL_SUCCEEDED
    return [*_schedules(job, path), *_workflow(job, path)]


def upstream_ids(tables: Tables, job: job_pb2.Job, together: Mapping[str, job_pb2.Job]) -> list[str]:
    """Ids of the jobs that a job is after, directly or not, as `together` are to be and the others are stored."""
    found: dict[str, None] = {}
    line = [job]
    for one in line:
        after = after_of(one)
        for id_ in [id_ for id_ in (after.jobs if after is not None else ()) if id_ not in found]:
            if len(found) >= NODES_MAX:
                return list(found)
            found[id_] = None
            name = sibling(job.name, id_)
            record = None if name in together else views.find_job(tables, name)
            above = together.get(name) if record is None else record.job
            if above is not None:
                line.append(above)
    return list(found)


def _schedules(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    kinds = [each.WhichOneof("kind") for each in job.schedules]
    if "after" not in kinds:
        return
    position = kinds.index("after")
    if len(kinds) > 1:
        yield Violation(
            f"{path}.schedules[{position}]",
            "`after` stands beside other schedules; it must be alone (name all upstream jobs in one `after`)",
        )
    yield from _after(job, job.schedules[position].after, f"{path}.schedules[{position}].after")


def _after(job: job_pb2.Job, after: job_pb2.AfterSchedule, path: str) -> Iterator[Violation]:
    if not 1 <= len(after.jobs) <= NEIGHBOURS_MAX:
        yield Violation(
            f"{path}.jobs", f"{len(after.jobs)} jobs are given; a job is after 1 to {NEIGHBOURS_MAX} others"
        )
        return
    for position, name in enumerate(after.jobs):
        where = f"{path}.jobs[{position}]"
        if not is_id(name):
            yield Violation(where, f"{shorten(name)} is no id of a job of the same namespace; use {ID_RULE}")
        elif name == short_name(job.name):
            yield Violation(where, f"{name} is the job itself; name others")
        elif name in after.jobs[:position]:
            yield Violation(where, f"{name} is here twice; name it once")
    if after.condition not in job_pb2.AfterSchedule.Condition.values():
        names = ", ".join(name for name, number in job_pb2.AfterSchedule.Condition.items() if number)
        yield Violation(f"{path}.condition", f"{after.condition} is not a known value; use one of {names}")


def _workflow(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    kinds = {each.WhichOneof("kind") for each in job.schedules}
    if job.workflow and not is_id(job.workflow):
        yield Violation(
            f"{path}.workflow", f"{shorten(job.workflow)} is no id of a job of the same namespace; use {ID_RULE}"
        )
    if job.workflow and kinds - {"manual", "after"}:
        yield Violation(
            f"{path}.schedules",
            "a member of a workflow starts with the workflow (`manual`) or `after` other members; schedule the workflow",
        )
    if job.action.HasField("workflow"):
        given = {field.name for field, _ in job.ListFields()}
        for field in _NOT_OF_WORKFLOWS:
            if field in given:
                yield Violation(f"{path}.{field}", "a workflow has no worker of its own; set it in its members")
        if "after" in kinds:
            yield Violation(f"{path}.schedules", "a workflow is after no other job; put both into one workflow")
