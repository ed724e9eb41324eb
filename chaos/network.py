"""Places for the processes of a run: a network namespace for each where root allows it, loopback addresses otherwise.

Each place in a namespace has one address on a bridge that belongs to the run alone; a firewall inside the namespace decides
whom it hears. Names carry the pid of the run, so that runs stay apart and the next run can sweep what a killed one left.
Nothing outside the namespaces and the bridge is touched.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

NAMESPACES = Path("/run/netns")
CLIENT_PORT = 7400
PEER_PORT = 7500
_OURS = re.compile(r"horo(\d+)([-v].*)?")
_RULES = """
table inet horologe_chaos {
  set unheard { type ipv4_addr; }
  chain arriving { type filter hook input priority 0; ip saddr @unheard drop; }
}
"""


class NetworkError(Exception):
    """The machine refused a place; the text is the command and what it said."""


class Network(Protocol):
    """Where processes live, and whom they hear."""

    description: str
    """One line for the summary."""
    can_partition: bool

    def place(self, name: str) -> Place:
        """Makes a place; a name is used once."""

    def unhear(self, listener: str, speakers: Iterable[str]) -> None:
        """From now on `listener` hears nothing from `speakers` (the others may still hear it)."""

    def hear_all(self) -> None:
        """Everybody hears everybody."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process lives."""

    name: str
    host: str
    """Its address for others."""
    prefix: tuple[str, ...] = ()
    """Words before the command that bring a process there."""


class LoopbackNetwork:
    """Everybody on 127.0.0.1. Nobody can be cut off."""

    description = "loopback addresses; nobody can be cut off here (that needs root, and the program `ip`)"
    can_partition = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def place(self, name: str) -> Place:
        return Place(name, "127.0.0.1")

    def unhear(self, listener: str, speakers: Iterable[str]) -> None:
        raise NetworkError(f"{listener} cannot be kept from hearing {', '.join(speakers)} on loopback")

    def hear_all(self) -> None:
        return


@dataclass(slots=True)
class NamespaceNetwork:
    """A bridge, and a namespace for each place. Use as a context manager: all of it is removed at its end."""

    description: str = ""
    can_partition: bool = True
    _run: str = field(default_factory=lambda: f"horo{os.getpid()}")
    _places: dict[str, Place] = field(default_factory=dict)
    _subnet: str = ""
    _has_nft: bool = field(default_factory=lambda: shutil.which("nft") is not None)
    _blackholes: set[tuple[str, str]] = field(default_factory=set)

    def __enter__(self) -> Self:
        sweep()
        self._subnet = _free_subnet()
        firewall = "nftables" if self._has_nft else "blackhole routes (nft is not installed)"
        self.description = f"network namespaces on {self._subnet}.0/24, cut by {firewall}"
        try:
            _ip("link", "add", self._run, "type", "bridge")
            _ip("addr", "add", f"{self._subnet}.254/24", "dev", self._run)
            _ip("link", "set", self._run, "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        _remove_run(self._run)

    def place(self, name: str) -> Place:
        """A namespace with an address on the bridge."""
        number = len(self._places) + 1
        namespace, host = f"{self._run}-{name}", f"{self._subnet}.{number}"
        # A device's name has at most 15 characters.
        outside, inside = f"{self._run}v{number}", f"{self._run}i{number}"
        _ip("netns", "add", namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace)
        _ip("link", "set", outside, "master", self._run, "up")
        _ip("-n", namespace, "addr", "add", f"{host}/24", "dev", inside)
        _ip("-n", namespace, "link", "set", inside, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        if self._has_nft:
            self._nft(namespace, _RULES)
        place = Place(name, host, ("ip", "netns", "exec", namespace))
        self._places[name] = place
        return place

    def unhear(self, listener: str, speakers: Iterable[str]) -> None:
        """See Network. Packets are dropped without a word, as by a cable that was pulled."""
        hosts = [self._places[speaker].host for speaker in speakers]
        if not hosts:
            return
        if self._has_nft:
            self._nft(f"{self._run}-{listener}", f"add element inet horologe_chaos unheard {{ {', '.join(hosts)} }}")
            return
        for speaker in speakers:
            # What a speaker cannot send is not heard.
            _ip("-n", f"{self._run}-{speaker}", "route", "replace", "blackhole", f"{self._places[listener].host}/32")
            self._blackholes.add((speaker, listener))

    def hear_all(self) -> None:
        """See Network."""
        if self._has_nft:
            for name in self._places:
                self._nft(f"{self._run}-{name}", "flush set inet horologe_chaos unheard")
        for speaker, listener in self._blackholes:
            _ip("-n", f"{self._run}-{speaker}", "route", "del", "blackhole", f"{self._places[listener].host}/32")
        self._blackholes.clear()

    def _nft(self, namespace: str, rules: str) -> None:
        _command(["ip", "netns", "exec", namespace, "nft", "-f", "-"], rules)


def open_network(*, namespaces: bool = True) -> NamespaceNetwork | LoopbackNetwork:
    """Namespaces if this process may make them, else loopback; to be entered."""
    if namespaces and os.geteuid() == 0 and shutil.which("ip") is not None and _may_make_namespaces():
        return NamespaceNetwork()
    return LoopbackNetwork()


def _may_make_namespaces() -> bool:
    name = f"horo{os.getpid()}-try"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except NetworkError:
        return False
    return True


def sweep() -> None:
    """Removes what runs left whose process is gone."""
    names = [path.name for path in NAMESPACES.iterdir()] if NAMESPACES.exists() else []
    names += [str(link["ifname"]) for link in _links()]
    for name in names:
        match = _OURS.fullmatch(name)
        if match is not None and not Path(f"/proc/{match[1]}").exists():
            _remove_run(f"horo{match[1]}")


def _remove_run(run: str) -> None:
    """Removes the cables, the bridge and the namespaces of a run."""
    for name in [str(link["ifname"]) for link in _links()]:
        # The kernel would remove the cables with the namespaces, but some time later.
        match = _OURS.fullmatch(name)
        if match is not None and f"horo{match[1]}" == run:
            subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
    for path in sorted(NAMESPACES.glob(f"{run}-*")):
        # Whoever still lives there was started by that run, which is over.
        for pid in subprocess.run(["ip", "netns", "pids", path.name], check=False, capture_output=True).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", path.name], check=False, capture_output=True)


def _free_subnet() -> str:
    """The first three numbers of a /24 network that no device and no route of this machine touches."""
    taken = _command(["ip", "-4", "addr"]) + _command(["ip", "-4", "route"])
    chance = random.SystemRandom()
    while True:
        subnet = f"10.{chance.randrange(200, 250)}.{chance.randrange(1, 250)}"
        if f"{subnet}." not in taken:
            return subnet


def _links() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(_command(["ip", "-j", "link"]) or "[]")
    return found


def _ip(*arguments: str) -> None:
    _command(["ip", *arguments])


def _command(words: Sequence[str], text: str = "") -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(words)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
