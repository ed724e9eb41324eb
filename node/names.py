"""Resource names: `namespaces/{namespace}/jobs/{job}/executions/{execution}` and `workers/{worker}`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from horologe.node import errors

ID_RULE = "1 to 63 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
DEFAULT_PARENT = "namespaces/default"
WILDCARD = "-"
CLUSTER = "cluster"
"""In the place of a namespace: what belongs to none."""
PRINCIPAL_BYTES_MAX = 200
"""Of a principal or a group: it is a part of keys, which have up to 511 bytes."""
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER_DIGITS_MAX = 19


def is_id(text: str) -> bool:
    """Whether it can be the last part of a namespace's or a job's name."""
    return _ID.fullmatch(text) is not None


def shorten(text: str, length_max: int = 60) -> str:
    """A caller's value as our texts quote it: one line, never long."""
    quoted = repr(text if len(text) <= length_max else text[: length_max - 1] + "…")
    return quoted if len(quoted) <= 2 * length_max else quoted[: 2 * length_max - 1] + "…"


@dataclass(frozen=True, slots=True)
class JobPattern:
    """A job, or with `-` in a place all that fit there."""

    namespace: str
    job: str

    @property
    def name(self) -> str:
        return f"namespaces/{self.namespace}/jobs/{self.job}"

    @property
    def is_one_job(self) -> bool:
        return WILDCARD not in (self.namespace, self.job)

    @property
    def is_everything(self) -> bool:
        return self.namespace == self.job == WILDCARD

    def matches(self, job_name: str) -> bool:
        """Whether a stored job's name fits."""
        if self.is_everything:
            return True
        _, namespace, _, job = job_name.split("/")
        return self.namespace in (WILDCARD, namespace) and self.job in (WILDCARD, job)


def read_job_name(name: str, field: str) -> str:
    """A complete job name, checked. Raises an ApiError that names the field."""
    _read_job(name, field, wildcards=False)
    return name


def read_job_pattern(name: str, field: str) -> JobPattern:
    """A job's name in which `-` may stand for all."""
    return _read_job(name, field, wildcards=True)


def read_namespace(name: str, field: str, *, wildcard: bool = False) -> str:
    """The namespace in `namespaces/{namespace}`; empty means the default one."""
    parts = (name or DEFAULT_PARENT).split("/")
    if len(parts) != 2 or parts[0] != "namespaces":
        raise errors.invalid_field(field, f"{shorten(name)} is not of the form namespaces/NAMESPACE")
    if wildcard and parts[1] == WILDCARD:
        return WILDCARD
    _check_id(parts[1], field, "namespace")
    return parts[1]


def read_limit_name(name: str, field: str) -> str:
    """A complete name of a limit, checked."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "namespaces" or parts[2] != "limits":
        raise errors.invalid_field(field, f"{shorten(name)} is not of the form namespaces/NAMESPACE/limits/LIMIT")
    _check_id(parts[1], field, "namespace")
    _check_id(parts[3], field, "limit")
    return name


def read_execution_name(name: str, field: str) -> tuple[JobPattern, int]:
    """The job (or wildcards) and the number in an execution's name."""
    head, separator, number = name.rpartition("/executions/")
    if not separator:
        raise errors.invalid_field(
            field, f"{shorten(name)} is not of the form namespaces/NAMESPACE/jobs/JOB/executions/NUMBER"
        )
    pattern = _read_job(head, field, wildcards=True)
    if not (number.isascii() and number.isdigit()) or len(number) > _NUMBER_DIGITS_MAX:
        raise errors.invalid_field(field, f"{shorten(number)} is no execution number")
    return pattern, min(int(number), (1 << 63) - 1)


def read_calendar_name(name: str, field: str) -> str:
    """A calendar's full name, checked."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "namespaces" or parts[2] != "calendars":
        raise errors.invalid_field(field, f"{shorten(name)} is not of the form namespaces/NAMESPACE/calendars/CALENDAR")
    _check_id(parts[1], field, "namespace")
    _check_id(parts[3], field, "calendar")
    return name


def read_secret_name(name: str, field: str) -> str:
    """A complete name of a secret, checked."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "namespaces" or parts[2] != "secrets":
        raise errors.invalid_field(field, f"{shorten(name)} is not of the form namespaces/NAMESPACE/secrets/SECRET")
    _check_id(parts[1], field, "namespace")
    _check_id(parts[3], field, "secret")
    return name


def read_notification_name(name: str, field: str) -> str:
    """A complete name of a notification rule, of a namespace or of the cluster, checked."""
    parts = name.split("/")
    if len(parts) == 4 and (parts[0], parts[2]) == ("namespaces", "notifications"):
        _check_id(parts[1], field, "namespace")
    elif parts[:-1] != ["notifications"]:
        raise errors.invalid_field(
            field,
            f"{shorten(name)} is not of the form namespaces/NAMESPACE/notifications/RULE, or notifications/RULE for one of the "
            "cluster",
        )
    _check_id(parts[-1], field, "rule")
    return name


def read_operation_name(name: str, field: str) -> tuple[str, int]:
    """The namespace (or `-`) and the number in an operation's name."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "namespaces" or parts[2] != "operations":
        raise errors.invalid_field(field, f"{shorten(name)} is not of the form namespaces/NAMESPACE/operations/NUMBER")
    if parts[1] != WILDCARD:
        _check_id(parts[1], field, "namespace")
    number = parts[3]
    if not (number.isascii() and number.isdigit()) or len(number) > _NUMBER_DIGITS_MAX:
        raise errors.invalid_field(field, f"{shorten(number)} is no operation number")
    return parts[1], min(int(number), (1 << 63) - 1)


def _read_job(name: str, field: str, *, wildcards: bool) -> JobPattern:
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "namespaces" or parts[2] != "jobs":
        raise errors.invalid_field(field, f"{shorten(name)} is not of the form namespaces/NAMESPACE/jobs/JOB")
    for text, what in ((parts[1], "namespace"), (parts[3], "job")):
        if not (wildcards and text == WILDCARD):
            _check_id(text, field, what)
    return JobPattern(parts[1], parts[3])


def _check_id(text: str, field: str, what: str) -> None:
    if not is_id(text):
        raise errors.invalid_field(field, f"{shorten(text)} is no {what} name; use {ID_RULE}")
