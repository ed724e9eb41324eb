"""The worker program's configuration: a TOML file, and what options put over it.

What the settings are made into is in `worker_run.py`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from horologe.client.errors import InvalidArgument
from horologe.client.executors.shell_rules import DEFAULT_INTERPRETERS
from horologe.client.worker import DEFAULT_SLOT_COUNT, SLOT_COUNT_MAX

__all__ = ["HttpSettings", "ShellSettings", "SqlSettings", "WorkerConfig", "load"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ShellSettings(_Settings):
    """Shell actions: what they mean is told in `client/executors/shell_rules.py`."""

    run_as_user: str = ""
    """Whom commands run as; the worker must be root for another user than its own. Empty: the worker's own."""
    users: list[str] = []
    """Whom else jobs may ask to run as."""
    allow_root: bool = False
    """Whether the two above may be root."""
    interpreters: list[str] = list(DEFAULT_INTERPRETERS)
    """What may read scripts: names of programs wherever they are, or paths."""
    rlimits: dict[str, Annotated[int, Field(ge=0)]] = {}
    """Limits of each process, by the names of setrlimit(2) in lower case. A job can only ask for less."""
    new_privileges: bool = False
    """Whether programs like sudo may give a job more privileges."""
    root_capabilities: bool = False
    """Whether jobs that run as root keep root's capabilities."""
    sandbox: Literal["auto", "off", "bubblewrap"] = "auto"
    """Namespaces of their own for commands: where bubblewrap works, never, or not without it."""
    hidden: list[str] = []
    """Files and folders that commands find empty in their namespaces, beside this configuration and the context file."""


class HttpSettings(_Settings):
    """HTTP actions."""

    allow_private: list[str] = []
    """Networks beside the public ones that requests may reach, like `10.1.0.0/16`."""
    allow_loopback: bool = False
    """Whether requests may reach this machine itself."""
    allow_hosts: list[str] = []
    """The only hosts that requests may reach, `*.example.com` for all below one. Empty: all."""
    allow_ports: list[Annotated[int, Field(ge=1, le=65_535)]] = []
    """The only ports that requests may reach. Empty: all."""


class SqlSettings(_Settings):
    """SQL actions."""

    connections: dict[str, str] = {}
    """SQLAlchemy URLs by the names that jobs use. A relative SQLite file is looked up from the current folder."""
    rows_max: Annotated[int, Field(ge=1)] = 1_000_000
    """A statement that reads more rows than that fails, and changes nothing."""


class WorkerConfig(_Settings):
    """Everything that can be configured, with its default."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """Stable and unique in the cluster, and what its certificate says, or that with something behind a `-`. Default: what the
    certificate says, or the host, with process id and something random."""
    queues: Annotated[list[str], Field(min_length=1)] = ["default"]
    """The queues it takes from."""
    slots: Annotated[int, Field(ge=0, le=SLOT_COUNT_MAX)] = DEFAULT_SLOT_COUNT
    """How many attempts it takes at a time."""
    labels: dict[str, str] = {}
    """What jobs may ask for in their `worker_labels`; shown by `horologe worker list`."""
    executors: list[Literal["shell", "http", "sql", "python"]] = ["shell", "http", "sql", "python"]
    """The kinds of actions that it runs."""
    handlers: list[str] = []
    """Python files or modules with handlers: `file.py`, `file.py:worker`, `package.module:worker`. Files are looked up from
    the folder of the configuration."""
    tls_dir: Annotated[str, Field(min_length=1)] | None = None
    """The folder with the worker's certificate: ca.pem, cert.pem and key.pem, looked up from the folder of the configuration.
    Default: that of the context."""
    drain_seconds: Annotated[float, Field(ge=0)] = 30.0
    """How long attempts may go on after SIGTERM."""
    shell: ShellSettings = ShellSettings()
    http: HttpSettings = HttpSettings()
    sql: SqlSettings = SqlSettings()


def load(path: Path | None, overrides: Mapping[str, Any]) -> WorkerConfig:
    """The file's settings with `overrides` put over them, table by table; InvalidArgument says what is wrong, and where."""
    table = _read(path) if path is not None else {}
    _merge(table, overrides)
    try:
        return WorkerConfig.model_validate(table)
    except ValidationError as error:
        source = str(path) if path is not None else "the worker's options"
        raise InvalidArgument(f"{source}: {'; '.join(_explain(problem) for problem in error.errors())}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument(f"the configuration {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the configuration {path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"the configuration {path} is not TOML: {error}") from error


def _merge(table: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for name, value in overrides.items():
        existing = table.get(name)
        if isinstance(value, Mapping) and isinstance(existing, dict):
            _merge(existing, value)
        else:
            table[name] = value


def _explain(problem: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {place!r}"
    return f"{place} is {problem['input']!r}: {problem['msg'].lower()}"
