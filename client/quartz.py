"""Quartz's job_scheduling_data (XML) to jobs: one for each trigger, because each trigger has policies of its own.

A Java class cannot run here: the job calls a Python handler that is named like it, with the job's data as its payload. Quartz's
NativeJob becomes the script that it runs. How triggers become schedules is in `quartz_triggers.py`.
"""

from __future__ import annotations

from horologe.client import jobs
from horologe.client.imports import Imported, Importer, Options, read_text
from horologe.client.quartz_triggers import read_trigger
from horologe.client.xml_tree import Element, parse
from horologe.v1.job_pb2 import (
    LEASE_LOSS_POLICY_FAIL,
    LEASE_LOSS_POLICY_RETRY,
    OVERLAP_POLICY_ALLOW,
    Action,
    Job,
)

__all__ = ["loads"]

_GROUP = "DEFAULT"
_NATIVE = ("org.quartz.jobs.NativeJob", "org.quartz.jobs.ee.jmx.NativeJob")
_KINDS = ("cron", "simple", "calendar-interval")
_READ_OF_JOB = ("name", "group", "description", "job-class", "job-data-map", "durability", "recover")
_READ_OF_NATIVE = frozenset({"command", "parameters", "waitForProcess", "consumeStreams"})


def loads(content: bytes, file: str, options: Options) -> Imported:
    """Reads a document. InvalidFile lists everything that stands in the way, and then nothing is to be imported."""
    read_text(content, file)
    importer = Importer(file, options)
    root = parse(content, file)
    if root.name != "job-scheduling-data":
        importer.problem(root.line, f"<{root.name}> is no <job-scheduling-data>")
        return importer.finish()
    details: dict[tuple[str, str], Element] = {}
    triggers: list[tuple[str, Element]] = []
    for child in root.children:
        if child.name != "schedule":
            importer.notice(child.line, f"<{child.name}> is not carried over")
    for schedule in root.all("schedule"):
        for child in schedule.children:
            if child.name == "job":
                details[_key(child, "name", "group")] = child
            elif child.name == "trigger":
                triggers += [(kind.name, kind) for kind in child.children]
            else:
                importer.notice(child.line, f"<{child.name}> is not carried over")
    _read_all(importer, details, triggers)
    return importer.finish()


def _key(element: Element, name: str, group: str) -> tuple[str, str]:
    return element.text_of(group) or _GROUP, element.text_of(name)


def _read_all(importer: Importer, details: dict[tuple[str, str], Element], triggers: list[tuple[str, Element]]) -> None:
    counts: dict[tuple[str, str], int] = {}
    for _, trigger in triggers:
        key = _key(trigger, "job-name", "job-group")
        counts[key] = counts.get(key, 0) + 1
    for key, detail in details.items():
        _report_left_out(importer, detail)
        if key not in counts:
            job = _job(importer, detail, None)
            job.schedules.append(jobs.manual())
            importer.add(detail.line, key[1], job, identity=key)
    for kind, trigger in triggers:
        key = _key(trigger, "job-name", "job-group")
        found = details.get(key)
        if kind not in _KINDS:
            importer.problem(trigger.line, f"a <{kind}> trigger cannot be carried over; {', '.join(_KINDS)} can")
        elif found is None:
            importer.problem(trigger.line, f"its job {key[1]!r} of group {key[0]!r} is not in this file")
        else:
            job = _job(importer, found, trigger)
            read_trigger(importer, kind, trigger, job)
            name = key[1] if counts[key] == 1 else f"{key[1]}-{trigger.text_of('name')}"
            importer.add(trigger.line, name, job, identity=(key, _key(trigger, "name", "group")))


def _job(importer: Importer, detail: Element, trigger: Element | None) -> Job:
    group = detail.text_of("group") or _GROUP
    job = Job(description=detail.text_of("description"), overlap=OVERLAP_POLICY_ALLOW)
    if group != _GROUP:
        job.labels["group"] = group
    # Quartz tries nothing again, and what a lost scheduler ran only if the job asks for it.
    job.retry.max_attempts = 1
    job.on_lease_loss = LEASE_LOSS_POLICY_RETRY if detail.text_of("recover") == "true" else LEASE_LOSS_POLICY_FAIL
    data = _data(detail) | (_data(trigger) if trigger is not None else {})
    job.action.CopyFrom(_action(importer, detail, data))
    if not detail.text_of("name"):
        importer.problem(detail.line, "a job without <name>")
    return job


def _data(element: Element) -> dict[str, str]:
    """The entries of a data map; all values are texts."""
    found = {}
    for data in element.all("job-data-map"):
        for entry in data.all("entry"):
            value = entry.first("value")
            found[entry.text_of("key")] = value.text if value is not None else ""
    return found


def _action(importer: Importer, detail: Element, data: dict[str, str]) -> Action:
    name = detail.text_of("job-class")
    if not name:
        importer.problem(detail.line, "a job without <job-class>")
    if name in _NATIVE:
        for key in data.keys() - _READ_OF_NATIVE:
            importer.notice(detail.line, f"the data {key!r} is not carried over")
        if not data.get("command", "").strip():
            importer.problem(detail.line, "a NativeJob without the data `command`")
        return jobs.shell(f"{data.get('command', '')} {data.get('parameters', '')}".strip())
    return jobs.python(name, data)


def _report_left_out(importer: Importer, detail: Element) -> None:
    name = detail.text_of("job-class")
    if name not in _NATIVE:
        importer.notice(detail.line, f"calls the Python handler {name!r}: register one of that name in a worker")
    for child in detail.children:
        if child.name not in _READ_OF_JOB:
            importer.notice(child.line, f"<{child.name}> is not carried over")
