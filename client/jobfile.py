"""Job files: YAML or JSON text to jobs of the API, with every mistake named by line; and jobs back to the same mapping.

One table per mapping (`JOB`, `RETRY`, ...) serves both directions: a key of the file is the field of the same name in the
message. Schedules are in `jobfile_schedules.py`, actions in `jobfile_actions.py`, how single values are read and written in
`jobfile_fields.py`, YAML itself in `documents.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from horologe.client import names, places, words
from horologe.client.documents import Mapped, Reader, parse, read_text
from horologe.client.errors import InvalidFile, Problem
from horologe.client.jobfile_actions import ACTIONS, read_action, write_action
from horologe.client.jobfile_fields import (
    INT32_MAX,
    Shape,
    duration,
    flag,
    instant,
    integer,
    number,
    read_shape,
    text,
    text_map,
    texts,
    word,
    write_shape,
)
from horologe.client.jobfile_schedules import KINDS, read_schedules, write_schedules
from horologe.client.times import render as render_time
from horologe.v1 import job_pb2
from horologe.v1.job_pb2 import Job, RetryPolicy

__all__ = ["SourcedJob", "load", "loads", "to_definition", "to_mapping"]

WHOLE_MAX = 10**15
"""More executions than any job will see, and exact in every language's numbers."""


@dataclass(frozen=True, slots=True)
class SourcedJob:
    """A job, and where it was written."""

    job: Job
    file: str
    line: int
    node: yaml.Node

    def place(self, field: str) -> Problem:
        """Where a field of the job was written, as a problem without a text yet."""
        return Problem(self.file, *places.find(self.node, field), "")


RETRY = Shape(
    {
        "max_attempts": integer(1, 1000),
        "backoff": word(RetryPolicy.Backoff),
        "base": duration,
        "factor": number(1.0, 1000.0),
        "cap": duration,
        "jitter": word(RetryPolicy.Jitter),
        "retry_on": texts,
        "do_not_retry_on": texts,
        "retry_window": duration,
    }
)
JOB = Shape(
    {
        "output_bytes_max": integer(0, WHOLE_MAX),
        "start_time": instant,
        "end_time": instant,
        "max_executions": integer(0, WHOLE_MAX),
        "jitter": duration,
        "calendars": texts,
        "on_exclusion": word(job_pb2.ExclusionPolicy),
        "delete_when_finished": flag,
        "timeout": duration,
        "execution_timeout": duration,
        "deadline": duration,
        "grace": duration,
        "overlap": word(job_pb2.OverlapPolicy),
        "queue_max": integer(0, INT32_MAX),
        "max_running": integer(0, INT32_MAX),
        "limits": texts,
        "catchup": word(job_pb2.CatchupPolicy),
        "catchup_max": integer(0, INT32_MAX),
        "catchup_window": duration,
        "on_lease_loss": word(job_pb2.LeaseLossPolicy),
        "queue": text,
        "priority": integer(0, 9),
        "worker_labels": text_map,
        "workflow": text,
        "apply_set": text,
        "owner": text,
        "labels": text_map,
        "description": text,
    }
)
# Made by the cluster. Read over, so that the output of `job get -o yaml` can be edited and applied.
OUTPUT_ONLY = (
    "uid",
    "etag",
    "state",
    "pause_reason",
    "paused_by",
    "run_as",
    "create_time",
    "update_time",
    "schedule_time",
    "next_due_time",
    "unfinished_execution_count",
    "counters",
    "schedule_time",
)
JOB_KEYS = ("name", "namespace", "schedule", "action", "retry", *JOB.fields)
LISTS = ("jobs", "workflows")
"""The keys of a file that holds more than one job."""


def load(path: str | Path, namespace: str = names.DEFAULT_NAMESPACE) -> list[SourcedJob]:
    """Reads a job file. InvalidFile lists everything that is wrong with it."""
    content = read_text(path)
    if Path(path).suffix == ".toml":
        raise InvalidFile([Problem(str(path), 0, 0, "is TOML, and job files are YAML or JSON")])
    return loads(content, str(path), namespace)


