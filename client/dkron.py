"""Dkron's jobs, as `/v1/jobs` exports them (JSON), to jobs.

Dkron runs a job on every node that its tags fit, unless they say how many; here one worker runs it. Such differences are listed.
What its shell and HTTP executors are told is in `dkron_executors.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml

from horologe.client import durations, jobs, times
from horologe.client.dkron_executors import read_executor
from horologe.client.documents import Mapped, Reader, parse
from horologe.client.imports import Imported, Importer, Options, read_text
from horologe.client.robfig import to_seconds_first
from horologe.v1.job_pb2 import OVERLAP_POLICY_ALLOW, OVERLAP_POLICY_SKIP, Job, Schedule

__all__ = ["loads"]

MACROS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
RETRIES_MAX = 99
_LABEL = re.compile(r"[a-z0-9][a-z0-9._/-]{0,62}")
_READ = frozenset(
    {"name", "displayname", "schedule", "timezone", "owner", "owner_email", "disabled", "tags", "metadata", "retries"}
    | {"parent_job", "concurrency", "executor", "executor_config", "ephemeral", "expires_at"}
)
# What Dkron knows about its runs, or says a second time.
_OUTPUT = frozenset(
    {"id", "success_count", "error_count", "last_success", "last_error", "status", "next", "dependent_jobs"}
    | {"created_at", "updated_at", "last_execution_group"}
)


def loads(content: bytes, file: str, options: Options) -> Imported:
    """Reads an export: one job, or a list of them. InvalidFile lists everything that stands in the way."""
    # YAML is read too; an export is JSON.
    reader = Reader(file)
    importer = Importer(file, options)
    try:
        documents = parse(reader, read_text(content, file))
        nodes = [node for document in documents for node in _jobs_of(reader, document)]
        names = {node: _name(reader, node) for node in nodes}
        for node in nodes:
            _Definition(reader, importer, node, set(names.values())).read()
    except RecursionError as error:
        raise reader.fail(1, 0, "is nested too deeply, or an alias contains itself") from error
    importer.problems += reader.problems
    return importer.finish()


def _jobs_of(reader: Reader, document: yaml.Node) -> list[yaml.Node]:
    return reader.sequence(document, "the file") if isinstance(document, yaml.SequenceNode) else [document]


def _name(reader: Reader, node: yaml.Node) -> str:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == "name" and isinstance(value, yaml.ScalarNode):
            name: str = value.value
            return name
    return ""


class _Definition:
    """One job of an export."""

    def __init__(self, reader: Reader, importer: Importer, node: yaml.Node, names: set[str]) -> None:
        self._reader = reader
        self._importer = importer
        self._node = node
        self._names = names
        self._entries: Mapped = {}

    def read(self) -> None:
        """Adds the job to the import, or notes what is wrong with it."""
        before = len(self._reader.problems)
        self._entries = self._reader.mapping(self._node, "job") or {}
        name = self._text("name")
        if not name:
            self._reader.problem(self._node, "job: `name` is missing")
        job = Job(description=self._text("displayname"), owner=self._owner())
        schedule = self._schedule()
        if schedule is not None:
            job.schedules.append(schedule)
        retries = self._integer("retries", RETRIES_MAX)
        # Dkron tries again at once.
        job.retry.CopyFrom(jobs.retry(max_attempts=retries + 1, backoff="fixed", base="0s", cap="0s", jitter="none"))
        job.overlap = OVERLAP_POLICY_SKIP if self._concurrency() == "forbid" else OVERLAP_POLICY_ALLOW
        if self._flag("disabled"):
            job.state, job.pause_reason = Job.STATE_PAUSED, "disabled in Dkron"
        self._targets(job)
        self._metadata(job)
        self._end(job)
        read_executor(self._reader, self._importer, self._node, self._entries, job)
        self._left_out(self._entries, (*_READ, *_OUTPUT))
        if len(self._reader.problems) == before:
            self._importer.add(_line(self._node), name, job)

    def _schedule(self) -> Schedule | None:
        parent = self._text("parent_job")
        if parent:
            if parent not in self._names:
                self._reader.problem(self._entries["parent_job"][1], f"parent_job: {parent!r} is not in this file")
            # The schedule of a job with a parent is not followed there either.
            return jobs.after(parent)
        node = self._entries["schedule"][1] if "schedule" in self._entries else self._node
        text = self._text("schedule").strip()
        zone = self._text("timezone") or self._importer.options.time_zone
        if zone:
            self._reader.converted(node, "timezone", zone, times.zone)
        return self._reader.converted(node, "schedule", text, lambda given: _read_schedule(given, zone))

    def _concurrency(self) -> str:
        word = self._text("concurrency") or "allow"
        if word not in ("allow", "forbid"):
            self._reader.problem(self._entries["concurrency"][1], f"concurrency: {word!r} is neither allow nor forbid")
        return word

    def _targets(self, job: Job) -> None:
        """Tags choose nodes; `web:1` means one of those whose tag is `web`."""
        tags = self._texts_of("tags")
        counts = set()
        for tag, value in tags.items():
            bare, _, count = value.partition(":")
            job.worker_labels[tag] = bare
            if count:
                counts.add(count)
        if counts != {"1"}:
            count = counts.pop() if len(counts) == 1 else ""
            where = f"on {count} nodes" if count else "on every node that fits"
            self._importer.notice(_line(self._node), f"ran {where} there, and runs on one worker here")

    def _metadata(self, job: Job) -> None:
        for name, value in self._texts_of("metadata").items():
            if _LABEL.fullmatch(name) is None:
                self._importer.notice(
                    _line(self._node), f"metadata {name!r} is not carried over: no label is called so"
                )
            else:
                job.labels[name] = value

    def _end(self, job: Job) -> None:
        if self._text("expires_at"):
            node = self._entries["expires_at"][1]
            moment = self._reader.converted(node, "expires_at", self._text("expires_at"), times.parse)
            if moment is not None:
                job.end_time.CopyFrom(times.to_proto(moment))
        if self._flag("ephemeral"):
            if job.schedules and job.schedules[0].WhichOneof("kind") == "once":
                job.delete_when_finished = True
            else:
                self._reader.problem(
                    self._entries["ephemeral"][1],
                    "ephemeral: a job ends after its first success here only if it is due once",
                )

    def _owner(self) -> str:
        owner, email = self._text("owner"), self._text("owner_email")
        return f"{owner} <{email}>" if owner and email else owner or email

    # Values

    def _text(self, key: str) -> str:
        if key not in self._entries or _is_null(self._entries[key][1]):
            return ""
        return self._reader.text(self._entries[key][1], key) or ""

    def _texts_of(self, key: str) -> dict[str, str]:
        if key not in self._entries or _is_null(self._entries[key][1]):
            return {}
        inner = self._reader.mapping(self._entries[key][1], key) or {}
        return {name: self._reader.text(node, f"{key}.{name}") or "" for name, (_, node) in inner.items()}

    def _integer(self, key: str, high: int) -> int:
        if key not in self._entries or _is_null(self._entries[key][1]):
            return 0
        return self._reader.integer(self._entries[key][1], key, 0, high) or 0

    def _flag(self, key: str) -> bool:
        return key in self._entries and self._reader.boolean(self._entries[key][1], key) is True

    def _left_out(self, entries: Mapped, read: Iterable[str]) -> None:
        known = set(read)
        for name, (key, value) in entries.items():
            is_empty = _is_null(value) or (isinstance(value, yaml.CollectionNode) and not value.value)
            if name not in known and not is_empty:
                self._importer.notice(_line(key), f"`{name}` is not carried over")


def _read_schedule(text: str, zone: str) -> Schedule:
    """ValueError says what is wrong with it."""
    word, _, rest = text.partition(" ")
    if word == "@at":
        return jobs.once(times.parse(rest, zone))
    if word == "@every":
        return jobs.every(durations.parse(rest))
    if text == "@manually" or not text:
        return jobs.manual()
    if text == "@minutely":
        return jobs.cron("* * * * *", time_zone=zone)
    if text in MACROS:
        return jobs.cron(text, time_zone=zone)
    return jobs.cron(to_seconds_first(text), time_zone=zone, dialect="unix-seconds-first")


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1
