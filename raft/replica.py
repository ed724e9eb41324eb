"""The step: where Raft, the disk and the network meet.

One thread owns a Replica. Each step takes what has come in, lets the Raft core and the state machine work inside one
write transaction, commits it with one fsync, and only then hands out what may leave: nothing that another process can see
rests on anything that is not on disk. A failure anywhere before that drops the transaction and everything that was to
leave, and the process stops, which is the same as if it had crashed before the step.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from horologe.log.v1 import log_pb2
from horologe.peer.v1 import peer_service_pb2
from horologe.raft import snapshot
from horologe.raft.authority import may_change_members
from horologe.raft.backlog import Backlog
from horologe.raft.clocks import WINDOW_SECONDS, PeerClocks
from horologe.raft.commands import COMMAND_BYTES_MAX
from horologe.raft.core import CoreSettings, Protections, RaftCore
from horologe.raft.intake import ASKED_FOR, Intake
from horologe.raft.journal import CorruptLogError, Journal
from horologe.raft.machine import StateMachine
from horologe.raft.malformed import fault_of
from horologe.raft.model import Code, Counters, Effects, Result
from horologe.raft.planning import Planner
from horologe.raft.pulse import Pulse, in_entries, in_pieces
from horologe.raft.reconfiguration import LOOK_SECONDS, Introduction, Reconfiguration
from horologe.raft.step import Inbox, Outbox, Status
from horologe.raft.store import StateSnapshot, Store, StoreError
from horologe.raft.version_gate import SETTLE_SECONDS, Refusal, VersionGate, waits_for

LOG_ENTRIES_KEPT = 5_000
LOG_BYTES_KEPT = 32 << 20
"""How much applied log is kept for followers that fell a little behind; one that needs more fetches the state."""
STATES_KEPT_PER_STEP = 2
"""A node that catches up comes by many checkpoints in one step, and nobody waits for them; LMDB has room for 512 readers."""
logger = logging.getLogger(__name__)
PeerMessage = peer_service_pb2.PeerMessage
_Renewal = tuple[str | None, int, Sequence[int]]
"""Who asks (None: this node's own workers), the round, and the sessions."""
_URGENT_EXCEPT = frozenset({"complete", "plan", "prune"})
"""Commands that nobody waits for: they may wait for the next pulse and share its entry."""
_URGENT_EXCEPT_IN_LINE = _URGENT_EXCEPT | ASKED_FOR
"""Where there is a line, whoever joins it waits too, or every step would append what else has come in."""


class Replica:
    """One node's copy of the state, and its part in keeping all copies equal."""

    def __init__(
        self,
        store: Store,
        settings: CoreSettings,
        planner: Planner,
        randomness: random.Random,
        now: float,
        *,
        pulse_seconds: float = 0.02,
        backlog_bytes_max: int = 64 << 20,
        log_entries_kept: int = LOG_ENTRIES_KEPT,
        peer_address: str = "",
        machine: StateMachine | None = None,
        protections: Protections | None = None,
        clock_skew_ms_max: int = 1_000,
        version_settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        """`now` is monotonic seconds, as in every call. `peer_address` is where the other members reach this one.

        `pulse_seconds`: the shortest time for which what nobody waits for (due work, outcomes) is collected; see pulse.py.
        `backlog_bytes_max` bounds entries that wait for their commit.
        `machine` and `protections` are for tests that watch the first or switch off one of the second.
        `version_settle_seconds`: see version_gate.py. Raises UnfitProgramError if the state is not for this program.
        """
        self.store = store
        self.settings = settings
        self._planner = planner
        self._randomness = randomness
        self._pulse = Pulse(now, pulse_seconds)
        self._backlog_bytes_max = backlog_bytes_max
        self._log_entries_kept = log_entries_kept
        self._clocks = PeerClocks(clock_skew_ms_max)
        self._hand_over_at = now
        self._machine = machine or StateMachine()
        versions = self._machine.program.versions
        self._reconfiguration = Reconfiguration(Introduction(settings.name, store.id, peer_address, versions))
        self._version_settle_seconds = version_settle_seconds
        self._protections = protections or Protections()
        self._connected: set[str] = set()
        self.intake = Intake(now)
        """How much of what callers ask for a step takes."""
        self._start(now)

    def _start(self, now: float) -> None:
        self._journal = Journal(self.store, guarded=self._protections.journal_guarded)
        self._core = RaftCore(self.settings, self._journal, self._apply, self._randomness, now, self._protections)
        self.store.commit()
        with self.store.read() as tables:
            counters = Counters.load(tables)
            self._gate = VersionGate(self._machine.program, tables, self._version_settle_seconds)
        self._log_time_ms = counters.log_time_ms
        self._revision = counters.revision
        self._outbox = Outbox()
        self._leading = False
        # Never an id of an earlier life: its commands may still come out of the log.
        self._plan_id = -self._randomness.getrandbits(48)
        self._held: list[log_pb2.Command] = []
        self._has_line = False
        """Whether some of what is held waits for room in the log (see intake.py), and not only for the next pulse."""
        self._now = now
        self._pulse.at = now
        self._appended = False
        self._gateways: dict[int, str] = {}
        self._awaiting_commit: set[str] = set()
        self._plan_pieces = 0
        """Of the plan that is on its way."""
        self._planned_at = now
        self._plan_at_ms: int | None = 0
        self._asked_at_ms = 0
        self._lead_term = 0
        self._clock_correction_ms = 0
        self._backlog = Backlog()
        self._kept: deque[tuple[int, int]] = deque()
        self._kept_bytes = 0
        for index in range(self._core.first_index, self._core.applied_index + 1):
            item = self._journal.entry_at(index)
            if item is not None:
                self._keep(index, len(item[0]))
        self.status = self._status(now)

    def step(self, inbox: Inbox, now: float, wall_ms: int) -> Outbox:
        """One turn. Whatever raises here must end the process: the transaction is dropped, and nothing has left."""
        try:
            outbox = self._step(inbox, now, wall_ms)
            self.store.commit()
        except BaseException:
            self.store.abort()
            raise
        # Only now: whoever sees a revision here must find it in the state.
        self.status = self._status(now)
        return outbox

    def step_took(self, seconds: float) -> None:
        """How long the last step took, for those who decide by it how much the next ones take on."""
        self.intake.step_took(seconds)
        self._pulse.step_took(self._now, seconds)

    def install(self, folder: Path, now: float) -> bool:
        """Puts a fetched copy of the leader's state in the place of ours.

        False if ours has reached it by itself meanwhile, or if the copy is damaged: then nothing has changed.

        The core begins anew, so all connections must too: the caller ends them.
        Like a step, this belongs to the thread that steps, and whatever raises here must end the process.
        """
        try:
            position = snapshot.position_of(folder, self.store.cipher)
        except (StoreError, CorruptLogError) as error:
            logger.error("snapshot refused: %s", error)
            snapshot.discard(folder)
            return False
        if not self._core.may_install(position.index, position.term):
            snapshot.discard(folder)
            return False
        own = self._journal.hard_state
        snapshot.make_own(folder, self.settings.name, self.store.id, position, own, self.store.cipher)
        self._planner.follow()
        self.store.replace_with(folder)
        self._connected.clear()
        self._start(now)
        return True

    def _step(self, inbox: Inbox, now: float, wall_ms: int) -> Outbox:
        self._outbox = Outbox()
        self._now = now
        leader_before = self._core.leader
        configuration_before = self._core.configuration
        self._reconfiguration.introduce(inbox.introductions)
        own_wall_ms, wall_ms = wall_ms, self._cluster_time_ms(inbox, now, wall_ms)
        for peer in inbox.disconnected:
            self._connected.discard(peer)
            self._core.peer_disconnected(peer, now)
        for peer, _ in inbox.connected:
            self._connected.add(peer)
            self._core.peer_connected(peer, now)
        self._outbox.epochs += inbox.connected
        commands = [*self._held, *inbox.commands]
        renewals: list[_Renewal] = [(None, *heartbeats) for heartbeats in inbox.heartbeats]
        for peer, message in inbox.messages:
            self._take_message(peer, message, now, commands, renewals)
        self._core.tick(now)
        self._lead(now, wall_ms)
        self._held = self._propose(commands, now, wall_ms)
        if self._appended:
            # Where this node is a majority by itself, its entries are committed at once.
            self._appended = False
            self._core.tick(now)
        if self._awaiting_commit:
            self._core.tell_commit(sorted(self._awaiting_commit))
            self._awaiting_commit.clear()
        for peer_or_self, round_number, sessions in renewals:
            self._renew(peer_or_self, round_number, sessions, now)
        self._leave_to_whom_has_the_time(now)
        if inbox.transfer_to is not None:
            self._core.transfer_leadership(inbox.transfer_to or None)
        self._compact()
        if inbox.resealing is not None:
            inbox.resealing.work(self.store)
            self._outbox.resealed = inbox.resealing
        self._outbox.snapshot_from = self._core.take_snapshot_offer()
        self._outbox.messages += self._core.outbox
        self._core.outbox = []
        for _, message in self._outbox.messages:
            message.sent_wall_ms = own_wall_ms
        self._outbox.leader_changed = self._core.leader != leader_before
        self._outbox.configuration_changed = self._core.configuration is not configuration_before
        # They call again, and are told that they were removed.
        removed = set(self._core.committed_configuration.removed) - set(self.status.removed)
        self._outbox.dropped += sorted(removed & self._connected)
        return self._outbox

    def _take_message(
        self, peer: str, message: PeerMessage, now: float, commands: list[log_pb2.Command], renewals: list[_Renewal]
    ) -> None:
        """Does what can be done at once; what has to wait for the others goes to `commands` and `renewals`."""
        match message.WhichOneof("kind"):
            case "propose":
                self._take_proposal(peer, message.propose, commands)
            case "propose_refusal":
                refusal = message.propose_refusal
                if refusal.code:
                    result = Result(Code(refusal.code), text=refusal.text)
                    self._outbox.results += [(origin_id, result) for origin_id in refusal.origin_ids]
                else:
                    self._outbox.refused += [(origin_id, refusal.overloaded) for origin_id in refusal.origin_ids]
            case "renew":
                renewals.append((peer, message.renew.round, message.renew.sessions))
            case "renewed":
                self._outbox.renewed.append((message.renewed.round, list(message.renewed.sessions)))
                self._outbox.gone += message.renewed.gone
            case _:
                if peer in self._connected and not self._core.receive(peer, message, now):
                    self._outbox.dropped.append(peer)

    # Time

    def _cluster_time_ms(self, inbox: Inbox, now: float, wall_ms: int) -> int:
        """The wall clock of this node, or that of the others if it is far from theirs."""
        self._clocks.tell(now, wall_ms)
        for peer, message in inbox.messages:
            if message.sent_wall_ms:
                self._clocks.hear(peer, message.sent_wall_ms, now, wall_ms)
        self._clock_correction_ms = self._clocks.correction_ms(self._core.configuration.voters, now)
        return wall_ms + self._clock_correction_ms

    def _leave_to_whom_has_the_time(self, now: float) -> None:
        """A leader whose clock is far from the others' goes by theirs, but should not lead."""
        if self._clock_correction_ms and self._leading and now >= self._hand_over_at:
            successor = self._clocks.successor(self._core.configuration.voters, now)
            if successor is not None:
                self._hand_over_at = now + WINDOW_SECONDS
                logger.error("this node's clock is %d ms off; %s shall lead", -self._clock_correction_ms, successor)
                self._core.transfer_leadership(successor)

    # Proposals

    def _take_proposal(self, peer: str, proposal: peer_service_pb2.Propose, commands: list[log_pb2.Command]) -> None:
        if self._core.is_leader and self._backlog.size_bytes < self._backlog_bytes_max:
            commands += proposal.commands
        else:
            refusal = peer_service_pb2.ProposeRefusal(
                origin_ids=[command.origin_id for command in proposal.commands], overloaded=self._core.is_leader
            )
            self._outbox.messages.append((peer, PeerMessage(propose_refusal=refusal)))

    def _propose(self, commands: list[log_pb2.Command], now: float, wall_ms: int) -> list[log_pb2.Command]:
        """Appends, forwards or refuses the commands; answers those that wait for the next pulse, or for their turn."""
        commands, refused = self._gate.admit(commands)
        self._refuse_newer(refused)
        if self._core.is_leader:
            commands, refused = self._gate.decide(self._backlog.without_repeats(commands), self._waits_for)
            self._refuse_newer(refused)
            commands = self._reconfiguration.take(commands)
            self._reconfigure(now, wall_ms)
            patient = _URGENT_EXCEPT_IN_LINE if self._has_line else _URGENT_EXCEPT
            urgent = any(command.WhichOneof("kind") not in patient for command in commands)
            if not urgent and now < self._pulse.at:
                return commands
            share = self.intake.share(commands, self._backlog.size_bytes, now)
            self._refuse(share.refused, overloaded=True)
            self._has_line = bool(share.waiting)
            commands = [*share.due, *self._plan(now, wall_ms), *share.taken]
            if commands or self._has_line:
                self._pulse.begin(now)
            if self._backlog.size_bytes >= self._backlog_bytes_max:
                self._refuse(commands, overloaded=True)
                return share.waiting
            for batch in in_entries(commands):
                self._append(batch, wall_ms)
            return share.waiting
        self._has_line = False
        commands = [*self._reconfiguration.drop(), *commands]
        if self._core.leader is not None and self._core.leader in self._connected:
            for batch in in_entries(commands, COMMAND_BYTES_MAX):
                proposal = peer_service_pb2.Propose(commands=batch)
                self._outbox.messages.append((self._core.leader, PeerMessage(propose=proposal)))
        else:
            self._refuse(commands, overloaded=False)
        return []

    def _reconfigure(self, now: float, wall_ms: int) -> None:
        """Appends the next change of the members, if it is the time for one."""
        if not self._leading:
            return
        command = self._reconfiguration.next(self._core, now)
        if command is None:
            command = self._gate.next(self._waits_for, now)
            if command is not None:
                self._append([command], wall_ms)
            return
        if command.request_id and self.store.tables.request.get(command.request_id) is not None:
            # A repetition gets the first answer and changes nothing, whatever has changed since.
            command.change_membership.ClearField("configuration")
        elif fault_of(command):
            command.change_membership.ClearField("configuration")
        elif command.HasField("actor") and not may_change_members(self.store.tables, command.actor, wall_ms):
            # It would be in force before the state could refuse it.
            command.change_membership.ClearField("configuration")
            command.change_membership.refusal = Code.PERMISSION_DENIED
        self._append([command], wall_ms)

    def _waits_for(self, version: int, *, also_absent: bool = True) -> list[str]:
        """The members, of the committed configuration and of the one in force, that keep the cluster from having it."""
        configurations = (self._core.committed_configuration, self._core.configuration)
        present = self._connected | {self.settings.name}
        return waits_for(version, configurations, self._reconfiguration.known, present, also_absent=also_absent)

    def _refuse_newer(self, refused: Sequence[Refusal]) -> None:
        """For good: what the cluster's version does not allow is not tried again."""
        for command, result in refused:
            if command.origin == self.settings.name:
                self._outbox.results.append((command.origin_id, result))
            else:
                refusal = peer_service_pb2.ProposeRefusal(
                    origin_ids=[command.origin_id], code=result.code, text=result.text
                )
                self._outbox.messages.append((command.origin, PeerMessage(propose_refusal=refusal)))

    def _refuse(self, commands: Sequence[log_pb2.Command], *, overloaded: bool) -> None:
        for command in commands:
            if command.origin != self.settings.name:
                refusal = peer_service_pb2.ProposeRefusal(origin_ids=[command.origin_id], overloaded=overloaded)
                self._outbox.messages.append((command.origin, PeerMessage(propose_refusal=refusal)))
            elif command.origin_id == self._plan_id:
                self._plan_pieces -= 1
            else:
                self._outbox.refused.append((command.origin_id, overloaded))

    def _append(self, commands: list[log_pb2.Command], wall_ms: int) -> None:
        self._log_time_ms = max(self._log_time_ms, wall_ms)
        payload = log_pb2.Entry(time_ms=self._log_time_ms, commands=commands).SerializeToString()
        if len(payload) >= self.settings.append_bytes_max:
            # Whoever made a command of this size is wrong, but the leader must not stop for it, nor the next one.
            self._refuse(commands, overloaded=True)
            return
        if commands[0].change_membership.HasField("configuration"):
            index = self._core.propose_configuration(payload)
        else:
            index = self._core.propose(payload)
        if index is None:
            self._refuse(commands, overloaded=False)
            return
        self._appended = True
        self._backlog.add(index, len(payload), commands)

    def _apply(self, index: int, term: int, payload: bytes) -> None:
        entry = log_pb2.Entry.FromString(payload)
        results, effects = self._machine.apply(self.store.tables, index, entry)
        self._revision = index
        self._log_time_ms = max(self._log_time_ms, entry.time_ms)
        self._backlog.applied(index)
        for command, result in zip(entry.commands, results, strict=True):
            if command.origin == self.settings.name:
                if command.origin_id == self._plan_id:
                    self._plan_pieces -= 1
                    if not self._plan_pieces:
                        self.intake.plan_took(self._now - self._planned_at)
                else:
                    self._outbox.results.append((command.origin_id, result))
        self._keep(index, len(payload))
        if self._leading:
            self._planner.observe(effects)
            self._note_who_waits(entry, results, effects)
        self._outbox.effects.append(effects)
        self._plan_at_ms = 0
        if effects.version_changed:
            self._gate.load(self.store.tables)
        if effects.checkpoint:
            self._keep_state(index)

    def _note_who_waits(self, entry: log_pb2.Entry, results: Sequence[Result], effects: Effects) -> None:
        """Followers where somebody waits for this entry: a caller, or a worker. The others hear of it with the next one."""
        own_name, waiting = self.settings.name, self._awaiting_commit
        for command, result in zip(entry.commands, results, strict=True):
            if command.origin == own_name:
                continue
            kind = command.WhichOneof("kind")
            if kind not in _URGENT_EXCEPT:
                waiting.add(command.origin)
            if kind == "open_session" and result.numbers:
                self._gateways[result.numbers[0]] = command.origin
        if self._gateways:
            gateway_of = self._gateways.get
            concerned = (*effects.assigned, *effects.cancelled)
            waiting.update(filter(None, {gateway_of(each[0]) for each in concerned}))
            waiting.update(filter(None, map(gateway_of, effects.sessions_drained)))
            waiting.update(filter(None, [self._gateways.pop(number, None) for number in effects.sessions_closed]))

    def _keep_state(self, index: int) -> None:
        """The state exactly as of this entry, whatever else this step applies.

        A commit in the middle of a step is like the end of a step whose outbox got lost: the commit index is stored before an
        entry is applied, and nothing leaves before the step's own commit.
        """
        self._journal.set_applied_index(index)
        self.store.commit()
        kept = self._outbox.checkpoints
        kept.append(StateSnapshot(self.store, index))
        if len(kept) > STATES_KEPT_PER_STEP:
            kept.pop(0).release()

    # The leader's duties

    def _lead(self, now: float, wall_ms: int) -> None:
        if self._core.is_leader and self._core.term != self._lead_term:
            # In a new term nothing of ours is on its way; after a while without a majority, in the same term, it still is.
            # What comes out of the log of a plan from before is none of a plan of this term.
            self._lead_term = self._core.term
            self._plan_id -= 1
            self._plan_pieces = 0
            self._backlog.clear()
        if self._leading and not self._core.may_serve:
            self._leading = False
            self._gateways.clear()
            self._gate.follow()
            self._planner.follow()
        elif self._core.may_serve and not self._leading:
            self._leading = True
            self._plan_at_ms = 0
            self._planner.lead(self.store.tables, now, wall_ms)

    def _plan(self, now: float, wall_ms: int) -> list[log_pb2.Command]:
        """What is due, unless the plan before is still on its way: then nobody knows yet what is left to do."""
        if not self._leading or self._plan_pieces or self._plan_at_ms is None:
            return []
        # A clock that was set back must not put off what does not depend on it, the end of leases above all.
        if self._asked_at_ms <= wall_ms < self._plan_at_ms:
            return []
        self._asked_at_ms = wall_ms
        plan = self._planner.plan(self.store.tables, now, wall_ms)
        if plan is None:
            self._plan_at_ms = self._planner.next_wakeup_ms(self.store.tables, wall_ms)
            return []
        self._plan_id -= 1
        self._planned_at = now
        name, plan_id = self.settings.name, self._plan_id
        if isinstance(plan, log_pb2.Plan):
            commands = [log_pb2.Command(origin=name, origin_id=plan_id, plan=piece) for piece in in_pieces(plan)]
            prune = self._planner.prune(self.store.tables, now, wall_ms)
            if prune is not None:
                commands.append(log_pb2.Command(origin=name, origin_id=plan_id, prune=prune))
        else:
            commands = [log_pb2.Command(origin=name, origin_id=plan_id, prune=plan)]
        self._plan_pieces = len(commands)
        return commands

    def _renew(self, peer: str | None, round_number: int, sessions: Sequence[int], now: float) -> None:
        """End to end: only a leader that hears a majority renews; everybody else forwards or stays silent."""
        if self._leading and self._core.may_serve:
            renewed, gone = self._planner.renew(sessions, self.store.tables, now)
            if peer is not None:
                self._gateways.update(dict.fromkeys(renewed, peer))
            if peer is None:
                self._outbox.renewed.append((round_number, renewed))
                self._outbox.gone += gone
            else:
                answer = peer_service_pb2.Renewed(sessions=renewed, gone=gone, round=round_number)
                self._outbox.messages.append((peer, PeerMessage(renewed=answer)))
        elif peer is None and self._core.leader is not None and not self._core.is_leader:
            request = peer_service_pb2.Renew(sessions=sessions, round=round_number)
            self._outbox.messages.append((self._core.leader, PeerMessage(renew=request)))

    def _keep(self, index: int, size_bytes: int) -> None:
        self._kept.append((index, size_bytes))
        self._kept_bytes += size_bytes

    def _compact(self) -> None:
        """Drops a prefix of the log. The state itself is on disk with its revision, so there is nothing else to save."""
        keep_from = None
        while len(self._kept) > self._log_entries_kept or self._kept_bytes > LOG_BYTES_KEPT:
            index, size_bytes = self._kept.popleft()
            self._kept_bytes -= size_bytes
            keep_from = index + 1
        if keep_from is not None:
            self._core.compact(keep_from)

    def can_wait(self, inbox: Inbox, now: float) -> bool:
        """Whether a step now would do nothing with what came in that one a little later would not do as well.

        That is so of acknowledgements of what is committed already, and of commands that are kept for the next pulse anyway. For
        any thread.
        """
        if inbox.connected or inbox.disconnected or inbox.heartbeats or inbox.introductions:
            return False
        if inbox.transfer_to is not None or inbox.resealing is not None or not (inbox.messages or inbox.commands):
            return False
        if inbox.commands and not self._keeps(inbox.commands, now):
            return False
        return all(self._message_can_wait(message, now) for _, message in inbox.messages)

    def _message_can_wait(self, message: PeerMessage, now: float) -> bool:
        status, kind = self.status, message.WhichOneof("kind")
        if kind == "append_reply":
            reply, last_index = message.append_reply, status.last_index
            return status.commit_index == last_index < reply.next_index and not reply.reset
        return kind == "propose" and self._keeps(message.propose.commands, now)

    def _keeps(self, commands: Iterable[log_pb2.Command], now: float) -> bool:
        """Whether nobody waits for any of these, and the next pulse is yet to come."""
        if not self.status.is_leader or now >= self._pulse.at:
            return False
        return all(command.WhichOneof("kind") in _URGENT_EXCEPT for command in commands)

    def wait_seconds(self, now: float, wall_ms: int) -> float | None:
        """How long the next step may wait for something to come in; None: there is nothing to do by itself."""
        if self._held:
            return max(0.0, self._pulse.at - now)
        if self._leading and self._reconfiguration.is_waiting:
            return LOOK_SECONDS
        if not self._leading or self._plan_pieces or self._plan_at_ms is None:
            return None
        return max(0.0, self._pulse.at - now, (self._plan_at_ms - wall_ms - self._clock_correction_ms) / 1000)

    @property
    def protection_counts(self) -> Counter[str]:
        """How often each protection of the Raft core acted, since the start or the last snapshot."""
        return self._core.counters

    def tick_at(self, now: float) -> float:
        """When Raft's clock has to be looked at next, in monotonic seconds, if nothing comes in before."""
        return self._core.tick_at(now)

    def _status(self, now: float) -> Status:
        core = self._core
        return Status(
            leader=core.leader or "",
            is_leader=core.is_leader,
            may_serve=core.may_serve,
            term=core.term,
            commit_index=core.commit_index,
            revision=self._revision,
            first_index=core.first_index,
            last_index=core.last_index,
            has_quorum=core.heard_quorum(now) if core.is_leader else core.leader is not None,
            match_indexes=core.match_indexes(),
            connected=frozenset(self._connected),
            clock_correction_ms=self._clock_correction_ms,
            configuration=core.configuration,
            committed_configuration=core.committed_configuration,
            leader_commit_index=max(core.commit_index, core.leader_commit_index),
            introductions=self._reconfiguration.known,
            cluster_version=self._gate.version,
            version_held=self._gate.is_held,
        )
