"""What attempts print, in the simulated world: on two nodes, whatever is lost, slow or cut off.

What is printed here is the traceback of a handler that fails.
"""

from __future__ import annotations

from support.story import Story

from horologe.chaos.sim.clients import SimSdk
from horologe.chaos.sim.rpc import Message
from horologe.chaos.sim.workers import HANDLER, payload
from horologe.client import jobs
from horologe.peer.v1 import peer_service_pb2
from horologe.v1.execution_pb2 import Attempt

STORE = "/horologe.peer.v1.PeerService/StoreOutput"
PRINTED = "RuntimeError: as the payload says"


def _fail_once(story: Story, name: str = "task", seconds: float = 0.1) -> int:
    """Begins an execution whose only attempt fails after a while, and says so on its output."""
    action = jobs.python(HANDLER, payload(seconds, fail=1.0))
    job = jobs.job(name, jobs.manual(), action, retry=jobs.retry(max_attempts=1))
    story.ask(f"create {name}", lambda sdk, id_: sdk.create_job(job, request_id=id_))
    return story.run_job(name)


def _end(story: Story, number: int) -> Attempt:
    """Waits for the end; answers the last attempt."""
    story.run_until(lambda: story.state(number) in ("FAILED", "DEAD"), what="the end of the attempt")
    attempt: Attempt = story.ask("get", lambda sdk, id_: sdk.get_execution(number)).attempts[-1]
    return attempt


def _read(story: Story, node: str, number: int) -> str:
    async def read(sdk: SimSdk) -> str:
        return "".join([piece.data.decode() async for piece in sdk.read_output(number)])

    text: str = story.ask_node(node, "read the output", read)
    return text


def test_output_outlives_its_gateway_with_its_disk() -> None:
    """The machine that the worker was connected to is lost with its disk as soon as the outcome is committed. The node that was
    to have the second copy did not get it: the outcome has waited for another one."""
    with Story() as story:
        story.begin()
        silent: list[str] = []

        def swallow(message: Message) -> int:
            if message.path == STORE and message.target in story.nodes and not silent:
                silent.append(message.target)
                return 0
            return 1

        story.rpc.intruder = swallow
        began = story.now_ms()
        number = _fail_once(story)
        story.run_to(lambda: story.state(number) in ("FAILED", "DEAD"), what="the committed outcome")
        assert story.now_ms() - began < 5_000
        lost = story.gateway("w1")
        assert silent and lost not in silent
        story.crash(lost, silently=True)
        story.lose_folder(lost)
        others = story.others(lost)
        story.run_until(lambda: story.leader() in others, what="a leader among the others")
        for node in others:
            assert PRINTED in _read(story, node, number)
        assert _end(story, number).output_copies == 2


def test_one_copy_must_do_while_nobody_takes_the_other_and_it_is_made_later() -> None:
    """Outcomes go on after a moment, and the attempt says that there is one copy."""
    with Story() as story:
        story.begin()
        story.rpc.intruder = lambda message: 0 if message.path == STORE else 1
        began = story.now_ms()
        number = _fail_once(story)
        assert _end(story, number).output_copies == 1
        assert story.now_ms() - began < 5_000
        gateway = story.gateway("w1")
        taken: list[str] = []

        def look(message: Message) -> int:
            if message.path == STORE and message.source == gateway:
                request = peer_service_pb2.StoreOutputRequest.FromString(message.data)
                taken.extend(message.target for parcel in request.parcels if parcel.key.execution == number)
            return 1

        story.rpc.intruder = look
        story.run_until(lambda: bool(taken), 60.0, what="the second copy")
        story.run(1.0)
        story.crash(gateway)
        story.run_until(lambda: story.leader() in story.others(gateway), what="a leader among the others")
        assert PRINTED in _read(story, taken[0], number)
        assert PRINTED in _read(story, next(name for name in story.others(gateway) if name != taken[0]), number)


def test_a_follower_goes_on_when_the_gateway_dies() -> None:
    """The attempt moves on to another gateway, and so does who follows it through a third node."""
    with Story() as story:
        story.begin()
        number = _fail_once(story, seconds=4.0)
        gateway = story.gateway("w1")
        reader = story.others(gateway)[0]
        read: list[str] = []

        async def follow(sdk: SimSdk) -> None:
            read.extend([piece.data.decode() async for piece in sdk.read_output(number, follow=True)])

        sdk = story.sdk_of(reader)
        story.run_until(lambda: bool(story.starts(number)), what="the start")
        call = story.begin_to("follow", lambda _, id_: follow(sdk))
        story.run(0.5)
        assert not call.is_over
        story.crash(gateway)
        story.run_until(lambda: call.is_over, 60.0, what="the end of what is followed")
        assert call.error is None
        assert "".join(read).count(PRINTED) == 1
        story.restart(gateway)
        story.settle()
