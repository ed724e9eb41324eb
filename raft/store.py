"""The tables over LMDB: one environment per node, one write transaction per step, one fsync per commit.

Here belongs everything that touches lmdb. The replicated tables, the Raft log and this node's own marks (term and vote,
commit index, name) lie in one environment, so that one commit makes all of them durable together. The write transaction
belongs to the thread that steps; readers on other threads take their own snapshot with `read`.

Every record is encrypted or carries a checksum: those of the replicated tables and the identity here (see sealed.py), those of
the log and of its marks in journal.py. Commands in the log are encrypted; index, term and marks are not.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, cast

import lmdb

from horologe.raft.cipher import Cipher, UnsealError, in_memory
from horologe.raft.recent import Recent
from horologe.raft.records import PAIR, U64
from horologe.raft.sealed import (
    RESTORE,
    CorruptStateError,
    SealedTables,
    StoreError,
    context_of,
    seal,
    unseal,
)
from horologe.raft.tables import SET_TABLE_NAMES, TABLE_NAMES, Tables

__all__ = [
    "FORMAT",
    "CorruptStateError",
    "StateGoneError",
    "StateSnapshot",
    "Store",
    "StoreError",
    "check_folder",
    "is_in_use",
]

FORMAT = 6
"""3: every record carries a checksum. 4: jobs and executions carry all policies. 5: rights, secrets and encryption.
6: notifications."""
FORMATS = {6: "0.1"}
"""Since which release; see docs/formats.md. Those before were never in one."""
STORE_BYTES_MAX = 1 << 36
"""Address space, not disk: the file grows as it is filled."""
LOG, _LOCAL = "log", "local"
_LOG_CONTEXT = context_of(LOG)
_IDENTITY = "identity"
_OWNER_FILE = "owner"
"""Locked by the process that has the folder open; once the folder holds data, its first line is the node's name."""


META_PAGES = 2
"""Of LMDB's own, at the beginning of the file."""


class Usage(NamedTuple):
    """How much there is in the file."""

    file_bytes: int
    limit_bytes: int
    page_bytes: int
    pages: int
    free_pages: int
    """In no table: about all of them are free. Large sets of timers count here too: LMDB does not say what they take."""


class _Reading:
    """A read transaction of a store, as a context manager. Every call of the API opens several: a generator costs twice this."""

    __slots__ = ("_store", "transaction")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.transaction: Any = None

    def __enter__(self) -> Tables:
        self.transaction = self._store._begin_reading()
        return self._store._tables_of(self.transaction)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.transaction.abort()
        finally:
            self._store._end_reading(error)


