"""Keys for backups that are not those of a node: a file with a key in it, or a passphrase.

A backup is encrypted with a key of its own, which lies in it wrapped. Here belongs how it is wrapped and unwrapped outside of the
cluster. A key file is the same as a node's `key_file` (node/key_sources.py), and what a node has wrapped with one opens here too.
"""

from __future__ import annotations

import base64
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from horologe.client.errors import InvalidArgument, InvalidBackup
from horologe.v1.backup_service_pb2 import BackupKey

__all__ = ["CONTEXT", "PASSPHRASE_ENVIRONMENT", "BackupSecret", "FileKeys", "Passphrase", "keys_of"]

CONTEXT = b"horologe backup"
"""What a backup's key is bound to: nothing else that was wrapped with the same key opens as one."""
PASSPHRASE_ENVIRONMENT = "HOROLOGE_BACKUP_PASSPHRASE"
PASSPHRASE_LENGTH_MIN = 12
KEY_BYTES, NONCE_BYTES, SALT_BYTES = 32, 12, 16
SCRYPT = "scrypt-17-8-1"
"""2^17 rounds with blocks of 8: 128 MiB of memory and some tenths of a second for each guess, as OWASP advises."""


_NEW_KEY = "`horologe node new-key FILE` makes one"
_SAME_KEY = "give the file with the key that the backup was made with"


class BackupSecret(Protocol):
    """What opens a backup."""

    def wrap(self, secret: bytes) -> BackupKey:
        """For a new backup."""

    def unwrap(self, key: BackupKey) -> bytes:
        """Raises InvalidBackup if it is another key."""


class FileKeys:
    """Keys in a file, one per line: the first one wraps, all of them unwrap."""

    def __init__(self, path: Path, *, is_to_open: bool = False) -> None:
        """Raises InvalidArgument if the file is of no use; where a backup is to be opened with it, a new key would be of none."""
        self._path = path
        self._keys = {_name_of(key): key for key in _read(path, _SAME_KEY if is_to_open else _NEW_KEY)}

    def wrap(self, secret: bytes) -> BackupKey:
        name, key = next(iter(self._keys.items()))
        return BackupKey(kind="file", name=name, wrapped=_seal(key, secret))

    def unwrap(self, key: BackupKey) -> bytes:
        if key.kind == "passphrase":
            raise InvalidBackup("the backup was made with a passphrase, not with a key: give --passphrase-file")
        known = self._keys.get(key.name)
        if known is None:
            raise InvalidBackup(
                f"the backup was made with the key {key.name}, but {self._path} has {', '.join(self._keys)}; give the right file"
            )
        return _open(known, key.wrapped, f"the key {key.name}")


class Passphrase:
    """Words that somebody knows, or that lie in a safe."""

    def __init__(self, text: str) -> None:
        """Raises InvalidArgument if it is too short to be of use."""
        if len(text) < PASSPHRASE_LENGTH_MIN:
            raise InvalidArgument(f"the passphrase has {len(text)} characters; give {PASSPHRASE_LENGTH_MIN} or more")
        self._text = text

    def wrap(self, secret: bytes) -> BackupKey:
        salt = os.urandom(SALT_BYTES)
        return BackupKey(kind="passphrase", name=SCRYPT, wrapped=_seal(self._key(salt), secret), salt=salt)

    def unwrap(self, key: BackupKey) -> bytes:
        if key.kind != "passphrase":
            raise InvalidBackup(f"the backup was made with the key {key.name}, not with a passphrase: give --key-file")
        if key.name != SCRYPT:
            raise InvalidBackup(f"the backup's key is made by {key.name!r}, which this program does not know")
        return _open(self._key(key.salt), key.wrapped, "this passphrase")

    def _key(self, salt: bytes) -> bytes:
        return Scrypt(salt=salt, length=KEY_BYTES, n=1 << 17, r=8, p=1).derive(self._text.encode())


def keys_of(key_file: Path | None, passphrase_file: Path | None, *, is_to_open: bool = False) -> BackupSecret | None:
    """What people gave, the environment included; None if that is nothing. Raises InvalidArgument.

    `is_to_open`: a backup that is there, not a new one.
    """
    if key_file is not None and passphrase_file is not None:
        raise InvalidArgument("give --key-file or --passphrase-file, not both")
    if key_file is not None:
        return FileKeys(key_file, is_to_open=is_to_open)
    if passphrase_file is not None:
        try:
            return Passphrase(passphrase_file.read_text().strip())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{passphrase_file} cannot be read ({error})") from error
    text = os.environ.get(PASSPHRASE_ENVIRONMENT, "")
    return Passphrase(text) if text else None


def _seal(key: bytes, secret: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, secret, CONTEXT)


def _open(key: bytes, wrapped: bytes, what: str) -> bytes:
    try:
        return AESGCM(key).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], CONTEXT)
    except (InvalidTag, ValueError):
        raise InvalidBackup(f"the backup does not open with {what}, or its beginning was changed") from None


def _read(path: Path, advice: str) -> list[bytes]:
    try:
        text = path.read_text()
        is_private = not path.stat().st_mode & 0o077
    except OSError as error:
        raise InvalidArgument(f"{path}: the key cannot be read ({error.strerror or error}); {advice}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path}: this is no key, it is not even text; {advice}") from error
    if not is_private:
        raise InvalidArgument(f"{path}: others than its owner can read this key; `chmod 600` it")
    lines = [line.strip() for line in text.splitlines()]
    keys = [_parsed(line, path, advice) for line in lines if line and not line.startswith("#")]
    if not keys:
        raise InvalidArgument(f"{path} holds no key; {advice}")
    return keys


def _parsed(text: str, path: Path, advice: str) -> bytes:
    for decode in (bytes.fromhex, lambda word: base64.b64decode(word, validate=True)):
        with suppress(ValueError):
            key = decode(text)
            if len(key) == KEY_BYTES:
                return key
    raise InvalidArgument(f"{path}: a key is not 32 bytes in base64 or hex; {advice}")


def _name_of(key: bytes) -> str:
    """As a node calls it."""
    return hashlib.sha256(b"horologe key-encryption key" + key).hexdigest()[:16]
