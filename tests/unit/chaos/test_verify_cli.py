"""What `horologe verify` prints, and its exit codes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from horologe.chaos import verify as looking
from horologe.chaos.audit import JobAudit, Period, Row
from horologe.chaos.timetable import Every
from horologe.chaos.verify import MemberState, Verification
from horologe.client.cli.main import build

WHOLE = [MemberState("n1", "ab" * 32, 7), MemberState("n2", "ab" * 32, 7)]
AWAY = MemberState("n3", error="no node answers")
OTHER = MemberState("n3", "cd" * 32, 8)


def _audit(*rows: Row) -> JobAudit:
    audit = JobAudit("namespaces/default/jobs/tick", Every(1_000, 0), Period(0, 0, 3_500, 4_000))
    for row in rows:
        audit.take(row)
    audit.finish()
    return audit


ROWS = [Row(due, due, 1, "ran", f"e{due}") for due in (1_000, 2_000, 3_000)]


def _run(monkeypatch: pytest.MonkeyPatch, found: Verification, *options: str) -> Result:
    async def look(client: object, grace_ms: int, progress: object) -> Verification:
        assert grace_ms == 10_000
        return found

    monkeypatch.setattr(looking, "verify", look)
    return CliRunner().invoke(build(), ["verify", "--address", "127.0.0.1:1", *options])


@pytest.mark.parametrize(
    ("members", "rows", "unread", "code", "said"),
    [
        (WHOLE, ROWS, [], 0, "Every due time is accounted for exactly once, and all members agree."),
        (WHOLE, ROWS[:2], [], 1, "Not accounted for exactly once: 1 missing"),
        ([*WHOLE, OTHER], ROWS, [], 1, "3 members, 2 different states at revision 9"),
        ([*WHOLE, AWAY], ROWS, [], 2, "Not everything could be looked at."),
        (WHOLE, ROWS, [("namespaces/default/jobs/x", "no answer")], 2, "namespaces/default/jobs/x could not be read"),
        ([*WHOLE, AWAY], ROWS[:2], [], 1, "no node answers"),
        ([], ROWS, [], 2, "Not everything could be looked at."),
    ],
)
def test_what_it_says_and_how_it_exits(
    monkeypatch: pytest.MonkeyPatch,
    members: list[MemberState],
    rows: list[Row],
    unread: list[tuple[str, str]],
    code: int,
    said: str,
) -> None:
    found = Verification(revision=9, time_ms=13_500, members=members, jobs=1, unread=unread)
    found.add(_audit(*rows))
    result = _run(monkeypatch, found)
    assert result.exit_code == code, result.output
    assert said in result.output
    record = json.loads(_run(monkeypatch, found, "-o", "json").stdout)
    assert (record["sound"], record["complete"]) == (code != 1, code != 2 and AWAY not in members)
    assert record["due_count"] == 3
    assert record["outcomes"] == {"ran": len(rows)}
    assert [(each["kind"], each["first_due_time"]) for each in record["findings"]] == (
        [] if len(rows) == 3 else [("missing", "1970-01-01T00:00:03.000Z")]
    )


def test_a_grace_that_is_no_duration() -> None:
    assert CliRunner().invoke(build(), ["verify", "--grace", "soon"]).exit_code == 2
