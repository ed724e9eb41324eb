"""The file of a backup: it comes back as it was, and nothing that was changed, cut, continued or mixed is taken for one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from horologe.client import backup_file, backup_keys
from horologe.client.backup_file import BackupReader, BackupWriter, pack_record, unpack_records
from horologe.client.backup_keys import FileKeys, Passphrase, keys_of
from horologe.client.errors import InvalidArgument, InvalidBackup
from horologe.v1.backup_service_pb2 import Backup, BackupKey

SECRET = bytes(range(32))
KEY = BackupKey(kind="file", name="k", wrapped=b"w")
RECORDS = [(0, b"a", b"1"), (0, b"b", b""), (1, b"c", b"x" * 300)]


def written(secret: bytes = SECRET, *, node: str = "n1", revision: int = 7) -> tuple[bytes, list[bytes], bytes]:
    """Beginning, frames, and end."""
    backup = Backup(format=backup_file.FORMAT, node=node, revision=revision, key=KEY, tables=["t", "u"])
    writer = BackupWriter(backup, secret)
    frames = [writer.frame(table, pack_record(key, value), 1) for table, key, value in RECORDS]
    return writer.begin, frames, writer.end()[0]


def read(data: bytes, secret: bytes = SECRET) -> list[tuple[int, bytes, bytes]]:
    reader = BackupReader(io.BytesIO(data), "it")
    return [(frame.table, *pair) for frame in reader.frames(secret) for pair in unpack_records(frame.packed)]


def test_what_was_written_is_read() -> None:
    begin, frames, end = written()
    assert read(begin + b"".join(frames) + end) == RECORDS


def test_every_byte_counts() -> None:
    begin, frames, end = written()
    data = begin + b"".join(frames) + end
    for position in range(len(data)):
        with pytest.raises(InvalidBackup, match=r"^it "):
            read(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])


def test_what_was_cut_or_continued_is_noticed() -> None:
    begin, frames, end = written()
    data = begin + b"".join(frames) + end
    for length in range(len(data)):
        with pytest.raises(InvalidBackup):
            read(data[:length])
    with pytest.raises(InvalidBackup, match="something was appended"):
        read(data + b"\0")


def test_pieces_of_other_files_or_in_another_order_are_noticed() -> None:
    begin, frames, end = written()
    other_begin, other_frames, other_end = written(revision=8)
    wholes = (
        begin + frames[1] + frames[0] + frames[2] + end,
        begin + frames[0] + frames[2] + end,
        begin + other_frames[0] + b"".join(frames[1:]) + end,
        begin + b"".join(frames) + other_end,
        other_begin + b"".join(frames) + end,
    )
    for data in wholes:
        with pytest.raises(InvalidBackup):
            read(data)


def test_another_key_is_said_to_be_one() -> None:
    begin, frames, end = written()
    with pytest.raises(InvalidBackup, match="does not open: the key is another one"):
        read(begin + b"".join(frames) + end, bytes(32))


def test_other_formats_and_other_files_are_named() -> None:
    with pytest.raises(InvalidBackup, match="is no backup of a cluster"):
        read(b"PK\3\4 an archive of something")
    begin = BackupWriter(Backup(format=9, version="7.1"), SECRET).begin
    with pytest.raises(
        InvalidBackup, match=r"of format 9, but this program reads 1; use that which wrote it \(version 7.1\)"
    ):
        read(begin)


# Keys


def key_file(folder: Path, *lines: str) -> Path:
    path = folder / "key"
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return path


def test_a_key_file_opens_what_it_has_wrapped_also_when_a_newer_key_is_above(tmp_path: Path) -> None:
    old = FileKeys(key_file(tmp_path, "ab" * 32)).wrap(SECRET)
    assert FileKeys(key_file(tmp_path, "# new", "cd" * 32, "", "ab" * 32)).unwrap(old) == SECRET
    with pytest.raises(InvalidBackup, match=f"was made with the key {old.name}, but .* has "):
        FileKeys(key_file(tmp_path, "cd" * 32)).unwrap(old)


def test_a_passphrase_opens_what_it_has_wrapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrapped = Passphrase("twelve letters").wrap(SECRET)
    file = tmp_path / "phrase"
    file.write_text("twelve letters\n")
    given = keys_of(None, file)
    assert given is not None
    assert given.unwrap(wrapped) == SECRET
    monkeypatch.setenv(backup_keys.PASSPHRASE_ENVIRONMENT, "twelve others")
    other = keys_of(None, None)
    assert other is not None
    with pytest.raises(InvalidBackup, match="does not open with this passphrase"):
        other.unwrap(wrapped)
    with pytest.raises(InvalidBackup, match="made with a passphrase, not with a key"):
        FileKeys(key_file(tmp_path, "ab" * 32)).unwrap(wrapped)


def test_keys_of_no_use_are_refused(tmp_path: Path) -> None:
    for lines, text in ((("short",), "not 32 bytes"), (("# none",), "holds no key")):
        with pytest.raises(InvalidArgument, match=text):
            FileKeys(key_file(tmp_path, *lines))
    absent = tmp_path / "absent"
    with pytest.raises(
        InvalidArgument, match=r"cannot be read \(No such file or directory\); .* new-key FILE` makes one"
    ):
        keys_of(absent, None)
    # A new key opens nothing.
    with pytest.raises(
        InvalidArgument, match=r"directory\); give the file with the key that the backup was made with$"
    ):
        keys_of(absent, None, is_to_open=True)
    key_file(tmp_path, "ab" * 32).chmod(0o644)
    with pytest.raises(InvalidArgument, match="chmod 600"):
        FileKeys(tmp_path / "key")
    with pytest.raises(InvalidArgument, match="give 12 or more"):
        Passphrase("short")
    with pytest.raises(InvalidArgument, match="not both"):
        keys_of(tmp_path / "key", tmp_path / "phrase")
    assert keys_of(None, None) is None
