"""Where backups lie: a folder, or a bucket that speaks S3. Nothing half written ever has the name of a backup.

`place_of` reads `backups/`, `backups/monday.backup`, `s3://bucket/folder/`, `s3://bucket/monday.backup`. For S3 the package boto3
is needed (`pip install 'horologe[s3]'`); addresses and credentials are found where boto3 finds them: AWS_ENDPOINT_URL_S3,
AWS_ACCESS_KEY_ID and so on.
"""

from __future__ import annotations

import fcntl
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from horologe.client.errors import HorologeError, InvalidArgument, NotFound

__all__ = ["SUFFIX", "Target", "Upload", "place_of"]

SUFFIX = ".backup"
_PARTIAL = ".partial"
_ABANDONED_SECONDS = 3600.0
"""Nobody has written to it for so long: its writer is dead, also where locks do not tell of those on other machines."""
S3_PREFIX = "s3://"
S3_PART_BYTES = 16 << 20
"""S3 takes 10,000 parts of at least 5 MiB: 160 GB are more than a state can be."""


class Upload(ABC):
    """A backup that is being written. Leave it by `keep` or `discard`."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """The next bytes."""

    @abstractmethod
    def finish(self) -> None:
        """All bytes are there, and durable."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """What was written, to be read back after `finish`."""

    @abstractmethod
    def keep(self) -> None:
        """It is good: it gets its name, if it does not have it yet."""

    @abstractmethod
    def discard(self) -> None:
        """It is not good: nothing of it is left."""


class Target(ABC):
    """A place for backups. Everything raises HorologeError with what the place said."""

    @abstractmethod
    def create(self, name: str) -> Upload:
        """A new backup; InvalidArgument if there is one of that name."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """NotFound if it is not there."""

    @abstractmethod
    def names(self) -> list[str]:
        """All that have the name of a backup."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """One that is too old."""

    def sweep(self, is_own: Callable[[str], bool]) -> list[str]:
        """Deletes what killed backups have left, of those whose names are our own; answers what was deleted."""
        del is_own
        return []

    @abstractmethod
    def text(self, name: str) -> str:
        """Where that one lies, for people."""


def place_of(text: str) -> tuple[Target, str]:
    """The target, and the name in it or nothing. What ends with `.backup` is a name."""
    if text.startswith(S3_PREFIX):
        bucket, _, key = text.removeprefix(S3_PREFIX).partition("/")
        if not bucket:
            raise InvalidArgument(f"{text} names no bucket; give s3://BUCKET/FOLDER/")
        folder, _, name = key.rpartition("/") if key.endswith(SUFFIX) else (key.strip("/"), "", "")
        return S3Target(bucket, f"{folder}/" if folder else ""), name
    path = Path(text)
    return (FolderTarget(path.parent), path.name) if path.suffix == SUFFIX else (FolderTarget(path), "")


@contextmanager
def _said_by(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HorologeError(f"{place}: {error.strerror or error}") from error


class FolderTarget(Target):
    """A folder of files; it is made when the first one comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, name: str) -> Upload:
        path = self._folder / name
        if path.exists():
            raise InvalidArgument(f"{path} exists already; nothing was written")
        with _said_by(str(path)):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return _FileUpload(path)

    def open(self, name: str) -> BinaryIO:
        path = self._folder / name
        if not path.exists():
            raise NotFound(f"{path} does not exist")
        with _said_by(str(path)):
            return path.open("rb")

    def names(self) -> list[str]:
        return sorted(path.name for path in self._folder.glob(f"*{SUFFIX}"))

    def delete(self, name: str) -> None:
        with _said_by(self.text(name)):
            (self._folder / name).unlink(missing_ok=True)

    def sweep(self, is_own: Callable[[str], bool]) -> list[str]:
        left = [
            path.name
            for path in sorted(self._folder.glob(f"*{SUFFIX}{_PARTIAL}"))
            if is_own(path.name.removesuffix(_PARTIAL)) and _is_abandoned(path)
        ]
        for name in left:
            self.delete(name)
        return left

    def text(self, name: str) -> str:
        return str(self._folder / name)


