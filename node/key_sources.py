"""Key-encryption keys: where they come from, and how they wrap the data keys of this node.

Here belong the three sources that an operator can choose from: a file, the environment, a command that speaks for a key
management service. What is wrapped, and where that is kept, is in keyring.py. A key-encryption key is never written anywhere
from here, except by who asks for a new one (`make_key_file`, `put_new_key`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from horologe.node.config import NodeConfig
from horologe.node.private_files import is_private, replace_durably
from horologe.raft.store import StoreError

KEY_BYTES = 32
NONCE_BYTES = 12
COMMAND_SECONDS_MAX = 30.0
"""A key management service that needs longer is not there; a node that starts has no time limit of its own."""
COMMAND_ANSWER_BYTES_MAX = 64 << 10
"""What services put around a key of 32 bytes is a few hundred bytes long."""
KEY_ENVIRONMENT = "HOROLOGE_NODE_KEY"


class KeyringError(StoreError):
    """The keys of this node cannot be used. The text says why and what to do; nothing was changed."""

    def __init__(self, text: str, found: str = "") -> None:
        super().__init__(text)
        self.found = found or text
        """What is wrong with the keys alone, for who opens with them something else than this node's data."""


class Wrapped(NamedTuple):
    """A data key as it may lie on the disk."""

    wrapped_with: str
    """Names the key-encryption key."""
    wrapped: bytes


class KeySource(Protocol):
    """Key-encryption keys. Everything raises KeyringError, and may block."""

    name: str
    """`file`, `environment` or `command`."""

    def prepare(self) -> None:
        """Before the first data key of a new folder: makes what is missing and may be made."""

    def reload(self) -> None:
        """Reads again what the operator may have changed."""

    @property
    def current(self) -> str:
        """Names the key that wraps."""

    def wrap(self, secret: bytes, context: bytes) -> Wrapped:
        """Wraps a data key; `context` is bound to it where the source can do that."""

    def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        """The data key as it was."""


def key_source_of(config: NodeConfig) -> KeySource:
    """As the configuration says: the environment, else a command, else a file."""
    if config.key is not None:
        return EnvironmentKeys(config.key.get_secret_value())
    if config.key_command:
        return CommandKeys(config.key_command)
    return FileKeys(config.key_file or config.data_dir / "node.key")


class _LocalKeys:
    """Keys that this process holds itself: the first one wraps, all of them unwrap."""

    name = ""
    place = ""
    """Where they are from, for people."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def prepare(self) -> None:
        """Nothing can be made here."""

    def reload(self) -> None:
        """Read when it is asked for."""

    @property
    def current(self) -> str:
        return next(iter(self._all()))

    def wrap(self, secret: bytes, context: bytes) -> Wrapped:
        name, key = next(iter(self._all().items()))
        nonce = os.urandom(NONCE_BYTES)
        return Wrapped(name, nonce + AESGCM(key).encrypt(nonce, secret, context))

    def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        key = self._all().get(wrapped.wrapped_with)
        if key is None:
            found = f"{self.place} has {', '.join(self._all())}"
            raise KeyringError(
                f"the data keys of this node are wrapped with the key-encryption key {wrapped.wrapped_with}, but {found}; give "
                "the right one (an older key goes below the current one). Nothing was changed",
                found,
            )
        try:
            return AESGCM(key).decrypt(wrapped.wrapped[:NONCE_BYTES], wrapped.wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise KeyringError(
                f"a data key does not unwrap with the key-encryption key {wrapped.wrapped_with} of {self.place}: the keyring "
                "is damaged; restore it from a backup, together with the folder that it lies in",
                f"{self.place} has it, but it does not open what is there",
            ) from None

    def _all(self) -> dict[str, bytes]:
        if not self._keys:
            self.reload()
        return self._keys


class FileKeys(_LocalKeys):
    """One key per line, in a file that nobody else can read."""

    name = "file"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.place = f"`key_file` {path}"

    def prepare(self) -> None:
        if not self._path.exists():
            make_key_file(self._path)

    def reload(self) -> None:
        self._keys = _named(read_key_file(self._path))


class EnvironmentKeys(_LocalKeys):
    """Several keys with commas between them, in one variable."""

    name = "environment"
    place = f"the environment variable {KEY_ENVIRONMENT}"

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def reload(self) -> None:
        self._keys = _named([_parsed(word, self.place) for word in self._text.split(",") if word.strip()])
        if not self._keys:
            raise KeyringError(f"{self.place} holds no key; it takes 32 bytes in base64 or hex")


class CommandKeys:
    """A program that wraps and unwraps, for a key management service: it gets the bytes on its input, never as an argument."""

    name = "command"

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)

    def prepare(self) -> None:
        """Whoever keeps the keys makes them."""

    def reload(self) -> None:
        """Which key is current is the service's affair."""

    @property
    def current(self) -> str:
        return "command"

    def wrap(self, secret: bytes, context: bytes) -> Wrapped:
        del context  # The answer is opaque to us, and the program may know no such thing.
        return Wrapped(self.current, self._run("wrap", secret))

    def unwrap(self, wrapped: Wrapped, context: bytes) -> bytes:
        del context
        if wrapped.wrapped_with != self.current:
            raise KeyringError(
                f"the data keys of this node are wrapped with the key-encryption key {wrapped.wrapped_with}, not by a command; "
                "take `key_command` out of the configuration. Nothing was changed",
                f"`key_command` {self._command[0]} is asked instead of a key",
            )
        secret = self._run("unwrap", wrapped.wrapped)
        if len(secret) != KEY_BYTES:
            raise KeyringError(
                f"`key_command` {self._command[0]} unwrap answered {len(secret)} bytes instead of {KEY_BYTES}"
            )
        return secret

    def _run(self, verb: str, data: bytes) -> bytes:
        said = f"`key_command` {self._command[0]} {verb}"
        try:
            done = subprocess.run(
                [*self._command, verb],
                input=base64.b64encode(data) + b"\n",
                capture_output=True,
                timeout=COMMAND_SECONDS_MAX,
                check=False,
            )
        except OSError as error:
            raise KeyringError(f"{said} cannot be run ({error.strerror}); correct `key_command`") from error
        except subprocess.TimeoutExpired:
            raise KeyringError(f"{said} did not answer within {COMMAND_SECONDS_MAX:.0f} s") from None
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise KeyringError(
                f"{said} ended with status {done.returncode}: {lines[-1][:200] if lines else 'no reason'}"
            )
        with suppress(binascii.Error):
            answer = base64.b64decode(done.stdout.strip(), validate=True)
            if 0 < len(answer) <= COMMAND_ANSWER_BYTES_MAX:
                return answer
        raise KeyringError(f"{said} did not answer in base64 on its standard output")


