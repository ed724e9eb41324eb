"""Resource names: from what people type to what the API wants, and back.

`nightly` becomes `namespaces/default/jobs/nightly`, `417` becomes `namespaces/-/jobs/-/executions/417`.
Only the shape is checked here; whether something of that name exists is the cluster's business.
"""

from __future__ import annotations

import re

from horologe.client.errors import InvalidArgument, Violation

__all__ = [
    "DEFAULT_NAMESPACE",
    "ID_RULE",
    "calendar_name",
    "execution_name",
    "execution_number",
    "executions_parent",
    "is_id",
    "job_id",
    "job_name",
    "limit_name",
    "namespace_id",
    "namespace_name",
    "notification_name",
    "operation_name",
    "queue_name",
    "secret_name",
    "short_name",
    "token_name",
    "worker_name",
]

DEFAULT_NAMESPACE = "default"

ID_RULE = "1 to 63 of a-z, 0-9 and -, starting with a letter and not ending with -"

_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_TOKEN = re.compile(r"[0-9a-f]{16}")
_OPERATION = re.compile(r"namespaces/([^/]+)/operations/([0-9]+)")
_EXECUTION = re.compile(r"namespaces/([^/]+)/jobs/([^/]+)/executions/([0-9]+)")


def is_id(text: str) -> bool:
    """Whether `text` may be the last part of a job's name, or a namespace."""
    return _ID.fullmatch(text) is not None


def namespace_name(namespace: str = "") -> str:
    """`namespaces/{namespace}`; `-` stands for all of them. Takes both forms; empty is the default namespace."""
    bare = namespace.removeprefix("namespaces/") or DEFAULT_NAMESPACE
    if bare != "-" and not is_id(bare):
        raise _invalid("namespace", f"{namespace!r} is not a namespace: {ID_RULE}")
    return f"namespaces/{bare}"


def job_name(name: str, namespace: str = "") -> str:
    """`namespaces/{namespace}/jobs/{job}` from a bare id, `namespace/id`, or the full name."""
    parts = name.split("/")
    match parts:
        case ["namespaces", space, "jobs", bare]:
            pass
        case [space, bare]:
            pass
        case [bare]:
            space = namespace
        case _:
            raise _invalid("name", f"{name!r} is not a job's name: give its id, or namespaces/NAMESPACE/jobs/ID")
    if not is_id(bare):
        raise _invalid("name", f"{bare!r} is not a job's name: {ID_RULE}")
    parent = namespace_name(space)
    if parent == "namespaces/-":
        raise _invalid("name", f"{name!r} names no single job: give its namespace")
    return f"{parent}/jobs/{bare}"


def executions_parent(job: str = "", namespace: str = "") -> str:
    """Where executions are listed and watched: of one job, or of all jobs of a namespace when `job` is empty or `-`."""
    if job in ("", "-"):
        return f"{namespace_name(namespace)}/jobs/-"
    if job.endswith("/jobs/-"):
        return f"{namespace_name(job.removesuffix('/jobs/-'))}/jobs/-"
    return job_name(job, namespace)


def limit_name(name: str, namespace: str = "") -> str:
    """`namespaces/{namespace}/limits/{limit}` from a bare id, or the full name."""
    match name.split("/"):
        case ["namespaces", space, "limits", bare]:
            pass
        case [bare]:
            space = namespace
        case _:
            raise _invalid("name", f"{name!r} is not a limit's name: give its id, or namespaces/NAMESPACE/limits/ID")
    parent = namespace_name(space)
    if not is_id(bare) or parent == "namespaces/-":
        raise _invalid("name", f"{name!r} is not a limit's name: {ID_RULE}")
    return f"{parent}/limits/{bare}"


def queue_name(name: str) -> str:
    """`queues/{queue}` from a bare name or the full one."""
    bare = name.removeprefix("queues/")
    if not bare or "/" in bare:
        raise _invalid("name", f"{name!r} is not a queue's name: give its id, or queues/ID")
    return f"queues/{bare}"


def execution_name(name: str | int) -> str:
    """The full name of an execution; a bare number finds it in any namespace."""
    text = str(name)
    if text.isascii() and text.isdigit():
        return f"namespaces/-/jobs/-/executions/{int(text)}"
    if _EXECUTION.fullmatch(text) is None:
        raise _invalid(
            "name",
            f"{text!r} is not an execution: give its number, or namespaces/NAMESPACE/jobs/JOB/executions/NUMBER",
        )
    return text


