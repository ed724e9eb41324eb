"""Actions that are SQL statements on connections which the worker's owner has named.

A statement runs in one transaction in a thread; its rows are the output, one JSON object per line.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time, timedelta
from threading import Lock
from typing import Any

import sqlalchemy
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from horologe.client.attempts import Attempt, Outcome
from horologe.client.executors import sqlite_guard
from horologe.client.json_value import from_python, struct_to_python
from horologe.client.outbox import STANDARD_OUTPUT, Output

# Statements at a time, over all connections.
THREAD_COUNT_MAX = 16

# Rows are fetched, encoded and handed over in groups of this size.
ROWS_PER_TURN = 500

ROWS_MAX_DEFAULT = 1_000_000

# SQLite forgets what it is told before a statement runs: it is told again this often.
INTERRUPT_AGAIN_SECONDS = 0.1


class SqlExecutor:
    """Runs statements on named connections.

    connections: SQLAlchemy URLs by name. ValueError names one that is wrong or whose driver is not installed.
    rows_max: a statement that reads more rows than that fails, and changes nothing.
    """

    def __init__(self, connections: Mapping[str, str], *, rows_max: int = ROWS_MAX_DEFAULT) -> None:
        self._rows_max = rows_max
        self._engines = {name: _engine(name, url) for name, url in connections.items()}
        self._threads = ThreadPoolExecutor(THREAD_COUNT_MAX, thread_name_prefix="horologe-sql")

    async def run(self, attempt: Attempt, output: Output) -> Outcome:
        """Runs the statement; what was committed is a success even if it was asked to stop meanwhile."""
        action = attempt.action.sql
        engine = self._engines.get(action.connection)
        if engine is None:
            known = ", ".join(sorted(self._engines)) or "none"
            return Outcome.failed(
                f"this worker has no SQL connection named {action.connection!r}; it has {known}",
                kind="no_connection",
                permanent=True,
            )
        parameters = struct_to_python(action.parameters)
        statement = _Statement(engine, action.statement, parameters, output, self._rows_max)
        call = self._threads.submit(statement.run, asyncio.get_running_loop())
        future = asyncio.wrap_future(call)
        attempt.kill = statement.interrupt
        try:
            try:
                row_count = await asyncio.shield(future)
            except asyncio.CancelledError:
                if call.cancel():
                    raise
                row_count = await _interrupted(statement, future)
        except SQLAlchemyError as error:
            if attempt.stop_reason is not None:
                return attempt.stopped_outcome()
            return Outcome.failed(f"{type(error).__name__}: {_reason(error)}", kind=type(error).__name__)
        except _InterruptedError:
            return attempt.stopped_outcome()
        except _TooManyRowsError as error:
            return Outcome.failed(str(error), kind="too_many_rows", permanent=True)
        return Outcome(result=from_python({"row_count": row_count}))

    async def close(self) -> None:
        """Closes the connections; statements that still run are interrupted by then."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for engine in self._engines.values():
            await asyncio.to_thread(engine.dispose)


async def _interrupted(statement: _Statement, future: asyncio.Future[int]) -> int:
    """What came of a statement that has to end."""
    statement.interrupt()
    try:
        while not (await asyncio.wait({future}, timeout=INTERRUPT_AGAIN_SECONDS))[0]:
            statement.interrupt_again()
    except asyncio.CancelledError:
        future.cancel()
        raise
    return future.result()


class _InterruptedError(Exception):
    """The statement was told to stop between two of its steps."""


class _TooManyRowsError(Exception):
    """The statement reads more than this worker allows."""


class _Statement:
    """One statement on its way through a thread."""

    def __init__(
        self, engine: sqlalchemy.Engine, text: str, parameters: Mapping[str, Any], output: Output, rows_max: int
    ) -> None:
        self._rows_max = rows_max
        self._engine = engine
        self._text = text
        self._parameters = parameters
        self._output = output
        self._interrupted = False
        self._connection: Any = None
        self._lock = Lock()
        """Held while the connection is told something."""

    def run(self, loop: asyncio.AbstractEventLoop) -> int:
        """In a thread: the whole transaction. Returns how many rows were read or changed."""
        with self._engine.begin() as connection:
            try:
                self._connection = connection.connection.driver_connection
                self._check()
                result = connection.execution_options(yield_per=ROWS_PER_TURN).execute(
                    sqlalchemy.text(self._text), self._parameters
                )
                row_count = self._write_rows(result, loop) if result.returns_rows else max(result.rowcount, 0)
                # The last moment at which the transaction can still be taken back.
                self._check()
            finally:
                with self._lock:
                    self._connection = None
        return row_count

    def _write_rows(self, result: sqlalchemy.CursorResult[Any], loop: asyncio.AbstractEventLoop) -> int:
        row_count = 0
        for rows in result.mappings().partitions(ROWS_PER_TURN):
            self._check()
            row_count += len(rows)
            if row_count > self._rows_max:
                raise _TooManyRowsError(f"the statement reads more than {self._rows_max} rows (sql.rows_max)")
            if self._output.truncated:
                continue
            lines = [json.dumps(dict(row), default=_json_value, ensure_ascii=False) + "\n" for row in rows]
            self._output.write(STANDARD_OUTPUT, "".join(lines).encode("utf-8", "replace"))
            asyncio.run_coroutine_threadsafe(self._output.drain(), loop).result()
        return row_count

    def _check(self) -> None:
        if self._interrupted:
            raise _InterruptedError

    def interrupt(self) -> None:
        """From the event loop: makes the statement end early, where the driver can."""
        self._interrupted = True
        # sqlite3 calls it interrupt, psycopg cancel; other drivers go on until their next row.
        self._tell("interrupt", "cancel")

    def interrupt_again(self) -> None:
        """The same, for the driver that may have forgotten it. To repeat the other's would ask the server for it each time."""
        self._tell("interrupt")

    def _tell(self, *methods: str) -> None:
        # Afterwards the connection may be somebody else's.
        with self._lock:
            for method in methods:
                if hasattr(self._connection, method):
                    getattr(self._connection, method)()
                    return


def _engine(name: str, url: str) -> sqlalchemy.Engine:
    try:
        engine = sqlalchemy.create_engine(url)
    except (NoSuchModuleError, ImportError) as error:
        raise ValueError(f"the SQL connection {name!r} needs a driver that is not installed: {error}") from error
    except ArgumentError as error:
        raise ValueError(f"the SQL connection {name!r} has no valid SQLAlchemy URL, like sqlite:///file.db") from error
    if engine.dialect.name == "sqlite":
        sqlalchemy.event.listen(engine, "connect", sqlite_guard.confine)
    return engine


def _reason(error: SQLAlchemyError) -> str:
    """What the database said, without SQLAlchemy's copy of the statement and its parameters."""
    original = getattr(error, "orig", None)
    return str(original if original is not None else error)


def _json_value(value: object) -> Any:
    """What JSON does not know: times as ISO 8601, numbers and the rest as text, bytes as base64."""
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    return str(value)