def _is_abandoned(partial: Path) -> bool:
    """Whether its writer is dead: nobody holds it, and nobody has written to it lately."""
    with suppress(OSError), partial.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED_SECONDS
    return False


class _FileUpload(Upload):
    """Under another name, until it is known to be good. Locked as long, so that nobody takes it for one that was left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + _PARTIAL)
        self._partial.unlink(missing_ok=True)
        number = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(number, "wb")
        with suppress(OSError):
            # Not every file system has locks.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, data: bytes) -> None:
        with _said_by(str(self._partial)):
            self._file.write(data)

    def finish(self) -> None:
        with _said_by(str(self._partial)):
            self._file.flush()
            os.fsync(self._file.fileno())
            # What is read back shall come from the disk, as far as anybody can ask for that.
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def open(self) -> BinaryIO:
        with _said_by(str(self._partial)):
            return self._partial.open("rb")

    def keep(self) -> None:
        with _said_by(str(self._path)):
            self._partial.rename(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._file.close()

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)


class S3Target(Target):
    """A bucket, or what begins with one prefix in it."""

    def __init__(self, bucket: str, prefix: str) -> None:
        try:
            import boto3
            import botocore.exceptions
        except ImportError:
            raise InvalidArgument("for s3:// the package boto3 is needed: pip install 'horologe[s3]'") from None
        self._bucket = bucket
        self._prefix = prefix
        self._failures = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
        with self.said():
            self._client: Any = boto3.client("s3")

    def create(self, name: str) -> Upload:
        if name in self.names():
            raise InvalidArgument(f"{self.text(name)} exists already; nothing was written")
        return _S3Upload(self, name)

    def open(self, name: str) -> BinaryIO:
        if name not in self.names():
            raise NotFound(f"{self.text(name)} does not exist")
        body: BinaryIO = self.call("get_object", name)["Body"]
        return body

    def names(self) -> list[str]:
        found: list[str] = []
        with self.said():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                found += [entry["Key"].removeprefix(self._prefix) for entry in page.get("Contents", ())]
        return sorted(name for name in found if name.endswith(SUFFIX) and "/" not in name)

    def delete(self, name: str) -> None:
        self.call("delete_object", name)

    def text(self, name: str) -> str:
        return f"{S3_PREFIX}{self._bucket}/{self._prefix}{name}"

    def call(self, method: str, name: str, **arguments: Any) -> Any:
        """About one object."""
        with self.said():
            return getattr(self._client, method)(Bucket=self._bucket, Key=self._prefix + name, **arguments)

    @contextmanager
    def said(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise HorologeError(f"{S3_PREFIX}{self._bucket}: {error}") from error


class _S3Upload(Upload):
    """In parts, which become an object only all at once."""

    def __init__(self, target: S3Target, name: str) -> None:
        self._target = target
        self._name = name
        self._upload = target.call("create_multipart_upload", name)["UploadId"]
        self._parts: list[dict[str, Any]] = []
        self._waiting = bytearray()
        self._is_whole = False

    def write(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) >= S3_PART_BYTES:
            self._send()

    def finish(self) -> None:
        self._send()
        self._target.call(
            "complete_multipart_upload",
            self._name,
            UploadId=self._upload,
            MultipartUpload={"Parts": self._parts},
        )
        self._is_whole = True

    def open(self) -> BinaryIO:
        return self._target.open(self._name)

    def keep(self) -> None:
        """It has its name since it was whole."""

    def discard(self) -> None:
        with suppress(HorologeError):
            if self._is_whole:
                self._target.delete(self._name)
            else:
                self._target.call("abort_multipart_upload", self._name, UploadId=self._upload)

    def _send(self) -> None:
        number = len(self._parts) + 1
        sent = self._target.call(
            "upload_part", self._name, UploadId=self._upload, PartNumber=number, Body=bytes(self._waiting)
        )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        self._waiting.clear()
