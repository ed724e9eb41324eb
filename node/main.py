"""`horologe node run`: from a configuration to a running node, and from whatever goes wrong to one line and an exit code."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from horologe.node.config import PID_FILE, ConfigError, NodeConfig
from horologe.node.config_sources import load_config
from horologe.node.logging_setup import configure
from horologe.node.node import Node, NodeFailedError, NodeRemovedError, PortInUseError, run_node
from horologe.node.open_files import raise_limit
from horologe.node.tls_folder import TlsError
from horologe.raft.cluster_version import UnfitProgramError
from horologe.raft.journal import CorruptLogError
from horologe.raft.store import StoreError

EXIT_FAILED = 1
EXIT_USAGE = 2
SWITCH_INTERVAL_SECONDS = 0.0005
"""How long the event loop waits for a busy step thread to let go of the interpreter."""


def run_until_signal(config_path: Path | None, overrides: Mapping[str, Any]) -> int:
    """Runs a node until SIGTERM or SIGINT and answers the exit code. Whatever is wrong is said in one line."""
    try:
        config = load_config(config_path, overrides)
    except ConfigError as error:
        return _complain(error, EXIT_USAGE)
    configure(config)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    # Before the ports: how many connections there is room for depends on it.
    raise_limit()
    try:
        _event_loop_run(config)
    except (StoreError, CorruptLogError, UnfitProgramError, TlsError, PortInUseError, NodeFailedError) as error:
        return _complain(error, EXIT_FAILED)
    except NodeRemovedError as error:
        _complain(error, 0)
    except OSError as error:
        return _complain(error, EXIT_FAILED)
    return 0


def _event_loop_run(config: NodeConfig) -> None:
    import uvloop

    async def main() -> None:
        stop_requested = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop_requested.set)
        pid_file = config.data_dir / PID_FILE
        own: list[Path] = []
        """Empty as long as the file there, if any, is that of another node that runs."""
        config.data_dir.mkdir(parents=True, exist_ok=True)

        def started(node: Node) -> None:
            del node
            own.append(pid_file)
            pid_file.write_text(f"{os.getpid()}\n")
            # What exists now lives as long as the process; the collector need not look at it again.
            gc.collect()
            gc.freeze()

        try:
            await run_node(config, stop_requested, started)
        finally:
            for path in own:
                path.unlink(missing_ok=True)

    uvloop.run(main())


def _complain(error: Exception, code: int) -> int:
    print(f"horologe: {error}", file=sys.stderr)  # noqa: T201
    return code
