"""`horologe node probe`: asks the node of this machine by HTTP whether it is well, for whoever starts it again when it is not.

It finds the node by the same options, and knows it by the same CA, so that a container needs no other program for that. It is
run twice a minute, so it imports little.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import NamedTuple

from horologe.node.config import Address, NodeConfig

PROBE_SECONDS_MAX = 5.0
SERVER_NAME = "horologe"
"""As in certificates.py, and the folder as in tls.py, which import far more than this needs; a test compares them."""
OWN_CA_FILE = "tls/ca.pem"
CA_FILE = "ca.pem"
ANSWER_BYTES_MAX = 64 << 10
THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""How to reach from here what listens on all addresses."""


class Verdict(NamedTuple):
    """What a node says of itself, or why it says nothing."""

    is_well: bool
    text: str


def probe(config: NodeConfig, *, ready: bool = False) -> Verdict:
    """Whether the node lives; with `ready`, whether it should get work."""
    if not config.http_listen:
        return Verdict(False, "http_listen is empty: this node cannot be asked")
    address = Address.parse(config.http_listen)
    try:
        status, body = _get(config, address, "/readyz" if ready else "/healthz")
        answer = json.loads(body)
        said = [str(answer["status"]), *(f"{reason['reason']}: {reason['message']}" for reason in answer["reasons"])]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return Verdict(False, f"{address}: {error or type(error).__name__}")
    return Verdict(status == http.client.OK, "; ".join(said))


def _get(config: NodeConfig, address: Address, path: str) -> tuple[int, bytes]:
    host = THIS_MACHINE.get(address.host, address.host)
    connection = http.client.HTTPConnection(host, address.port, timeout=PROBE_SECONDS_MAX)
    plain = socket.create_connection((host, address.port), timeout=PROBE_SECONDS_MAX)
    try:
        # By the name that every node carries: what it is called in the network does not matter here.
        connection.sock = plain if config.insecure else _tls(config).wrap_socket(plain, server_hostname=SERVER_NAME)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_BYTES_MAX)
    finally:
        connection.close()
        plain.close()


def _tls(config: NodeConfig) -> ssl.SSLContext:
    return ssl.create_default_context(
        cafile=config.tls_dir / CA_FILE if config.tls_dir else config.data_dir / OWN_CA_FILE
    )
