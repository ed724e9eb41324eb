"""A workflow on one state machine: its jobs by name, one worker that takes everything, and what becomes of each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from horologe.log.v1 import log_pb2
from horologe.raft.commands import GIVE_UP, Outcome
from horologe.raft.model import Code, ExecutionState, Overlap, Result
from horologe.raft.records import PAIR, READY_KEY, RUN_NODE, U64
from support import commands
from support.driver import Driver

Edges = Mapping[str, Sequence[str]]


class Flow:
    """What every test of runs does: create, run, let nodes end, look."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.session = driver.do(commands.connect(slot_count=1_000)).numbers[0]

    def create(self, edges: Edges, workflow: str = "flow", **fields: Any) -> None:
        """A workflow, and its members with the jobs that each is after. Without a `workflow`, jobs that are after one another."""
        drafts = []
        if workflow:
            drafts.append(commands.draft(commands.job(workflow, every_ms=0, is_workflow=True, overlap=Overlap.ALLOW)))
        drafts += [self.draft(name, after, workflow, **fields) for name, after in edges.items()]
        result = self.driver.do(commands.put(commands.APPLY, *drafts))
        assert result.code is Code.OK, result

    def draft(self, name: str, after: Sequence[str] = (), workflow: str = "flow", **fields: Any) -> log_pb2.JobDraft:
        fields = {"overlap": Overlap.ALLOW, "every_ms": 0} | fields
        return commands.draft(commands.job(name, after=after, workflow=workflow, **fields))

    def put(self, *drafts: log_pb2.JobDraft) -> Result:
        return self.driver.do(commands.put(commands.APPLY, *drafts))

    def run(self, name: str = "flow") -> int:
        return self.driver.do(commands.run(name)).numbers[0]

    def rerun(self, number: int) -> Result:
        return self.driver.do(commands.rerun(number))

    def job(self, name: str) -> int:
        return int.from_bytes(self.driver.tables.job_name.get(name.encode()) or b"", "big")

    def node(self, name: str, root: int) -> int:
        """The latest execution of a node; 0 if nothing is decided about it."""
        raw = self.driver.tables.run.get(PAIR.pack(root, self.job(name)))
        return RUN_NODE.unpack(raw)[0] if raw is not None else 0

    def start(self) -> None:
        """The worker gets all that is queued."""
        waiting = [READY_KEY.unpack(key)[3] for key, _ in self.driver.tables.ready.scan()]
        self.driver.do(commands.plan(assigns=[(number, self.session) for number in waiting]))

    def end(self, name: str, root: int, outcome: Outcome = Outcome.SUCCEEDED, delay_ms: int = GIVE_UP) -> None:
        """The worker runs what waits, and this node ends."""
        self.start()
        number = self.node(name, root) or root
        execution = self.driver.execution(number)
        assert execution.state == ExecutionState.RUNNING, f"{name}: {execution}"
        record = commands.outcome(number, execution.token, execution.attempt, outcome, retry_delay_ms=delay_ms)
        self.driver.do(commands.complete(record))

    def fail(self, name: str, root: int) -> None:
        self.end(name, root, Outcome.FAILED)

    def end_all(self, root: int, failing: Sequence[str] = ()) -> None:
        """Whatever runs ends, and what comes of it, until nothing runs."""
        while True:
            self.start()
            running = [U64.unpack(key[8:])[0] for key, _ in self.driver.tables.running.scan()]
            if not running:
                return
            outcomes = []
            for number in running:
                execution = self.driver.execution(number)
                name = self.driver.job(execution.job).job.name
                said = Outcome.FAILED if name in failing and execution.root == root else Outcome.SUCCEEDED
                outcomes.append(
                    commands.outcome(number, execution.token, execution.attempt, said, retry_delay_ms=GIVE_UP)
                )
            self.driver.do(commands.complete(*outcomes))

    def states(self, root: int) -> dict[str, str]:
        """How the nodes stand; `-` for those that nothing is decided about."""
        found = {}
        for key, value in self.driver.tables.job_name.scan():
            name, job = key.decode(), U64.unpack(value)[0]
            raw = self.driver.tables.run.get(PAIR.pack(root, job))
            number = RUN_NODE.unpack(raw)[0] if raw is not None else 0
            if number != root or not self.driver.job(job).job.action.HasField("workflow"):
                found[name] = self.driver.state(number) if number else "-"
        found.pop("flow", None)
        return found
