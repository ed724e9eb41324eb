"""Which addresses an HTTP job, or a notification, may reach: public ones, and what the owner of the worker or node has allowed.

Names are resolved here and nowhere else, so that what is checked is what is used. No HTTP in this file.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Prefixes that carry an IPv4 address in their last 32 bits (RFC 6052, RFC 8215).
_TRANSLATED_NETWORKS = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))

# What Python's own table, which grows with its versions, may take for public.
_SPECIAL_NETWORKS = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "fec0::/10",
        "100::/64",
    )
]


ADVICE = (
    "the worker's owner can allow it with http.allow_private or http.allow_loopback "
    "(for this machine itself: `horologe worker run --http-allow-loopback`)"
)
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a host, for a connection to a port. OSError if there is none."""


class RefusedAddressError(Exception):
    """A job wants to reach an address that the worker's owner has not allowed."""


async def look_up(host: str, port: int) -> list[str]:
    """What this machine's resolver says."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host!r} is not a host name: {error}") from error
    except socket.gaierror as error:
        raise OSError(f"cannot resolve {host!r}: {error.strerror}") from error
    return [str(entry[4][0]) for entry in found]


class AddressGuard:
    """Decides about addresses.

    allowed_networks: networks beside the public ones, like `10.1.0.0/16`. ValueError names one that is none.
    allow_loopback: whether this machine's own loopback may be reached.
    hosts: the only hosts that may be reached, `*.example.com` for all below one; none given: all.
    ports: the only ports that may be reached; none given: all.
    advice: what a refusal says of how to allow more.
    """

    def __init__(
        self,
        allowed_networks: Sequence[str] = (),
        *,
        allow_loopback: bool = False,
        hosts: Sequence[str] = (),
        ports: Collection[int] = (),
        lookup: Lookup = look_up,
        advice: str = ADVICE,
    ) -> None:
        self._networks = [_network(text) for text in allowed_networks]
        self._allow_loopback = allow_loopback
        self._hosts = [_canonical(host) for host in hosts]
        self._ports = frozenset(ports)
        self._lookup = lookup
        self._advice = advice

    async def resolve(self, host: str, port: int) -> list[str]:
        """All addresses of a host, in the order to try them. They are what may be connected to: the name is not asked again.

        One address that may not be reached refuses the whole name: RefusedAddressError. OSError if there is none.
        """
        if self._ports and port not in self._ports:
            raise RefusedAddressError(f"port {port} is not among those that this worker may reach (http.allow_ports)")
        if self._hosts and not any(_fits(_canonical(host), allowed) for allowed in self._hosts):
            raise RefusedAddressError(f"{host!r} is not among the hosts that this worker may reach (http.allow_hosts)")
        addresses = list(dict.fromkeys(await self._lookup(host, port)))
        if not addresses:
            raise OSError(f"cannot resolve {host!r}: it has no address")
        for text in addresses:
            if not self.allows(ipaddress.ip_address(text)):
                shown = text if text == host else f"{host!r} is {text}, which"
                raise RefusedAddressError(f"{shown} is not a public address; {self._advice}")
        return addresses

    def allows(self, address: Address) -> bool:
        """Whether a job may reach this address."""
        embedded = _embedded(address)
        if embedded is not None:
            return self.allows(embedded)
        if any(address.version == network.version and address in network for network in self._networks):
            return True
        if address.is_loopback:
            return self._allow_loopback
        if any(address.version == network.version and address in network for network in _SPECIAL_NETWORKS):
            return False
        return address.is_global and not address.is_multicast and not address.is_reserved


def _canonical(host: str) -> str:
    """As names are compared: in lower case, in the letters of the wire, without the dot of the root."""
    host = host.strip("[]").rstrip(".").lower()
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _fits(host: str, allowed: str) -> bool:
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that is reached in the end, for forms of IPv6 that carry one."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _TRANSLATED_NETWORKS):
        return ipaddress.IPv4Address(address.packed[-4:])
    return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a network like 10.0.0.0/8: {error}") from error
