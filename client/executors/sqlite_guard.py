"""SQLite is a library in this process, so a statement could reach further than its database: here it cannot.

Databases that are servers decide for themselves what the user of a connection may do.
"""

from __future__ import annotations

import sqlite3
from typing import Any

# Of one text, blob or row; the library would make one of a gigabyte.
VALUE_BYTES_MAX = 16 << 20

_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})
_PRAGMAS = frozenset({"data_store_directory", "temp_store_directory", "trusted_schema", "writable_schema"})


def confine(connection: Any, *_: Any) -> None:
    """Keeps a connection to its own database file, in memory too. For SQLAlchemy's event `connect`."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)
    connection.set_authorizer(_authorize)


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    refused = (
        # Without a name it is a temporary one, which VACUUM needs.
        (action == sqlite3.SQLITE_ATTACH and first != "")
        or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS)
        or (action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in _PRAGMAS)
    )
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK
