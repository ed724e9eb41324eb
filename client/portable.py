"""What people have defined in a cluster, as lines of JSON: to look at, to keep in version control, to take to another cluster.

Here belongs which definitions there are, in which order they go in, and which of their fields people write; the others are the
cluster's own and stay at home. What goes in is compared with what is there, so doing it again changes nothing. History, tokens
and the values of secrets are in backups (backups.py), and not here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from horologe.client import access_calls, governing_calls, secret_calls, templates
from horologe.client.calls import Call, request_id_or_new
from horologe.client.client import Client
from horologe.client.errors import InvalidFile, NotFound, PermissionDenied, Problem
from horologe.client.names import DEFAULT_NAMESPACE, secret_name
from horologe.client.notification_calls import CLUSTER
from horologe.v1 import access_service_pb2, namespace_service_pb2, queue_service_pb2
from horologe.v1.access_pb2 import Grant
from horologe.v1.calendar_pb2 import Calendar
from horologe.v1.job_pb2 import Job
from horologe.v1.limit_service_pb2 import Limit
from horologe.v1.namespace_service_pb2 import Namespace
from horologe.v1.notification_pb2 import NotificationRule
from horologe.v1.queue_service_pb2 import Queue

__all__ = ["Change", "Definition", "export", "import_", "parse"]

JOBS_PER_CALL = 1_000


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of definition."""

    name: str
    type: type[Message]
    fields: tuple[str, ...]
    """That people write."""


_NOT_OF_JOBS = frozenset(
    {
        *("uid", "etag", "create_time", "update_time", "next_due_time", "unfinished_execution_count"),
        *("counters", "schedule_time", "paused_by", "run_as"),
    }
)
_NOT_OF_RULES = frozenset({"etag", "create_time", "update_time", "pending_count", "held_back_count", "last_error"})


def _all_but(type_: type[Message], left_out: frozenset[str]) -> tuple[str, ...]:
    return tuple(field.name for field in type_.DESCRIPTOR.fields if field.name not in left_out)


