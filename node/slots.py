"""The leader's view of the workers: who has a free slot, and who was heard from when.

Rebuilt from the state when a node begins to lead, then kept up by the effects of applied entries.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from horologe.log.v1 import log_pb2
from horologe.node.views import running_count
from horologe.raft.lanes import lanes_of, read_lane
from horologe.raft.model import Counters, Effects
from horologe.raft.records import PAIR, U64
from horologe.raft.tables import Tables


@dataclass(slots=True)
class _Session:
    queues: list[int]
    """The lanes that it serves."""
    free: int
    takes_work: bool
    closed: bool
    names: frozenset[str]
    labels: Mapping[str, str]
    is_heard: bool = True

    @property
    def takes_new_work(self) -> bool:
        return self.free > 0 and self.takes_work and self.is_heard


class Slots:
    """Free slots by queue, with reservations that last for one plan."""

    def __init__(self, silence_seconds: float) -> None:
        """A session that was not heard from for `silence_seconds` gets no work."""
        self._sessions: dict[int, _Session] = {}
        self._heard: dict[int, float] = {}
        # Sessions with a free slot, in turns; one that ran full leaves its line when it comes up.
        self._lines: dict[int, deque[int]] = defaultdict(deque)
        self._in_line: set[tuple[int, int]] = set()
        self._reserved: dict[int, int] = defaultdict(int)
        self._unread: list[int] = []
        self._new_lanes: list[int] = []
        self._silence_seconds = silence_seconds
        self._heard_since = 0.0

    def rebuild(self, tables: Tables, now: float, *, is_old: bool = False) -> None:
        """From the state; every session gets a full term from now, because nobody knows what the leader before heard.

        `is_old`: nothing was written for longer than a lease, so their workers may be gone long since: those get something new
        only when they were heard again.
        """
        self.__init__(self._silence_seconds)  # type: ignore[misc]
        running: dict[int, int] = defaultdict(int)
        for key, _ in tables.running.scan():
            running[PAIR.unpack(key)[0]] += 1
        for key, _ in list(tables.session.scan()):
            session = U64.unpack(key)[0]
            self._read(tables, session, now, running[session])
        if is_old:
            for known in self._sessions.values():
                known.is_heard = False

    def observe(self, effects: Effects) -> None:
        for assigned in effects.assigned:
            known = self._sessions.get(assigned[0])
            if known is not None:
                known.free -= 1
        for session, _ in effects.freed:
            known = self._sessions.get(session)
            if known is not None:
                known.free += 1
                self._join(session, known)
        for session in effects.sessions_drained:
            if session in self._sessions:
                self._sessions[session].takes_work = False
        for session in effects.sessions_closed:
            if session in self._sessions:
                self._sessions[session].takes_work = False
                self._sessions[session].closed = True
            # Heard of until it is forgotten in the state: a closed session keeps its attempts until its lease has run out.
        self._unread += effects.sessions_opened
        self._new_lanes += effects.lanes_made

    def begin_plan(self, tables: Tables, now: float) -> None:
        """Takes in sessions that were opened, and gives back what the plan before had reserved.

        A session that has missed heartbeats gets nothing until it is heard again: its worker may be gone, and what it
        got would wait for the end of its lease.
        """
        self._heard_since = now - self._silence_seconds
        for session, count in self._reserved.items():
            known = self._sessions.get(session)
            if known is not None:
                known.free += count
                self._join(session, known)
        self._reserved.clear()
        new_lanes, self._new_lanes = self._new_lanes, []
        for number in new_lanes:
            self._open(tables, number)
        unread, self._unread = self._unread, []
        for session in unread:
            self._read(tables, session, now, running_count(tables, session))

    def take(self, queue: int) -> int:
        """A session with a free slot for this queue, in turns, reserved for this plan; 0 if there is none."""
        line = self._lines.get(queue)
        while line:
            session = line[0]
            known = self._sessions.get(session)
            if known is not None and known.takes_new_work and self._heard[session] >= self._heard_since:
                known.free -= 1
                self._reserved[session] += 1
                line.rotate(-1)
                return session
            line.popleft()
            self._in_line.discard((queue, session))
        return 0

    def has_free(self, queue: int) -> bool:
        """Whether somebody with a free slot may be waiting on this queue."""
        return bool(self._lines.get(queue))

    def queues(self) -> list[int]:
        """Queues that somebody with a free slot may be waiting on."""
        return [queue for queue, line in self._lines.items() if line]

    def hear(self, sessions: Sequence[int], now: float, tables: Tables) -> tuple[list[int], list[int]]:
        """Renews the leases of sessions; answers those renewed and those that no longer exist.

        One that is not there yet is neither: its node may have applied the entry that opened it before this leader does.
        """
        renewed: list[int] = []
        gone: list[int] = []
        for session in sessions:
            if session not in self._sessions:
                self._read(tables, session, now, running_count(tables, session))
            known = self._sessions.get(session)
            if known is None and session > Counters.load(tables).last_session:
                continue
            if known is None or known.closed:
                gone.append(session)
            else:
                self._heard[session] = now
                known.is_heard = True
                renewed.append(session)
                self._join(session, known)
        return renewed, gone

    def expired(self, now: float, term_seconds: float, count_max: int) -> list[int]:
        """Sessions that were not heard from for a term."""
        found = [session for session, heard in self._heard.items() if now - heard > term_seconds]
        return sorted(found)[:count_max]

    def forget(self, session: int) -> None:
        known = self._sessions.pop(session, None)
        self._heard.pop(session, None)
        for queue in known.queues if known is not None else ():
            if (queue, session) in self._in_line:
                self._in_line.discard((queue, session))
                self._lines[queue].remove(session)

    def _read(self, tables: Tables, session: int, now: float, running: int) -> None:
        raw = tables.session.get(U64.pack(session))
        if raw is None or session in self._sessions:
            return
        record = log_pb2.SessionRecord.FromString(bytes(raw))
        names, labels = frozenset(record.open.queues), dict(record.open.labels)
        queues = [
            number for name in sorted(names) for number, lane in lanes_of(tables, name) if lane.is_served_with(labels)
        ]
        free = record.open.slot_count - running
        takes_work = not record.closed and not record.draining
        known = _Session(queues, free, takes_work, record.closed, names, labels)
        self._sessions[session] = known
        self._heard[session] = now
        self._join(session, known)

    def _open(self, tables: Tables, number: int) -> None:
        """A lane is new: those that serve it join its line."""
        lane = read_lane(tables, number)
        if lane is None:
            return
        for session, known in self._sessions.items():
            if lane.queue in known.names and number not in known.queues and lane.is_served_with(known.labels):
                known.queues.append(number)
                self._join(session, known)

    def _join(self, session: int, known: _Session) -> None:
        if known.free <= 0 or not known.takes_work:
            return
        for queue in known.queues:
            if (queue, session) not in self._in_line:
                self._in_line.add((queue, session))
                self._lines[queue].append(session)
