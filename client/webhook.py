"""For those who receive webhooks of notifications: whether one is from the cluster that knows the secret, and new.

verify(secret, request.headers["Horologe-Signature"], body)
"""

from __future__ import annotations

import hmac
import time

__all__ = ["InvalidSignature", "verify"]

AGE_SECONDS_MAX = 300.0


class InvalidSignature(Exception):  # noqa: N818 - named as the other errors of the SDK
    """Not from there, changed on its way, or too old. The text says which."""


def verify(secret: str | bytes, signature: str, body: bytes, *, age_seconds_max: float = AGE_SECONDS_MAX) -> None:
    """Raises InvalidSignature unless `signature` is that of `body`, made with the secret, and not too long ago."""
    key = secret.encode() if isinstance(secret, str) else secret
    timestamp, _, signed = signature.partition(",v1=")
    seconds = timestamp.removeprefix("t=")
    if not timestamp.startswith("t=") or not seconds.isascii() or not seconds.isdigit():
        raise InvalidSignature("the header is not of the form t=SECONDS,v1=HEX")
    expected = hmac.digest(key, f"{seconds}.".encode() + body, "sha256").hex()
    if not hmac.compare_digest(expected.encode(), signed.encode()):
        raise InvalidSignature("it was made with another secret, or for another body")
    if abs(time.time() - int(seconds)) > age_seconds_max:
        raise InvalidSignature(f"it was made at {seconds}, which is too far from now")
