"""The keyring: data keys are on the disk, wrapped, before anything is encrypted with them, and open with the right key only."""

from __future__ import annotations

import base64
import os
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from horologe.client.cli.main import build
from horologe.client.errors import InvalidBackup
from horologe.node import key_sources
from horologe.node.config import ConfigError, NodeConfig
from horologe.node.config_sources import load_config
from horologe.node.key_sources import (
    CommandKeys,
    EnvironmentKeys,
    FileKeys,
    KeyringError,
    KeySource,
    Wrapped,
    key_source_of,
    put_new_key,
    read_key_file,
)
from horologe.node.keyring import Keyring
from horologe.node.restore import NodeKeys as BackupKeys
from horologe.raft.cipher import new_data_key
from horologe.raft.store import Store, StoreError

CONTEXT = b"job\0\1"
HEX_KEY = "ab" * 32
WRAPPER = """
import base64, sys
data = base64.b64decode(sys.stdin.read())
assert sys.argv[1] == "an argument", sys.argv
if sys.argv[2] == "wrap":
    data = b"wrapped:" + bytes(byte ^ 0x55 for byte in data)
else:
    assert data.startswith(b"wrapped:")
    data = bytes(byte ^ 0x55 for byte in data[8:])
print(base64.b64encode(data).decode())
"""


def wrapper(folder: Path, program: str = WRAPPER) -> CommandKeys:
    path = folder / "wrapper.py"
    path.write_text(program)
    return CommandKeys((sys.executable, str(path), "an argument"))


def source_of(kind: str, folder: Path) -> KeySource:
    if kind == "file":
        return FileKeys(folder / "node.key")
    return EnvironmentKeys(HEX_KEY) if kind == "environment" else wrapper(folder)


def keyring_of(folder: Path, source: KeySource) -> Keyring:
    (folder / "state").mkdir(exist_ok=True)
    return Keyring(folder / "state", source, lambda: 1_000)


@pytest.mark.parametrize("kind", ["file", "environment", "command"])
def test_what_was_sealed_opens_in_the_next_life_under_a_new_key(tmp_path: Path, kind: str) -> None:
    first = keyring_of(tmp_path, source_of(kind, tmp_path))
    assert first.source.name == kind
    stored = first.open().seal(CONTEXT, b"x")
    second = keyring_of(tmp_path, source_of(kind, tmp_path))
    cipher = second.open()
    assert cipher.unseal(CONTEXT, stored) == b"x"
    assert [entry.key for entry in second.entries] == first.cipher.keys
    again = cipher.seal(CONTEXT, b"x")
    assert again[:4] != stored[:4]
    third = keyring_of(tmp_path, source_of(kind, tmp_path))
    assert [entry.key.number for entry in third.entries] == []
    assert third.open().unseal(CONTEXT, again) == b"x"
    content = (tmp_path / "state" / "keyring").read_bytes()
    for key in third.cipher.keys:
        assert key.secret not in content
        assert base64.b64encode(key.secret) not in content
    assert stat.S_IMODE((tmp_path / "state" / "keyring").stat().st_mode) == 0o600


def test_a_key_is_on_the_disk_before_anything_is_sealed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = keyring_of(tmp_path, FileKeys(tmp_path / "node.key"))
    cipher = keyring.open()
    before = (tmp_path / "state" / "keyring").read_bytes()
    with monkeypatch.context() as patch:

        def fail(handle: int) -> None:
            raise OSError("no space")

        patch.setattr(key_sources.os, "fsync", fail)
        with pytest.raises(KeyringError, match="cannot be written"):
            cipher.seal(CONTEXT, b"x")
    assert (tmp_path / "state" / "keyring").read_bytes() == before
    assert (keyring.entries, cipher.current) == ((), None)
    cipher.seal(CONTEXT, b"x")
    assert (tmp_path / "state" / "keyring").read_bytes() != before


def test_opening_changes_nothing(tmp_path: Path) -> None:
    keyring_of(tmp_path, FileKeys(tmp_path / "node.key")).open().seal(CONTEXT, b"x")
    before = (tmp_path / "state" / "keyring").read_bytes()
    keyring_of(tmp_path, FileKeys(tmp_path / "node.key")).open()
    assert (tmp_path / "state" / "keyring").read_bytes() == before