def loads(content: str, file: str = "<text>", namespace: str = names.DEFAULT_NAMESPACE) -> list[SourcedJob]:
    """Reads the text of a job file; `file` is what problems call it. Jobs without `namespace` get the given one."""
    reader = Reader(file)
    found: list[SourcedJob] = []
    try:
        for document in parse(reader, content):
            found += (
                SourcedJob(job, file, node.start_mark.line + 1, node)
                for node, job in _read_document(reader, document, namespace)
            )
    except RecursionError as error:
        raise reader.fail(1, 0, "is nested too deeply, or an alias contains itself") from error
    if not found and not reader.problems:
        raise reader.fail(1, 0, "holds no job: write `jobs:` and a list, or a single job")
    _check_unique(reader, found)
    reader.finish()
    return found


def to_definition(job: Job) -> dict[str, object]:
    """A job as the mapping of a job file, and nothing else: what was asked for."""
    mapping: dict[str, object] = {"name": names.job_id(job.name), "namespace": names.namespace_id(job.name)}
    mapping["schedule"] = write_schedules(job)
    mapping["action"] = write_action(job.action)
    if job.HasField("retry"):
        mapping["retry"] = write_shape(RETRY, job.retry)
    return mapping | write_shape(JOB, job)


def to_mapping(job: Job) -> dict[str, object]:
    """A job as the mapping of a job file, followed by what the cluster knows about it."""
    mapping = to_definition(job)
    if job.uid:
        mapping |= {
            "uid": job.uid,
            "etag": job.etag,
            "state": words.render(Job.State, job.state),
            "pause_reason": job.pause_reason,
            "paused_by": job.paused_by,
            "run_as": job.run_as,
            "create_time": render_time(job.create_time) if job.HasField("create_time") else None,
            "update_time": render_time(job.update_time) if job.HasField("update_time") else None,
            "schedule_time": render_time(job.schedule_time) if job.HasField("schedule_time") else None,
            "next_due_time": render_time(job.next_due_time) if job.HasField("next_due_time") else None,
            "unfinished_execution_count": job.unfinished_execution_count,
        }
    if job.HasField("counters"):
        mapping["counters"] = {
            field.name: getattr(job.counters, field.name) for field in job.counters.DESCRIPTOR.fields
        }
    return mapping


def _read_document(reader: Reader, document: yaml.Node, namespace: str) -> Iterator[tuple[yaml.Node, Job]]:
    """Every job of a document, with the place where it begins."""
    if isinstance(document, yaml.SequenceNode):
        yield from _read_jobs(reader, document, "the file", namespace)
        return
    pairs = document.value if isinstance(document, yaml.MappingNode) else []
    keys = {str(key.value): key for key, _ in pairs}
    if "calendars" in keys and "name" not in keys:
        said = "are in files of their own, which `horologe calendar set --file` takes"
        reader.problem(keys["calendars"], f"the file: calendars {said}")
        return
    if keys and not any(name in LISTS for name in keys):
        yield from _read_job(reader, document, namespace)
        return
    for name, (key, source) in (reader.mapping(document, "the file") or {}).items():
        if name == "jobs":
            yield from _read_jobs(reader, source, name, namespace)
        elif name == "workflows":
            for node in reader.sequence(source, name):
                yield from _read_workflow(reader, node, namespace)
        else:
            reader.problem(key, f"the file: unknown key {name!r} beside `jobs`; a job's keys go into the list")


def _read_jobs(
    reader: Reader, node: yaml.Node, path: str, namespace: str, workflow: str = ""
) -> Iterator[tuple[yaml.Node, Job]]:
    for item in reader.sequence(node, path):
        yield from _read_job(reader, item, namespace, workflow)


def _read_workflow(reader: Reader, node: yaml.Node, namespace: str) -> Iterator[tuple[yaml.Node, Job]]:
    """A job whose action is to run its `jobs`, and those."""
    entries = reader.mapping(node, "workflow")
    if entries is None:
        return
    members = entries.pop("jobs", None)
    action = entries.pop("action", None)
    if action is not None:
        reader.problem(action[0], "workflow: its action is to run its `jobs`; leave `action` out")
    before = len(reader.problems)
    job = Job()
    job.action.workflow.SetInParent()
    _read_entries(reader, node, entries, namespace, job)
    if len(reader.problems) == before:
        yield node, job
    if members is None:
        reader.problem(node, f"{names.job_id(job.name) or 'workflow'}: `jobs` is missing: the list of what it runs")
    elif job.name:
        yield from _read_jobs(reader, members[1], "jobs", names.namespace_id(job.name), workflow=names.job_id(job.name))


