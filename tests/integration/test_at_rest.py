"""What people write lies nowhere in clear text: not on the disk of a node that runs or stopped, nor in a state on its way."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

import pytest
from one_node import OneNode, one_node
from support.keys import store_of

from horologe.client import jobs
from horologe.client.worker import Context
from horologe.node import encryption_check
from horologe.node.encryption_check import NotEncryptedError
from horologe.node.key_sources import put_new_key
from horologe.node.outputs import OutputError, OutputStore
from horologe.node.state_stream import through_a_pipe
from horologe.raft import sealed
from horologe.raft import store as store_module
from horologe.raft.cipher import Cipher
from horologe.raft.sealed import SealedTable
from horologe.raft.store import StoreError

MARKS = (
    "payload",
    "run_payload",
    "script",
    "header",
    "body",
    "output",
    "result",
    "error",
    "description",
    "pause",
    "reason",
    "secret",
)


class Marks:
    """A text of its own for every place, found nowhere by accident."""

    def __init__(self) -> None:
        self.texts = {place: f"{place}-{secrets.token_hex(12)}" for place in MARKS}

    def __getitem__(self, place: str) -> str:
        return self.texts[place]

    def found_in(self, files: Iterable[tuple[str, bytes]]) -> list[tuple[str, str]]:
        return [(name, place) for name, data in files for place, text in self.texts.items() if text.encode() in data]


def files_of(folder: Path) -> list[tuple[str, bytes]]:
    found = [(str(path.relative_to(folder)), path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]
    assert {"state/data.mdb", "state/keyring"} <= {name for name, _ in found}
    assert any(name.startswith("outputs/") and name.endswith("data.mdb") for name, _ in found)
    return found


async def plant(here: OneNode, marks: Marks) -> str:
    """Writes every mark where it belongs; answers the execution that printed."""

    @here.worker.handler("returns")
    async def returns(context: Context) -> str:
        return marks["result"]

    @here.worker.handler("fails")
    async def fails(context: Context) -> None:
        raise RuntimeError(marks["error"])

    client, once = here.client, jobs.retry(max_attempts=1)
    await client.set_secret("key", marks["secret"])
    script = f"# {marks['script']}\nprintf '%s%s\\n' {marks['output'][:9]} {marks['output'][9:]}\n"
    request = jobs.http("POST", "http://127.0.0.1:9/", headers={"X-Mark": marks["header"]}, body=marks["body"])
    for name, action in (
        ("returns", jobs.python("returns", {"text": marks["payload"]})),
        ("fails", jobs.python("fails")),
        ("prints", jobs.shell(script, env={"KEY": "{{ secrets.key }}"})),
        ("asks", request),
    ):
        await client.create_job(jobs.job(name, jobs.manual(), action, retry=once, description=marks["description"]))
    await client.pause_job("asks", reason=marks["pause"])
    await client.pause_scope(reason=marks["reason"])
    await client.resume_scope()
    for name, payload in (("returns", marks["run_payload"]), ("fails", None)):
        await client.wait_execution((await client.run_job(name, payload=payload)).name, timeout=60)
    printed = (await client.run_job("prints")).name
    await client.wait_execution(printed, timeout=60)
    await everything_is_there(here, marks, printed)
    return printed


async def everything_is_there(here: OneNode, marks: Marks, printed: str) -> None:
    """The marks are read back where people read them."""
    told = [str(await here.client.get_job(name)) for name in ("returns", "prints", "asks")]
    told += [str(execution) async for execution in here.client.list_executions()]
    told += [str(await here.client.get_execution(execution.name)) async for execution in here.client.list_executions()]
    told.append(str(await here.output(printed)))
    missing = {place for place in MARKS if not any(marks[place] in text for text in told)}
    # Nobody shows these; the state and the log hold them all the same.
    assert missing <= {"reason", "run_payload", "secret"}


async def test_no_mark_is_found_in_any_file_or_stream(tmp_path: Path) -> None:
    marks, data = Marks(), tmp_path / "data"
    async with one_node(tmp_path) as here:
        printed = await plant(here, marks)
        assert here.node is not None
        assert marks.found_in(files_of(data)) == []
        stream = b"".join([piece async for piece in through_a_pipe(here.node.context.store, tmp_path)])
        assert marks.found_in([("stream", stream)]) == []
        await here.stop()
        assert marks.found_in(files_of(data)) == []
        # The next life reads all of it, under keys of the last one.
        await here.start()
        await here.worker_connected()
        await everything_is_there(here, marks, printed)
        assert marks.found_in(files_of(data)) == []


async def test_marks_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search finds what is not encrypted: job and detail in the state, entries in the log."""

    def table_of(transaction: object, database: object, name: str, cipher: Cipher) -> SealedTable:
        del cipher
        return SealedTable(transaction, database, name)

    monkeypatch.setattr(sealed, "EncryptedTable", table_of)
    monkeypatch.setattr(encryption_check, "prove", lambda *arguments: None)
    marks = Marks()
    async with one_node(tmp_path) as here:
        await plant(here, marks)
        found = {place for name, place in marks.found_in(files_of(tmp_path / "data")) if name == "state/data.mdb"}
        # What was printed is not in the state, and the reason of a pause that is over may have been overwritten.
        assert found | {"reason"} == set(MARKS) - {"output"} | {"reason"}


