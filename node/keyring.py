"""The data keys of this node, wrapped, in a file of their own.

Here belongs which data keys there are, and that a key is on the disk before anything is encrypted with it. How they are wrapped
is in key_sources.py, what they encrypt in raft/cipher.py, when they are replaced in encryption.py. The file is not a part of the
state: LMDB keeps old pages, and a wrapped key that was thrown away would still lie in them.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from horologe.node.key_sources import KeyringError, KeySource, Wrapped
from horologe.node.private_files import replace_durably
from horologe.raft.cipher import Cipher, DataKey, new_data_key

FILE_NAME = "keyring"
FORMAT = 1
_CONTEXT = Struct(">Iq")


@dataclass(frozen=True, slots=True)
class KeyringEntry:
    """A data key and how it lies on the disk."""

    key: DataKey
    wrapped: Wrapped


class Keyring:
    """The data keys of one folder. Any thread may use it; what changes it may block, and raises KeyringError."""

    def __init__(
        self,
        folder: Path,
        source: KeySource,
        wall_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`folder` is that of the state. Nothing is read before `open`."""
        self._random_bytes = random_bytes
        self.source = source
        self._path = folder / FILE_NAME
        self._wall_ms = wall_ms
        self._lock = threading.RLock()
        self._entries: tuple[KeyringEntry, ...] = ()
        """Replaced as a whole."""
        self._is_rotating = False
        self._arriving: dict[Path, frozenset[int]] = {}
        """Folders with states of other nodes that may become ours, and the numbers of the keys that open them."""
        self.cipher = Cipher()

    def open(self) -> Cipher:
        """Reads the file, or makes it for a folder without data. Whoever calls has the folder to itself.

        Nothing is changed unless the folder is new: the first record that is sealed brings the first new key.
        """
        with self._lock:
            if self._path.exists():
                self._read()
            else:
                data = self._path.with_name("data.mdb")
                if data.exists() and data.stat().st_size:
                    raise KeyringError(
                        f"{self._path} is gone: without the keys in it nobody can read {data}. Restore both from the same "
                        "backup, or replace this node by one with a new name (`horologe cluster replace`)"
                    )
                self.source.prepare()
                # A key that is there but cannot be used is better found now.
                self.source.reload()
                self._save([], is_rotating=False)
            self.cipher = Cipher([entry.key for entry in self._entries], self._make, self._random_bytes)
            return self.cipher

    @property
    def entries(self) -> tuple[KeyringEntry, ...]:
        """Oldest first. Waits for nobody, because the event loop asks: who holds the lock may wait for a command."""
        return self._entries

    @property
    def is_rotating(self) -> bool:
        """Somebody wants all keys but the current one to go, and they have not gone yet."""
        return self._is_rotating

    def take_in(self, keys: Sequence[DataKey], folder: Path) -> None:
        """Keys of another node, whose state lies in `folder`. As long as it does, they are not destroyed."""
        with self._lock:
            known = {entry.key.number: entry.key for entry in self._entries}
            for key in keys:
                if key.number in known and known[key.number].secret != key.secret:
                    raise KeyringError(
                        f"another node's data key has the number {key.number}, as one of this node's; "
                        "`horologe cluster rotate-keys` gives all of them new ones"
                    )
            self._arriving[folder] = frozenset(key.number for key in keys)
            fresh = [key for key in keys if key.number not in known]
            if fresh:
                self._save([*self._entries, *map(self._wrapped, fresh)], is_rotating=self._is_rotating)
        # Not under the lock: who seals may hold the cipher's and wait for ours.
        self.cipher.add(fresh)

    def begin_rotation(self) -> None:
        """A new key for what is written from now on; the others are to go, also after a restart."""
        with self._lock:
            self._save(self._entries, is_rotating=True)
        # Not under the lock: who seals may hold the cipher's and wait for ours.
        self.cipher.renew()

    def destroy(self, numbers: Iterable[int], is_still_so: Callable[[], bool] = lambda: True) -> bool:
        """Nothing on the disk is encrypted with these: they go, and when no other one is left, the rotation is over.

        `is_still_so` is asked last whether that is still true. Answers whether it is, and all of them could go. The process still
        knows them, for who reads an older state at the moment.
        """
        with self._lock:
            # Its folder is removed after the state in it has become ours, and `is_still_so` knows of that.
            self._arriving = {folder: held for folder, held in self._arriving.items() if folder.exists()}
            held = frozenset[int]().union(*self._arriving.values())
            if not is_still_so():
                return False
            wanted = set(numbers) - {self.cipher.current}
            left = [entry for entry in self._entries if entry.key.number not in wanted - held]
            self._save(left, is_rotating=self._is_rotating and len(left) > 1)
            return not wanted & held

    def wrap_again(self) -> None:
        """Wraps all keys with the key-encryption key that is current now."""
        with self._lock:
            self.source.reload()
            self._save([self._wrapped(entry.key) for entry in self._entries], is_rotating=self._is_rotating)

    def _make(self) -> DataKey:
        with self._lock:
            key = new_data_key((entry.key.number for entry in self._entries), self._wall_ms(), self._random_bytes)
            # What an older key-encryption key wraps is wrapped by the current one from now on.
            older = [
                entry if entry.wrapped.wrapped_with == self.source.current else self._wrapped(entry.key)
                for entry in self._entries
            ]
            self._save([*older, self._wrapped(key)], is_rotating=self._is_rotating)
            return key

    def _wrapped(self, key: DataKey) -> KeyringEntry:
        return KeyringEntry(key, self.source.wrap(key.secret, _CONTEXT.pack(key.number, key.create_time_ms)))

    def _save(self, entries: Sequence[KeyringEntry], *, is_rotating: bool) -> None:
        content = {
            "format": FORMAT,
            "rotating": is_rotating,
            "keys": [
                {
                    "number": entry.key.number,
                    "create_time_ms": entry.key.create_time_ms,
                    "wrapped_with": entry.wrapped.wrapped_with,
                    "wrapped": base64.b64encode(entry.wrapped.wrapped).decode(),
                }
                for entry in entries
            ],
        }
        try:
            replace_durably(self._path, json.dumps(content, indent=1).encode() + b"\n")
        except OSError as error:
            raise KeyringError(f"{self._path}: the keys cannot be written ({error})") from error
        self._entries, self._is_rotating = tuple(entries), is_rotating

    def _read(self) -> None:
        entries: list[KeyringEntry] = []
        self.source.reload()
        for number, create_time_ms, context, wrapped in self._read_file():
            secret = self.source.unwrap(wrapped, context)
            entries.append(KeyringEntry(DataKey(number, create_time_ms, secret), wrapped))
        self._entries = tuple(entries)

    def _read_file(self) -> list[tuple[int, int, bytes, Wrapped]]:
        """Number, time, what both are bound to a key by, and the key."""
        try:
            text = self._path.read_bytes()
        except OSError as error:
            raise KeyringError(f"{self._path}: the keys cannot be read ({error})") from error
        with suppress(ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError):
            content = json.loads(text)
            if content["format"] == FORMAT:
                self._is_rotating = bool(content["rotating"])
                return [
                    (
                        int(one["number"]),
                        int(one["create_time_ms"]),
                        _CONTEXT.pack(int(one["number"]), int(one["create_time_ms"])),
                        Wrapped(str(one["wrapped_with"]), base64.b64decode(one["wrapped"], validate=True)),
                    )
                    for one in content["keys"]
                ]
        raise KeyringError(
            f"{self._path} is damaged or of another format: restore it from a backup, together with the folder that it lies in"
        )
