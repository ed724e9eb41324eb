"""`horologe worker doctor`: an examination of a worker's machine. What it looks at is in `client/worker_checks.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from horologe.client.cli.session import AddressOption, ContextOption, InsecureOption, OutputOption, settings_of

__all__ = ["register"]


def register(worker_app: typer.Typer) -> None:
    """Adds the command `doctor`."""
    worker_app.command("doctor")(_doctor)


def _doctor(
    typer_context: typer.Context,
    address: AddressOption = None,
    context_file: ContextOption = None,
    insecure: InsecureOption = None,
    tls_dir: Annotated[
        Path | None, typer.Option("--tls-dir", metavar="FOLDER", help="As of `horologe worker run`.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", envvar="HOROLOGE_WORKER_CONFIG", help="As of `horologe worker run`."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Examine this machine for a worker: clock, limits, memory, certificate, the way to the nodes, versions.

    Exits 0 if all is well, 1 with warnings, 2 with failures. Takes no work.
    """
    from horologe.client import cluster_context
    from horologe.client.cli import worker_config
    from horologe.client.cli.findings import report
    from horologe.client.errors import HorologeError
    from horologe.client.findings import Finding, Grade
    from horologe.client.machine import ThisMachine
    from horologe.client.worker_checks import examine

    settings = settings_of(typer_context)
    chosen = output or settings.output
    try:
        worker = worker_config.load(config, {})
        if tls_dir is None and worker.tls_dir is not None and config is not None:
            tls_dir = config.parent / worker.tls_dir
        given = tuple(address or ()) or settings.address
        context = cluster_context.load(
            given or None,
            context_file=context_file or settings.context,
            tls_dir=tls_dir,
            insecure=insecure or settings.insecure,
        )
        if given:
            context = replace(context, worker_addresses=context.addresses)
    except HorologeError as error:
        why = "a worker does not start with a configuration or a context that is not valid"
        report([Finding("configuration", Grade.FAILURE, str(error), why, "correct it; see docs/workers.md")], chosen)
    else:
        report(examine(context, worker.slots, ThisMachine()), chosen)
