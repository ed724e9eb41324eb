"""What each kind of action demands of its fields. Whether a command exists, a URL answers or a handler is there is the
worker's affair; here is only what can be known without one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from google.protobuf.struct_pb2 import Value

from horologe.node.json_values import NESTING_RULE, is_too_deep
from horologe.node.names import shorten
from horologe.node.schedule import Violation
from horologe.node.templates import skeleton
from horologe.v1 import job_pb2

PAYLOAD_BYTES_MAX = 256 << 10
"""Limit of everything that travels with an action: a script, a body, a payload, a command line."""
NAME_RULE = "1 to 128 letters, digits, '.', '_', ':' and '-', beginning with a letter or a digit"
URL_LENGTH_MAX = 8_192
RLIMITS = ("as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack")
HTTP_TIMEOUT_SECONDS_MAX = 86_400
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
CONNECTION_HEADERS = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "upgrade"}
) | frozenset({"proxy-authenticate", "proxy-authorization", "proxy-connection", "transfer-encoding"})
"""What belongs to the connection, and not to the request of a job."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""RFC 9110: what a method or a header's name is made of."""
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def action_violations(action: job_pb2.Action, path: str) -> list[Violation]:
    """All that is wrong with an action."""
    match action.WhichOneof("kind"):
        case "shell":
            found = list(_shell(action.shell, f"{path}.shell"))
        case "http":
            found = list(_http(action.http, f"{path}.http"))
        case "sql":
            found = list(_sql(action.sql, f"{path}.sql"))
        case "python":
            found = list(_python(action.python, f"{path}.python"))
        case "workflow":
            return []
        case _:
            return [Violation(path, "the action is missing; set exactly one of shell, http, sql, python and workflow")]
    size = action.ByteSize()
    if size > PAYLOAD_BYTES_MAX:
        found.append(Violation(path, f"{size} bytes are too many; an action has at most {PAYLOAD_BYTES_MAX}"))
    return found


def payload_violations(payload: Value, path: str) -> list[Violation]:
    """All that is wrong with a payload that stands alone."""
    size = payload.ByteSize()
    if size > PAYLOAD_BYTES_MAX:
        return [Violation(path, f"{size} bytes are too many; a payload has at most {PAYLOAD_BYTES_MAX}")]
    return list(_nesting(payload, path))


def _nesting(value: Value, path: str) -> Iterator[Violation]:
    if is_too_deep(value):
        yield Violation(path, f"{NESTING_RULE}; make it flatter, or give it as text")


def _shell(shell: job_pb2.ShellAction, path: str) -> Iterator[Violation]:
    if bool(shell.argv) == bool(shell.script):
        given = "both are given" if shell.argv else "neither is given"
        yield Violation(path, f"{given}; set exactly one of argv and script")
    if shell.argv and not shell.argv[0]:
        yield Violation(f"{path}.argv[0]", "the command is empty; give a program's name or path")
    if shell.interpreter and not shell.script:
        yield Violation(f"{path}.interpreter", "it reads a script, but argv is given; leave it out, or give a script")
    if shell.interpreter and not shell.interpreter[0]:
        yield Violation(f"{path}.interpreter[0]", "the interpreter is empty; give a program's name or path")
    texts = [
        *((f"argv[{position}]", text) for position, text in enumerate(shell.argv)),
        *((f"interpreter[{position}]", text) for position, text in enumerate(shell.interpreter)),
        *((f"env[{shorten(key)}]", text) for key, text in shell.env.items()),
        ("cwd", shell.cwd),
        ("script", shell.script),
    ]
    for field, text in texts:
        if "\0" in text:
            yield Violation(f"{path}.{field}", f"{shorten(text)} has a NUL character, which no process can be given")
    for key in shell.env:
        if not _ENVIRONMENT_NAME.fullmatch(key):
            yield Violation(
                f"{path}.env", f"{shorten(key)} is no name of a variable; use letters, digits and '_', no digit first"
            )
    if shell.cwd and not shell.cwd.startswith(("/", "{{")):
        yield Violation(
            f"{path}.cwd", f"{shorten(shell.cwd)} is not an absolute path; workers start in different folders"
        )
    if shell.user and not _USER.fullmatch(shell.user):
        yield Violation(
            f"{path}.user", f"{shorten(shell.user)} is no user's name; give one that the worker's machine knows"
        )
    for name, value in shell.rlimits.items():
        if name not in RLIMITS:
            yield Violation(f"{path}.rlimits", f"{shorten(name)} is no limit of a process; use {', '.join(RLIMITS)}")
        elif value < 0:
            yield Violation(f"{path}.rlimits[{name}]", f"{value} is negative; leave it out for no limit")
    for position, code in enumerate(shell.success_codes):
        if not 0 <= code <= 255:
            yield Violation(f"{path}.success_codes[{position}]", f"{code} is no exit code; use 0 to 255")


