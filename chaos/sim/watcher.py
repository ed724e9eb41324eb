"""Somebody who follows all that happens in a simulated cluster, through whatever breaks, and must not miss a move."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from horologe.client import names
from horologe.client.errors import DeadlineExceeded, Unavailable
from horologe.v1.execution_pb2 import Execution
from horologe.v1.watch_service_pb2 import Event

if TYPE_CHECKING:
    from horologe.chaos.sim.clients import SimClient

State = Execution.State
RETRY_SECONDS = 0.5


class Watcher:
    """Where each execution stands, by what was seen of it alone."""

    def __init__(self) -> None:
        self.states: dict[int, Execution.State.ValueType] = {}
        self.revision = 0
        """The state that was seen so far."""
        self.gaps: list[str] = []
        """Moves that did not begin where the one before had ended."""

    async def follow(self, client: SimClient) -> None:
        """Until the end of the world; when no node answers for long, again behind what was seen last."""
        token = ""
        while True:
            try:
                async for batch in client.sdk.watch_events(resume_token=token):
                    for event in batch.events:
                        if event.kind == Event.KIND_EXECUTION_MOVED:
                            self._note(event)
                    token = batch.resume_token
                    self.revision = max(self.revision, batch.revision)
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(RETRY_SECONDS)

    def _note(self, event: Event) -> None:
        number = names.execution_number(event.execution)
        known = self.states.get(number)
        is_first = event.previous_state == State.STATE_UNSPECIFIED
        # What was there before the first look is known from its next move on.
        if is_first != (known is None) and (known is not None or number > min(self.states, default=number)):
            self.gaps.append(f"execution {number}: {State.Name(event.previous_state)} after {known}")
        elif known is not None and known != event.previous_state:
            self.gaps.append(
                f"execution {number}: from {State.Name(event.previous_state)}, seen in {State.Name(known)}"
            )
        self.states[number] = event.state

    def missing(self, states: Mapping[int, Execution.State.ValueType]) -> list[str]:
        """What was not seen, of where all executions stand by the cluster's own account."""
        first = min(self.states, default=0)
        return [
            f"execution {number}: is {State.Name(state)}, seen {self.states.get(number)}"
            for number, state in states.items()
            if number >= first and self.states.get(number) != state
        ]
