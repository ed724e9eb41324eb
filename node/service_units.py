"""The systemd units of a node and of a worker: their text, and what they hide. What writes them is in service_commands.py."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["CONFIGURATION", "Kind", "Unit", "hidden_from", "unit_of"]

CONFIGURATION = Path("/etc/horologe")
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
"""What `ProtectHome=yes` hides."""


class Kind(StrEnum):
    """Which of our programs runs as a service."""

    NODE = "node"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit file."""

    name: str
    user: str
    """Whom the service runs as. Jobs run as the worker's, so the node's is another one."""
    needs: tuple[Path, ...]
    """Files that must be there before it is started."""
    text: str


_COMMON = """\
# Written by `horologe service install {kind}`; your own settings belong into `systemctl edit {name}`.
[Unit]
Description=Horologe {kind}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
User={user}
Group={user}
ExecStart={program} {arguments}
Environment=HOROLOGE_UNPACK_DIR={cache}
CacheDirectory={directory}
CacheDirectoryMode=0700
StateDirectory={directory}
StateDirectoryMode=0700
Restart=on-failure
RestartSec=2
# A configuration that is wrong is not better the next time.
RestartPreventExitStatus=2
# SIGTERM to the program alone; what is left when it has ended is killed.
KillMode=mixed
TimeoutStopSec={stop_seconds}
LimitNOFILE=65536
LimitCORE=0
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
LockPersonality=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelModules=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
{hardening}
[Install]
WantedBy=multi-user.target
"""

# Everything that a node does not do. It opens sockets, and files in its own folder.
_NODE = """\
Environment=HOROLOGE_NODE_DATA_DIR=/var/lib/{directory}
PrivateDevices=yes
ProcSubset=pid
ProtectControlGroups=yes
ProtectHome=yes
ProtectKernelLogs=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""

# Jobs do what nobody knows beforehand. What lies over parts of /proc would also keep bubblewrap from making places for them.
_WORKER = """\
Environment=HOROLOGE_CONTEXT={configuration}/context.toml
WorkingDirectory=/var/lib/{directory}
ProtectSystem=full
"""


def unit_of(kind: Kind, program: Path) -> Unit:
    """`program`: the absolute path of `horologe`."""
    is_node = kind is Kind.NODE
    user = directory = "horologe" if is_node else "horologe-worker"
    name = f"horologe-{kind}.service"
    configuration = CONFIGURATION / f"{kind}.toml"
    values = {
        "kind": kind,
        "name": name,
        "user": user,
        "directory": directory,
        "program": program,
        "arguments": f"{kind} run --config {configuration}",
        "cache": f"/var/cache/{directory}",
        "configuration": CONFIGURATION,
        "stop_seconds": 30 if is_node else 45,
    }
    hardening = (_NODE if is_node else _WORKER).format(**values)
    needs = (configuration,) if is_node else (configuration, CONFIGURATION / "context.toml")
    return Unit(name, user, needs, _COMMON.format(**values, hardening=hardening))


def hidden_from(kind: Kind, program: Path) -> tuple[Path, Path] | None:
    """A file that the program needs to start, and the folder that the unit hides it with; None if it can start."""
    if kind is Kind.WORKER:
        return None
    needed = [program, *_interpreter_of(program)]
    seen = [path for each in needed for path in (each, each.resolve())]
    return next(((path, home) for path in seen for home in HOMES if path.is_relative_to(home)), None)


def _interpreter_of(program: Path) -> list[Path]:
    """A script's Python, which may be somewhere else than the script."""
    try:
        with program.open("rb") as file:
            first = file.readline(4096)
    except OSError:
        return []
    words = first.removeprefix(b"#!").split()
    return [Path(os.fsdecode(words[0]))] if first.startswith(b"#!") and words else []
