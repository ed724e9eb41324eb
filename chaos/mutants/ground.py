"""The ground on which mutants are hunted: a simulated world that is also looked at where only a mutant would show.

Beside what every world checks (sim/observer.py): no node stops by itself for a reason that nobody gave it, nobody forgets a
term or a vote, and a leader does not send again what was acknowledged or is on its way. Here are also the tools of the stories:
messages that are lost on purpose, elections at a chosen moment, entries that nobody waits for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from horologe.chaos.checker import Verdict, check_attempts
from horologe.chaos.evidence import Kind, Mark
from horologe.chaos.sim.clients import SimClient
from horologe.chaos.sim.nodes import SimNode
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.chaos.sim.process import Process
from horologe.chaos.sim.workers import HANDLER, payload
from horologe.chaos.sim.world import World, WorldOptions
from horologe.client import jobs, names
from horologe.client.async_client import AsyncClient
from horologe.log.v1 import log_pb2
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core import RaftCore
from horologe.raft.core_context import ELECTION_NOW, Context
from horologe.raft.core_peers import Peer
from horologe.raft.journal import HardState, Journal
from horologe.raft.records import U64, Execution
from horologe.raft.replica import Replica
from horologe.raft.state import InvariantError
from horologe.raft.step import Inbox
from horologe.v1.job_pb2 import Schedule

PeerMessage = peer_service_pb2.PeerMessage
Answer = TypeVar("Answer")
LOOK_SECONDS = 0.01

NODE_STOPPED = "no node stops by itself"
TERM_KEPT = "nobody goes back to an older term"
VOTE_KEPT = "one vote per member and term"
COMMITTED_FIRST = "nothing starts before it is committed"
APPLIED_KEPT = "what is applied is never truncated"
LIVENESS = "liveness"
SENT_AFTER_ACKNOWLEDGED = "what was acknowledged is not sent again"
SENT_AGAIN = "what is on its way is not sent again"
SENT_THRICE = "one loss brings one repetition"


class Ground(World):
    """A world for mutants and their stories."""

    def __init__(self, seed: int, options: WorldOptions) -> None:
        super().__init__(seed, options)
        self.lost: Callable[[str, str, PeerMessage], bool] = lambda sender, receiver, message: False
        """For (sender, receiver, message): whether it is lost before it is sent, without a gap in the numbers."""
        self.sent: list[Callable[[str, Peer, PeerMessage, Context], None]] = []
        """Who looks at what leaves a core, before it leaves."""
        self.stops_expected: tuple[type[BaseException], ...] = ()
        """Errors for which a node may stop here, because the story gives it the reason; broken guards are never among them."""
        self._hard_states: dict[str, HardState] = {}
        """By the id of a folder: whoever has lost its folder has forgotten what it promised, and knows that it has."""
        self._watches = ExitStack()
        self._watches.enter_context(patch.object(Context, "post", self._posting(Context.post)))
        truncating = self._truncating(Journal.deleteEntriesFrom)
        self._watches.enter_context(patch.object(Journal, "deleteEntriesFrom", truncating))

    def close(self) -> None:
        self._watches.close()
        super().close()

    # Looking

    def core(self, name: str) -> RaftCore:
        """The core of a node that runs."""
        return self.replica(name)._core

    def replica(self, name: str) -> Replica:
        """The replica of a node that runs."""
        node = self.nodes[name].node
        assert node is not None, f"{name} does not run"
        return node._replica

    def leads(self, name: str) -> bool:
        """Whether a node runs, and leads and may serve."""
        status = self.nodes[name].status
        return status is not None and status.may_serve

    def stepped(self, node: SimNode, replica: Replica) -> None:
        super().stepped(node, replica)
        now = replica._core.hard_state
        before = self._hard_states.get(replica.store.id, now)
        self._hard_states[replica.store.id] = now
        if now.term < before.term:
            self.break_off(TERM_KEPT, f"{node.name} was in term {before.term} and is in {now.term}")
        if now.term == before.term and before.voted_for and now.voted_for != before.voted_for:
            story = f"{node.name} voted for {before.voted_for} in term {now.term}, and now for {now.voted_for}"
            self.break_off(VOTE_KEPT, story)

    def marked(self, process: Process, mark: Mark) -> None:
        super().marked(process, mark)
        if mark.kind == Kind.STARTED and mark.token > self.observer.last_applied:
            story = f"{mark} rests on entry {mark.token}, and nobody has applied more than {self.observer.last_applied}"
            self.break_off(COMMITTED_FIRST, story)

    def node_stopped(self, node: SimNode, error: BaseException) -> None:
        super().node_stopped(node, error)
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if not isinstance(cause, self.stops_expected) or isinstance(cause, (AssertionError, InvariantError)):
            self.break_off(NODE_STOPPED, f"{node.name}: {type(cause).__name__}: {cause}")

    def break_off(self, invariant: str, story: str) -> None:
        """Something must not have happened: the run ends here."""
        self.problem(InvariantBrokenError(invariant, story))

    def check_attempts(self) -> None:
        """What handlers saw: see checker.check_attempts."""
        verdict = Verdict()
        check_attempts(verdict, self.marks)
        for rule in verdict.violations:
            raise InvariantBrokenError(f"{rule.criterion} {rule.name}", "; ".join(verdict.details[:3]))

    def _truncating(self, truncate: Callable[[Journal, int], None]) -> Callable[[Journal, int], None]:
        def truncating(journal: Journal, position: int) -> None:
            index = journal.first_index + position
            truncate(journal, position)
            if index <= journal.applied_index:
                story = f"the log was truncated from entry {index} on, and applied up to {journal.applied_index}"
                self.break_off(APPLIED_KEPT, story)

        return truncating

    # Time

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
        """Lets time pass until something holds, and looks closely."""
        end = self.timeline.now + seconds
        while not condition():
            if self.timeline.now >= end:
                raise InvariantBrokenError(LIVENESS, f"{what}: not within {seconds:g} s")
            self.run(LOOK_SECONDS)

    def begin(self, leader: str = "") -> str:
        """Starts everything and waits until the cluster is whole; with `leader`, that node will lead it."""
        self.start()
        if leader:
            self.run(LOOK_SECONDS)
            self.put_off_elections(*(name for name in self.nodes if name != leader))
        self.wait(self.is_settled, "a cluster that is whole")
        return self.leader() or ""

    def is_settled(self) -> bool:
        """Whether all nodes agree, and know that the members are in the log with the ids of their folders."""
        statuses = [node.status for node in self.nodes.values()]
        return self.is_converged() and all(
            status is not None
            and status.configuration_is_committed
            and all(member.id for member in status.configuration.members)
            for status in statuses
        )

    # Doing

    def poke(self, name: str) -> None:
        """Makes a node step, as any message would."""
        self.submit(name, Inbox())

    def submit(self, name: str, inbox: Inbox) -> None:
        """Hands something to a node's replica."""
        node, process = self.nodes[name].node, self.nodes[name].process
        assert node is not None and process is not None
        process.deliver(lambda: node.context.submit(inbox))

    def harmless(self, text: str) -> log_pb2.Command:
        """A command that changes nothing and that nobody waits for: the pause of a job that does not exist."""
        return log_pb2.Command(pause_job=log_pb2.PauseJob(name=f"nothing {text}"))

    def propose(self, name: str, count: int = 1, text: str = "") -> None:
        """Proposes entries that change nothing, each in a step of its own."""
        for number in range(count):
            self.submit(name, Inbox(commands=[self.harmless(f"{text} {number}")]))
            self.run(LOOK_SECONDS)

    def put_off_elections(self, *names: str, seconds: float = 1000.0) -> None:
        """Lets nodes wait so long before they stand for election, unless they hear a leader before."""
        for name in names:
            clock = self.nodes[name].clock
            self.core(name)._context.engine.election_deadline = clock.monotonic() + seconds

    def stand_for_election(self, name: str) -> None:
        """Lets a node begin an election at once, as if its leader had told it to take over."""
        self.core(name)._context.engine.election_deadline = ELECTION_NOW
        self.poke(name)

    def connect_only(self, *groups: str) -> None:
        """Lets the nodes of each group ("n1 n2") reach each other, and nobody else. What was on its way stays there."""
        parts = [group.split() for group in groups]
        for one in self.nodes:
            for other in self.nodes:
                together = any(one in part and other in part for part in parts)
                (self.network.heal if together else self.network.block)(one, other)

    def data_file(self, name: str) -> Path:
        """The file that holds a node's state."""
        return self.nodes[name].config.data_dir / "state" / "data.mdb"

    # Work

    def ask(self, work: Callable[[AsyncClient], Coroutine[Any, Any, Answer]], seconds: float = 20.0) -> Answer:
        """Lets a caller do something with the SDK, and waits until it is done."""
        client = self.clients.get("caller") or self.add_client("caller")
        answers: list[Answer] = []

        async def run(client: SimClient) -> None:
            answers.append(await work(client.sdk))

        client.run(run)
        self.wait(lambda: bool(answers), "the caller has its answer", seconds)
        return answers[0]

    def job(self, name: str, schedule: Schedule, handler_seconds: float, **options: Any) -> None:
        """Makes a job whose handler runs so long."""
        definition = jobs.job(name, schedule, jobs.python(HANDLER, payload(handler_seconds)), **options)
        self.ask(lambda sdk: sdk.create_job(definition))

    def run_job(self, name: str, request_id: str = "") -> int:
        """Makes an execution by hand; answers its number."""
        execution = self.ask(lambda sdk: sdk.run_job(name, request_id=request_id, force=True))
        return names.execution_number(execution.name)

    def started(self, execution: int) -> list[Mark]:
        """The starts of an execution, in the order in which they happened."""
        return [mark for mark in self.marks if mark.kind == Kind.STARTED and mark.execution == execution]

    def execution(self, number: int) -> Execution | None:
        """How the node that knows most says that an execution stands."""
        newest = max(
            (node for node in self.nodes.values() if node.status is not None),
            key=lambda node: node.status.revision if node.status is not None else 0,
        )
        assert newest.store is not None
        with newest.store.read() as tables:
            raw = tables.execution.get(U64.pack(number))
        return Execution.unpack(raw) if raw is not None else None

    def reach_only(self, worker: str, *nodes: str) -> None:
        """Cuts a worker off from all other nodes."""
        for node in self.nodes:
            for direction in ((worker, node), (node, worker)):
                (self.network.heal if node in nodes else self.network.block)(*direction)

    # Messages

    def _posting(self, post: Callable[[Context, Peer, PeerMessage], None]) -> Callable[..., None]:
        def posting(context: Context, peer: Peer, message: PeerMessage) -> None:
            sender = context.settings.name
            if peer.connected and self.lost(sender, peer.name, message):
                self.count("messages lost by the story")
                return
            for look in self.sent:
                look(sender, peer, message, context)
            post(context, peer, message)

        return posting


