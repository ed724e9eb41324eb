"""The last lines of this process's log, kept in memory for who asks what went wrong, without what looks like a secret.

The log is written so that it holds none. This is for accidents: messages of libraries, errors that quote what they were given.
"""

from __future__ import annotations

import logging
import re
from collections import deque

LINES_MAX = 2_000
LINE_CHARACTERS_MAX = 2_000
"""An exception with its stack; together with the number of lines at most 4 MB."""
HIDDEN = "[hidden]"
_SECRETS = re.compile(
    r"hlg_[0-9a-f]{16}_[\w-]+"  # tokens of ours
    r"|eyJ[\w-]+\.[\w-]+\.[\w-]*"  # JWTs
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<=bearer )[^\s\"\\]+|(?<=basic )[^\s\"\\]+",
    re.IGNORECASE | re.DOTALL,
)
_URL = re.compile(r"(https?://)(?:[^/\s\"'\\]*@)?([^/\s\"'\\?#]+)[/?#][^\s\"'\\]*")
"""Webhooks have their secrets in the path."""
_NAMED = re.compile(
    r"((?:password|passwd|secret|token|authorization|api_?key)[\"']?\s*[=:]\s*[\"']?)(?!\[)[^\s\"',}\\]+", re.I
)


class RecentLog(logging.Handler):
    """Keeps what other handlers write."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=LINES_MAX)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record)[:LINE_CHARACTERS_MAX])
        except Exception:  # noqa: BLE001 - as every handler does: the log must not fail whoever writes to it
            self.handleError(record)

    def lines(self) -> list[str]:
        """Oldest first, without what looks like a secret."""
        return [without_secrets(line) for line in list(self._lines)]


recent_log = RecentLog()
"""Of this process: there is one log in it, whoever writes to it."""


def without_secrets(text: str) -> str:
    """The text with what looks like a secret replaced."""
    text = _SECRETS.sub(HIDDEN, text)
    text = _URL.sub(rf"\1\2/{HIDDEN}", text)
    return _NAMED.sub(rf"\1{HIDDEN}", text)
