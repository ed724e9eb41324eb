"""`horologe worker run`: the worker program, with the executors shell, http, sql and python.

It puts a `Worker` together from a configuration and its options, and serves. What a worker does is in `client/worker.py`.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.session import AddressOption, ContextOption, InsecureOption, settings_of
from horologe.client.errors import InvalidArgument

if TYPE_CHECKING:
    from horologe.client.cli.worker_config import ShellSettings, WorkerConfig
    from horologe.client.executors.shell_rules import ShellRules
    from horologe.client.worker import Worker

__all__ = ["build_worker", "register"]

STOPPED_AT_ONCE = 1
PR_SET_DUMPABLE = 4


_Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", envvar="HOROLOGE_WORKER_CONFIG", help="Configuration (TOML)."),
]
_Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        envvar="HOROLOGE_WORKER_NAME",
        help="Unique name: the certificate's, or that and something behind a -. Default: such a one.",
    ),
]
_Queues = Annotated[
    list[str] | None,
    typer.Option(
        "--queue",
        metavar="NAME",
        envvar="HOROLOGE_WORKER_QUEUES",
        help="A queue to take from; repeat it. Default: default.",
    ),
]
_Slots = Annotated[
    int | None,
    typer.Option(
        "--slots",
        metavar="COUNT",
        envvar="HOROLOGE_WORKER_SLOTS",
        help="Attempts at a time, 0 to 10000. Default: 100.",
    ),
]
_Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="KEY=VALUE", envvar="HOROLOGE_WORKER_LABELS", help="What jobs may ask for; repeat it."
    ),
]
_Connections = Annotated[
    list[str] | None,
    typer.Option(
        "--sql",
        metavar="NAME=URL",
        envvar="HOROLOGE_WORKER_SQL",
        help="A connection for SQL jobs, an SQLAlchemy URL; repeat it.",
    ),
]
_AllowLoopback = Annotated[
    bool | None,
    typer.Option(
        "--http-allow-loopback",
        envvar="HOROLOGE_WORKER_HTTP_ALLOW_LOOPBACK",
        help="Let HTTP jobs reach this machine itself.",
    ),
]
_HandlerFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--handlers",
        metavar="FILE.py[:NAME]",
        envvar="HOROLOGE_WORKER_HANDLERS",
        help="A Python file or module with handlers; repeat it.",
    ),
]
_TlsDir = Annotated[
    Path | None,
    typer.Option(
        "--tls-dir",
        metavar="FOLDER",
        envvar="HOROLOGE_WORKER_TLS_DIR",
        help="The worker's certificate: ca.pem, cert.pem, key.pem. Replaced files are used from the next connection on. "
        "Default: that of the context.",
    ),
]


def register(worker_app: typer.Typer) -> None:
    """Adds the command `run`."""
    worker_app.command("run")(_run)


def _run(
    typer_context: typer.Context,
    address: AddressOption = None,
    context_file: ContextOption = None,
    insecure: InsecureOption = None,
    tls_dir: _TlsDir = None,
    config: _Config = None,
    name: _Name = None,
    queue: _Queues = None,
    slots: _Slots = None,
    label: _Labels = None,
    sql: _Connections = None,
    http_allow_loopback: _AllowLoopback = None,
    handlers: _HandlerFiles = None,
) -> None:
    """Run a worker: take attempts from queues and carry them out.

    SIGTERM drains it, a second one stops it at once. Every option may also come from the configuration file, or from a
    variable of the environment (HOROLOGE_WORKER_...; lists are separated by spaces).
    """
    # The libraries' own words would mix with the log.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Jobs of the worker's own user must not read its memory or environment, and a core dump would hold secrets.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    settings = settings_of(typer_context)
    overrides: dict[str, Any] = {
        "name": name,
        "queues": queue,
        "slots": slots,
        "labels": dict(_pair(text, "--label", "KEY=VALUE") for text in label or ()),
        "sql": {"connections": dict(_pair(text, "--sql", "NAME=URL") for text in sql or ())},
        "http": {"allow_loopback": True} if http_allow_loopback else {},
    }
    _configure_log()
    worker = build_worker(
        config,
        address or settings.address or None,
        context_file=context_file or settings.context,
        insecure=insecure or settings.insecure,
        tls_dir=tls_dir,
        overrides=overrides,
        handlers=handlers or (),
    )
    worker.run()
    _leave(worker)


def build_worker(
    config_file: Path | None,
    addresses: Sequence[str] | None = None,
    *,
    context_file: str | os.PathLike[str] | None = None,
    insecure: bool | None = None,
    tls_dir: Path | None = None,
    name: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    handlers: Iterable[str] = (),
) -> Worker:
    """A worker with the executors that the configuration names.

    addresses, context_file, insecure, tls_dir: as for `Worker`.
    overrides: settings put over those of the file, by their names there; None and empty ones change nothing.
    handlers: further files with handlers, looked up from the current folder.
    InvalidArgument says what is wrong with the configuration.
    """
    import structlog

    from horologe.client.cli import worker_config
    from horologe.client.cli.handler_files import load_into
    from horologe.client.worker import Worker

    settings = worker_config.load(config_file, _given({**(overrides or {}), **({"name": name} if name else {})}))
    folder = config_file.parent if config_file is not None else Path.cwd()
    if tls_dir is None and settings.tls_dir is not None:
        tls_dir = folder / settings.tls_dir
    worker = Worker(
        addresses,
        context_file=context_file,
        insecure=insecure,
        tls_dir=tls_dir,
        name=settings.name,
        queues=settings.queues,
        slot_count=settings.slots,
        labels=settings.labels,
        drain_seconds=settings.drain_seconds,
    )
    try:
        in_force = _add_executors(worker, settings, _own_files(worker, config_file, context_file))
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    if "python" in settings.executors:
        load_into(worker.handlers, settings.handlers, folder)
        load_into(worker.handlers, list(handlers), Path.cwd())
    elif settings.handlers or list(handlers):
        raise InvalidArgument("there are handlers, but `python` is not among the executors of this worker")
    if in_force:
        structlog.get_logger(__name__).info("shell jobs", **in_force)
    return worker


def _add_executors(worker: Worker, settings: WorkerConfig, hidden: Sequence[Path]) -> dict[str, str]:
    """Adds them, and answers what is in force for commands."""
    in_force: dict[str, str] = {}
    if "shell" in settings.executors:
        from horologe.client.executors.shell import ShellExecutor

        rules, in_force = _shell_rules(settings.shell, hidden)
        worker.add_executor("shell", ShellExecutor(worker.lease, rules=rules))
    if "http" in settings.executors:
        from horologe.client.executors.http import HttpExecutor

        http = settings.http
        executor = HttpExecutor(
            http.allow_private, allow_loopback=http.allow_loopback, hosts=http.allow_hosts, ports=http.allow_ports
        )
        worker.add_executor("http", executor)
    if "sql" in settings.executors and settings.sql.connections:
        from horologe.client.executors.sql import SqlExecutor

        worker.add_executor("sql", SqlExecutor(settings.sql.connections, rows_max=settings.sql.rows_max))
    return in_force


def _shell_rules(shell: ShellSettings, hidden: Sequence[Path]) -> tuple[ShellRules, dict[str, str]]:
    """What commands may do, and words that say so."""
    from horologe.client.executors import bubblewrap
    from horologe.client.executors.shell import confinement_of
    from horologe.client.executors.shell_rules import ShellRules

    rules = ShellRules(
        run_as_user=shell.run_as_user,
        users=shell.users,
        allow_root=shell.allow_root,
        interpreters=shell.interpreters,
        rlimits=shell.rlimits,
        new_privileges=shell.new_privileges,
        root_capabilities=shell.root_capabilities,
    )
    missing = ""
    if shell.sandbox != "off":
        program = bubblewrap.find()
        missing = "bubblewrap is not installed"
        if program is not None:
            missing = bubblewrap.probe(program, confinement_of(rules, rules.account_for(""), {}))
        if program is not None and not missing:
            paths = [path.resolve() for path in (*hidden, *map(Path, shell.hidden))]
            rules = replace(rules, bubblewrap=bubblewrap.Bubblewrap(program, paths))
        elif shell.sandbox == "bubblewrap":
            raise ValueError(f"shell.sandbox is bubblewrap, which does not work here: {missing}")
    words = rules.in_force()
    if missing:
        words["sandbox"] += f" ({missing})"
    return rules, words


def _given(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Only what was given: tables without their empty places."""
    given = {name: _given(value) if isinstance(value, Mapping) else value for name, value in overrides.items()}
    return {name: value for name, value in given.items() if value is not None and value != {} and value != []}


def _own_files(worker: Worker, config_file: Path | None, context_file: str | os.PathLike[str] | None) -> list[Path]:
    """What is none of the jobs' business: passwords of databases, tokens, keys."""
    from horologe.client import context_store
    from horologe.client.cluster_context import CONTEXT_VARIABLE

    named = context_file or os.environ.get(CONTEXT_VARIABLE)
    return [
        *(path for path in (config_file, *worker.private_files) if path is not None),
        *([Path(named)] if named else []),
        context_store.path().parent,
    ]


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise InvalidArgument(f"{option} {text!r} does not have the form {form}")
    return key, value


def _configure_log() -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Plain: the other ways to show an exception show local variables too, and in them secrets of jobs.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _leave(worker: Worker) -> None:
    """Ends the program. Handlers in threads that ignored their cancellation must not keep it alive."""
    status = STOPPED_AT_ONCE if worker.stopped_at_once else 0
    if any(thread.name.startswith("horologe-") for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise typer.Exit(status)
