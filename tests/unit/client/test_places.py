"""From fields of the API to places of a job file."""

import pytest

from horologe.client.jobfile import loads

FILE = """\
jobs:
- name: one
  schedule: {cron: "0 2 * * *",
             time_zone: Europe/Berlin}
  jitter: 1s
  limits: [db,
           disk]
  action:
    shell: {argv: [tar,
                   x], env: {A: b}}
  retry:
    max_attempts: 3
- name: many
  schedule:
  - interval: 5m
  - delay: 10m
  action: {python: {handler: h, payload: {
    to: ada}}}
- name: last
  schedule: {after: [one,
                     many]}
  action: {http: {url: "https://example.org"}}
"""


@pytest.mark.parametrize(
    ("job", "field", "line", "column"),
    [
        (0, "", 2, 3),
        (0, "name", 2, 9),
        (0, "schedules[0].cron.expression", 3, 20),
        (0, "schedules[0].cron.time_zone", 4, 25),
        (0, "limits[1]", 7, 12),
        (0, "limits[7]", 6, 11),
        (0, "action.shell.argv[1]", 10, 20),
        (0, 'action.shell.env["A"]', 10, 33),
        (0, "action.shell.script", 9, 12),
        (0, "retry.max_attempts", 12, 19),
        (0, "retry.jitter", 12, 5),
        (0, "catchup_window", 2, 3),
        (1, "schedules[0].interval.every", 15, 15),
        (1, "schedules[1].once.delay", 16, 12),
        (1, 'action.python.payload["to"]', 18, 9),
        (2, "schedules[0].after.jobs[1]", 21, 22),
        (2, "???", 19, 3),
    ],
)
def test_a_field_is_found_where_it_was_written(job: int, field: str, line: int, column: int) -> None:
    place = loads(FILE, "f.yaml")[job].place(field)
    assert (place.file, place.line, place.column) == ("f.yaml", line, column)
