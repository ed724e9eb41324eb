"""What one connection to the ports for people and workers may take of a node: the options of their servers.

docs/limits.md lists these and all other limits.
"""

from __future__ import annotations

from typing import Any

MESSAGE_BYTES_MAX = 4 << 20
WORKER_MESSAGE_BYTES_MAX = 16 << 20
"""A worker's stream carries many outcomes in one message, and answers of any port may be as large."""
METADATA_BYTES_MAX = 16 << 10
"""Of the headers of one call, as HTTP/2 counts them; a token takes a few hundred of them, a JWT a few thousand."""
STREAMS_PER_CONNECTION_MAX = 1_000
"""Calls at a time. Those of a client that has more wait in the client."""
HANDSHAKE_SECONDS_MAX = 10.0
"""Who has connected and not said what a client says is sent away."""
PING_INTERVAL_MS_MIN = 4_000
PINGS_TOO_OFTEN_MAX = 2


def api_options(
    message_bytes_max: int,
    *,
    streams_max: int = STREAMS_PER_CONNECTION_MAX,
    handshake_seconds: float = HANDSHAKE_SECONDS_MAX,
) -> list[tuple[str, Any]]:
    """Options of a server. Messages that come in compressed count as what they become."""
    return [
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", WORKER_MESSAGE_BYTES_MAX),
        # Between the two the library refuses at random, so there is nothing between them.
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", streams_max),
        handshake_option(handshake_seconds),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MS_MIN),
        ("grpc.http2.max_ping_strikes", PINGS_TOO_OFTEN_MAX),
        ("grpc.keepalive_permit_without_calls", 1),
        # Two nodes must never share a port: the kernel would give each of them a part of the calls.
        ("grpc.so_reuseport", 0),
    ]


def handshake_option(seconds: float = HANDSHAKE_SECONDS_MAX) -> tuple[str, Any]:
    """For the port of the peers as well, whose other options are in peers.py."""
    return ("grpc.server_handshake_timeout_ms", int(seconds * 1000))
