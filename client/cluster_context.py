"""Where the cluster is and how to speak with it: from arguments, from the environment, from files, or by default.

A context is a TOML table; the paths in it begin at the folder of its file:

    addresses = ["127.0.0.1:7401", ...]          any node's port for people and programs
    worker_addresses = ["127.0.0.1:7601", ...]   any node's port for workers, and for clients with a certificate
    namespace = "default"
    ca_file = "ca.pem"                           who signed the certificates of the nodes; default: whom this system trusts
    tls_dir = "tls"                              the folder of an own certificate: ca.pem, cert.pem, key.pem
    token = "hlg_..." or token_file = "token"    read by nobody else, or not at all
    server_name = "horologe"                     the name in the certificates of the nodes; "": the host of the address
    insecure = true                              clear text, for clusters that say so too

HOROLOGE_CONTEXT names the file, or one of the contexts in the user's configuration (`context_store.py`), whose current one
counts otherwise.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from horologe.client import context_store
from horologe.client.errors import InvalidContext
from horologe.client.names import DEFAULT_NAMESPACE, ID_RULE, is_id
from horologe.client.private_files import check_private

__all__ = [
    "CONTEXT_VARIABLE",
    "DEFAULT_ADDRESS",
    "SERVER_NAME",
    "TOKEN_VARIABLE",
    "ClusterContext",
    "load",
    "of_table",
    "read_token",
    "split_addresses",
]

CONTEXT_VARIABLE = "HOROLOGE_CONTEXT"
TOKEN_VARIABLE = "HOROLOGE_TOKEN"
DEFAULT_ADDRESS = "127.0.0.1:7400"
SERVER_NAME = "horologe"
"""Every certificate that a cluster's own CA makes for a node carries it: which node answers does not matter to a client."""

_KEYS = (
    "addresses",
    "worker_addresses",
    "namespace",
    "ca_file",
    "tls_dir",
    "token",
    "token_file",
    "server_name",
    "insecure",
)


@dataclass(frozen=True, slots=True)
class ClusterContext:
    """What a client needs in order to find a cluster, to know it, and to be known by it."""

    addresses: tuple[str, ...] = (DEFAULT_ADDRESS,)
    """`host:port` of the nodes; any of them will do."""
    namespace: str = DEFAULT_NAMESPACE
    """Where bare names are looked up."""
    worker_addresses: tuple[str, ...] = ()
    """`host:port` of the nodes for workers, and for clients that have a certificate and no token."""
    ca_file: Path | None = None
    """The certificates that sign those of the nodes; by default those of `tls_dir`, or those that this system trusts."""
    tls_dir: Path | None = None
    """A folder with an own certificate: ca.pem, cert.pem, key.pem."""
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    """Where the token is, if it is not here."""
    server_name: str = SERVER_NAME
    """The name that the nodes' certificates have to carry; empty: the host of the address."""
    insecure: bool = False
    """Clear text."""
    source: str = field(default="", compare=False)
    """Where this was found, for messages."""

    @property
    def has_token(self) -> bool:
        """Whether there is a token, here or in a file."""
        return bool(self.token) or self.token_file is not None

    def for_proof(self) -> ClusterContext:
        """The same, with the addresses where what there is can be proven: only the port for workers asks for certificates."""
        speaks_by_certificate = not self.has_token and self.tls_dir is not None and bool(self.worker_addresses)
        return replace(self, addresses=self.worker_addresses) if speaks_by_certificate else self

    def for_workers(self) -> tuple[str, ...]:
        """Where workers connect. InvalidContext where nobody said it: only clear text has one port for everybody."""
        if self.worker_addresses or self.insecure:
            return self.worker_addresses or self.addresses
        if not self.source:
            raise InvalidContext(
                "no context is named: set HOROLOGE_CONTEXT, or give the addresses of the port that the nodes have for workers "
                "(worker_listen)"
            )
        raise InvalidContext(
            f"{self.source} has no worker_addresses: workers connect to the port that the nodes have for them (worker_listen); "
            "add worker_addresses, or name such an address"
        )


def load(
    address: str | Iterable[str] | None = None,
    namespace: str | None = None,
    context_file: str | os.PathLike[str] | None = None,
    *,
    token: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    tls_dir: str | os.PathLike[str] | None = None,
    server_name: str | None = None,
    insecure: bool | None = None,
) -> ClusterContext:
    """Each thing from its argument, else from the environment, else from the context, else by default.

    `context_file` is a file or the name of a context. InvalidContext says what is wrong, and where.
    """
    stored = _stored(context_file, is_optional=address is not None)
    addresses = split_addresses(address) if address is not None else stored.addresses
    if not addresses:
        raise InvalidContext("no address was given; write host:port, for example 127.0.0.1:7400")
    found = _with_tls(stored, ca_file, tls_dir, server_name, insecure)
    given = token or os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        found = replace(found, token=_checked(given, "the token"), token_file=None)
    found = replace(found, addresses=addresses, namespace=namespace or stored.namespace)
    return found if address is not None else found.for_proof()


