"""Calendar files: what they say is what they are written as, whatever is left out."""

from __future__ import annotations

import pytest
from support.pages import ROOT

from horologe.client import calendarfile, names
from horologe.client.documents import dump
from horologe.client.errors import InvalidFile


@pytest.mark.parametrize(
    "text",
    [
        (ROOT / "examples" / "monthly-report" / "calendars.yaml").read_text(),
        "name: nights\nhours:\n- {from: 22:00, to: 06:00}\n",
        "name: freeze\nspans:\n- {cron: 0 0 1 * *, time_zone: Europe/Berlin, duration: 2d}\n",
        "name: nothing\n",
    ],
)
def test_a_calendar_is_read_as_it_was_written(text):
    [calendar] = calendarfile.loads(text)
    mapping = calendarfile.to_mapping(calendar)
    assert None not in mapping.values()
    assert calendarfile.loads(dump(mapping)) == [calendar]


def test_mistakes_are_named_by_line():
    with pytest.raises(InvalidFile) as raised:
        calendarfile.loads("calendars:\n- name: nights\n  hours:\n  - {form: 22:00}\n- dates: [2026-12-25]\n", "c.yaml")
    assert [(problem.line, problem.text) for problem in raised.value.problems] == [
        (4, "nights.hours[0]: unknown key 'form' (did you mean 'from'?)"),
        (5, f"calendar: it needs a `name` (and perhaps a `namespace`): {names.ID_RULE}"),
    ]
