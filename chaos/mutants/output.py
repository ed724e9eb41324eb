"""Mutants of output: what attempts print is kept for as long as their outcome is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from horologe.chaos.mutants.ground import Ground
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.observer import InvariantBrokenError
from horologe.chaos.sim.rpc import Message
from horologe.chaos.sim.workers import HANDLER, payload
from horologe.client import jobs
from horologe.client.async_client import AsyncClient
from horologe.client.errors import HorologeError
from horologe.node.output_copies import OutputCopies
from horologe.node.outputs import OutputPiece
from horologe.node.sessions import HeldOutput
from horologe.raft.model import FINAL_STATES

OUTPUT_KEPT = "what was printed outlives one disk"
_STORE = "/horologe.peer.v1.PeerService/StoreOutput"
_FAILS = jobs.python(HANDLER, payload(0.1, fail=1.0))
"""Whoever fails prints its traceback."""


# --- worlds -----------------------------------------------------------------------------------------------------------


def a_gateway_is_lost(ground: Ground) -> None:
    """The second copy does not arrive at first; and the gateway is lost with its disk as soon as the outcome is committed."""
    ground.begin("n1")
    swallowed: list[str] = []

    def swallow(message: Message) -> int:
        if message.path == _STORE and message.target in ground.nodes and not swallowed:
            swallowed.append(message.target)
            return 0
        return 1

    ground.rpc.intruder = swallow
    ground.add_worker("w1")
    ground.reach_only("w1", "n2")
    ground.workers["w1"].start()
    job = jobs.job("loud", jobs.manual(), _FAILS, retry=jobs.retry(max_attempts=1))
    ground.ask(lambda sdk: sdk.create_job(job))
    number = ground.run_job("loud")

    def is_over() -> bool:
        execution = ground.execution(number)
        return execution is not None and execution.state in FINAL_STATES

    ground.run_to(is_over, 20.0, "the end of the attempt")
    ground.crash("n2", silently=True)
    ground.lose_folder("n2")
    ground.run(5.0 + ground.random.random())
    found = ground.ask(lambda sdk: _read(sdk, number))
    if "as the payload says" not in found:
        raise InvariantBrokenError(OUTPUT_KEPT, f"execution {number}: {found or 'nothing is left'}")


async def _read(sdk: AsyncClient, number: int) -> str:
    """What there is, or why it cannot be read."""
    try:
        return b"".join([piece.data async for piece in sdk.read_output(number)]).decode()
    except HorologeError as error:
        return str(error)


# --- patches ----------------------------------------------------------------------------------------------------------


def wait_for_no_copy(ground: Ground) -> AbstractContextManager[object]:
    del ground
    tasks: list[asyncio.Task[Any]] = []

    async def keep_there(
        self: OutputCopies, batch: Mapping[HeldOutput, Sequence[OutputPiece]]
    ) -> tuple[str, set[HeldOutput]]:
        tasks.append(asyncio.create_task(self._send_to_somebody(batch)))
        return self._mates.choose(), set(batch)

    return patch.object(OutputCopies, "_keep_there", keep_there)


# --- all of them ------------------------------------------------------------------------------------------------------

MUTANTS = (
    Mutant(
        "second_copy_awaited",
        "An outcome is proposed while the second copy of its output is still on its way",
        Course("a gateway is lost with its disk", a_gateway_is_lost),
        (OUTPUT_KEPT,),
        patch=wait_for_no_copy,
    ),
)
