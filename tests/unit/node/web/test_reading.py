"""What pages of lists have in common: filters from addresses, and pages that are full."""

from __future__ import annotations

import pytest
from starlette.datastructures import QueryParams

from horologe.node.web import reading
from horologe.node.web.reading import full_page, instant, pair, run_path
from horologe.node.web.view import FormError
from horologe.node.web.words import rfc3339
from horologe.v1 import execution_service_pb2

NOW_MS = 1_800_000_000_000  # 2027-01-15T08:00:00Z


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("", ""),
        ("2026-11-26", "2026-11-26T00:00:00.000Z"),
        ("2026-11-26T20:00", "2026-11-26T20:00:00.000Z"),
        ("2026-11-26T20:00+02:00", "2026-11-26T18:00:00.000Z"),
        ("90m", "2027-01-15T06:30:00.000Z"),
        ("2d", "2027-01-13T08:00:00.000Z"),
    ],
)
def test_instants(text: str, when: str) -> None:
    assert rfc3339(instant(QueryParams({"from": text}), "from", NOW_MS)) == when


@pytest.mark.parametrize("text", ["m", "²m", "9" * 30 + "d", "tomorrow", "0000-00-00", "-1h"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(FormError, match=r"from: .* is no time"):
        instant(QueryParams({"from": text}), "from", NOW_MS)


def test_labels() -> None:
    assert pair("team=data, note=a=b,", "label") == {"team": "data", "note": "a=b"}
    with pytest.raises(FormError, match="label"):
        pair("team", "label")


def test_the_page_of_a_run() -> None:
    assert run_path("namespaces/shop/jobs/etl/executions/7") == "/workflows/shop/etl?run=7"


class Pages:
    """A list that finds one execution with each call."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.tokens: list[str] = []

    async def __call__(
        self, request: execution_service_pb2.ListExecutionsRequest
    ) -> execution_service_pb2.ListExecutionsResponse:
        self.tokens.append(request.page_token)
        self.left -= 1
        answer = execution_service_pb2.ListExecutionsResponse(next_page_token=str(self.left) if self.left else "")
        answer.executions.add()
        return answer


async def test_short_pages_are_put_together(monkeypatch) -> None:
    monkeypatch.setattr(reading, "SECONDS_PER_PAGE_MAX", 1_000)
    pages = Pages(9)
    found, token = await full_page(pages, execution_service_pb2.ListExecutionsRequest(), "executions", 3)
    assert (len(found), token, pages.tokens) == (3, "6", ["", "8", "7"])
    found, token = await full_page(Pages(2), execution_service_pb2.ListExecutionsRequest(), "executions", 3)
    assert (len(found), token) == (2, "")


async def test_a_page_makes_a_bounded_number_of_calls(monkeypatch) -> None:
    monkeypatch.setattr(reading, "SECONDS_PER_PAGE_MAX", 1_000)
    found, token = await full_page(Pages(99), execution_service_pb2.ListExecutionsRequest(), "executions", 50)
    assert (len(found), token) == (reading.CALLS_PER_PAGE_MAX, "94")
    monkeypatch.setattr(reading, "SECONDS_PER_PAGE_MAX", 0)
    found, token = await full_page(Pages(99), execution_service_pb2.ListExecutionsRequest(), "executions", 50)
    assert (len(found), token) == (1, "98")