def read_key_file(path: Path) -> list[bytes]:
    """The keys of a file, the current one first. Raises KeyringError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read().decode()
    except FileNotFoundError:
        raise KeyringError(
            f"the key-encryption key is not there: {path} does not exist; bring it back, or correct `key_file`. "
            "Without it nobody can read this node's data",
            f"{path} does not exist",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyringError(f"{path}: the key-encryption key cannot be read ({error})") from error
    if not is_private(mode):
        raise KeyringError(
            f"{path}: others than its owner can read this key; `chmod 600` it, and think of replacing it"
        )
    lines = [line.strip() for line in text.splitlines()]
    keys = [_parsed(line, str(path)) for line in lines if line and not line.startswith("#")]
    if not keys:
        raise KeyringError(f"{path} holds no key; it takes one per line, 32 bytes in base64 or hex")
    return keys


def make_key_file(path: Path) -> str:
    """A file with one fresh key; answers the key's name. Raises KeyringError."""
    return _write_keys(path, [os.urandom(KEY_BYTES)])


def put_new_key(path: Path) -> str:
    """Puts a fresh key in front of those of the file, which may not be there yet; answers the key's name."""
    older = read_key_file(path) if path.exists() else []
    return _write_keys(path, [os.urandom(KEY_BYTES), *older])


def _write_keys(path: Path, keys: Sequence[bytes]) -> str:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_durably(path, b"".join(base64.b64encode(key) + b"\n" for key in keys))
    except OSError as error:
        raise KeyringError(f"{path}: the key-encryption key cannot be written ({error})") from error
    return _name_of(keys[0])


def _named(keys: Sequence[bytes]) -> dict[str, bytes]:
    return {_name_of(key): key for key in keys}


def _name_of(key: bytes) -> str:
    """Says which key it is, and nothing of what it is."""
    return hashlib.sha256(b"horologe key-encryption key" + key).hexdigest()[:16]


def _parsed(text: str, place: str) -> bytes:
    text = text.strip()
    for decode in (bytes.fromhex, lambda word: base64.b64decode(word, validate=True)):
        with suppress(ValueError):
            key = decode(text)
            if len(key) == KEY_BYTES:
                return key
    raise KeyringError(f"{place}: a key is not 32 bytes in base64 or hex; `horologe node new-key FILE` makes one")
