"""What a request is about: the namespaces, owners and names of every object in it, found in the request and the state.

Only what the request means decides, never what it calls itself: a number leads to its execution, and that to its job and its
namespace; each of many names counts; `-` means everywhere. What is not there cannot be judged, so it is said here already that
it does not exist: between this look and the service's own it may come into being, in a namespace that is none of the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from horologe.log.v1 import log_pb2
from horologe.node import errors, tokens, views
from horologe.node.names import (
    CLUSTER,
    DEFAULT_PARENT,
    WILDCARD,
    is_id,
    read_execution_name,
    read_job_name,
    read_job_pattern,
    read_namespace,
    read_notification_name,
    read_operation_name,
)
from horologe.node.operation_views import read_operation
from horologe.raft.access import EVERYWHERE
from horologe.raft.model import Code, Result
from horologe.raft.notifications import scope_of
from horologe.raft.operations import verb_of
from horologe.raft.tables import Tables


class Thing(NamedTuple):
    """One object of a request."""

    namespace: str
    """EVERYWHERE for all namespaces, and for what belongs to none."""
    name: str = ""
    """As the request says it."""
    owner: str = ""
    """In whose name it runs, or who began it; empty if nobody's, or if it does not matter."""
    own_verb: str = ""
    """What is enough for its owner; empty: what the rule says."""


Objects = Callable[[Tables, Any], Iterable[Thing]]
"""The objects of a request. Raises an ApiError for what cannot be read, or does not exist."""


def namespace_in(field: str, *, is_default_everywhere: bool = False) -> Objects:
    """`namespaces/NAMESPACE` in a field; `-` is everywhere. Empty is the default namespace, or everywhere."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        del tables
        text = _field(request, field)
        if not text and is_default_everywhere:
            yield Thing(EVERYWHERE)
            return
        namespace = read_namespace(text, field, wildcard=True)
        yield Thing(EVERYWHERE if namespace == WILDCARD else namespace, text or DEFAULT_PARENT)

    return find


def bare_namespace_in(field: str) -> Objects:
    """A namespace's id alone in a field; empty, and `*`, is everywhere."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        del tables
        text = _field(request, field)
        yield Thing(text or EVERYWHERE, f"namespaces/{text or EVERYWHERE}")

    return find


def named_in(field: str) -> Objects:
    """Something whose name begins with its namespace: a calendar, a limit, a secret. Its form is the service's to check."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        del tables
        yield _by_name(_field(request, field), field)

    return find


def notification_in(field: str) -> Objects:
    """A notification rule's complete name in a field: one of a namespace, or of the cluster."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        del tables
        name = read_notification_name(_field(request, field), field)
        yield Thing(scope_of(name), name)

    return find


def notifications_in(field: str) -> Objects:
    """Where rules are listed: a namespace, `-` for all of them and the cluster, or `cluster`."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        if _field(request, field) == CLUSTER:
            yield Thing(EVERYWHERE, CLUSTER)
        else:
            yield from namespace_in(field)(tables, request)

    return find


def job_in(field: str) -> Objects:
    """A job's complete name in a field."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        yield job_thing(tables, read_job_name(_field(request, field), field))

    return find


def pattern_in(field: str) -> Objects:
    """A job's name in a field, in which `-` may stand for all."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        del tables
        pattern = read_job_pattern(_field(request, field), field)
        yield Thing(EVERYWHERE if pattern.namespace == WILDCARD else pattern.namespace, pattern.name)

    return find


def new_job(tables: Tables, request: Any) -> Iterator[Thing]:
    """What CreateJob would make."""
    namespace = read_namespace(request.parent, "parent")
    if is_id(request.job_id):
        yield job_thing(tables, f"namespaces/{namespace}/jobs/{request.job_id}")
    else:
        # The service says what is wrong with it.
        yield Thing(namespace, request.parent)


def jobs_in(*fields: str) -> Objects:
    """Every job in lists of jobs."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        for field in fields:
            for position, job in enumerate(getattr(request, field)):
                yield job_thing(tables, read_job_name(job.name, f"{field}[{position}].name"))

    return find


def preview(tables: Tables, request: Any) -> Iterator[Thing]:
    """The job whose schedule is looked at, and the definition whose calendars are read."""
    if request.job:
        yield job_thing(tables, read_job_name(request.job, "job"))
    if request.HasField("definition"):
        yield job_thing(tables, read_job_name(request.definition.name, "definition.name"))


def execution_in(field: str) -> Objects:
    """An execution's name in a field."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        yield execution_thing(tables, _field(request, field), field)

    return find


def dead_letters(tables: Tables, request: Any) -> Iterator[Thing]:
    """The namespace of many dead letters, and each one that is named."""
    yield from namespace_in("parent")(tables, request)
    for position, name in enumerate(request.names):
        yield execution_thing(tables, name, f"names[{position}]")


def operation_in(field: str) -> Objects:
    """An operation's name in a field."""

    def find(tables: Tables, request: Any) -> Iterator[Thing]:
        name = _field(request, field)
        namespace, number = read_operation_name(name, field)
        record = read_operation(tables, number)
        if record is not None and namespace in (WILDCARD, record.start.namespace):
            yield Thing(record.start.namespace, name, record.started_by, verb_of(record.start))
        elif namespace == WILDCARD:
            raise errors.of_result(Result(Code.OPERATION_NOT_FOUND, text=name))
        else:
            yield Thing(namespace, name)

    return find


def owner_of_token(tables: Tables, id_: str) -> str:
    """For whom a token speaks; empty if there is none."""
    raw = tables.token.get(id_.encode()) if tokens.is_id(id_) else None
    return log_pb2.TokenRecord.FromString(bytes(raw)).token.principal if raw is not None else ""


def job_thing(tables: Tables, name: str) -> Thing:
    """A job, there or not: its name says where it belongs."""
    record = views.find_job(tables, name)
    return Thing(name.split("/")[1], name, record.run_as if record is not None else "")


def execution_thing(tables: Tables, name: str, field: str) -> Thing:
    """An execution. A namespace in its name counts: under a wrong one, nobody finds it."""
    pattern, number = read_execution_name(name, field)
    execution = views.read_execution(tables, number)
    record = views.read_job(tables, execution.job) if execution is not None else None
    if pattern.namespace != WILDCARD:
        is_there = record is not None and record.job.name.split("/")[1] == pattern.namespace
        return Thing(pattern.namespace, name, record.run_as if record is not None and is_there else "")
    if record is None:
        raise errors.execution_not_found(name)
    return Thing(record.job.name.split("/")[1], name, record.run_as)


def _by_name(name: str, field: str) -> Thing:
    parts = name.split("/")
    if len(parts) < 2 or parts[0] != "namespaces":
        raise errors.invalid_field(field, "it must begin with namespaces/NAMESPACE")
    return Thing(read_namespace("/".join(parts[:2]), field), name)


def _field(request: Any, path: str) -> str:
    for part in path.split("."):
        request = getattr(request, part)
    return str(request)
