"""The words of scenario files about dead letters, operations and backfills; see world.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from horologe.log.v1 import log_pb2
from horologe.raft.dead_letters import DEAD_KEY
from horologe.raft.model import Code, Result
from horologe.raft.records import U64
from support import commands
from support.driver import START_MS, Driver
from support.spans import ms_of, time_of

if TYPE_CHECKING:

    class Base:
        """What World brings."""

        _driver: Driver

        def _apply(self, command: log_pb2.Command) -> Result: ...
        def _do(self, command: log_pb2.Command) -> str: ...
        def _job(self, name: str) -> int: ...

else:
    Base = object

Record = log_pb2.OperationRecord


class OperationWords(Base):
    """Command words, as in World."""

    def backfill(
        self,
        name: str,
        order: str = "forwards",
        only: str = "missing",
        max_running: str = "1",
        **span: str,
    ) -> str:
        """`from` and `to` count from the start of the story."""
        command = commands.backfill(
            self._job(name),
            START_MS + ms_of(span["from"]),
            START_MS + ms_of(span["to"]),
            log_pb2.Backfill.Only.Value(f"ONLY_{only.upper()}"),
            backwards=order == "backwards",
            max_running=int(max_running),
        )
        return self._start(command)

    def cancel_operation(self, number: str, *reason: str) -> str:
        return self._do(commands.cancel_operation(int(number), " ".join(reason)))

    def dead_letters(self) -> str:
        """In the order in which they died; fingerprints as small letters, in the order in which they come up."""
        letters: dict[int, str] = {}
        lines = []
        for key, value in self._driver.tables.dead.scan():
            _, end_ms, number = DEAD_KEY.unpack(key)
            letter = letters.setdefault(U64.unpack(value)[0], "abcdefgh"[len(letters)])
            detail = self._driver.detail(number)
            lines.append(
                f"execution {number}, dead since {time_of(end_ms - START_MS)}, error {letter}: {detail.reason}"
            )
        return "\n".join(lines) or "none"

    def operation(self, number: str) -> str:
        return self._operation_line(self._driver.operation(int(number)))

    def purge(self, number: str) -> str:
        return self._do(commands.purge(int(number)))

    def purge_all(self, job: str = "") -> str:
        return self._start(commands.purge_all(job=self._job(job) if job else 0))

    def redrive(self, number: str, payload: str | None = None) -> str:
        return self._do(commands.redrive(int(number), payload))

    def redrive_all(self, job: str = "", rate: str = "0", executions: str = "") -> str:
        """`rate` is per second."""
        chosen = [int(number) for number in executions.split(",") if number]
        return self._start(commands.redrive_all(job=self._job(job) if job else 0, rate=float(rate), executions=chosen))

    def _start(self, command: log_pb2.Command) -> str:
        result = self._apply(command)
        return f"operation {result.numbers[0]}" if result.code is Code.OK else f"refused: {result.code.name}"

    def _operation_line(self, record: Record) -> str:
        state = Record.State.Name(record.state).removeprefix("STATE_")
        text = f"operation {record.id} {state}: {record.done} done of {record.looked_at} looked at"
        if record.start.HasField("backfill"):
            text += f", {record.unfinished} unfinished, {record.completed} completed, {record.failed} failed"
        return text + (f" ({record.reason})" if record.reason else "")
