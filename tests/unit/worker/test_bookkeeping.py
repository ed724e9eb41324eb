"""The attempt table and the outbox by themselves: events in, values out."""

from __future__ import annotations

from fake_gateway import assignment, definition

from horologe.client.attempts import ERROR_BYTES_MAX, Attempt, AttemptTable, Definition, Outcome, new_result, one_line
from horologe.client.outbox import KEPT_BYTES_MAX, Outbox, Output
from horologe.v1 import worker_service_pb2

Request = worker_service_pb2.ConnectRequest


def new_attempt(outbox: Outbox, execution: int, token: int = 10, bytes_max: int = 1_000_000) -> Attempt:
    attempt = Attempt(assignment(execution, token=token), Definition.from_message(definition(python="x")), 1.0, "c1")
    attempt.output = Output(outbox, execution, 1, token, bytes_max)
    return attempt


async def taken(outbox: Outbox) -> list[str]:
    """All that waits, by kind and execution, in the order in which it leaves."""
    order = []
    while (request := outbox._take()) is not None:
        kind = request.WhichOneof("kind")
        if kind == "results":
            order += [f"result {result.execution}" for result in request.results.results]
        else:
            order.append(f"output {request.output.execution}" if kind == "output" else str(kind))
    return order


async def test_tokens_of_what_is_here_are_never_forgotten() -> None:
    outbox = Outbox()
    table = AttemptTable(remembered_min=3)
    old = new_attempt(outbox, 1, token=7)
    table.add(old)
    for execution in range(2, 12):
        attempt = new_attempt(outbox, execution)
        table.add(attempt)
        table.end(attempt, new_result(attempt, Outcome(), 2.0))
        table.forget_results([attempt.key])

    assert table.highest_token(1) == 7
    assert table.highest_token(11) == 10
    assert table.highest_token(2) == 0
    assert not table.idle.is_set()
    table.drop(old)
    assert table.idle.is_set()


async def test_results_overtake_the_output_of_others_but_not_their_own() -> None:
    outbox = Outbox()
    chatty, quiet = new_attempt(outbox, 1), new_attempt(outbox, 2)
    chatty.output.write(1, b"words")
    outbox.add_result(chatty.output, new_result(chatty, Outcome(), 2.0))
    outbox.add_result(quiet.output, new_result(quiet, Outcome(), 2.0))
    outbox.add_heartbeat(1)

    assert await taken(outbox) == ["heartbeat", "result 2", "output 1", "result 1"]


async def test_new_stream_gets_what_was_not_acknowledged_once() -> None:
    outbox = Outbox()
    sent, waiting = new_attempt(outbox, 1), new_attempt(outbox, 2)
    results = {one.execution: new_result(one, Outcome(), 2.0) for one in (sent, waiting)}
    sent.output.write(1, b"words")
    outbox.add_result(sent.output, results[1])
    assert await taken(outbox) == ["output 1", "result 1"]
    waiting.output.write(1, b"words")
    outbox.add_result(waiting.output, results[2])

    outbox.begin_session(list(results.values()))
    assert await taken(outbox) == ["output 1", "result 1", "output 2", "result 2"]
    outbox.forget([sent.key])
    outbox.begin_session([results[2]])
    assert await taken(outbox) == ["output 2", "result 2"]


async def test_lost_attempts_leave_nothing_behind() -> None:
    outbox = Outbox()
    lost, other = new_attempt(outbox, 1), new_attempt(outbox, 2)
    for attempt in (lost, other):
        attempt.output.write(1, b"words")
    lost.output.close()
    outbox.discard({lost.key})
    lost.output.write(1, b"too late")

    assert await taken(outbox) == ["output 2"]
    assert outbox.queued_bytes == 0


async def test_small_writes_become_few_pieces_and_kept_output_is_bounded() -> None:
    outbox = Outbox()
    attempt = new_attempt(outbox, 1, bytes_max=3 * KEPT_BYTES_MAX)
    for _ in range(1000):
        attempt.output.write(1, b"line\n")
    assert await taken(outbox) == ["output 1"]
    attempt.output.write(1, bytes(KEPT_BYTES_MAX + 1))
    await taken(outbox)

    outbox.begin_session([])
    again = [request.output for request in iter(outbox._take, None)]
    assert KEPT_BYTES_MAX - 65_536 < sum(len(chunk.data) for chunk in again) <= KEPT_BYTES_MAX
    assert again[-1].sequence == len(again) + again[0].sequence - 1


def test_errors_are_one_line_within_the_limit() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    long = one_line("ü" * 10_000)
    assert len(long.encode()) <= ERROR_BYTES_MAX
    assert long.endswith("ü...")
