"""Where the cluster is: addresses and namespace, from arguments, from the file that HOROLOGE_CONTEXT names, or by default.

The file is TOML: `addresses = ["127.0.0.1:7401", ...]` and, if wanted, `namespace = "default"`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from horologe.client.errors import InvalidContext
from horologe.client.names import DEFAULT_NAMESPACE, ID_RULE, is_id

__all__ = ["CONTEXT_VARIABLE", "DEFAULT_ADDRESS", "ClusterContext", "load", "split_addresses"]

CONTEXT_VARIABLE = "HOROLOGE_CONTEXT"
DEFAULT_ADDRESS = "127.0.0.1:7400"

_KEYS = {"addresses", "namespace", "insecure"}


@dataclass(frozen=True, slots=True)
class ClusterContext:
    """What a client needs in order to find a cluster."""

    addresses: tuple[str, ...] = (DEFAULT_ADDRESS,)
    """`host:port` of the nodes; any of them will do."""
    namespace: str = DEFAULT_NAMESPACE
    """Where bare names are looked up."""


def load(
    address: str | Iterable[str] | None = None,
    namespace: str | None = None,
    context_file: str | os.PathLike[str] | None = None,
) -> ClusterContext:
    """Arguments first, then the context file, then the defaults. InvalidContext says what is wrong, and where."""
    path = context_file or os.environ.get(CONTEXT_VARIABLE) or None
    # A file that only the environment names is not read when the address is given: it may well be gone.
    wanted = path is not None and (address is None or context_file is not None)
    stored = _read(Path(path)) if path is not None and wanted else ClusterContext()
    addresses = split_addresses(address) if address is not None else stored.addresses
    if not addresses:
        raise InvalidContext("no address was given; write host:port, for example 127.0.0.1:7400")
    return ClusterContext(addresses, namespace or stored.namespace)


def split_addresses(address: str | Iterable[str]) -> tuple[str, ...]:
    """`host:port` entries from a comma list, or from several of them, each only once and in order."""
    texts = [address] if isinstance(address, str) else list(address)
    entries = [entry.strip() for text in texts for entry in text.split(",")]
    unique = tuple(dict.fromkeys(entry for entry in entries if entry))
    for entry in unique:
        _check_address(entry)
    return unique


def _check_address(entry: str) -> None:
    host, colon, port = entry.rpartition(":")
    valid_port = port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not colon or not host or not valid_port or "/" in host or " " in host:
        raise InvalidContext(f"{entry!r} is not an address; write host:port, for example 127.0.0.1:7400")


def _read(path: Path) -> ClusterContext:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidContext(f"the context file {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidContext(f"the context file {path} is not UTF-8 text") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidContext(f"the context file {path} is not TOML: {error}") from error
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise InvalidContext(f"the context file {path} has an unknown key {unknown[0]!r}; known: addresses, namespace")
    addresses = table.get("addresses", [DEFAULT_ADDRESS])
    if isinstance(addresses, str):
        addresses = [addresses]
    if not isinstance(addresses, list) or not addresses or not all(isinstance(entry, str) for entry in addresses):
        raise InvalidContext(f'the context file {path}: addresses must be a list of texts like "127.0.0.1:7400"')
    namespace = table.get("namespace", DEFAULT_NAMESPACE)
    if not isinstance(namespace, str) or not is_id(namespace):
        raise InvalidContext(f"the context file {path}: namespace must be a name: {ID_RULE}")
    return ClusterContext(split_addresses(addresses), namespace)