class Repetitions:
    """Breaks off when a leader sends what it need not send: what was acknowledged, what is on its way, or the same three times.

    After a loss entries go out again, over the same connection if need be; nothing else is a reason.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._floors: dict[tuple[str, str], tuple[int, int]] = {}
        self._sequences: dict[tuple[str, str], int] = {}
        self._highest: dict[tuple[str, str], int] = {}
        self._times: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        ground.sent.append(self._look)

    def _look(self, sender: str, peer: Peer, message: PeerMessage, context: Context) -> None:
        way = (sender, peer.name)
        if peer._sent_sequence < self._sequences.get(way, 0):
            self._times.pop(way, None)
            self._highest.pop(way, None)
        self._sequences[way] = peer._sent_sequence
        entries = message.append_entries.entries
        if not entries or not peer.connected:
            return
        floor = (context.engine.term, peer.reset_floor)
        if self._floors.get(way) != floor:
            self._floors[way] = floor
            self._highest.pop(way, None)
        self._judge(way, entries[0].index, context.engine.match_index(peer))
        self._highest[way] = entries[-1].index
        self._times[way].update(entry.index for entry in entries)
        if max(self._times[way].values()) > 2:
            self._ground.break_off(SENT_THRICE, f"{sender} to {peer.name}: {self._times[way].most_common(1)}")

    def _judge(self, way: tuple[str, str], index: int, acknowledged: int) -> None:
        sender, receiver = way
        if index <= acknowledged:
            story = f"{sender} sends entry {index} to {receiver}, which has acknowledged up to {acknowledged}"
            self._ground.break_off(SENT_AFTER_ACKNOWLEDGED, story)
        elif index <= self._highest.get(way, 0):
            story = f"{sender} sends entry {index} to {receiver} again, and no reset has asked for it"
            self._ground.break_off(SENT_AGAIN, story)
