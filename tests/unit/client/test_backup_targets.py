"""Places for backups: a folder, and a bucket of a server that speaks S3. Nothing half written has the name of a backup."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from horologe.client import backup_targets, backups
from horologe.client.backup_targets import Target, place_of
from horologe.client.errors import HorologeError, InvalidArgument, NotFound

CLUSTER = "0a1b2c3d-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def s3_address() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new, empty one."""
    if request.param == "folder":
        return f"{tmp_path}/backups/"
    for name, value in (
        ("AWS_ENDPOINT_URL_S3", request.getfixturevalue("s3_address")),
        ("AWS_ACCESS_KEY_ID", "nobody"),
        ("AWS_SECRET_ACCESS_KEY", "nothing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    bucket = f"b{abs(hash(str(tmp_path)))}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/folder/"


def put(target: Target, name: str, *pieces: bytes) -> None:
    upload = target.create(name)
    for piece in pieces:
        upload.write(piece)
    upload.finish()
    with closing(upload.open()) as source:
        assert source.read(1 << 30) == b"".join(pieces)
    upload.keep()


def name(revision: int, cluster: str = CLUSTER) -> str:
    return f"horologe-{cluster[:8]}-20261127T010000Z-r{revision}.backup"


def test_what_is_put_is_read(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_targets, "S3_PART_BYTES", 5 << 20)
    target, none = place_of(place)
    pieces = [b"a" * (3 << 20), b"b" * (3 << 20), b"c"]
    put(target, "monday.backup", *pieces)
    assert (none, target.names()) == ("", ["monday.backup"])
    named, found = place_of(place + "monday.backup")
    with closing(named.open(found)) as source:
        assert source.read(1 << 30) == b"".join(pieces)
    with pytest.raises(InvalidArgument, match=r"monday.backup exists already; nothing was written"):
        target.create("monday.backup")
    with pytest.raises(NotFound, match=r"friday.backup does not exist"):
        target.open("friday.backup")


def test_what_is_discarded_leaves_nothing(place: str) -> None:
    target, _ = place_of(place)
    for is_whole in (False, True):
        upload = target.create("monday.backup")
        upload.write(b"half")
        if is_whole:
            upload.finish()
        elif place.startswith("s3:"):
            assert target.names() == []
        upload.discard()
        assert target.names() == []
    if place.startswith("s3:"):
        bucket = place.split("/")[2]
        assert not boto3.client("s3").list_multipart_uploads(Bucket=bucket).get("Uploads")
    else:
        assert list(Path(place).iterdir()) == []


def test_the_newest_are_kept_and_others_left_alone(place: str) -> None:
    target, _ = place_of(place)
    other = name(3, "ffffffff")
    for each in (name(9), name(10), name(100), other, "monday.backup"):
        put(target, each, b"x")
    assert [each.revision for each in backups.names_of(target)] == [3, 9, 10, 100]
    assert backups.prune(target, CLUSTER, 2) == [name(9)]
    assert set(target.names()) == {name(10), name(100), other, "monday.backup"}
    assert backups.choose(target, "", cluster=CLUSTER) == name(100)
    assert backups.choose(target, "", 99, CLUSTER) == name(10)
    with pytest.raises(NotFound, match="no backup of revision 9 or before; the oldest is of revision 10"):
        backups.choose(target, "", 9, CLUSTER)
    with pytest.raises(HorologeError, match="several clusters: 0a1b2c3d, ffffffff"):
        backups.choose(target, "")


def test_what_killed_backups_have_left_is_deleted_by_the_next_one(tmp_path: Path) -> None:
    target, _ = place_of(str(tmp_path))
    under_way = target.create(name(2))
    left = [name(1) + ".partial", name(3) + ".partial", name(4, "ffffffff") + ".partial", "monday.backup.partial"]
    for each in left:
        (tmp_path / each).write_bytes(b"half")
    for path in tmp_path.iterdir():
        # All but one are of yesterday.
        age_seconds = 0 if path.name == left[1] else 86_400
        os.utime(path, (time.time() - age_seconds,) * 2)
    put(target, name(5), b"x")
    assert backups.prune(target, CLUSTER, 2) == [left[0]]
    assert {path.name for path in tmp_path.iterdir()} == {name(2) + ".partial", *left[1:], name(5)}
    under_way.write(b"whole")
    under_way.finish()
    os.utime(tmp_path / (name(2) + ".partial"), (0, 0))
    assert backups.prune(target, CLUSTER, 2) == [], "it is read back, and then gets its name"
    under_way.keep()
    assert target.names() == [name(2), name(5)]


def test_what_a_place_says_comes_out(place: str, tmp_path: Path) -> None:
    if place.startswith("s3:"):
        wrong, text = "s3://no-such-bucket/", "s3://no-such-bucket: .*NoSuchBucket"
    else:
        (tmp_path / "file").write_text("")
        wrong, text = f"{tmp_path}/file/backups/", "Not a directory"
    target, _ = place_of(wrong)
    with pytest.raises(HorologeError, match=text):
        target.create("monday.backup")
    with pytest.raises(InvalidArgument, match="names no bucket"):
        place_of("s3:///x.backup")
