"""A bundle for whoever looks for a fault: a tar.gz of what the nodes say of themselves and of the cluster. Nothing secret in it.

What goes in is chosen here, name by name: how things stand, and never what a job is given or prints. Jobs, payloads, outputs,
secrets and tokens are not asked for at all. A part that cannot be had is missing, and `errors.json` says why.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from horologe.client.errors import HorologeError, Unavailable
from horologe.client.findings import Finding, as_data

if TYPE_CHECKING:
    from horologe.client.client import Client
    from horologe.v1.cluster_service_pb2 import Member
    from horologe.v1.diagnostics_service_pb2 import GetDiagnosticsResponse, StackTrace

__all__ = ["collect", "write"]

UNREACHABLE_SECONDS = 3.0


def collect(client: Client, health: Callable[[Client], list[Finding]]) -> dict[str, str]:
    """The files of a bundle, by their names. Raises HorologeError if the cluster cannot even say who its members are."""
    members = list(client.list_members(with_condition=True))
    files, problems = {"members.json": _json([_data(member) for member in members])}, {}
    parts: dict[str, Callable[[], Any]] = {
        "status.json": lambda: _data(client.cluster_status()),
        "activity.json": lambda: _data(client.activity()),
        "queues.json": lambda: [_data(queue) for queue in client.list_queues()],
        "pauses.json": lambda: [_data(pause) for pause in client.list_pauses()],
        "workers.json": lambda: [_data(worker) for worker in client.list_workers()],
        "health.json": lambda: as_data(health(client)),
    }
    for name, ask in parts.items():
        try:
            files[name] = _json(ask())
        except HorologeError as error:
            problems[name] = _line(error)
    for member in members:
        try:
            files |= {f"nodes/{member.name}/{name}": text for name, text in _of_node(client, member)}
        except HorologeError as error:
            problems[f"nodes/{member.name}"] = _line(error)
    files["errors.json"] = _json(problems)
    return files


def _of_node(client: Client, member: Member) -> Iterator[tuple[str, str]]:
    if not member.address:
        raise Unavailable("nobody knows its address: it is not connected")
    node = client.at(member.address, unreachable_seconds=UNREACHABLE_SECONDS)
    found = node.get_diagnostics()
    yield "options.json", _json(list(_options(found)))
    yield "log.jsonl", "".join(f"{line}\n" for line in found.log_lines)
    yield "threads.txt", _stacks(found.threads)
    yield "tasks.txt", _stacks(found.tasks)
    yield "versions.json", _json(dict(found.versions))
    yield "counters.json", _json(dict(found.counters))
    yield "metrics.txt", found.metrics
    yield "log-levels.json", _json([_data(level) for level in node.list_log_levels().levels])
    yield "encryption.json", _json(_data(node.get_encryption()))


def _options(found: GetDiagnosticsResponse) -> Iterator[dict[str, Any]]:
    for option in found.options:
        yield {"name": option.name, "value": json.loads(option.value_json), "origin": option.origin}


def _stacks(traces: Any) -> str:
    stacks: list[StackTrace] = list(traces)
    return "\n".join("\n".join((stack.name, *(f"  {frame}" for frame in stack.frames), "")) for stack in stacks)


def write(files: dict[str, str], path: Path, now: datetime) -> None:
    """As a tar.gz that only its owner can read, in a folder of the file's name. Raises OSError, also if the file is there."""
    folder = path.name.removesuffix(".tar.gz").removesuffix(".tgz")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in sorted(files.items()):
            content = text.encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(now.timestamp()), 0o600
            archive.addfile(entry, io.BytesIO(content))


def _data(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _line(error: HorologeError) -> str:
    return f"{error.reason or type(error).__name__}: {str(error).splitlines()[0]}"