def _http(http: job_pb2.HttpAction, path: str) -> Iterator[Violation]:
    if http.method and http.method.upper() not in HTTP_METHODS:
        yield Violation(
            f"{path}.method", f"{shorten(http.method)} is no method of jobs; use one of {', '.join(HTTP_METHODS)}"
        )
    yield from _url(http.url, f"{path}.url")
    yield from _headers(http.headers, f"{path}.headers")
    for position, status in enumerate(http.expect):
        if not 100 <= status <= 599:
            yield Violation(f"{path}.expect[{position}]", f"{status} is no HTTP status; use 100 to 599")
    for field in ("connect_timeout", "read_timeout"):
        seconds = getattr(http, field).seconds + getattr(http, field).nanos / 1e9
        if http.HasField(field) and not 0 < seconds <= HTTP_TIMEOUT_SECONDS_MAX:
            yield Violation(f"{path}.{field}", f"{seconds:g} s is outside 0 to {HTTP_TIMEOUT_SECONDS_MAX} s")


def _url(url: str, path: str) -> Iterator[Violation]:
    if not url:
        yield Violation(path, "the URL is missing; give one that begins with http:// or https://")
        return
    if len(url) > URL_LENGTH_MAX:
        yield Violation(path, f"{len(url)} characters are too many; at most {URL_LENGTH_MAX}")
        return
    if url.startswith("{{"):
        # Only the worker gets to see it.
        return
    url = skeleton(url)
    if _CONTROL.search(url) or " " in url or "\t" in url:
        yield Violation(path, f"{shorten(url)} has a space or a control character; write it as %20, for example")
        return
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        yield Violation(path, f"{shorten(url)} is no URL ({error})")
        return
    if parts.scheme not in ("http", "https"):
        yield Violation(path, f"{shorten(url)} must begin with http:// or https://")
    elif not host:
        yield Violation(path, f"{shorten(url)} names no host")


def _headers(headers: Mapping[str, str], path: str) -> Iterator[Violation]:
    for name, value in headers.items():
        where = f"{path}[{shorten(name)}]"
        if not _TOKEN.fullmatch(name):
            yield Violation(where, f"{shorten(name)} is no header name; use letters, digits and hyphens")
        if name.lower() in CONNECTION_HEADERS:
            yield Violation(
                where, f"{shorten(name)} belongs to the connection and cannot be set by a job; leave it out"
            )
        if name.lower() == "idempotency-key" or name.lower().startswith("horologe-"):
            yield Violation(where, f"{shorten(name)} is set by the worker and cannot be set by a job; leave it out")
        if _CONTROL.search(value):
            yield Violation(where, f"{shorten(value)} has a control character (a header is one line); remove it")


def _sql(sql: job_pb2.SqlAction, path: str) -> Iterator[Violation]:
    if not _NAME.fullmatch(sql.connection):
        yield Violation(
            f"{path}.connection", f"{shorten(sql.connection)} is no connection's name on a worker; use {NAME_RULE}"
        )
    if not sql.statement.strip():
        yield Violation(f"{path}.statement", "the statement is empty; give an SQL statement")
    elif "\0" in sql.statement:
        yield Violation(f"{path}.statement", "the statement has a NUL character; remove it")
    for name, value in sorted(sql.parameters.fields.items()):
        yield from _nesting(value, f"{path}.parameters[{shorten(name)}]")


def _python(python: job_pb2.PythonAction, path: str) -> Iterator[Violation]:
    if not _NAME.fullmatch(python.handler):
        yield Violation(f"{path}.handler", f"{shorten(python.handler)} is no handler's name; use {NAME_RULE}")
    yield from _nesting(python.payload, f"{path}.payload")
