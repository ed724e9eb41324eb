"""Kubernetes CronJobs (`batch/v1`) to jobs: the first container's command, run by a worker.

What a cluster of containers adds to a command (images, volumes, secrets, sidecars) is not carried over, and listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import yaml

from horologe.client import durations, jobs, names, times, words
from horologe.client.documents import Mapped, Reader, parse
from horologe.client.imports import Imported, Importer, Options, read_text
from horologe.v1.job_pb2 import Action, Job, OverlapPolicy, RetryPolicy

__all__ = ["loads"]

_OVERLAPS = {"Allow": "allow", "Forbid": "skip", "Replace": "replace"}
BACKOFF_LIMIT_DEFAULT = 6
_BACKOFF_LIMIT_MAX = 99
EXPANDED_LENGTH_MAX = 64 << 10
"""Of one text with its variables: they may contain each other, and grow without end."""
SECONDS_MAX = 30 * 86_400
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.][A-Za-z0-9_.-]*)\)")
_LABEL = re.compile(r"[a-z0-9][a-z0-9._/-]{0,62}")

# Keys that say nothing about what runs and when: nobody misses them here.
_HARMLESS = frozenset(
    {"imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy", "dnsPolicy", "schedulerName", "status"}
    | {"enableServiceLinks", "restartPolicy", "creationTimestamp", "generation", "managedFields", "resourceVersion"}
    | {"uid", "selfLink", "annotations", "name"}
)


def loads(content: bytes, file: str, options: Options) -> Imported:
    """Reads manifests. InvalidFile lists everything that stands in the way, and then nothing is to be imported."""
    reader = Reader(file)
    importer = Importer(file, options)
    try:
        for document in parse(reader, read_text(content, file)):
            _Manifest(reader, importer).read(document)
    except RecursionError as error:
        raise reader.fail(1, 0, "is nested too deeply, or an alias contains itself") from error
    importer.problems += reader.problems
    return importer.finish()


class _Manifest:
    """One document of a file."""

    def __init__(self, reader: Reader, importer: Importer) -> None:
        self._reader = reader
        self._importer = importer

    def read(self, node: yaml.Node, depth: int = 0) -> None:
        """A CronJob, or a list of them; other objects are left out."""
        entries = self._reader.mapping(node, "the manifest")
        if entries is None:
            return
        kind = self._text(entries, "kind", "the manifest")
        if kind == "CronJob":
            self._cron_job(node, entries)
        elif kind.endswith("List") and "items" in entries and not depth:
            for item in self._reader.sequence(entries["items"][1], "items"):
                self.read(item, depth + 1)
        else:
            self._notice(node, f"{kind or 'an object without a kind'} is no CronJob, and left out")

    def _cron_job(self, node: yaml.Node, entries: Mapped) -> None:
        before = len(self._reader.problems)
        metadata = self._mapping(entries, "metadata", "CronJob", node)
        spec = self._mapping(entries, "spec", "CronJob", node)
        name = self._text(metadata, "name", "metadata")
        if "name" not in metadata:
            self._reader.problem(node, "CronJob: `metadata.name` is missing")
        template = self._mapping(spec, "jobTemplate", "spec", node)
        job_spec = self._mapping(template, "spec", "spec.jobTemplate", node)
        pod = self._mapping(job_spec, "template", "spec.jobTemplate.spec", node)
        pod_spec = self._mapping(pod, "spec", "spec.jobTemplate.spec.template", node)
        job = Job(labels=self._labels(metadata))
        self._schedule(node, spec, job)
        self._policies(spec, job_spec, node, job)
        job.action.CopyFrom(self._action(node, pod_spec))
        self._left_out(metadata, ("name", "namespace", "labels"), "metadata")
        self._left_out(spec, _READ_OF_SPEC, "spec")
        self._left_out(
            job_spec, ("template", "backoffLimit", "activeDeadlineSeconds", "completions", "parallelism"), "the Job"
        )
        self._left_out(pod_spec, ("containers", "terminationGracePeriodSeconds"), "the Pod")
        if "terminationGracePeriodSeconds" in pod_spec:
            self._seconds(pod_spec, "terminationGracePeriodSeconds", "the Pod", job, "grace", 3600)
        if len(self._reader.problems) == before:
            namespace = self._namespace(metadata)
            self._importer.add(_line(node), name, job, namespace=namespace, identity=(namespace, name))

    def _namespace(self, metadata: Mapped) -> str:
        """As there, where it can be called the same."""
        name = self._text(metadata, "namespace", "metadata")
        if name and not names.is_id(name):
            self._reader.problem(metadata["namespace"][1], f"metadata.namespace: {name!r}: {names.ID_RULE}")
        return name

    def _labels(self, metadata: Mapped) -> dict[str, str]:
        labels = {}
        for name, (key, source) in (self._mapping(metadata, "labels", "metadata", None)).items():
            value = self._reader.text(source, f"metadata.labels.{name}")
            if _LABEL.fullmatch(name) is None:
                self._notice(key, f"label {name!r} is not carried over: it cannot be called that here")
            elif value is not None:
                labels[name] = value
        return labels

    def _schedule(self, node: yaml.Node, spec: Mapped, job: Job) -> None:
        if "schedule" not in spec:
            self._reader.problem(node, "CronJob: `spec.schedule` is missing")
            return
        expression = self._text(spec, "schedule", "spec").strip()
        zone = self._text(spec, "timeZone", "spec")
        prefix = re.match(r"(?:CRON_)?TZ=(\S+)\s+", expression)
        if prefix is not None:
            if zone:
                self._reader.problem(
                    spec["schedule"][1], "spec.schedule: names a time zone, as `timeZone` does; one has to go"
                )
            zone = prefix[1]
            expression = expression[prefix.end() :]
        if zone:
            self._reader.converted(spec["schedule"][1], "spec.timeZone", zone, times.zone)
        if expression.startswith("@every"):
            given = expression.removeprefix("@every").strip()
            period = self._reader.converted(spec["schedule"][1], "spec.schedule", given, durations.parse)
            if period is not None:
                job.schedules.append(jobs.every(period))
            return
        job.schedules.append(
            jobs.cron(expression, time_zone=zone or self._importer.options.time_zone, dialect="kubernetes")
        )

    def _policies(self, spec: Mapped, job_spec: Mapped, node: yaml.Node, job: Job) -> None:
        word = self._text(spec, "concurrencyPolicy", "spec") or "Allow"
        if word not in _OVERLAPS:
            self._reader.problem(
                spec["concurrencyPolicy"][1], f"spec.concurrencyPolicy: {word!r} is not one of {', '.join(_OVERLAPS)}"
            )
            return
        limit = self._integer(job_spec, "backoffLimit", "the Job", BACKOFF_LIMIT_DEFAULT, _BACKOFF_LIMIT_MAX)
        job.overlap = words.parse(OverlapPolicy, _OVERLAPS[word])
        job.retry.CopyFrom(_retry(limit))
        if "startingDeadlineSeconds" in spec:
            # Too late is too late, whether the cluster was down or busy.
            self._seconds(spec, "startingDeadlineSeconds", "spec", job, "deadline", SECONDS_MAX)
            job.catchup_window.CopyFrom(job.deadline)
        if "activeDeadlineSeconds" in job_spec:
            self._seconds(job_spec, "activeDeadlineSeconds", "the Job", job, "execution_timeout", SECONDS_MAX)
            job.timeout.CopyFrom(job.execution_timeout)
        else:
            self._notice(node, "has no activeDeadlineSeconds: it may run for 1h here, unless you give it a `timeout`")
        if self._flag(spec, "suspend", "spec"):
            job.state, job.pause_reason = Job.STATE_PAUSED, "suspended in Kubernetes"
        for key in ("completions", "parallelism"):
            if self._integer(job_spec, key, "the Job", 1, 1_000_000) != 1:
                self._reader.problem(
                    job_spec[key][1], f"the Job: `{key}`: one execution is one run here; make a job for each"
                )

    def _action(self, node: yaml.Node, pod_spec: Mapped) -> Action:
        containers = self._reader.sequence(pod_spec["containers"][1], "containers") if "containers" in pod_spec else []
        if not containers:
            self._reader.problem(node, "CronJob: the Pod has no `containers`")
            return Action()
        for other in containers[1:]:
            self._notice(other, "only the first container is carried over")
        first = containers[0]
        container = self._reader.mapping(first, "the container") or {}
        env = self._environment(container)
        argv = [*self._texts(container, "command"), *self._texts(container, "args")]
        if "command" not in container:
            self._reader.problem(first, "the container has no `command`: what its image would run is not known here")
        image = self._text(container, "image", "the container")
        if image:
            self._notice(
                container["image"][1], f"the image {image} is not carried over: the worker's machine runs the command"
            )
        self._left_out(container, ("name", "image", "command", "args", "env", "workingDir"), "the container")
        words = [self._expanded(first, word, env) for word in argv]
        known = {name: value for name, value in env.items() if value is not None}
        return jobs.shell(words, env=known, cwd=self._text(container, "workingDir", "the container"))

    def _environment(self, container: Mapped) -> dict[str, str | None]:
        """Values by name; None for those that come from elsewhere."""
        found: dict[str, str | None] = {}
        for item in self._reader.sequence(container["env"][1], "env") if "env" in container else []:
            entry = self._reader.mapping(item, "env") or {}
            name = self._text(entry, "name", "env")
            if "valueFrom" in entry:
                self._notice(item, f"{name} is not carried over: its value comes from elsewhere; set it on the worker")
                found[name] = None
            elif name:
                found[name] = self._expanded(item, self._text(entry, "value", "env"), found)
        return found

    def _expanded(self, node: yaml.Node, text: str, env: dict[str, str | None]) -> str:
        """`$(NAME)` is the value of a variable that is known, `$$` a dollar sign."""

        left = EXPANDED_LENGTH_MAX

        def value(match: re.Match[str]) -> str:
            nonlocal left
            name = match[1]
            if name is None:
                return "$"
            if name in env and env[name] is None:
                self._reader.problem(node, f"$({name}): its value comes from elsewhere, and is not known here")
            found = env.get(name) or (match[0] if name not in env else "")
            left -= len(found)
            return found if left >= 0 else ""

        expanded = _REFERENCE.sub(value, text)
        if left < 0:
            self._reader.problem(node, f"has more than {EXPANDED_LENGTH_MAX:,} characters with its variables in it")
        return expanded

    # Values

    def _mapping(self, entries: Mapped, key: str, path: str, parent: yaml.Node | None) -> Mapped:
        if key in entries:
            return self._reader.mapping(entries[key][1], f"{path}.{key}") or {}
        if parent is not None:
            self._reader.problem(parent, f"{path}: `{key}` is missing")
        return {}

    def _text(self, entries: Mapped, key: str, path: str) -> str:
        return (self._reader.text(entries[key][1], f"{path}.{key}") or "") if key in entries else ""

    def _texts(self, entries: Mapped, key: str) -> list[str]:
        items = self._reader.sequence(entries[key][1], key) if key in entries else []
        return [self._reader.text(item, f"{key}[{position}]") or "" for position, item in enumerate(items)]

    def _integer(self, entries: Mapped, key: str, path: str, default: int, high: int) -> int:
        if key not in entries:
            return default
        found = self._reader.integer(entries[key][1], f"{path}.{key}", 0, high)
        return default if found is None else found

    def _seconds(self, entries: Mapped, key: str, path: str, job: Job, field: str, high: int) -> None:
        getattr(job, field).seconds = self._integer(entries, key, path, 0, high)

    def _flag(self, entries: Mapped, key: str, path: str) -> bool:
        return key in entries and self._reader.boolean(entries[key][1], f"{path}.{key}") is True

    def _left_out(self, entries: Mapped, read: Iterable[str], path: str) -> None:
        for name, (key, _) in entries.items():
            if name not in read and name not in _HARMLESS:
                self._notice(key, f"{path}: `{name}` is not carried over")

    def _notice(self, node: yaml.Node, text: str) -> None:
        self._importer.notice(_line(node), text)


_READ_OF_SPEC = ("schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds", "suspend", "jobTemplate")


def _retry(limit: int) -> RetryPolicy:
    """As the Job controller does it: 10 s, 20 s, 40 s and so on, up to six minutes."""
    return jobs.retry(max_attempts=limit + 1, backoff="exponential", base="10s", factor=2, cap="6m", jitter="none")


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1