NAMESPACE_FIELDS = (
    "max_running", "history_retention", "history_count_max", "dead_letter_retention", "job_count_max", "start_rate",
)  # fmt: skip
KINDS = {
    kind.name: kind
    for kind in (
        Kind("namespace", Namespace, ("name", *NAMESPACE_FIELDS)),
        Kind("queue", Queue, ("name", "start_rate", "aging")),
        Kind("limit", Limit, ("name", "max_running")),
        Kind("calendar", Calendar, ("name", "description", "time_zone", "dates", "hours", "spans")),
        Kind("grant", Grant, ("subject", "namespace", "role", "verbs")),
        Kind("job", Job, _all_but(Job, _NOT_OF_JOBS)),
        Kind("notification", NotificationRule, _all_but(NotificationRule, _NOT_OF_RULES)),
    )
}
"""In the order in which they go in: later ones name earlier ones."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One line."""

    kind: Kind
    value: Any

    @property
    def name(self) -> str:
        """What it is called; of a grant, whose and where."""
        return f"{self.value.subject} in {self.value.namespace}" if self.kind.type is Grant else str(self.value.name)

    def line(self) -> str:
        """As it is written."""
        fields = json_format.MessageToDict(self.value, preserving_proto_field_name=True)
        return json.dumps({"kind": self.kind.name, "definition": fields}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one definition."""

    kind: str
    name: str
    outcome: str
    """`created`, `updated` or `unchanged`."""


def _reduced(kind: Kind, message: Any) -> Definition:
    """What people have written of it."""
    value = kind.type()
    wanted = set(kind.fields)
    for field, found in message.ListFields():
        if field.name in wanted:
            single = kind.type(**{field.name: found}) if field.message_type is None else None
            if single is not None:
                value.MergeFrom(single)
            elif field.is_repeated:
                getattr(value, field.name).MergeFrom(found)
            else:
                getattr(value, field.name).CopyFrom(found)
    if isinstance(value, Job) and value.state != Job.STATE_PAUSED:
        value.ClearField("state")
        value.ClearField("pause_reason")
    return Definition(kind, value)


def export(client: Client) -> Iterator[Definition]:
    """All definitions of all namespaces that the caller may read, in the order in which they go in again."""
    namespaces = list(client.list_namespaces())
    places = [namespace.name.removeprefix("namespaces/") for namespace in namespaces]
    found: dict[str, Iterable[Message]] = {
        "namespace": namespaces,
        "queue": client.list_queues(),
        "limit": _each(client, places, governing_calls.list_limits),
        "calendar": (calendar for place in places for calendar in client.list_calendars(parent=place)),
        "grant": client.list_grants(),
        "job": client.list_jobs(parent="-"),
        "notification": (rule for place in (CLUSTER, *places) for rule in client.list_notifications(parent=place)),
    }
    for kind in KINDS.values():
        for message in found[kind.name]:
            yield _reduced(kind, message)


def _each(client: Client, places: Iterable[str], build: Callable[[str], Any]) -> Iterator[Message]:
    for place in places:
        yield from client._list(build(place))


def parse(lines: Iterable[str], file: str) -> list[Definition]:
    """The definitions of a file. Raises InvalidFile with all lines that are wrong."""
    found, problems = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            kind = KINDS[record["kind"]]
            found.append(_reduced(kind, json_format.ParseDict(record["definition"], kind.type())))
        except (ValueError, TypeError, KeyError, RecursionError, json_format.ParseError) as error:
            known = ", ".join(KINDS)
            text = f'no definition: {error}; a line is {{"kind": ..., "definition": {{...}}}}, of {known}'
            problems.append(Problem(file, number, 0, text))
    if problems:
        raise InvalidFile(problems)
    order = {name: position for position, name in enumerate(KINDS)}
    return sorted(found, key=lambda definition: order[definition.kind.name])


def import_(client: Client, wanted: Iterable[Definition], *, dry_run: bool = False) -> Iterator[Change]:
    """Makes the cluster hold these definitions, and says what that changes. What it has beside them stays.

    Raises NotFound, and changes nothing, if they name secrets that the cluster does not have.
    """
    wanted = list(wanted)
    _check_secrets(client, wanted)
    present = {(each.kind.name, each.name): each for each in export(client)}
    jobs: dict[str, list[Job]] = defaultdict(list)
    rules: list[Definition] = []
    for each in wanted:
        if each.kind.type is Job:
            jobs[each.name.partition("/jobs/")[0]].append(each.value)
        elif each.kind.type is NotificationRule:
            rules.append(each)
        else:
            yield _put(client, each, present.get((each.kind.name, each.name)), dry_run)
    for definitions in jobs.values():
        # Those that are after others come with them, or behind them.
        definitions.sort(key=lambda job: any(schedule.HasField("after") for schedule in job.schedules))
        for start in range(0, len(definitions), JOBS_PER_CALL):
            for applied in client.apply_jobs(definitions[start : start + JOBS_PER_CALL], validate_only=dry_run):
                yield Change("job", applied.job.name, applied.outcome)
    for each in rules:
        yield _put(client, each, present.get((each.kind.name, each.name)), dry_run)


def _check_secrets(client: Client, wanted: Iterable[Definition]) -> None:
    needed = {name for definition in wanted for name in _secrets_of(definition.value)}
    places = sorted({name.split("/")[1] for name in needed})
    try:
        there = {getattr(secret, "name", "") for secret in _each(client, places, secret_calls.list_secrets)}
    except PermissionDenied:
        # Then the cluster itself names the first one that is missing.
        return
    if missing := sorted(needed - there):
        raise NotFound(
            "these definitions name secrets that the cluster does not have, and whose values are in no export: "
            f"{', '.join(missing)}; nothing was changed. Set them first: horologe secret set NAME --namespace NAMESPACE",
            reason="SECRET_NOT_FOUND",
        )


def _secrets_of(value: Message) -> Iterator[str]:
    """The full names of all secrets that a definition needs."""
    if isinstance(value, Job):
        named: Iterable[str] = templates.secret_names(value.action)
    elif isinstance(value, NotificationRule):
        named = filter(None, (value.slack.url_secret, value.webhook.url_secret, value.webhook.signing_secret))
    else:
        return
    parts = value.name.split("/")
    place = parts[1] if parts[0] == "namespaces" else DEFAULT_NAMESPACE
    yield from (secret_name(name, place) for name in named)


def _put(client: Client, wanted: Definition, present: Definition | None, dry_run: bool) -> Change:
    outcome = "created" if present is None else "updated"
    if present is not None and present.value == wanted.value:
        outcome = "unchanged"
    elif not dry_run:
        client._call(_call(wanted))
    return Change(wanted.kind.name, wanted.name, outcome)


def _call(wanted: Definition) -> Call[Any]:
    value, request_id = wanted.value, request_id_or_new("")
    if isinstance(value, Namespace):
        mask = FieldMask(paths=NAMESPACE_FIELDS)
        change = namespace_service_pb2.UpdateNamespaceRequest(namespace=value, update_mask=mask, request_id=request_id)
        return Call(governing_calls.UPDATE_NAMESPACE, change, _nothing)
    if isinstance(value, Queue):
        mask = FieldMask(paths=["start_rate", "aging"])
        settings = queue_service_pb2.UpdateQueueRequest(queue=value, update_mask=mask, request_id=request_id)
        return Call(governing_calls.UPDATE_QUEUE, settings, _nothing)
    if isinstance(value, Grant):
        grant = access_service_pb2.SetGrantRequest(grant=value, request_id=request_id)
        return Call(access_calls.SET_GRANT, grant, _nothing)
    if isinstance(value, Limit):
        return governing_calls.set_limit("default", value.name, value.max_running)
    if isinstance(value, Calendar):
        from horologe.client import calendar_calls

        return calendar_calls.set_calendar("default", value)
    from horologe.client import notification_calls

    return notification_calls.set_notification("default", value)


def _nothing(answer: object) -> None:
    """The answer says nothing new."""