def _read_job(reader: Reader, node: yaml.Node, namespace: str, workflow: str = "") -> Iterator[tuple[yaml.Node, Job]]:
    """One job, or problems. In the list of a `workflow` it belongs to that one, and needs no schedule of its own."""
    before = len(reader.problems)
    entries = reader.mapping(node, "job")
    if entries is None:
        return
    job = Job(workflow=workflow)
    if workflow and "schedule" not in entries:
        job.schedules.add().manual.SetInParent()
    _read_entries(reader, node, entries, namespace, job)
    if len(reader.problems) == before:
        yield node, job


def _read_entries(reader: Reader, node: yaml.Node, entries: Mapped, namespace: str, job: Job) -> None:
    _read_name(reader, node, entries, namespace, job)
    path = names.job_id(job.name) if job.name else "job"
    misplaced = _refuse_other_keys(reader, entries, path)
    if "schedule" in entries:
        read_schedules(reader, entries["schedule"][1], f"{path}.schedule", job, tuple(JOB.fields))
    elif not job.schedules and "schedule" not in misplaced:
        extra = " (for a job that runs on request only: `schedule: {manual: true}`)"
        reader.problem(node, f"{path}: `schedule` is missing{extra}")
    if "action" in entries:
        read_action(reader, entries["action"][1], f"{path}.action", job.action)
    elif not job.HasField("action") and "action" not in misplaced:
        reader.problem(node, f"{path}: `action` is missing")
    if "retry" in entries:
        retry = reader.mapping(entries["retry"][1], f"{path}.retry", "{max_attempts: 3}")
        if retry is not None:
            job.retry.SetInParent()
            read_shape(reader, RETRY, entries["retry"][1], retry, f"{path}.retry", job.retry)
    known = {name: entry for name, entry in entries.items() if name in JOB.fields}
    read_shape(reader, JOB, node, known, path, job)


def _refuse_other_keys(reader: Reader, entries: Mapped, path: str) -> set[str]:
    """Notes keys that no job has; which of `schedule` and `action` are there after all, only without their own key."""
    misplaced: set[str] = set()
    for name, (key, _) in entries.items():
        if name in JOB_KEYS or name in OUTPUT_ONLY:
            continue
        home = "schedule" if name in KINDS else "action" if name in ACTIONS else ""
        if home:
            misplaced.add(home)
            reader.problem(key, f"{path}: {name!r} belongs to `{home}`: write `{home}: {{{name}: ...}}`")
        else:
            reader.unknown(key, path, name, JOB_KEYS)
    return misplaced


def _read_name(reader: Reader, node: yaml.Node, entries: Mapped, namespace: str, job: Job) -> None:
    bare, space = None, namespace
    if "name" in entries:
        key = entries["name"][1]
        bare = reader.text(key, "name")
        if bare is not None and not names.is_id(bare):
            reader.problem(key, f"name: {bare!r} is not a name: {names.ID_RULE}")
            bare = None
    else:
        reader.problem(node, "job: `name` is missing")
    if "namespace" in entries:
        key = entries["namespace"][1]
        space = reader.text(key, "namespace") or ""
        if space and not names.is_id(space):
            reader.problem(key, f"namespace: {space!r} is not a name: {names.ID_RULE}")
            space = ""
    if bare and space:
        job.name = names.job_name(bare, space)


def _check_unique(reader: Reader, found: list[SourcedJob]) -> None:
    lines: dict[str, int] = {}
    for sourced in found:
        first = lines.setdefault(sourced.job.name, sourced.line)
        if first != sourced.line:
            bare = names.job_id(sourced.job.name)
            reader.problems.append(
                Problem(sourced.file, sourced.line, 0, f"job {bare!r} is here twice (first in line {first})")
            )
