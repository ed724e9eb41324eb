"""schemathesis calls the whole API over HTTP as its OpenAPI document describes it, on a real secure node: it finds no failure of
the node, no status and no answer that the document does not know, and nothing that is taken although the document forbids it.

`API_FUZZ_SECONDS` makes it go on for longer (`make api-fuzz`); the seed that a failure has named goes into `API_FUZZ_SEED`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest
from support.governed_node import governed_node

from horologe.node import authentication
from horologe.node.http import openapi
from horologe.node.http.json_writer import dump

SECONDS = int(os.environ.get("API_FUZZ_SECONDS", "60"))
SEED = os.environ.get("API_FUZZ_SEED", "")
# Semantics are no matter of schemas: what a schema allows may still break a rule.
EXCLUDED_CHECKS = "positive_data_acceptance"
WAITING = "ClusterService_GetStateDigest"
"""Waits for a revision that is still to come, and then says 503."""


def described() -> tuple[bytes, int]:
    """The document as the tool can use it, and how many operations it has: without streams, which may have no end, and without
    headers, of which any request may have any, and one makes it wait."""
    document = json.loads(openapi.text())
    count = 0
    for path, operations in list(document["paths"].items()):
        for verb, operation in list(operations.items()):
            operation["parameters"] = [each for each in operation["parameters"] if "$ref" not in each]
            if "406" in operation["responses"] or operation["operationId"] == WAITING:
                del document["paths"][path][verb]
            else:
                count += 1
    return dump(document), count


@pytest.mark.timeout(SECONDS + 300)
async def test_nothing_comes_that_the_description_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(authentication, "FAILURES_BURST", 1e9)
    file, (content, count) = tmp_path / "openapi.json", described()
    file.write_bytes(content)
    async with governed_node(tmp_path, calls_per_second_max=1e6) as here:
        process = await asyncio.create_subprocess_exec(
            *(
                Path(sys.executable).with_name("schemathesis"),
                "run",
                file,
                "--url",
                f"https://{here.config.http_listen}",
            ),
            *("--tls-verify", "false", "--header", f"Authorization: Bearer {here.admin}"),
            *("--max-time", str(SECONDS), "--request-timeout", "60", "--continue-on-failure"),
            *("--exclude-checks", EXCLUDED_CHECKS, "--suppress-health-check", "all", "--warnings", "off"),
            *(("--seed", SEED) if SEED else ()),
            cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    selected = re.search(r"Selected: (\d+)/", output)
    assert selected is not None and int(selected[1]) == count, output
