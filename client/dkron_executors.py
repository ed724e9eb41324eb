"""What Dkron's `shell` and `http` executors are told, as actions. Their settings are texts, whatever they mean."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable

import yaml

from horologe.client import durations, jobs
from horologe.client.documents import Mapped, Reader
from horologe.client.imports import Importer
from horologe.v1.job_pb2 import Action, Job

__all__ = ["read_executor"]

HTTP_TIMEOUT_DEFAULT_SECONDS = 30
STATUSES_MAX = 500
_STATUS = re.compile(r"(\d{3})(?:\s*-\s*(\d{3}))?")


def read_executor(reader: Reader, importer: Importer, node: yaml.Node, entries: Mapped, job: Job) -> None:
    """The executor of a job with its settings, into the job's action and timeout."""
    name = reader.text(entries["executor"][1], "executor") if "executor" in entries else ""
    if name not in ("shell", "http"):
        place = entries["executor"][1] if "executor" in entries else node
        reader.problem(place, f"executor: {name or 'none'} has no counterpart here; shell and http have one")
        return
    settings = reader.mapping(entries["executor_config"][1], "executor_config") if "executor_config" in entries else {}
    config = _Settings(reader, importer, node, settings or {})
    action = _shell(config, job) if name == "shell" else _http(config, job)
    if action is not None:
        job.action.CopyFrom(action)
    config.report_left_out()


class _Settings:
    """The settings of an executor; each may be taken once, and what is left is said."""

    def __init__(self, reader: Reader, importer: Importer, node: yaml.Node, entries: Mapped) -> None:
        self.reader = reader
        self._importer = importer
        self._node = node
        self._entries = entries
        self._taken: set[str] = set()

    def node(self, name: str) -> yaml.Node:
        """Where a setting stands, or the job if it is not there."""
        return self._entries[name][1] if name in self._entries else self._node

    def text(self, name: str) -> str:
        """A setting; empty if it is not there."""
        self._taken.add(name)
        if name not in self._entries:
            return ""
        return self.reader.text(self._entries[name][1], f"executor_config.{name}") or ""

    def flag(self, name: str) -> bool:
        """A setting that is `true` or not."""
        return self.text(name).lower() in ("true", "1", "yes")

    def problem(self, name: str, text: str) -> None:
        """What is wrong with a setting."""
        self.reader.problem(self.node(name), f"executor_config.{name}: {text}")

    def report_left_out(self) -> None:
        """Settings that nobody has taken."""
        for name, (key, value) in self._entries.items():
            if name not in self._taken and value.value != "":
                self._importer.notice(key.start_mark.line + 1, f"executor_config: `{name}` is not carried over")


def _shell(config: _Settings, job: Job) -> Action | None:
    command = config.text("command")
    if not command.strip():
        config.problem("command", "the command is missing")
        return None
    _timeout(config, job, lambda text: text)
    env = {}
    for entry in filter(None, config.text("env").split(",")):
        name, separator, value = entry.partition("=")
        if not separator:
            config.problem("env", f"{entry!r} is not NAME=value")
        env[name.strip()] = value
    is_shell = config.flag("shell")
    words = (
        [command]
        if is_shell
        else config.reader.converted(config.node("command"), "executor_config.command", command, shlex.split)
    )
    return jobs.shell(command if is_shell else words or [], env=env, cwd=config.text("cwd"))


def _http(config: _Settings, job: Job) -> Action | None:
    url = config.text("url")
    if not url:
        config.problem("url", "the URL is missing")
        return None
    _timeout(config, job, lambda text: f"{text}s", default=f"{HTTP_TIMEOUT_DEFAULT_SECONDS}s")
    if config.text("expectBody"):
        config.problem("expectBody", "an answer is judged by its status only; use a shell job that looks into it")
    if config.flag("tlsNoVerifyPeer"):
        config.problem("tlsNoVerifyPeer", "certificates are always verified here")
    config.text("debug")
    return jobs.http(
        config.text("method") or "GET",
        url,
        headers=_headers(config),
        body=config.text("body"),
        expect=_statuses(config),
    )


def _timeout(config: _Settings, job: Job, as_span: Callable[[str], str], default: str = "") -> None:
    text = config.text("timeout").strip()
    given = as_span(text) if text else default
    if given:
        span = config.reader.converted(config.node("timeout"), "executor_config.timeout", given, durations.parse)
        if span is not None:
            job.timeout.CopyFrom(durations.to_proto(span))


def _headers(config: _Settings) -> dict[str, str]:
    """A JSON list of `Name: value`, in a text."""
    text = config.text("headers").strip()
    try:
        entries = json.loads(text) if text else []
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, str) and ":" in entry for entry in entries):
        config.problem("headers", 'is not a JSON list like ["Name: value"]')
        return {}
    return {name.strip(): value.strip() for name, _, value in (entry.partition(":") for entry in entries)}


def _statuses(config: _Settings) -> list[int]:
    """Like `200, 204-206`; Dkron expects 200 when nothing is said."""
    found: list[int] = []
    for part in filter(None, (part.strip() for part in config.text("expectCode").split(","))):
        match = _STATUS.fullmatch(part)
        if match is None:
            config.problem("expectCode", f"{part!r} is neither a status nor a range of them")
            return []
        first, last = int(match[1]), int(match[2] or match[1])
        found += range(first, last + 1)
        if len(found) > STATUSES_MAX:
            config.problem("expectCode", f"more than {STATUSES_MAX} statuses")
            return []
    return found or [200]
