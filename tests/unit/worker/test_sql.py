"""SQL attempts: one transaction, rows as JSON lines, and a way out of long statements."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_gateway import FakeGateway, Result, Serve, Stream, assignment, definition
from google.protobuf import json_format

from horologe.client.executors import sqlite_guard
from horologe.client.executors.sql import SqlExecutor, _Statement
from horologe.client.worker import Worker
from horologe.v1 import job_pb2

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "stock.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE stock (name TEXT UNIQUE, amount INTEGER, photo BLOB)")
        connection.execute("INSERT INTO stock VALUES ('bolts', 3, x'00ff'), ('nuts', 5, NULL)")
        connection.commit()
    return path


async def run(
    gateway: FakeGateway,
    serve: Serve,
    file: Path,
    statement: str,
    parameters: dict[str, Any] | None = None,
    connection: str = "stock",
    **limits: float,
) -> tuple[Result, Stream]:
    worker = Worker(gateway.address, insecure=True)
    # Many at a time wait for each other, as long as the disk takes.
    worker.add_executor("sql", SqlExecutor({"stock": f"sqlite:///{file}?timeout=60"}))
    action = job_pb2.SqlAction(connection=connection, statement=statement)
    json_format.ParseDict(parameters or {}, action.parameters)
    stream = await serve(worker)
    stream.assign(assignment(), definitions=[definition(sql=action, **limits)])
    (result,) = await stream.until_results()
    return result, stream


async def test_rows_are_json_lines(gateway: FakeGateway, serve: Serve, file: Path) -> None:
    statement = "SELECT name, amount, photo FROM stock WHERE amount >= :least ORDER BY name LIMIT :count"
    result, stream = await run(gateway, serve, file, statement, {"least": 1, "count": 10})

    assert result.outcome == Result.OUTCOME_SUCCEEDED
    assert result.result.struct_value.fields["row_count"].number_value == 2
    assert [json.loads(line) for line in stream.text().splitlines()] == [
        {"name": "bolts", "amount": 3, "photo": "AP8="},
        {"name": "nuts", "amount": 5, "photo": None},
    ]


async def test_changes_are_committed_and_counted(gateway: FakeGateway, serve: Serve, file: Path) -> None:
    result, _ = await run(gateway, serve, file, "UPDATE stock SET amount = amount + :more", {"more": 2})

    assert result.result.struct_value.fields["row_count"].number_value == 2
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT sum(amount) FROM stock").fetchone() == (12,)


@pytest.mark.parametrize(
    ("statement", "connection", "error", "permanent"),
    [
        ("INSERT INTO stock VALUES ('nuts', 1, NULL)", "stock", "IntegrityError: UNIQUE constraint failed", False),
        ("SELEKT 1", "stock", 'OperationalError: near "SELEKT": syntax error', False),
        ("SELECT :missing", "stock", "StatementError: A value is required for bind parameter", False),
        ("SELECT 1", "sales", "this worker has no SQL connection named 'sales'; it has stock", True),
    ],
)
async def test_errors_are_one_line(
    gateway: FakeGateway, serve: Serve, file: Path, statement: str, connection: str, error: str, permanent: bool
) -> None:
    result, _ = await run(gateway, serve, file, statement, connection=connection)
    assert (result.outcome, result.permanent) == (Result.OUTCOME_FAILED, permanent)
    assert result.error.startswith(error)
    assert result.error_kind == ("no_connection" if permanent else error.partition(":")[0])


async def test_statement_that_never_ends_is_interrupted(gateway: FakeGateway, serve: Serve, file: Path) -> None:
    result, _ = await run(gateway, serve, file, ENDLESS, timeout_seconds=0.05, grace_seconds=30.0)
    assert (result.outcome, result.error) == (Result.OUTCOME_TIMED_OUT, "timed out after 0.05 s")


async def test_a_statement_that_had_not_begun_when_it_was_interrupted_is_interrupted_again(
    gateway: FakeGateway, serve: Serve, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[_Statement] = []
    interrupt = _Statement.interrupt

    def forget_the_first(statement: _Statement) -> None:
        told.append(statement)
        if len(told) > 1:
            interrupt(statement)

    monkeypatch.setattr(_Statement, "interrupt", forget_the_first)
    result, _ = await run(gateway, serve, file, ENDLESS, timeout_seconds=0.05, grace_seconds=30.0)
    assert (result.outcome, result.error) == (Result.OUTCOME_TIMED_OUT, "timed out after 0.05 s")


async def test_many_statements_at_a_time(gateway: FakeGateway, serve: Serve, file: Path) -> None:
    _, stream = await run(gateway, serve, file, "UPDATE stock SET amount = amount + 1 WHERE name = 'nuts'")
    stream.assign(*(assignment(number) for number in range(2, 52)))
    async with asyncio.timeout(60):
        results = await stream.until_results(51)

    assert {result.outcome for result in results} == {Result.OUTCOME_SUCCEEDED}
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT amount FROM stock WHERE name = 'nuts'").fetchone() == (56,)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("not a url", "'shop' has no valid SQLAlchemy URL"),
        ("nosuch://x/y", "'shop' needs a driver that is not installed"),
    ],
)
def test_wrong_connections_are_named(url: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        SqlExecutor({"shop": url})


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH '{folder}/other.db' AS other",
        "ATTACH ':memory:' AS other",
        "VACUUM INTO '{folder}/other.db'",
        "SELECT load_extension('{folder}/evil')",
        "SELECT LOAD_EXTENSION('{folder}/evil')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('{folder}/other.db', 'x')",
        "PRAGMA temp_store_directory = '{folder}'",
        "PRAGMA writable_schema = 1",
        "SELECT fts3_tokenizer('simple', x'41')",
    ],
)
async def test_sqlite_cannot_leave_its_file(gateway: FakeGateway, serve: Serve, file: Path, statement: str) -> None:
    result, stream = await run(gateway, serve, file, statement.format(folder=file.parent))
    assert (result.outcome, stream.text()) == (Result.OUTCOME_FAILED, "")
    assert any(word in result.error for word in ("not authorized", "no such function", "authorization denied"))
    assert {path.name for path in file.parent.glob("*")} == {file.name}


@pytest.mark.parametrize(("extra", "outcome"), [(0, Result.OUTCOME_SUCCEEDED), (1, Result.OUTCOME_FAILED)])
async def test_sqlite_makes_no_gigabytes(
    gateway: FakeGateway, serve: Serve, file: Path, extra: int, outcome: Result.Outcome.ValueType
) -> None:
    statement = f"SELECT length(zeroblob({sqlite_guard.VALUE_BYTES_MAX + extra})) AS size"
    result, _ = await run(gateway, serve, file, statement)
    assert (result.outcome, "too big" in result.error) == (outcome, bool(extra))


async def test_vacuum_is_allowed(gateway: FakeGateway, serve: Serve, file: Path) -> None:
    result, _ = await run(gateway, serve, file, "VACUUM")
    assert result.outcome == Result.OUTCOME_SUCCEEDED


async def test_what_jobs_need_is_allowed(gateway: FakeGateway, serve: Serve, file: Path) -> None:
    _, stream = await run(
        gateway, serve, file, "SELECT name FROM pragma_table_info('stock') WHERE upper(name) = 'NAME'"
    )
    assert stream.text() == '{"name": "name"}\n'


@pytest.mark.parametrize(("count", "outcome"), [(1000, Result.OUTCOME_SUCCEEDED), (1001, Result.OUTCOME_FAILED)])
async def test_rows_have_a_limit(
    gateway: FakeGateway, serve: Serve, file: Path, count: int, outcome: Result.Outcome.ValueType
) -> None:
    """What changes rows and returns them is taken back as a whole."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executemany("INSERT INTO stock VALUES (?, 1, NULL)", [(str(number),) for number in range(count - 2)])
        connection.commit()
    worker = Worker(gateway.address, insecure=True)
    worker.add_executor("sql", SqlExecutor({"stock": f"sqlite:///{file}"}, rows_max=1000))
    stream = await serve(worker)
    action = job_pb2.SqlAction(connection="stock", statement="UPDATE stock SET amount = 99 RETURNING name")
    stream.assign(assignment(), definitions=[definition(sql=action)])
    (result,) = await stream.until_results()
    assert (result.outcome, result.permanent) == (outcome, count > 1000)
    with closing(sqlite3.connect(file)) as connection:
        changed = connection.execute("SELECT count(*) FROM stock WHERE amount = 99").fetchone()[0]
    assert changed == (count if count <= 1000 else 0)
