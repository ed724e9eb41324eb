"""Fingerprints of errors: equal for errors that differ only in what changes from one time to the next.

Numbers, hexadecimal digits, UUIDs and what stands in quotes are left out; the words, the kind, the exit code or HTTP status
and the shape stay. Computed by the node that proposes an outcome, since what the patterns say may change with a release.
"""

from __future__ import annotations

import hashlib
import re

from horologe.raft.failures import Failure

_CHANGING = re.compile(
    r"""
    "[^"]*" | '[^']*' | `[^`]*`                                         # what is quoted: names, paths, values
    | [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}      # UUIDs
    | \b0x[0-9a-f]+\b                                                   # addresses
    | \b(?=[0-9a-f]*[0-9])[0-9a-f]{7,}\b                                # hashes
    | (?<![\w/:])/[^\s:,;]+                                              # absolute paths
    | [0-9]+                                                            # and numbers
    """,
    re.VERBOSE | re.IGNORECASE,
)


def fingerprint_of(failure: Failure, error: str) -> int:
    """64 bits; never one of the small numbers that the state machine gives to its own errors."""
    said = f"{failure.kind}\0{failure.exit_code}\0{failure.http_status}\0{normalised(error)}"
    digest = hashlib.sha256(said.encode()).digest()
    return int.from_bytes(digest[:8], "big") | 1 << 63


def normalised(error: str) -> str:
    """The error with a `*` in the place of each part that changes, on one line."""
    return " ".join(_CHANGING.sub("*", error).split())