async def test_a_node_with_another_key_or_none_does_not_start_and_changes_nothing(tmp_path: Path) -> None:
    marks, data = Marks(), tmp_path / "data"
    async with one_node(tmp_path) as here:
        printed = await plant(here, marks)
        await here.stop()
        whole = files_of(data)
        key = data / "node.key"
        right = key.read_bytes()
        for wrong in (lambda: put_new_key(key), lambda: "no key at all"):
            key.unlink()
            wrong()
            with pytest.raises(StoreError, match="key-encryption key"):
                here.make_node()
            key.unlink(missing_ok=True)
            key.write_bytes(right)
            key.chmod(0o600)
            assert files_of(data) == whole
        await here.start()
        await here.worker_connected()
        await everything_is_there(here, marks, printed)


@pytest.mark.parametrize("part", ["table", "log", "output"])
async def test_a_node_that_would_write_clear_text_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Encryption that is silently off is found before anything is written."""
    if part == "table":
        monkeypatch.setattr(sealed, "ENCRYPTED_TABLE_NAMES", frozenset({"job"}))
    if part == "log":
        monkeypatch.setattr(
            store_module.Store,
            "log_put",
            lambda store, index, term, command: store._write().put(
                index.to_bytes(8, "big"), term.to_bytes(8, "big") + command, db=store._databases["log"]
            ),
        )
    if part == "output":
        monkeypatch.setattr(OutputStore, "_encode", lambda store, place, piece: b"\0" * 5 + piece.data)
    with pytest.raises(NotEncryptedError, match="lies there in clear text"):
        OneNode(tmp_path).make_node()
    assert not (tmp_path / "data" / "check").exists()


@pytest.mark.parametrize(
    "damage", ["a flipped bit", "a record in the place of another", "a log entry in the place of another"]
)
async def test_a_record_that_was_changed_or_moved_is_found_at_the_start(tmp_path: Path, damage: str) -> None:
    async with one_node(tmp_path) as here:
        await plant(here, Marks())
        await here.stop()
        store = store_of(tmp_path / "data", "n1")
        table = "log" if damage.startswith("a log") else "version"
        transaction, database = store.stored(table)
        (first, stored), (second, _) = list(transaction.cursor(db=database))[:2]
        if damage == "a flipped bit":
            transaction.put(first, stored[:-1] + bytes([stored[-1] ^ 1]), db=database)
        else:
            transaction.put(second, stored, db=database)
        store.commit()
        store.close()
        with pytest.raises(StoreError, match=f"of table '{table}' is damaged .its seal does not match"):
            here.make_node()


async def test_a_disk_that_takes_nothing_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def append(store: OutputStore, pieces: object) -> None:
        raise OutputError("no room")

    monkeypatch.setattr(OutputStore, "append", append)
    with pytest.raises(StoreError, match="no room; check the space"):
        OneNode(tmp_path).make_node()
