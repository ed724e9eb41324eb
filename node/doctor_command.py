"""The command `horologe doctor`: an examination of a node's machine, by its configuration. What it looks at is in `doctor.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from horologe.client.cli.output import Format


def doctor(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The node's TOML file.")] = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="How to print; wide says of everything why it matters.")
    ] = Format.table,
) -> None:
    """Examine this machine for the node of a configuration, before it runs or while it runs.

    Clock, disk, limits, memory, ports, certificates, keys, the other members, versions. Exits 0 if all is well, 1 with
    warnings, 2 with failures. `horologe worker doctor` does the same for a worker.
    """
    from horologe.client.cli.findings import report
    from horologe.client.findings import Finding, Grade
    from horologe.client.machine import ThisMachine
    from horologe.node.config import ConfigError
    from horologe.node.config_sources import load_config
    from horologe.node.doctor import examine

    try:
        loaded = load_config(config, {})
    except ConfigError as error:
        why = "a node does not start with a configuration that is not valid"
        do = "correct it; `horologe node options` lists all options"
        report([Finding("configuration", Grade.FAILURE, str(error), why, do)], output)
    else:
        report(examine(loaded, ThisMachine()), output, facts={"node": loaded.name})
