"""Calendar files: read, written back the same, and mistakes named by line."""

from __future__ import annotations

import pytest
import yaml

from horologe.client.calendarfile import loads, to_mapping
from horologe.client.errors import InvalidFile

TEXT = """\
calendars:
- name: closed
  time_zone: Europe/Berlin
  description: nobody is there
  dates: ["*-12-24/*-12-26", 2027-05-01]
  hours:
  - days: [sat, sun]
  - {from: 22:00, to: 06:00}
  spans:
  - {cron: "0 12 1 * *", duration: 4h, time_zone: UTC}
- {name: open, namespace: shop}
"""


def test_a_file_is_read_and_written_back() -> None:
    closed, opened = loads(TEXT)
    assert (closed.name, opened.name) == ("namespaces/default/calendars/closed", "namespaces/shop/calendars/open")
    assert list(closed.dates) == ["*-12-24/*-12-26", "2027-05-01"]
    assert (getattr(closed.hours[1], "from"), closed.hours[1].to) == ("22:00", "06:00")
    assert (closed.spans[0].cron.expression, closed.spans[0].duration.seconds) == ("0 12 1 * *", 14_400)
    written = yaml.safe_dump({"calendars": [to_mapping(closed), to_mapping(opened)]})
    assert loads(written) == [closed, opened]


def test_what_the_cluster_adds_is_not_in_the_way() -> None:
    (calendar,) = loads("name: a\ndates: ['*-01-01']")
    calendar.etag, calendar.job_count = "7", 3
    (again,) = loads(yaml.safe_dump(to_mapping(calendar)))
    assert list(again.dates) == ["*-01-01"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("calendars:\n- {name: a, date: x}", 2, "unknown key 'date'"),
        ("calendars:\n- {dates: [2027-05-01]}", 2, "it needs a `name`"),
        ("name: a\nspans:\n- {cron: '0 0 * * *'}", 3, "`duration` is missing"),
        ("name: a\nspans:\n- {duration: 1h}", 3, "`cron` is missing"),
        ("name: a\nhours: {from: 22:00}", 2, "must be a list"),
        ("calendars: []", 1, "holds no calendar"),
        ("calendars: []\njobs: []", 2, "unknown key 'jobs'"),
        ("workflows: []", 1, "workflows are in files of their own, which `horologe job apply --file` takes"),
    ],
)
def test_mistakes_are_named_by_line(text: str, line: int, said: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        loads(text, "c.yaml")
    assert [problem.line for problem in caught.value.problems] == [line]
    assert said in str(caught.value)