def _with_tls(
    stored: ClusterContext,
    ca_file: str | os.PathLike[str] | None,
    tls_dir: str | os.PathLike[str] | None,
    server_name: str | None,
    insecure: bool | None,
) -> ClusterContext:
    wants_tls = ca_file is not None or tls_dir is not None
    if insecure and wants_tls:
        raise InvalidContext("insecure is clear text: it goes with neither ca_file nor tls_dir")
    if insecure and not stored.insecure:
        # What was meant for TLS is not sent in clear text: neither the certificate nor the token.
        return replace(stored, ca_file=None, tls_dir=None, token="", token_file=None, insecure=True)
    return replace(
        stored,
        ca_file=Path(ca_file) if ca_file is not None else stored.ca_file,
        tls_dir=Path(tls_dir) if tls_dir is not None else stored.tls_dir,
        server_name=stored.server_name if server_name is None else server_name,
        insecure=stored.insecure and insecure is not False and not wants_tls,
    )


def split_addresses(address: str | Iterable[str]) -> tuple[str, ...]:
    """`host:port` entries from a comma list, or from several of them, each only once and in order."""
    texts = [address] if isinstance(address, str) else list(address)
    entries = [entry.strip() for text in texts for entry in text.split(",")]
    unique = tuple(dict.fromkeys(entry for entry in entries if entry))
    for entry in unique:
        _check_address(entry)
    return unique


def read_token(path: Path) -> str:
    """The token in a file that nobody else may read."""
    text = _read_text(path, f"the token file {path}")
    check_private(path, f"the token file {path}")
    return _checked(text.strip(), f"the token file {path}")


def _checked(token: str, place: str) -> str:
    # What metadata can carry. What is wrong with it is not shown: it may be a token nevertheless.
    if not token or not all("!" <= character <= "~" for character in token):
        raise InvalidContext(f"{place} holds no token: one word of printable ASCII characters is expected")
    return token


def _check_address(entry: str) -> None:
    host, colon, port = entry.rpartition(":")
    valid_port = port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not colon or not host or not valid_port or "/" in host or " " in host:
        raise InvalidContext(f"{entry!r} is not an address; write host:port, for example 127.0.0.1:7400")


def _stored(context_file: str | os.PathLike[str] | None, *, is_optional: bool) -> ClusterContext:
    named = os.fspath(context_file) if context_file is not None else ""
    wanted = named or os.environ.get(CONTEXT_VARIABLE, "")
    if not wanted:
        current = context_store.current()
        return ClusterContext() if current is None else of_table(*current)
    # With an address from an argument, what only the environment names need not be there any more.
    is_optional = is_optional and not named
    path = Path(wanted)
    if "/" not in wanted and path.suffix != ".toml":
        # A name goes before a file that is so called in the folder where somebody happens to be.
        stored = context_store.find(wanted)
        if stored is not None:
            return of_table(*stored)
        if not path.exists() and not is_optional:
            raise InvalidContext(
                f"there is neither a context nor a file {wanted!r}; `horologe context list` shows the contexts of "
                f"{context_store.path()}"
            )
    if is_optional and not path.exists():
        return ClusterContext()
    return _read(path)


def _read(path: Path) -> ClusterContext:
    place = f"the context file {path}"
    try:
        table = tomllib.loads(_read_text(path, place))
    except tomllib.TOMLDecodeError as error:
        raise InvalidContext(f"{place} is not TOML: {error}") from error
    if "token" in table:
        check_private(path, place)
    return of_table(table, path.absolute().parent, place)


def _read_text(path: Path, place: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidContext(f"{place} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidContext(f"{place} is not UTF-8 text") from error


def of_table(table: Mapping[str, Any], folder: Path, place: str) -> ClusterContext:
    """What a table says, and nothing else; relative paths begin at `folder`. InvalidContext names the `place`."""
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise InvalidContext(f"{place} has an unknown key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    namespace = _text(table, "namespace", place) or DEFAULT_NAMESPACE
    if not is_id(namespace):
        raise InvalidContext(f"{place}: namespace must be a name: {ID_RULE}")
    insecure = table.get("insecure", False)
    if not isinstance(insecure, bool):
        raise InvalidContext(f"{place}: insecure must be true or false")
    if insecure and ("ca_file" in table or "tls_dir" in table):
        raise InvalidContext(f"{place}: insecure is clear text: it goes with neither ca_file nor tls_dir")
    if "token" in table and "token_file" in table:
        raise InvalidContext(f"{place} has both token and token_file; keep one of them")
    server_name = _text(table, "server_name", place)
    return ClusterContext(
        _addresses(table, "addresses", place) or (DEFAULT_ADDRESS,),
        namespace,
        _addresses(table, "worker_addresses", place),
        _path(table, "ca_file", folder, place),
        _path(table, "tls_dir", folder, place),
        _checked(str(_text(table, "token", place)), f"token of {place}") if "token" in table else "",
        _path(table, "token_file", folder, place),
        SERVER_NAME if server_name is None else server_name,
        insecure,
        place,
    )


def _addresses(table: Mapping[str, Any], key: str, place: str) -> tuple[str, ...]:
    if key not in table:
        return ()
    entries = [table[key]] if isinstance(table[key], str) else table[key]
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) for entry in entries):
        raise InvalidContext(f'{place}: {key} must be a list of texts like "127.0.0.1:7400"')
    return split_addresses(entries)


def _text(table: Mapping[str, Any], key: str, place: str) -> str | None:
    text = table.get(key)
    if text is not None and not isinstance(text, str):
        raise InvalidContext(f"{place}: {key} must be a text")
    return text


def _path(table: Mapping[str, Any], key: str, folder: Path, place: str) -> Path | None:
    text = _text(table, key, place)
    if text == "":
        raise InvalidContext(f"{place}: {key} is empty; name a path, or leave it out")
    return None if text is None else folder / Path(text).expanduser()
