"""The worker against a scripted gateway: work in, results out, and nothing twice."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

from fake_gateway import JOB_NAME, FakeGateway, Result, Serve, assignment, attempt_id, definition

from horologe.client.context import AttemptCancelledError
from horologe.client.worker import Context, PermanentError, Worker
from horologe.v1 import job_pb2, worker_pb2


async def test_async_handler_runs_and_its_result_is_reported(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True, name="w1", queues=["reports"], slot_count=3, labels={"zone": "a"})
    seen: list[Context] = []

    @worker.handler("send")
    async def send(context: Context) -> object:
        seen.append(context)
        await asyncio.sleep(0)
        return {"sent": context.payload["count"]}

    stream = await serve(worker)
    stream.assign(assignment(7, token=42), definitions=[definition(python="send", payload={"count": 3})])
    (result,) = await stream.until_results()

    assert (stream.hello.worker, list(stream.hello.queues), stream.hello.slot_count) == ("w1", ["reports"], 3)
    assert (stream.hello.protocol_version, dict(stream.hello.labels)) == (1, {"zone": "a"})
    assert (result.execution, result.attempt, result.fencing_token) == (7, 1, 42)
    assert result.outcome == Result.OUTCOME_SUCCEEDED
    assert result.result.struct_value.fields["sent"].number_value == 3
    (context,) = seen
    assert (context.job_name, context.job, context.namespace) == (JOB_NAME, "report", "default")
    assert context.execution_name == f"{JOB_NAME}/executions/7"
    assert context.due_time == datetime(2027, 1, 1, 0, 0, 0, 250_000, UTC)
    assert (context.fencing_token, context.idempotency_key, context.labels) == (42, "c1-7", {"team": "data"})


async def test_sync_handler_runs_in_a_thread_and_inline_in_the_loop(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)
    threads: dict[str, int] = {}

    @worker.handler("threaded")
    def threaded(context: Context) -> None:
        threads["threaded"] = threading.get_ident()
        context.write_output("from a thread\n")

    @worker.handler("inline", inline=True)
    def inline(context: Context) -> None:
        threads["inline"] = threading.get_ident()

    stream = await serve(worker)
    definitions = [definition(1, python="threaded"), definition(2, python="inline")]
    stream.assign(assignment(1, job=1), assignment(2, job=2), definitions=definitions)
    results = await stream.until_results(2)

    assert {result.outcome for result in results} == {Result.OUTCOME_SUCCEEDED}
    assert threads["inline"] == threading.get_ident() != threads["threaded"]
    assert stream.text() == "from a thread\n"


async def test_exceptions_become_errors_with_a_traceback(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)

    @worker.handler("broken")
    async def broken(context: Context) -> None:
        raise LookupError("no such\nreport")

    @worker.handler("hopeless")
    def hopeless(context: Context) -> None:
        raise PermanentError("the account is closed")

    @worker.handler("odd")
    async def odd(context: Context) -> object:
        return object()

    stream = await serve(worker)
    stream.assign(
        *(assignment(number, job=number) for number in (1, 2, 3, 4)),
        definitions=[definition(i, python=name) for i, name in enumerate(("broken", "hopeless", "odd", "absent"), 1)],
    )
    results = {result.execution: result for result in await stream.until_results(4)}

    assert all(result.outcome == Result.OUTCOME_FAILED for result in results.values())
    assert (results[1].error, results[1].permanent) == ("LookupError: no such report", False)
    assert [results[number].error_kind for number in (1, 2, 4)] == ["LookupError", "PermanentError", "no_handler"]
    assert (results[2].error, results[2].permanent) == ("PermanentError: the account is closed", True)
    assert "JSON values or None" in results[3].error
    assert "no handler named 'absent'" in results[4].error
    assert 'raise LookupError("no such\\nreport")' in stream.text(2)


async def test_a_kind_that_it_does_not_run_names_the_command_that_would(gateway: FakeGateway, serve: Serve) -> None:
    stream = await serve(Worker(gateway.address, insecure=True))
    stream.assign(
        assignment(1, job=1),
        assignment(2, job=2),
        definitions=[
            definition(1, sql=job_pb2.SqlAction(connection="shop", statement="SELECT 1")),
            definition(2, shell=job_pb2.ShellAction(script="true")),
        ],
    )
    errors = {result.execution: result.error for result in await stream.until_results(2)}

    would = {
        1: "sql actions (`horologe worker run --sql NAME=URL` would)",
        2: "shell actions (`horologe worker run` would)",
    }
    assert errors == {number: f"this worker runs no {said}; it runs python" for number, said in would.items()}


async def test_duplicates_and_older_tokens_are_dropped(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)
    tokens: list[int] = []

    @worker.handler("note")
    async def note(context: Context) -> None:
        tokens.append(context.fencing_token)

    stream = await serve(worker)
    stream.assign(assignment(1, token=20), definitions=[definition(python="note")])
    await stream.until_results(1)
    stream.assign(assignment(1, token=20), assignment(1, token=19), assignment(1, token=21, attempt=2))
    results = await stream.until_results(2)

    assert tokens == [20, 21]
    assert [result.fencing_token for result in results] == [20, 21]


async def test_newer_token_ends_the_older_attempt_without_a_report(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)
    cancelled = asyncio.Event()

    @worker.handler("wait")
    async def wait(context: Context) -> None:
        if context.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    stream = await serve(worker)
    stream.assign(assignment(1, token=20), definitions=[definition(python="wait")])
    stream.assign(assignment(1, token=21, attempt=2))
    (result,) = await stream.until_results(1)
    await cancelled.wait()

    assert result.fencing_token == 21


async def test_results_are_repeated_across_a_broken_stream(gateway: FakeGateway, serve: Serve) -> None:
    gateway.acknowledges_results = False
    worker = Worker(gateway.address, insecure=True)
    release = asyncio.Event()

    @worker.handler("quick")
    async def quick(context: Context) -> None:
        context.write_output("some output\n")

    @worker.handler("slow")
    async def slow(context: Context) -> None:
        await release.wait()

    stream = await serve(worker)
    definitions = [definition(1, python="quick"), definition(2, python="slow")]
    stream.assign(assignment(1, token=5), assignment(2, job=2, token=6), definitions=definitions)
    await stream.until_results(1)
    stream.end()
    second = await gateway.stream(2)
    await second.until_results(1)

    held = {one.execution for one in second.hello.held_attempts}
    assert held == {1, 2}
    assert second.hello.incarnation == stream.hello.incarnation
    assert second.text() == "some output\n"
    assert second.order.index("output") < second.order.index("results")

    second.acknowledge(*second.results)
    second.assign(assignment(2, job=2, token=6), definitions=definitions)
    release.set()
    await second.until_results(2)
    second.end()
    third = await gateway.stream(3)
    await third.until_results(1)
    assert [result.execution for result in third.results] == [2]


async def test_revoked_attempts_are_stopped_and_not_reported(gateway: FakeGateway, serve: Serve) -> None:
    gateway.acknowledges_results = False
    worker = Worker(gateway.address, insecure=True)
    stopped = asyncio.Event()

    @worker.handler("work")
    async def work(context: Context) -> None:
        if context.execution == 1:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

    stream = await serve(worker)
    stream.assign(assignment(1, token=5), assignment(2, token=6), definitions=[definition(python="work")])
    await stream.until_results(1)
    gateway.revoked = [attempt_id(assignment(1, token=5)), attempt_id(assignment(2, token=6))]
    stream.end()
    second = await gateway.stream(2)
    await stopped.wait()
    second.assign(assignment(3, token=7), definitions=[definition(python="work")])
    await second.until_results(1)

    assert [result.execution for result in second.results] == [3]


async def test_unacknowledged_results_are_repeated_on_the_same_stream(gateway: FakeGateway, serve: Serve) -> None:
    gateway.acknowledges_results = False
    gateway.lease_ms, gateway.heartbeat_ms = 200, 20
    # A clock that stands still, so that the lease does not end.
    worker = Worker(gateway.address, insecure=True, clock=lambda: 1000.0)

    @worker.handler("quick")
    async def quick(context: Context) -> None:
        return None

    stream = await serve(worker)
    stream.assign(assignment(1, token=5), definitions=[definition(python="quick")])
    first, second = (await stream.until_results(2))[:2]

    assert first == second


async def test_cancellation_reaches_async_and_sync_handlers(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)
    started: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    @worker.handler("async")
    async def waits(context: Context) -> None:
        started.put_nowait(1)
        await asyncio.Event().wait()

    @worker.handler("sync")
    def blocks(context: Context) -> None:
        cancelled = context.cancelled
        loop.call_soon_threadsafe(started.put_nowait, 2)
        cancelled.wait()
        context.raise_if_cancelled()

    stream = await serve(worker)
    definitions = [definition(1, python="async"), definition(2, python="sync")]
    work = [assignment(1, job=1), assignment(2, job=2)]
    stream.assign(*work, definitions=definitions)
    assert {await started.get(), await started.get()} == {1, 2}
    stream.send(cancellation=worker_pb2.Cancellation(attempts=[attempt_id(one) for one in work], reason="by alice"))
    results = await stream.until_results(2)

    assert {result.outcome for result in results} == {Result.OUTCOME_CANCELLED}
    assert {result.error for result in results} == {"cancelled: by alice"}


async def test_handler_that_runs_too_long_times_out(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)

    @worker.handler("wait")
    async def wait(context: Context) -> None:
        await asyncio.Event().wait()

    stream = await serve(worker)
    stream.assign(assignment(), definitions=[definition(python="wait", timeout_seconds=0.05)])
    (result,) = await stream.until_results()

    assert (result.outcome, result.error) == (Result.OUTCOME_TIMED_OUT, "timed out after 0.05 s")


async def test_handler_that_ignores_its_cancellation_is_reported_all_the_same(
    gateway: FakeGateway, serve: Serve
) -> None:
    worker = Worker(gateway.address, insecure=True)
    release = asyncio.Event()

    @worker.handler("stubborn")
    async def stubborn(context: Context) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    stream = await serve(worker)
    stream.assign(assignment(), definitions=[definition(python="stubborn", timeout_seconds=0.02, grace_seconds=0.01)])
    (result,) = await stream.until_results()
    release.set()

    assert result.outcome == Result.OUTCOME_TIMED_OUT
    assert "did not stop within its grace" in result.error


async def test_handlers_of_one_batch_have_tasks_of_their_own_once_they_wait(gateway: FakeGateway, serve: Serve) -> None:
    """`asyncio.timeout` cancels the current task: it must be the handler's and nobody else's."""
    worker = Worker(gateway.address, insecure=True)

    @worker.handler("limited")
    async def limited(context: Context) -> str:
        try:
            async with asyncio.timeout(0.01 if context.execution % 2 else 60):
                await (asyncio.Event().wait() if context.execution % 2 else asyncio.sleep(0.02))
        except TimeoutError:
            return "late"
        return "in time"

    stream = await serve(worker)
    stream.assign(*(assignment(number) for number in range(1, 21)), definitions=[definition(python="limited")])
    results = await stream.until_results(20)

    expected = {number: "late" if number % 2 else "in time" for number in range(1, 21)}
    assert {result.execution: result.result.string_value for result in results} == expected


async def test_output_is_capped_numbered_and_ahead_of_its_result(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True, output_bytes_max=100_000)

    @worker.handler("chatty")
    async def chatty(context: Context) -> None:
        context.write_output(b"x" * 70_000)
        context.write_output("trouble\n", error=True)
        context.write_output(b"y" * 70_000)

    stream = await serve(worker)
    stream.assign(assignment(), definitions=[definition(python="chatty")])
    (result,) = await stream.until_results()

    assert result.output_truncated
    assert [chunk.sequence for chunk in stream.output] == list(range(len(stream.output)))
    assert max(len(chunk.data) for chunk in stream.output) <= 65_536
    assert sum(len(chunk.data) for chunk in stream.output) == 100_000
    assert stream.text(2) == "trouble\n"
    assert [kind for kind in stream.order if kind != "heartbeat"][-1] == "results"


async def test_many_results_travel_in_few_messages(gateway: FakeGateway, serve: Serve) -> None:
    # A clock that stands still: how many of them a turn takes is the machine's affair.
    worker = Worker(gateway.address, insecure=True, slot_count=1000, clock=lambda: 1000.0)

    @worker.handler("nothing", inline=True)
    def nothing(context: Context) -> None:
        return None

    stream = await serve(worker)
    stream.assign(*(assignment(number) for number in range(1, 501)), definitions=[definition(python="nothing")])
    await stream.until_results(500)

    assert stream.order.count("results") < 20


async def test_progress_is_a_line_of_the_output(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)
    refused: list[str] = []

    @worker.handler("work")
    def work(context: Context) -> None:
        context.progress(0.25, "a quarter")
        context.progress(1)
        try:
            context.progress(1.5)
        except ValueError as error:
            refused.append(str(error))

    stream = await serve(worker)
    stream.assign(assignment(), definitions=[definition(python="work")])
    await stream.until_results()
    assert stream.text() == "progress 25%: a quarter\nprogress 100%\n"
    assert refused == ["a progress of 1.5 is outside 0 to 1"]


async def test_progress_ends_a_handler_that_has_to_end(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)
    started, seen = threading.Event(), threading.Event()

    @worker.handler("work")
    def work(context: Context) -> None:
        started.set()
        context.cancelled.wait()
        try:
            context.progress(0.5)
        except AttemptCancelledError:
            seen.set()
            raise

    stream = await serve(worker)
    one = assignment()
    stream.assign(one, definitions=[definition(python="work")])
    await asyncio.to_thread(started.wait)
    stream.send(cancellation=worker_pb2.Cancellation(attempts=[attempt_id(one)]))
    (result,) = await stream.until_results()
    assert (result.outcome, seen.is_set()) == (Result.OUTCOME_CANCELLED, True)
