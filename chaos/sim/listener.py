"""Somebody outside a simulated cluster who is told of every failure, and does not always answer.

What the cluster's own account says of that is judged here: every failure was found once, and what is recorded as delivered has
come to its receiver before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from horologe.chaos.sim.administrator import insist
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.node.messages import ID_HEADER
from horologe.raft.events import EventKind, rows_from
from horologe.raft.model import ExecutionState
from horologe.raft.notices import progress_of
from horologe.raft.notifications import find_rule
from horologe.raft.records import PAIR
from horologe.raft.tables import Tables
from horologe.v1.notification_pb2 import NOTIFICATION_EVENT_FAILED, Delivery, NotificationRule

if TYPE_CHECKING:
    from horologe.chaos.sim.clients import SimClient
    from horologe.chaos.sim.outside import Outside

RULE = "namespaces/default/notifications/told"
REFUSED = 0.2
"""So many messages get lost on their way to the receiver."""
FOUND_ONCE = "every failure is found once"
ARRIVED = "what is recorded as delivered has arrived"


@dataclass(slots=True)
class Listener:
    """The receiver of one rule.

    Attributes:
        outside: Where messages arrive.
        dice: Decide which of them do not.
    """

    outside: Outside
    dice: random.Random
    has_rule: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.outside.refuses = lambda: self.dice.random() < REFUSED

    async def ask(self, client: SimClient) -> None:
        """Sets the rule. Everything of two seconds goes out together, so that no hour of a world is too short for all."""
        rule = NotificationRule(name=RULE, events=[NOTIFICATION_EVENT_FAILED], group_window=Duration(seconds=2))
        rule.group_by = NotificationRule.GROUP_BY_RULE
        rule.webhook.url = "https://hooks.example/told"
        await insist(client, lambda one: client.sdk.set_notification(rule, request_id=one))
        self.has_rule = True

    def has_heard_of_all(self, tables: Tables) -> bool:
        """Whether the leader has looked at everything; raises InvariantBrokenError if it has found more than there was."""
        failures, found, delivered = _account(tables)
        arrived = {received.headers[ID_HEADER] for received in self.outside.received}
        if not delivered <= arrived:
            raise InvariantBrokenError(ARRIVED, f"these have not: {sorted(delivered - arrived)}")
        if found > failures:
            raise InvariantBrokenError(FOUND_ONCE, f"{found} were found, of {failures}")
        return found == failures

    def messages(self, tables: Tables) -> int:
        """How many are on record."""
        return len(_account(tables)[2])


def _account(tables: Tables) -> tuple[int, int, set[str]]:
    """How many failures there were, for how many of them there is a message, and the messages that were delivered."""
    record = find_rule(tables, RULE)
    assert record is not None
    ends = (ExecutionState.FAILED, ExecutionState.DEAD)
    failures = sum(
        event.kind == EventKind.EXECUTION_MOVED and event.after in ends
        for row in rows_from(tables, record.begin_revision + 1)
        for event in row.events
    )
    found = sum(group.count for group in progress_of(tables, record.id).groups)
    delivered: set[str] = set()
    for _, value in tables.delivery.scan(PAIR.pack(record.id, 0)):
        delivery = Delivery.FromString(bytes(value))
        found += delivery.notice_count
        if delivery.outcome == Delivery.OUTCOME_DELIVERED:
            delivered.add(delivery.id)
    return failures, found, delivered
