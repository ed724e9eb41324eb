"""The pages of jobs on a real node with security, over TLS: somebody signs in, makes a job, and sees why it did not run."""

from __future__ import annotations

import html
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.governed_node import GovernedNode, governed_node

from horologe.chaos.cluster import eventually
from horologe.node.tls_folder import CA_FILE
from horologe.v1 import access_pb2, access_service_pb2, access_service_pb2_grpc

HOSTILE = "<script>alert('x')</script>\u202e"
HERE = "/jobs/default/every-second"
FIELDS = {
    "as": "fields", "name": "every-second", "namespace": "default", "kind": "every", "every": "1s", "action": "shell",
    "argv": "true", "overlap": "skip", "owner": HOSTILE, "labels": "team=<b>data</b>", "description": HOSTILE,
}  # fmt: skip


class Reader:
    """A browser that knows the cluster's CA, and answers forms with the proof of the page that it saw last."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.proof = ""

    async def get(self, address: str) -> httpx.Response:
        answer = await self.http.get(address)
        found = re.search(r'x-csrf-token": "(\w*)"', answer.text)
        self.proof = found[1] if found else self.proof
        return answer

    async def post(self, address: str, fields: dict[str, Any]) -> httpx.Response:
        return await self.http.post(address, data={"csrf": self.proof, **fields})


@asynccontextmanager
async def signed_in(governed: GovernedNode, token: str) -> AsyncIterator[Reader]:
    trusted = ssl.create_default_context(cafile=governed.config.data_dir / "tls" / CA_FILE)
    address = f"https://{governed.config.http_listen}"
    async with httpx.AsyncClient(verify=trusted, base_url=address, timeout=60) as http:
        reader = Reader(http)
        await reader.get("/sign-in")
        answer = await reader.post("/sign-in", {"token": token, "next": "/jobs"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
        yield reader


async def viewer_of(governed: GovernedNode) -> str:
    """The token of somebody who may only look."""
    access = access_service_pb2_grpc.AccessServiceStub(governed.channel)
    as_admin = (("authorization", f"Bearer {governed.admin}"),)
    grant = access_pb2.Grant(subject="vic", namespace="*", role=access_pb2.ROLE_VIEWER)
    await access.SetGrant(access_service_pb2.SetGrantRequest(grant=grant), metadata=as_admin)
    made = await access.CreateToken(access_service_pb2.CreateTokenRequest(principal="vic"), metadata=as_admin)
    return str(made.secret)


@pytest.fixture
async def governed(tmp_path: Path) -> AsyncIterator[GovernedNode]:
    async with governed_node(tmp_path) as started:
        yield started


async def test_a_job_from_the_form_to_why_it_did_not_run(governed: GovernedNode) -> None:
    async with signed_in(governed, governed.admin) as admin:
        await admin.get("/new-job")
        made = await admin.post("/new-job", FIELDS)
        assert (made.status_code, made.headers["location"]) == (303, f"{HERE}?done=created")

        # There is no worker, so the first execution waits, and the due times after it are left out.
        async def is_skipped() -> bool:
            return 'class="dot skipped"' in (await admin.get("/jobs")).text

        await eventually(is_skipped, 60, "a due time that is skipped")
        listed = (await admin.get("/jobs")).text
        assert 'class="dot queued"' in listed
        why = re.search(r'class="dot skipped" href="([^"]+)"', listed)
        assert why
        explained = (await admin.get(html.unescape(why[1]))).text
        assert "did not run" in explained
        assert "overlap: skip" in explained
        for page in (listed, explained):
            assert "<script>alert" not in page
            assert "<b>data" not in page
            assert "\u202e" not in page
        assert (await admin.get(f"{HERE}/calendar")).text.count("skipped") > 1
        paused = await admin.post(f"{HERE}/pause", {"reason": HOSTILE})
        assert paused.status_code == 303
        shown = (await admin.get(HERE)).text
        assert "&lt;script&gt;alert" in shown
        assert "paused by" in shown


async def test_a_viewer_looks_and_changes_nothing(governed: GovernedNode) -> None:
    async with signed_in(governed, governed.admin) as admin:
        await admin.get("/new-job")
        assert (await admin.post("/new-job", {**FIELDS, "kind": "manual"})).status_code == 303
    async with signed_in(governed, await viewer_of(governed)) as viewer:
        page = (await viewer.get(HERE)).text
        assert "every-second" in page
        for form in ("run", "pause", "delete", "edit", "backfill"):
            assert f'{HERE}/{form}"' not in page, form
        assert "checkbox" not in (await viewer.get("/jobs")).text
        for form in ("run", "pause", "delete"):
            refused = await viewer.post(f"{HERE}/{form}", {})
            assert (refused.status_code, "PERMISSION_DENIED" in refused.text) == (403, True), form
        selected = {"action": "pause", "selected": "namespaces/default/jobs/every-second", "confirmed": "yes"}
        number = "6b2a4f0e-6d0f-4b5e-9d0a-0f1f6c0c7f11"
        bulk = await viewer.post("/jobs/bulk", {**selected, "request_id": number})
        assert "0 paused, 1 refused" in bulk.text
