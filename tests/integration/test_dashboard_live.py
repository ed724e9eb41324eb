"""Open pages of a secure node: who may listen, what they hear, and what ends it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from support.governed_node import GovernedNode, governed_node

from horologe.node.tls_folder import CA_FILE
from horologe.node.web import live
from horologe.node.web.view import SECURE_COOKIE
from horologe.v1 import access_service_pb2, access_service_pb2_grpc, job_service_pb2, job_service_pb2_grpc

WAIT_SECONDS = 60


@asynccontextmanager
async def _reader(governed: GovernedNode, token: str) -> AsyncIterator[httpx.AsyncClient]:
    trust = ssl.create_default_context(cafile=str(governed.config.data_dir / "tls" / CA_FILE))
    async with httpx.AsyncClient(
        base_url=f"https://{governed.config.http_listen}",
        verify=trust,
        timeout=WAIT_SECONDS,
        cookies={SECURE_COOKIE: token},
    ) as client:
        yield client


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def _change(governed: GovernedNode, name: str) -> int:
    request = job_service_pb2.CreateJobRequest(parent="namespaces/default", job_id=name)
    request.job.action.shell.argv.append("true")
    request.job.schedules.add().manual.SetInParent()
    stub = job_service_pb2_grpc.JobServiceStub(governed.channel)
    return (await stub.CreateJob(request, metadata=_bearer(governed.admin))).revision


async def _marks(answer: httpx.Response) -> AsyncIterator[int]:
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield int(line.removeprefix("data: ").partition("-")[0])


async def test_pages_hear_of_changes_until_their_session_ends(tmp_path: Path) -> None:
    async with governed_node(tmp_path) as governed:
        access = access_service_pb2_grpc.AccessServiceStub(governed.channel)
        made = await access.CreateToken(access_service_pb2.CreateTokenRequest(), metadata=_bearer(governed.admin))
        async with _reader(governed, made.secret) as reader, reader.stream("GET", "/live") as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert "content-encoding" not in answer.headers
            marks = _marks(answer)
            async with asyncio.timeout(WAIT_SECONDS):
                first = await anext(marks)
                wanted = await _change(governed, "a")
                assert wanted > first
                while await anext(marks) < wanted:
                    pass
                await access.RevokeToken(
                    access_service_pb2.RevokeTokenRequest(name=made.token.name), metadata=_bearer(governed.admin)
                )
                async for _ in marks:
                    pass
            assert (await reader.get("/live")).status_code in (303, 401)
        refusals = await governed.refusals()
        assert ("admin", "WatchService.WatchChanges", "UNAUTHENTICATED") in {
            (record.principal, record.method, record.reason) for record in refusals
        }


async def test_nobody_listens_without_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with governed_node(tmp_path) as governed:
        async with _reader(governed, "") as reader:
            assert (await reader.get("/live", headers={"accept": "text/event-stream"})).status_code in (303, 401)
        monkeypatch.setattr(live, "STREAMS_MAX", 1)
        async with _reader(governed, governed.admin) as reader, reader.stream("GET", "/live") as answer:
            assert answer.status_code == 200
            assert (await reader.get("/live")).status_code == 503
        async with _reader(governed, governed.admin) as reader, asyncio.timeout(WAIT_SECONDS):
            status = 503
            while status == 503:
                async with reader.stream("GET", "/live") as answer:
                    status = answer.status_code
            assert status == 200


async def test_a_node_that_stops_ends_its_streams(tmp_path: Path) -> None:
    async with (
        governed_node(tmp_path) as governed,
        _reader(governed, governed.admin) as reader,
        reader.stream("GET", "/live") as answer,
    ):
        lines = answer.aiter_lines()
        assert await anext(lines) == f"retry: {live.RETRY_MILLISECONDS}"
        governed.node.context.stopping.set()
        async with asyncio.timeout(WAIT_SECONDS):
            async for _ in lines:
                pass