class Store:
    """One node's data folder."""

    def __init__(
        self,
        folder: Path,
        node: str,
        *,
        bytes_max: int = STORE_BYTES_MAX,
        adopt: bool = False,
        id_: str = "",
        open_cipher: Callable[[], Cipher] = in_memory,
    ) -> None:
        """Opens or makes the folder. Raises StoreError if it is another node's, damaged, full, or in use.

        `adopt`: it is a copy of another node's, and becomes this node's. `id_`: for a folder that gets its id now; by default
        a random one. `open_cipher` is called when nobody else has the folder open any more, before anything of it is read; what
        it raises comes out here. By default the data can be read as long as this process lives: for tests and measurements.
        """
        self.folder = folder
        self._adopt = adopt
        self.id = id_ or secrets.token_hex(8)
        """Random, made with the folder: another folder under the same name knows nothing of what this one promised."""
        self.node = node
        self._bytes_max = bytes_max
        self._transaction: Any = None
        self._tables: Tables | None = None
        self._readers = threading.Condition()
        self._reader_count = 0
        self._copies: set[socket.socket] = set()
        self._untouched: set[StateSnapshot] = set()
        """States that are on their way to somebody."""
        self._closed = False
        self._replacing = False
        self.commits = 0
        self.replacements = 0
        """How often other files have taken the place of its own."""
        self.around_commit: Callable[[Callable[[], None]], None] = _plainly
        """Runs each commit; whoever owns the store may measure it there."""
        self.report: Callable[[StoreError], None] = _nobody_to_tell
        """Called on the reader's thread when `read` meets a damaged record: whoever owns the store ends the node."""
        self._owner_file = self._take_possession()
        try:
            self.cipher = open_cipher()
            self._open()
            os.pwrite(self._owner_file, f"{node}\n".encode(), 0)
        except BaseException:
            os.close(self._owner_file)
            raise

    # One step's transaction

    @property
    def tables(self) -> Tables:
        """The tables of the current write transaction, which begins when they are first asked for."""
        if self._tables is None:
            self._tables = self._tables_of(self._write(), self._recent)
        return self._tables

    @property
    def dirty(self) -> bool:
        return self._transaction is not None

    def commit(self) -> None:
        """Makes all of the step durable. Raises StoreError when the disk says no: nothing of the step may leave then."""
        if self._transaction is None:
            return
        transaction, self._transaction, self._tables = self._transaction, None, None
        try:
            self.around_commit(transaction.commit)
        except lmdb.Error as error:
            raise StoreError(f"{self.folder}: the disk did not take a commit ({error}); this node stops") from error
        self.commits += 1

    def abort(self) -> None:
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = self._tables = None
            self._recent = Recent()

    def read(self) -> AbstractContextManager[Tables]:
        """The last committed state, unchanging while the context is open. For any thread; keep it short.

        Waits while the files are being replaced, so a reader must not begin another read inside. What is damaged raises
        CorruptStateError, and is told to `report`, since not everybody who reads may end the node.
        """
        return _Reading(self)

    @property
    def wants_no_readers(self) -> bool:
        """Somebody waits until all readers are gone."""
        return self._replacing or self._closed

    def check(self) -> None:
        """Reads every record of the replicated tables, and looks each one up. Raises CorruptStateError.

        Takes about a second per million records. Looking up finds what reading in order does not: damage in an inner page of
        the tree, behind which a record is there and cannot be found.
        """
        with (reading := _Reading(self)):
            for name in (*TABLE_NAMES, *SET_TABLE_NAMES):
                self._check_table(reading.transaction, name)

    def _check_table(self, transaction: Any, name: str) -> None:
        table, database = getattr(self._tables_of(transaction), name), self._databases[name]
        finder = transaction.cursor(db=database)
        count, last = 0, (b"", b"")
        for key, value in table.scan():
            found = finder.set_key_dup(key, seal(name, key, value)) if name in SET_TABLE_NAMES else finder.set_key(key)
            if not found or (count and (key, value) <= last):
                raise CorruptStateError.of(name, key)
            count, last = count + 1, (key, value)
        if count != transaction.stat(database)["entries"]:
            raise CorruptStateError(f"{self.folder}: table {name!r} has lost records; {RESTORE}")

    def _begin_reading(self) -> Any:
        with self._readers:
            if self._replacing:
                self._readers.wait_for(lambda: not self._replacing)
            if self._closed:
                raise StoreError(f"{self.folder}: the store is closed")
            self._reader_count += 1
        try:
            return self._environment.begin()
        except BaseException as error:
            self._end_reading(error)
            raise

    def _end_reading(self, error: BaseException | None) -> None:
        with self._readers:
            self._reader_count -= 1
            if self.wants_no_readers:
                self._readers.notify_all()
        if isinstance(error, CorruptStateError):
            self.report(error)
        elif isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError)):
            damage = CorruptStateError(f"{self.folder}: the file is damaged ({error}); {RESTORE}")
            self.report(damage)
            raise damage from error

    # The Raft log and this node's marks (see journal.LogStore)

    def log_get_all(self) -> Iterable[tuple[int, int, bytes]]:
        with self._environment.begin() as transaction:
            for key, value in transaction.cursor(db=self._databases[LOG]):
                if len(key) != U64.size or len(value) < U64.size:
                    raise CorruptStateError.of(LOG, key)
                try:
                    command = self.cipher.unseal(_LOG_CONTEXT + key + value[:8], value[8:])
                except UnsealError as error:
                    raise CorruptStateError.of(LOG, key, str(error)) from error
                yield U64.unpack(key)[0], U64.unpack(value[:8])[0], command

    def log_put(self, index: int, term: int, command: bytes) -> None:
        sealed = self.cipher.seal(_LOG_CONTEXT + PAIR.pack(index, term), command)
        self._write().put(U64.pack(index), U64.pack(term) + sealed, db=self._databases[LOG])

    def log_delete_from(self, index: int) -> None:
        cursor = self._write().cursor(db=self._databases[LOG])
        if cursor.set_range(U64.pack(index)):
            while cursor.key():
                cursor.delete()

    def log_delete_to(self, index: int) -> None:
        cursor = self._write().cursor(db=self._databases[LOG])
        while cursor.first() and U64.unpack(cursor.key())[0] < index:
            cursor.delete()

    def meta_get(self, key: str) -> bytes | None:
        if self._transaction is not None:
            return cast("bytes | None", self._transaction.get(key.encode(), db=self._databases[_LOCAL]))
        with self._environment.begin() as transaction:
            return transaction.get(key.encode(), db=self._databases[_LOCAL])

    def meta_put(self, key: str, value: bytes) -> None:
        self._write().put(key.encode(), value, db=self._databases[_LOCAL])

    # As it is stored (see resealing.py)

    def stored(self, name: str) -> tuple[Any, Any]:
        """The step's transaction and the database of a table or of the log: values in there are sealed."""
        return self._write(), self._databases[name]

    def counts(self, names: Iterable[str]) -> dict[str, int]:
        """Records of tables and of the log. For any thread."""
        with (reading := _Reading(self)):
            return {name: int(reading.transaction.stat(self._databases[name])["entries"]) for name in names}

    def usage(self) -> Usage:
        """How full the file is. For any thread."""
        with (reading := _Reading(self)):
            stat = reading.transaction.stat
            tables = [self._environment.stat(), *(stat(database) for database in self._databases.values())]
            pages = self._environment.info()["last_pgno"] + 1
        used = sum(table[kind] for table in tables for kind in ("branch_pages", "leaf_pages", "overflow_pages"))
        return Usage(
            file_bytes=(self.folder / "data.mdb").stat().st_size,
            limit_bytes=self._bytes_max,
            page_bytes=tables[0]["psize"],
            pages=pages,
            free_pages=max(0, pages - used - META_PAGES),
        )

    # Whole copies

    def copy_to(self, folder: Path) -> None:
        """A consistent copy of everything, made while the node goes on. For any thread."""
        folder.mkdir(mode=0o700, parents=True)
        # Not `compact`: with LMDB 0.9.36 that ends the process (SIGSEGV) once a bucket of timers has outgrown a page.
        self._environment.copy(str(folder), compact=False)

    def copy_into(self, sink: socket.socket) -> None:
        """As `copy_to`, into a socket. Raises StoreError when the other end is closed before the end.

        Whoever takes the copy may be slow, so nobody waits for it: when the files are to be replaced, or the store is closed, the
        socket is shut down and the copy fails.
        """
        # Counted as a reader: the files must not be replaced under it.
        with self.read(), self._giving_way(sink):
            try:
                self._environment.copyfd(sink.fileno(), compact=False)
            except lmdb.Error as error:
                raise StoreError(f"{self.folder}: the state could not be copied ({error})") from error

    def _claim(self, snapshot: StateSnapshot) -> bool:
        """Whether the state is still there. From now on whoever asked releases it."""
        with self._readers:
            is_there = snapshot in self._untouched
            self._untouched.discard(snapshot)
            return is_there

    @contextmanager
    def _giving_way(self, sink: socket.socket) -> Iterator[None]:
        with self._readers:
            if self.wants_no_readers:
                raise StoreError(f"{self.folder}: the state is not to be copied now")
            self._copies.add(sink)
        try:
            yield
        finally:
            with self._readers:
                self._copies.discard(sink)

    def _await_no_readers(self) -> None:
        """Holding `_readers`, with new ones kept out. Waits for nobody who might wait for a new reader."""
        for snapshot in list(self._untouched):
            snapshot.release()
        for sink in self._copies:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)
        self._readers.wait_for(lambda: self._reader_count == 0)

    def replace_with(self, folder: Path) -> None:
        """Takes the files of `folder` for its own. The caller has prepared them (see snapshot.py) and owns the step."""
        self.abort()
        with self._readers:
            self._replacing = True
            self._await_no_readers()
        try:
            self._take_files(folder)
        except BaseException:
            self._closed = True
            raise
        finally:
            with self._readers:
                self._replacing = False
                self._readers.notify_all()

    def _take_files(self, folder: Path) -> None:
        # Before the folder is gone: see node/encryption.py.
        self.replacements += 1
        self._environment.close()
        (folder / "data.mdb").replace(self.folder / "data.mdb")
        shutil.rmtree(folder, ignore_errors=True)
        (self.folder / "lock.mdb").unlink(missing_ok=True)
        _sync_folder(self.folder)
        self._open()

    def size_bytes(self) -> int:
        return (self.folder / "data.mdb").stat().st_size

    def close(self) -> None:
        self.abort()
        with self._readers:
            self._closed = True
            self._await_no_readers()
        self._environment.close()
        os.close(self._owner_file)

    def _write(self) -> Any:
        if self._transaction is None:
            self._transaction = self._environment.begin(write=True)
        return self._transaction

    def _tables_of(self, transaction: Any, recent: Recent | None = None) -> Tables:
        return cast("Tables", SealedTables(transaction, self._databases, self.cipher, recent))

    def _take_possession(self) -> int:
        """LMDB lets several processes in; two nodes on one state would vote twice. And lost data is no new node."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.folder / _OWNER_FILE, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_size:
                    _check_data(self.folder)
            except BaseException:
                os.close(handle)
                raise
        except BlockingIOError as error:
            raise StoreError(
                f"{self.folder}: another process has it open; stop that one, or correct `data_dir`"
            ) from error
        except OSError as error:
            raise StoreError(f"{self.folder}: the data cannot be opened ({error}); {_advice(error)}") from error
        return handle

    def _open(self) -> None:
        self._recent = Recent()
        try:
            # Durability is LMDB's default and stays so: a commit returns after its fsync, data before the page that names it.
            self._environment = lmdb.open(
                str(self.folder),
                map_size=self._bytes_max,
                max_dbs=len(TABLE_NAMES) + len(SET_TABLE_NAMES) + 2,
                max_readers=512,
                sync=True,
                metasync=True,
                writemap=False,
                mode=0o600,
            )
            self._check_length()
            self._databases = {
                name: self._environment.open_db(name.encode()) for name in (*TABLE_NAMES, LOG, _LOCAL)
            } | {
                name: self._environment.open_db(name.encode(), dupsort=True, dupfixed=True) for name in SET_TABLE_NAMES
            }
            self._check_identity()
        except (lmdb.Error, OSError) as error:
            raise StoreError(f"{self.folder}: the data cannot be opened ({error}); {_advice(error)}") from error

    def _check_length(self) -> None:
        """A file that was cut would end the process with a signal at the first touch of a missing page."""
        info, page_bytes = self._environment.info(), self._environment.stat()["psize"]
        needed = (info["last_pgno"] + 1) * page_bytes
        length = (self.folder / "data.mdb").stat().st_size
        if length < needed:
            raise StoreError(
                f"{self.folder}/data.mdb is {length} bytes long but its pages need {needed}: it was cut; {RESTORE}"
            )

    def _check_identity(self) -> None:
        stored = self.meta_get(_IDENTITY)
        if stored is not None:
            identity = self._read_identity(stored)
            if identity["format"] != FORMAT:
                raise StoreError(f"{self.folder}: {_other_format(identity['format'])}")
        if stored is None or self._adopt:
            identity = {"format": FORMAT, "node": self.node, "id": self.id}
            self.meta_put(_IDENTITY, seal(_LOCAL, _IDENTITY.encode(), json.dumps(identity).encode()))
            self.commit()
        if identity["node"] != self.node:
            raise _other_node(self.folder, identity["node"], self.node)
        self.id = identity["id"]

    def _read_identity(self, stored: bytes) -> dict[str, Any]:
        try:
            return cast("dict[str, Any]", json.loads(unseal(_LOCAL, _IDENTITY.encode(), stored)))
        except CorruptStateError:
            # Formats before 3 had no checksum here.
            with suppress(ValueError):
                return cast("dict[str, Any]", json.loads(stored))
            raise


class StateGoneError(Exception):
    """The store has released a state before anybody looked at it."""


class StateSnapshot:
    """The committed state as it was when this was made, as a context manager that releases it. For any thread, one at a time.

    LMDB keeps the old pages as long as somebody may read them, so release it soon, and at once when it `is_wanted_back`. Before
    anybody looks at it the store may release it by itself; then whoever wants to look gets a StateGoneError.
    """

    def __init__(self, store: Store, revision: int) -> None:
        self.revision = revision
        self._store = store
        self._reading = store.read()
        self._tables = self._reading.__enter__()
        store._untouched.add(self)

    @property
    def is_wanted_back(self) -> bool:
        """Somebody waits for it: the store is closed, or its files are being replaced."""
        return self._store.wants_no_readers

    def release(self) -> None:
        """For who does not look at it."""
        if self._store._claim(self):
            self._reading.__exit__(None, None, None)

    def __enter__(self) -> Tables:
        if not self._store._claim(self):
            raise StateGoneError("the state was needed for something else")
        return self._tables

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.__exit__(kind, error, trace)


def check_folder(folder: Path, node: str) -> None:
    """Raises StoreError if it is plain that a node so called cannot begin with the folder, which may be open, or not be there."""
    try:
        found = (folder / _OWNER_FILE).read_text(errors="replace").partition("\n")[0]
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{folder}: the data cannot be opened ({error}); {_advice(error)}") from error
    if found:
        _check_data(folder)
        if found != node:
            raise _other_node(folder, found, node)


def _check_data(folder: Path) -> None:
    """Where there was data, there must be some."""
    data = folder / "data.mdb"
    if not (data.exists() and data.stat().st_size):
        raise StoreError(
            f"{data} is gone or empty, but this node had data: restore it, or remove the whole folder and let "
            "this node join under a new name"
        )


def _other_node(folder: Path, found: str, wanted: str) -> StoreError:
    return StoreError(
        f"{folder} belongs to node {found!r}, but this node's name is {wanted!r}; "
        "correct `name` or `data_dir` in the configuration"
    )


def is_in_use(folder: Path) -> bool:
    """Whether a process, this one too, has a store's folder open. It makes nothing there."""
    try:
        handle = os.open(folder / _OWNER_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _other_format(found: int) -> str:
    said = f"format {found}, but this program reads {FORMAT}; "
    if found > FORMAT:
        return said + "a newer program wrote it: start that one, as on the other members"
    if found in FORMATS:
        return said + f"run horologe {FORMATS[found]}, and then each minor version after it, one after the other"
    return said + "use the program that wrote it: no release did"


def _plainly(commit: Callable[[], None]) -> None:
    commit()


def _nobody_to_tell(error: StoreError) -> None:
    """Whoever reads has the exception."""


def _advice(error: Exception) -> str:
    if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.VersionMismatchError | lmdb.PageNotFoundError):
        return f"the file is damaged or not ours: {RESTORE}"
    if isinstance(error, lmdb.LockError):
        return "another process holds it"
    if isinstance(error, lmdb.DiskError | lmdb.MapFullError):
        return "the disk is full or failing"
    return "check the path, its owner and the space on the disk"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