def test_a_wrong_a_missing_and_a_readable_key_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keyring_of(tmp_path, FileKeys(path)).open().seal(CONTEXT, b"x")
    right, before = path.read_bytes(), (tmp_path / "state" / "keyring").read_bytes()

    def refused(text: str) -> None:
        with pytest.raises(KeyringError, match=text):
            keyring_of(tmp_path, FileKeys(path)).open()
        assert (tmp_path / "state" / "keyring").read_bytes() == before

    path.unlink()
    refused("does not exist")
    assert not path.exists()
    put_new_key(path)
    refused("are wrapped with the key-encryption key [0-9a-f]{16}, but `key_file` .* has [0-9a-f]{16}")
    path.write_bytes(right)
    path.chmod(0o640)
    refused("others than its owner can read this key")
    path.chmod(0o600)
    path.write_text("not a key\n")
    refused("a key is not 32 bytes in base64 or hex")
    path.write_text("# only words\n\n")
    refused("holds no key")
    path.write_bytes(right)
    keyring_of(tmp_path, FileKeys(path)).open()


def test_a_keyring_that_is_gone_or_damaged_is_refused_where_data_is(tmp_path: Path) -> None:
    path, state = tmp_path / "node.key", tmp_path / "state"
    store = Store(state, "n1", bytes_max=1 << 26, open_cipher=Keyring(state, FileKeys(path), lambda: 0).open)
    store.tables.job.put(b"k", b"v")
    store.commit()
    store.close()
    whole = (state / "keyring").read_bytes()

    def refused(text: str) -> None:
        with pytest.raises(StoreError, match=text):
            Store(state, "n1", bytes_max=1 << 26, open_cipher=Keyring(state, FileKeys(path), lambda: 0).open)

    (state / "keyring").unlink()
    refused("is gone: without the keys in it nobody can read")
    assert not (state / "keyring").exists()
    (state / "keyring").write_bytes(whole[: len(whole) // 2])
    refused("is damaged")
    (state / "keyring").write_bytes(whole.replace(b'"number": ', b'"number": 99999999999'))
    refused("is damaged")
    (state / "keyring").write_bytes(b"[" * 100_000)
    refused("is damaged")
    (state / "keyring").write_bytes(whole.replace(b'"format": 1', b'"format": 2'))
    refused("of another format")
    wrapped = whole.index(b'"wrapped": "') + 20
    (state / "keyring").write_bytes(whole[:wrapped] + (b"B" if whole[wrapped] == 65 else b"A") + whole[wrapped + 1 :])
    refused("does not unwrap")
    (state / "keyring").write_bytes(whole)
    store = Store(state, "n1", bytes_max=1 << 26, open_cipher=Keyring(state, FileKeys(path), lambda: 0).open)
    assert store.tables.job.get(b"k") == b"v"
    store.close()


def test_a_new_key_encryption_key_wraps_what_is_made_and_what_is_wrapped_again(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keyring = keyring_of(tmp_path, FileKeys(path))
    stored = keyring.open().seal(CONTEXT, b"x")
    old = keyring.entries[0].wrapped.wrapped_with
    new = put_new_key(path)
    assert [key_sources._name_of(key) for key in read_key_file(path)] == [new, old]
    keyring.wrap_again()
    assert [entry.wrapped.wrapped_with for entry in keyring.entries] == [new]
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert keyring_of(tmp_path, FileKeys(path)).open().unseal(CONTEXT, stored) == b"x"


def test_a_start_wraps_again_what_an_older_key_wraps(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keyring_of(tmp_path, FileKeys(path)).open().seal(CONTEXT, b"x")
    new = put_new_key(path)
    keyring = keyring_of(tmp_path, FileKeys(path))
    keyring.open().seal(CONTEXT, b"x")
    assert [entry.wrapped.wrapped_with for entry in keyring.entries] == [new, new]


def test_keys_of_another_node_are_kept_and_a_number_that_is_taken_is_refused(tmp_path: Path) -> None:
    keyring = keyring_of(tmp_path, EnvironmentKeys(HEX_KEY))
    keyring.open().seal(CONTEXT, b"x")
    own, foreign = keyring.entries[0].key, new_data_key(now_ms=7)
    keyring.take_in([foreign, own], tmp_path / "a")
    keyring.take_in([foreign], tmp_path / "b")
    assert [entry.key for entry in keyring.entries] == [own, foreign]
    assert keyring.cipher.current == own.number
    with pytest.raises(KeyringError, match="has the number"):
        keyring.take_in([new_data_key()._replace(number=own.number)], tmp_path / "c")
    reopened = keyring_of(tmp_path, EnvironmentKeys(HEX_KEY))
    assert reopened.open().keys == [own, foreign]


def test_a_rotation_is_remembered_until_the_old_keys_are_destroyed(tmp_path: Path) -> None:
    keyring = keyring_of(tmp_path, EnvironmentKeys(HEX_KEY))
    keyring.open().seal(CONTEXT, b"x")
    old = keyring.entries[0].key.number
    keyring.begin_rotation()
    reopened = keyring_of(tmp_path, EnvironmentKeys(HEX_KEY))
    reopened.open()
    assert reopened.is_rotating
    assert len(reopened.entries) == 2
    keyring.destroy([old, keyring.cipher.current or 0])
    reopened.open()
    assert not keyring_of(tmp_path, EnvironmentKeys(HEX_KEY)).is_rotating
    assert [entry.key.number for entry in keyring.entries] == [keyring.cipher.current]
    assert str(old) not in (tmp_path / "state" / "keyring").read_text()


def test_keys_of_a_state_that_may_still_come_are_not_destroyed(tmp_path: Path) -> None:
    """A state that was fetched is put in place when the step thread comes to it; its keys must be there then, and later."""
    keyring = keyring_of(tmp_path, EnvironmentKeys(HEX_KEY))
    keyring.open().seal(CONTEXT, b"x")
    foreign, folder = new_data_key(), tmp_path / "incoming"
    folder.mkdir()
    keyring.take_in([foreign], folder)
    assert not keyring.destroy([foreign.number])
    assert foreign in [entry.key for entry in keyring.entries]
    folder.rmdir()
    # It has become ours in the meantime: what was found before says nothing any more.
    assert not keyring.destroy([foreign.number], lambda: False)
    assert foreign in [entry.key for entry in keyring.entries]
    assert keyring.destroy([foreign.number])
    assert foreign not in [entry.key for entry in keyring.entries]


def test_whoever_looks_at_the_keys_does_not_wait_for_a_command(tmp_path: Path) -> None:
    """The event loop looks, and a key management service may take its time."""
    keyring = keyring_of(tmp_path, EnvironmentKeys(HEX_KEY))
    keyring.open().seal(CONTEXT, b"x")
    wrap, looked = keyring.source.wrap, threading.Event()

    def slow(secret: bytes, context: bytes) -> Wrapped:
        assert looked.wait(60), "whoever looks waits for the lock that is held here"
        return wrap(secret, context)

    keyring.source.wrap = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as thread:
        again = thread.submit(keyring.wrap_again)
        assert len(keyring.entries) == 1
        looked.set()
        again.result()


def test_what_a_command_does_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(program: str, text: str) -> None:
        with pytest.raises(KeyringError, match=text):
            keyring_of(tmp_path, wrapper(tmp_path, program)).open().seal(CONTEXT, b"x")

    refused("import sys; sys.exit('the vault is sealed')", "wrap ended with status 1: the vault is sealed")
    refused("import sys; sys.exit(3)", "wrap ended with status 3: no reason")
    refused("print('no base64!')", "did not answer in base64")
    refused("", "did not answer in base64")
    with monkeypatch.context() as impatient:
        impatient.setattr(key_sources, "COMMAND_SECONDS_MAX", 0.2)
        refused("import threading; threading.Event().wait()", "did not answer within 0 s")
    with pytest.raises(KeyringError, match="cannot be run"):
        CommandKeys(("/nowhere/at/all",)).wrap(bytes(32), b"")
    short = wrapper(tmp_path, "import base64; print(base64.b64encode(b'short').decode())")
    with pytest.raises(KeyringError, match="answered 5 bytes instead of 32"):
        short.unwrap(short.wrap(bytes(32), b""), b"")
    put_new_key(tmp_path / "node.key")
    with pytest.raises(KeyringError, match="not by a command"):
        short.unwrap(FileKeys(tmp_path / "node.key").wrap(bytes(32), b""), b"")


def test_a_backup_that_the_keys_of_a_node_do_not_open_is_not_called_this_nodes_data(tmp_path: Path) -> None:
    key = BackupKeys(EnvironmentKeys(HEX_KEY)).wrap(bytes(32))
    assert BackupKeys(EnvironmentKeys(HEX_KEY)).unwrap(key) == bytes(32)
    path = tmp_path / "node.key"

    def refused(source: KeySource, found: str) -> None:
        with pytest.raises(
            InvalidBackup, match=f"^the backup was made with the key {key.name}, which .* --key-file"
        ) as caught:
            BackupKeys(source).unwrap(key)
        assert str(caught.value).endswith(f"({found})")
        assert "this node's data" not in str(caught.value)

    refused(FileKeys(path), f"{path} does not exist")
    name = put_new_key(path)
    refused(FileKeys(path), f"`key_file` {path} has {name}")
    refused(CommandKeys(("wrap",)), "`key_command` wrap is asked instead of a key")


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    plain = NodeConfig(name="n1", data_dir=tmp_path)
    assert key_source_of(plain).name == "file"
    assert key_source_of(plain.model_copy(update={"key_command": ("wrap",)})).name == "command"
    secret = load_config(None, {"name": "n1"}, {"HOROLOGE_NODE_KEY": HEX_KEY})
    assert key_source_of(secret).name == "environment"
    assert HEX_KEY not in f"{secret!r} {secret}"
    words = load_config(None, {"name": "n1"}, {"HOROLOGE_NODE_KEY_COMMAND": '["a", "b"]'})
    assert words.key_command == ("a", "b")
    with pytest.raises(ConfigError, match="HOROLOGE_NODE_KEY_COMMAND: 'a b' is not JSON"):
        load_config(None, {"name": "n1"}, {"HOROLOGE_NODE_KEY_COMMAND": "a b"})
    with pytest.raises(ConfigError, match="key_file and key exclude one another"):
        load_config(None, {"name": "n1", "key_file": tmp_path}, {"HOROLOGE_NODE_KEY": HEX_KEY})
    (tmp_path / "node.toml").write_text(f'name = "n1"\nkey = "{HEX_KEY}"\n')
    with pytest.raises(ConfigError, match="does not belong into this file") as caught:
        load_config(tmp_path / "node.toml", {}, {})
    assert HEX_KEY not in str(caught.value)


def test_several_keys_in_the_environment(tmp_path: Path) -> None:
    del tmp_path
    older, newer = os.urandom(32), os.urandom(32)
    wrapped = EnvironmentKeys(older.hex()).wrap(b"s" * 32, CONTEXT)
    both = EnvironmentKeys(f"{base64.b64encode(newer).decode()}, {older.hex()}")
    assert both.unwrap(wrapped, CONTEXT) == b"s" * 32
    assert both.current != wrapped.wrapped_with
    with pytest.raises(KeyringError, match="does not unwrap"):
        both.unwrap(wrapped, b"another")
    with pytest.raises(KeyringError, match="holds no key"):
        EnvironmentKeys(" , ").wrap(b"", b"")


def test_the_command_puts_a_fresh_key_in_front(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "node.key"
    made = CliRunner().invoke(build(), ["node", "new-key", str(path)])
    assert made.exit_code == 0, made.output
    [first] = read_key_file(path)
    assert key_sources._name_of(first) in made.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert CliRunner().invoke(build(), ["node", "new-key", str(path)]).exit_code == 0
    assert read_key_file(path)[1:] == [first]
    path.chmod(0o644)
    refused = CliRunner().invoke(build(), ["node", "new-key", str(path)])
    assert refused.exit_code == 1
    assert "others than its owner" in refused.stderr