def execution_number(name: str) -> int:
    """The number at the end of an execution's name; 0 where there is none."""
    last = name.rpartition("/")[2]
    return int(last) if last.isascii() and last.isdigit() else 0


def calendar_name(name: str, namespace: str = "") -> str:
    """`namespaces/{namespace}/calendars/{calendar}` from a bare id, `namespace/id`, or the full name."""
    match name.split("/"):
        case ["namespaces", space, "calendars", bare] | [space, bare]:
            pass
        case [bare]:
            space = namespace
        case _:
            raise _invalid(
                "name", f"{name!r} is not a calendar's name: give its id, or namespaces/NAMESPACE/calendars/ID"
            )
    if not is_id(bare):
        raise _invalid("name", f"{bare!r} is not a calendar's id: {ID_RULE}")
    return f"{namespace_name(space)}/calendars/{bare}"


def notification_name(name: str, namespace: str = "") -> str:
    """`namespaces/{namespace}/notifications/{rule}` from a bare id, or the full name; `notifications/{rule}`: of the cluster."""
    match name.split("/"):
        case ["namespaces", space, "notifications", bare]:
            parent = f"{namespace_name(space)}/notifications"
        case ["notifications", bare]:
            parent = "notifications"
        case [bare]:
            parent = f"{namespace_name(namespace)}/notifications"
        case _:
            raise _invalid(
                "name",
                f"{name!r} is not a notification rule's name: give its id, namespaces/NAMESPACE/notifications/ID, or "
                "notifications/ID for one of the cluster",
            )
    if not is_id(bare):
        raise _invalid("name", f"{bare!r} is not a notification rule's id: {ID_RULE}")
    return f"{parent}/{bare}"


def operation_name(name: str | int) -> str:
    """The full name of an operation; a bare number finds it in any namespace."""
    text = str(name)
    if text.isascii() and text.isdigit():
        return f"namespaces/-/operations/{int(text)}"
    if _OPERATION.fullmatch(text) is None:
        raise _invalid(
            "name", f"{text!r} is not an operation: give its number, or namespaces/NAMESPACE/operations/NUMBER"
        )
    return text


def worker_name(name: str) -> str:
    """`workers/{worker}` from a bare name or the full one."""
    bare = name.removeprefix("workers/")
    if not bare or "/" in bare:
        raise _invalid("name", f"{name!r} is not a worker's name: give its id, or workers/ID")
    return f"workers/{bare}"


def secret_name(name: str, namespace: str = "") -> str:
    """`namespaces/{namespace}/secrets/{secret}` from a bare id, or the full name."""
    match name.split("/"):
        case ["namespaces", space, "secrets", bare]:
            pass
        case [bare]:
            space = namespace
        case _:
            raise _invalid("name", f"{name!r} is not a secret's name: give its id, or namespaces/NAMESPACE/secrets/ID")
    parent = namespace_name(space)
    if not is_id(bare) or parent == "namespaces/-":
        raise _invalid("name", f"{name!r} is not a secret's name: {ID_RULE}")
    return f"{parent}/secrets/{bare}"


def token_name(name: str) -> str:
    """`tokens/{token}` from a token's id, from what it begins with, or from the full name."""
    bare = name.removeprefix("tokens/").removeprefix("hlg_")
    if _TOKEN.fullmatch(bare) is None:
        # Not shown: somebody may have given the token itself.
        raise _invalid("name", "this is not a token's id: 16 of 0-9 and a-f, as `horologe token list` shows them")
    return f"tokens/{bare}"


def namespace_id(name: str) -> str:
    """The namespace in a job's or an execution's name."""
    parts = name.split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "namespaces" else ""


def job_id(name: str) -> str:
    """The job's id in a job's or an execution's name."""
    parts = name.split("/")
    return parts[3] if len(parts) > 3 and parts[2] == "jobs" else name


def short_name(name: str) -> str:
    """The last part, which is what people call it."""
    return name.rpartition("/")[2]


def _invalid(field: str, description: str) -> InvalidArgument:
    return InvalidArgument(description, reason="INVALID_FIELD", violations=[Violation(field, description)])
