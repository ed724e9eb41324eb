"""The token that says who calls: given as a text, or kept in a file that may be replaced at any time.

It is sent with each call and shown nowhere: not in errors, logs or `repr`.
"""

from __future__ import annotations

from horologe.client.cluster_context import ClusterContext, read_token
from horologe.client.tls import file_stamp

__all__ = ["TokenSource"]


class TokenSource:
    """Where the token of one client comes from."""

    def __init__(self, context: ClusterContext) -> None:
        self._token = context.token
        self._file = context.token_file
        self._stamp: object = None

    def read(self) -> str:
        """The token as it is now; empty without one. InvalidContext if its file is of no use."""
        if self._file is not None:
            stamp = file_stamp(self._file)
            if stamp != self._stamp:
                self._token = read_token(self._file)
                self._stamp = stamp
        return self._token
