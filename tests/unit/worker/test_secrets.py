"""Secrets of a job: what they are filled into, and that nothing of them comes back, whatever the job does with them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fake_gateway import JOB_NAME, FakeGateway, Result, Serve, Stream, assignment, definition, value
from structlog.testing import capture_logs

from horologe.client.executors.http import HttpExecutor
from horologe.client.executors.shell import ShellExecutor
from horologe.client.outbox import Output
from horologe.client.worker import Context, PermanentError, Worker
from horologe.v1 import job_pb2

SECRET = "hunter2 & sons"
MARK = "[secret password]"


async def run(gateway: FakeGateway, serve: Serve, worker: Worker, **action: Any) -> tuple[Result, Stream]:
    stream = await serve(worker)
    one = assignment(7, token=42)
    one.secrets["password"] = SECRET
    stream.assign(one, definitions=[definition(**action)])
    (result,) = await stream.until_results()
    return result, stream


def worker_of(gateway: FakeGateway) -> Worker:
    worker = Worker(gateway.address, insecure=True)
    worker.add_executor("shell", ShellExecutor(worker.lease))
    worker.add_executor("http", HttpExecutor(allow_loopback=True))
    return worker


async def test_a_script_gets_secrets_and_prints_none(gateway: FakeGateway, serve: Serve) -> None:
    """In whatever way it came to it, on both streams, and also where two writes cut the value."""
    script = (
        'cat; echo; printf "%s" "$PASSWORD" | base64; printf "<$PASSWORD>"\n'
        'printf "[hunter"; printf >&2 "[hunt"; sleep 0.2; printf "2 & sons]"; printf >&2 "er2 & sons]"'
    )
    action = job_pb2.ShellAction(
        script=script, env={"PASSWORD": "{{ secrets.password }}"}, stdin=b"x{{ secrets.password }}x"
    )
    result, stream = await run(gateway, serve, worker_of(gateway), shell=action)

    assert result.outcome == Result.OUTCOME_SUCCEEDED
    assert stream.text().splitlines() == [f"x{MARK}x", MARK, f"<{MARK}>[{MARK}]"]
    assert stream.text(2) == f"[{MARK}]"
    assert result.output_chunk_count == len(stream.output)


async def test_what_looked_like_a_secret_to_the_end_is_output(gateway: FakeGateway, serve: Serve) -> None:
    result, stream = await run(
        gateway, serve, worker_of(gateway), shell=job_pb2.ShellAction(argv=["echo", "-n", "hunter"])
    )
    assert (stream.text(), result.output_chunk_count) == ("hunter", 1)


@pytest.mark.parametrize(
    "action",
    [
        job_pb2.ShellAction(argv=["echo", "{{ secrets.password }}"]),
        job_pb2.ShellAction(script="echo {{ secrets.password }}"),
        job_pb2.ShellAction(argv=["pwd"], cwd="/{{ secrets.password }}"),
    ],
)
async def test_what_others_can_see_gets_no_secret(
    gateway: FakeGateway, serve: Serve, action: job_pb2.ShellAction
) -> None:
    """Nodes refuse such a job; a worker does not rely on it."""
    result, stream = await run(gateway, serve, worker_of(gateway), shell=action)
    assert (result.permanent, stream.text()) == (True, "")
    assert "'secrets' is undefined" in result.error


async def test_requests_and_their_answers(gateway: FakeGateway, serve: Serve) -> None:
    """An error tells where the request went, and the server may answer with what it was told."""
    import asyncio

    heads: list[str] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head.decode())
        writer.write(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        action = job_pb2.HttpAction(
            url=f"http://127.0.0.1:{port}/{{{{ secrets.password }}}}",
            headers={"X-Key": "{{ secrets.password }}"},
        )
        result, stream = await run(gateway, serve, worker_of(gateway), http=action)
    assert f"X-Key: {SECRET}" in heads[0]
    assert SECRET not in result.error + stream.text() and "hunter2" not in result.error + stream.text()
    assert f"/{MARK} HTTP/1.1" in stream.text() and f"X-Key: {MARK}" in stream.text()
    assert f"/{MARK}: HTTP 400" in result.error


async def test_results_and_errors_of_handlers(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)

    @worker.handler("tell")
    async def tell(context: Context) -> Any:
        assert (context.payload, context.secrets) == ({"password": SECRET}, {"password": SECRET})
        context.write_output(base64.b64encode(b"ab" + SECRET.encode()))
        return {"said": [SECRET], SECRET: 1}

    @worker.handler("fail")
    async def fail(context: Context) -> Any:
        raise PermanentError(f"cannot log in with {context.payload['password']}")

    payload = {"password": "{{ secrets.password }}"}
    result, stream = await run(gateway, serve, worker, python="tell", payload=payload)
    assert result.result == value({"said": [MARK], MARK: 1})
    assert MARK in stream.text()

    one = assignment(8, job=2)
    one.secrets["password"] = SECRET
    stream.assign(one, definitions=[definition(2, python="fail", payload=payload)])
    _, failed = await stream.until_results(2)
    assert failed.error == f"PermanentError: cannot log in with {MARK}"
    assert SECRET not in stream.text(2) and f"cannot log in with {MARK}" in stream.text(2)


async def test_a_result_that_is_too_large_without_its_secrets(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True)

    @worker.handler("tell")
    async def tell(context: Context) -> Any:
        return SECRET * 4_500

    result, _ = await run(gateway, serve, worker, python="tell")
    assert result.result.string_value == "[too large once its secrets are taken out]"


class Broken:
    """An executor with a defect that tells what it knows."""

    async def run(self, attempt: Any, output: Output) -> Any:
        raise RuntimeError(f"defect at {SECRET}")

    async def close(self) -> None:
        return


async def test_the_workers_own_log_shows_none(gateway: FakeGateway, serve: Serve) -> None:
    worker = Worker(gateway.address, insecure=True, executors={"shell": Broken()})
    with capture_logs() as logs:
        result, _ = await run(gateway, serve, worker, shell=job_pb2.ShellAction(argv=["true"]))
    assert result.error == f"RuntimeError: defect at {MARK}"
    (entry,) = [entry for entry in logs if "unexpectedly" in entry["event"]]
    assert f"defect at {MARK}" in entry["exception"] and SECRET not in str(entry)


async def test_what_a_handler_logs_shows_none(
    gateway: FakeGateway, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Worker(gateway.address, insecure=True)

    @worker.handler("log")
    async def log(context: Context) -> None:
        context.logger.info(f"one {SECRET}", two=[SECRET], three={"x": SECRET}, four=RuntimeError(SECRET), five=5)
        try:
            raise RuntimeError(f"six {SECRET}")
        except RuntimeError:
            context.logger.exception("seven")

    result, _ = await run(gateway, serve, worker, python="log")
    assert result.outcome == Result.OUTCOME_SUCCEEDED
    logged = capsys.readouterr().out
    assert (logged.count(MARK), SECRET in logged, "five=5" in logged) == (5, False, True)


@pytest.mark.parametrize("secrets", [{}, {"pin": "123"}])
async def test_no_secrets_or_short_ones_change_nothing(
    gateway: FakeGateway, serve: Serve, secrets: dict[str, str]
) -> None:
    stream = await serve(worker_of(gateway))
    one = assignment(7)
    for name, text in secrets.items():
        one.secrets[name] = text
    stream.assign(one, definitions=[definition(shell=job_pb2.ShellAction(argv=["echo", "123", JOB_NAME]))])
    await stream.until_results()
    assert stream.text() == f"123 {JOB_NAME}\n"
