"""The command line with an encryption that encrypts nothing: to measure what the real one costs, and for nothing else.

No option of a node switches its encryption off, so this is a program of its own; `horologe bench steady --unencrypted` starts
its nodes with it.
"""

from __future__ import annotations

from horologe.client.cli.main import main
from horologe.node import encryption_check
from horologe.raft.cipher import Cipher


def _as_it_is(_cipher: Cipher, _context: bytes, value: bytes) -> bytes:
    """In place of both directions."""
    return bytes(value)


def _switch_off() -> None:
    for direction in ("seal", "unseal"):
        setattr(Cipher, direction, _as_it_is)
    encryption_check.prove = lambda *_: None


if __name__ == "__main__":
    _switch_off()
    main()
