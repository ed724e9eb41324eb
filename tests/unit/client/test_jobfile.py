"""Job files: what they mean, and each mistake with its exact line, column and advice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from horologe.client import jobfile, jobs
from horologe.client.errors import InvalidFile
from horologe.v1.job_pb2 import Job

FULL = """
# Everything that a job file may say.
jobs:
- name: nightly-report
  namespace: prod
  schedule: {cron: "0 2 * * *", time_zone: Europe/Berlin, dst_gap: skip, dst_overlap: both, day_match: both}
  action:
    shell: {script: "pg_dump mydb", interpreter: [bash, -euo, pipefail], env: {PGHOST: db}, cwd: /tmp,
            stdin: "hello", success_codes: [0, 3]}
  retry: {max_attempts: 5, backoff: exponential, base: 5s, factor: 1.5, cap: 1h, jitter: none}
  timeout: 10m
  grace: PT30S
  catchup: skip
  catchup_window: 1d
  overlap: allow
  on_lease_loss: fail
  queue: reports
  priority: 0
  labels: {team: data}
  description: The report.
- name: poll
  schedule: [{interval: every 5 minutes, phase: 0s}, {once: 2027-01-01T00:00:00Z},
             {once: "2027-07-01T00:00:00", time_zone: Europe/Berlin, allow_past: true}]
  action: {http: {method: POST, url: "https://example.org", headers: {A: b}, body: text, expect: [200, 204]}}
- name: load
  schedule: {delay: 10m}
  action: {sql: {connection: warehouse, statement: "insert into t values (:a)", parameters: {a: 1, b: [x, null, 1.5]}}}
- name: send
  schedule: {manual: true}
  action: {python: {handler: send-report, payload: {on: 2027-01-01, n: 1e3, deep: [{a: true}]}}}
- name: plain
  schedule: [{interval: 5m, anchor: "2027-01-01T00:01:00Z"}, {cron: "0 0 2 ? * 2", dialect: quartz}]
  action: {shell: {argv: [echo, "5"]}}
  start_time: 2027-01-01T00:00:00Z
  max_executions: 3
  delete_when_finished: true
  retry: {retry_on: ["exit:75"], retry_window: 1h}
"""


def test_everything_that_a_job_file_may_say() -> None:
    report, poll, load, send, plain = (entry.job for entry in jobfile.loads(FULL))
    assert report == jobs.job(
        "namespaces/prod/jobs/nightly-report",
        jobs.cron("0 2 * * *", time_zone="Europe/Berlin", dst_gap="skip", dst_overlap="both", day_match="both"),
        jobs.shell(
            "pg_dump mydb",
            interpreter=["bash", "-euo", "pipefail"],
            env={"PGHOST": "db"},
            cwd="/tmp",
            stdin="hello",
            success_codes=[0, 3],
        ),
        retry=jobs.retry(max_attempts=5, backoff="exponential", base="5s", factor=1.5, cap="1h", jitter="none"),
        timeout="10m",
        grace="30s",
        catchup="skip",
        catchup_window="24h",
        overlap="allow",
        on_lease_loss="fail",
        queue="reports",
        priority=0,
        labels={"team": "data"},
        description="The report.",
    )
    assert list(poll.schedules) == [
        jobs.every("5m", phase="0s"),
        jobs.once("2027-01-01T00:00:00Z"),
        jobs.once("2027-06-30T22:00:00Z", allow_past=True),
    ]
    assert poll.action == jobs.http("POST", "https://example.org", headers={"A": "b"}, body="text", expect=[200, 204])
    assert list(load.schedules) == [jobs.after_delay("10m")]
    assert load.action.sql.parameters["b"][2] == 1.5
    assert send.action == jobs.python("send-report", {"on": "2027-01-01", "n": 1000, "deep": [{"a": True}]})
    assert plain == jobs.job(
        "namespaces/default/jobs/plain",
        [jobs.every("5m", anchor="2027-01-01T00:01:00Z"), jobs.cron("0 0 2 ? * 2", dialect="quartz")],
        jobs.shell(["echo", "5"]),
        start_time="2027-01-01T00:00:00Z",
        max_executions=3,
        delete_when_finished=True,
        retry=jobs.retry(retry_on=["exit:75"], retry_window="1h"),
    )


WORKFLOW = """
workflows:
- name: etl
  namespace: prod
  schedule: {cron: "0 3 * * *"}
  owner: ada
  jobs:
  - name: extract
    action: {python: {handler: extract}}
  - name: load
    schedule: {after: [extract], condition: all_succeeded}
    action: {python: {handler: load}}
jobs:
- name: other
  schedule: {fixed_delay: 10s}
  action: {shell: {argv: [a]}}
"""


def test_the_jobs_of_a_workflow_are_members_of_it() -> None:
    etl, extract, load, other = (entry.job for entry in jobfile.loads(WORKFLOW))
    assert etl == jobs.job("namespaces/prod/jobs/etl", jobs.cron("0 3 * * *"), jobs.workflow(), owner="ada")
    assert extract == jobs.job("namespaces/prod/jobs/extract", jobs.manual(), jobs.python("extract"), workflow="etl")
    after = jobs.after(["extract"], condition="all_succeeded")
    assert load == jobs.job("namespaces/prod/jobs/load", after, jobs.python("load"), workflow="etl")
    assert other == jobs.job("namespaces/default/jobs/other", jobs.fixed_delay("10s"), jobs.shell(["a"]))
    assert [entry.line for entry in jobfile.loads(WORKFLOW)] == [3, 8, 10, 14]


def test_where_each_job_was_written() -> None:
    assert [entry.line for entry in jobfile.loads(FULL)] == [4, 21, 25, 28, 31]


@pytest.mark.parametrize("write", [yaml.safe_dump, json.dumps])
def test_output_is_read_back_as_the_same_job(write: object) -> None:
    for entry in jobfile.loads(FULL):
        stored = Job()
        stored.CopyFrom(entry.job)
        stored.uid, stored.etag, stored.state = "u", "e", Job.STATE_PAUSED
        text = write(jobfile.to_mapping(stored))  # type: ignore[operator]
        assert jobfile.loads(text)[0].job == entry.job
        listed = write([jobfile.to_mapping(stored)])  # type: ignore[operator]
        assert jobfile.loads(listed)[0].job == entry.job


def test_bytes_that_are_no_text_are_written_as_base64() -> None:
    job = jobs.job("namespaces/default/jobs/x", jobs.manual(), jobs.http("PUT", "http://x", body=b"\xff\x00"))
    mapping = jobfile.to_mapping(job)
    assert mapping["action"] == {"http": {"method": "PUT", "url": "http://x", "body_base64": "/wA="}}
    assert jobfile.loads(json.dumps(mapping))[0].job == job


def test_a_body_that_is_a_mapping_is_sent_as_json() -> None:
    text = "{name: x, schedule: {manual: true}, action: {http: {url: 'http://x', body: {a: [1, ä]}}}}"
    action = jobfile.loads(text)[0].job.action
    assert json.loads(action.http.body) == {"a": [1, "ä"]}
    assert action.http.headers == {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "text",
    [
        "name: x\nschedule: {manual: true}\naction: {shell: {argv: [a]}}\n",
        "---\nname: x\nschedule: {manual: true}\naction: {shell: {argv: [a]}}\n---\n# nothing\n",
        "- name: x\n  schedule: {manual: true}\n  action: {shell: {argv: [a]}}\n",
        '{"name": "x",\n\t"schedule": {"manual": true},\t"action": {"shell": {"argv": ["a"]}}}',
        '\N{ZERO WIDTH NO-BREAK SPACE}{"jobs": [{"name": "x", "schedule": {"manual": true},'
        ' "action": {"shell": {"argv": ["a"]}}}]}',
    ],
)
def test_forms_of_a_file(text: str) -> None:
    assert [entry.job.name for entry in jobfile.loads(text)] == ["namespaces/default/jobs/x"]


def test_json_text_keeps_its_characters() -> None:
    text = (
        '{"name": "x", "schedule": {"manual": true}, "description": "\\ud83d\\ude00 \\u00e4",'
        ' "action": {"shell": {"argv": ["a\\tb"]}}}'
    )
    job = jobfile.loads(text, "x.json")[0].job
    assert job.description == "\N{GRINNING FACE} ä"
    assert list(job.action.shell.argv) == ["a\tb"]


# Each: a file, and the problems it must give, without the file's name.
# fmt: off
MISTAKES: list[tuple[str, str]] = [
    ("", "1: holds no job: write `jobs:` and a list, or a single job"),
    ("jobs: []", "1: holds no job: write `jobs:` and a list, or a single job"),
    ("jobs: 3", "1:7: jobs must be a list, not a number (3)"),
    ("just text", "1:1: the file must be a mapping, not text"),
    ("a: b\n  c: d", "2:4: not valid YAML: mapping values are not allowed here"),
    ("a: *b", "1:4: not valid YAML: found undefined alias 'b'; text that starts with *, @, % or ` must be in quotes"),
    ("a: {b: c", "1:9: not valid YAML: expected ',' or '}', but got '<stream end>'"),
    ("jobs:\n- name: a\n  <<: {}\n  schedule: {manual: true}\n  action: {shell: {argv: [a]}}",
     "3:3: job: merge keys (<<) are not read; repeat the entries"),
    ("jobs: []\ncalendars: []", "2:1: the file: calendars are in files of their own, which `horologe calendar set --file` takes"),
    ("{}", "1: holds no job: write `jobs:` and a list, or a single job"),
    ("jobs: []\nversion: 1", "2:1: the file: unknown key 'version' beside `jobs`; a job's keys go into the list"),
    ("workflows:\n- name: w\n  schedule: {manual: true}", "2:3: w: `jobs` is missing: the list of what it runs"),
    ("workflows:\n- {name: w, action: {workflow: {}}, schedule: {manual: true}, jobs: []}",
     "2:13: workflow: its action is to run its `jobs`; leave `action` out"),
    ("workflows: 5", "1:12: workflows must be a list, not a number (5)"),
    ("? [a]\n: b\nname: x\nschedule: {manual: true}\naction: {shell: {argv: [a]}}",
     "1:3: job: a key must be text, not a list"),
]

# Each: one line in place of `schedule: {manual: true}` or `action: ...` of an otherwise good job, and its problem.
JOB_MISTAKES: list[tuple[str, str]] = [
    ("nam: x", "4:1: x: unknown key 'nam' (did you mean 'name'?)"),
    ("zzz: x", f"4:1: x: unknown key 'zzz'; allowed: {', '.join(jobfile.JOB_KEYS)}"),
    ("deadline: soon", "4:11: x.deadline: 'soon' is not a duration; write it like 5s, 1h30m, PT5M or 5 minutes"),
    ("max_running: -5", "4:14: x.max_running must be from 0 to 2,147,483,647, not -5"),
    ("start_time: 2027-01-01T00:00:00", "4:13: x.start_time: '2027-01-01T00:00:00' is a local time: add Z or an offset "
     "such as +01:00, or give a time zone"),
    ("calendars: holidays", "4:12: x.calendars must be a list, not text"),
    ("delete_when_finished: maybe", "4:23: x.delete_when_finished must be true or false, not text"),
    ("namespace: Prod", "4:12: namespace: 'Prod' is not a name: 1 to 63 of a-z, 0-9 and -, starting with a letter and "
     "not ending with -"),
    ("name: y", "4:1: job: key 'name' is here twice (first in line 1)"),
    ("timeout: 10", "4:10: x.timeout: '10' has no unit; write for example 10s or 10m"),
    ("timeout: [1]", "4:10: x.timeout must be text, not a list"),
    ("priority: 10", "4:11: x.priority must be from 0 to 9, not 10"),
    ("priority: high", "4:11: x.priority must be a whole number, not text"),
    ("priority: 07", "4:11: x.priority must be a decimal number, not '07'"),
    ("catchup: lates", "4:10: x.catchup: 'lates' is not known; allowed: latest, skip, earliest, all (did you mean 'latest'?)"),
    ("labels: {version: 1.20}", '4:19: x.labels.version must be text, not a number (1.20); put it in quotes: "1.20"'),
    ("labels: {on: x}", ""),
    ("labels: [a]", "4:9: x.labels must be a mapping, not a list"),
    ("description: yes", '4:14: x.description must be text, not true or false (yes); put it in quotes: "yes"'),
    ("retry: {max_attempt: 3}", "4:9: x.retry: unknown key 'max_attempt' (did you mean 'max_attempts'?)"),
    ("retry: {factor: 0.5}", "4:17: x.retry.factor must be from 1 to 1000, not 0.5"),
    ("retry: {retry_on: [1]}", '4:20: x.retry.retry_on[0] must be text, not a number (1); put it in quotes: "1"'),
    ('description: "\\ud800"', "4:14: x.description contains a NUL character or half of a surrogate pair"),
    ('labels: {"\\0": a}', "4:10: x.labels: a key contains a NUL character or half of a surrogate pair"),
    ("retry: 3", "4:8: x.retry must be a mapping, not a number (3); write it like {max_attempts: 3}"),
    ("interval: 5m", "4:1: x: 'interval' belongs to `schedule`: write `schedule: {interval: ...}`"),
    ("shell: echo hi", "4:1: x: 'shell' belongs to `action`: write `action: {shell: ...}`"),
]

SCHEDULE_MISTAKES: list[tuple[str, str]] = [
    ("[]", "2:11: x.schedule: the list is empty"),
    ("{}", "2:11: x.schedule: needs exactly one of 'cron', 'interval', 'fixed_delay', 'once', 'delay', 'after', 'manual', "
     "and has nothing"),
    ("hourly", '2:11: x.schedule must be a mapping, not text; write it like {cron: "0 2 * * *"} or {interval: 5m}'),
    ("[5m]", '2:12: x.schedule[0] must be a mapping, not text; write it like {cron: "0 2 * * *"} or {interval: 5m}'),
    ("{cron: '@daily', interval: 5m}",
     "2:11: x.schedule: needs exactly one of 'cron', 'interval', 'fixed_delay', 'once', 'delay', 'after', 'manual', and has "
     "both 'cron' and 'interval'"),
    ("{after: a}", "2:19: x.schedule.after must be a list, not text"),
    ("{after: [a], condition: some}", "2:35: x.schedule.condition: 'some' is not known; allowed: all_succeeded, all_done, "
     "any_succeeded, any_failed"),
    ("{fixed_delay: 0s}", "2:25: x.schedule.fixed_delay must be from 1s to 366d, not 0s"),
    ("{cron: '@daily', jitter: 5s}", "2:28: x.schedule: 'jitter' belongs to the job, beside `schedule`"),
    ("{cron: 5}", '2:18: x.schedule.cron must be text, not a number (5); put it in quotes: "5"'),
    ("{interval: 5}", "2:22: x.schedule.interval: '5' has no unit; write for example 5s or 5m"),
    ("{interval: 10ms}", "2:22: x.schedule.interval must be from 1s to 366d, not 10ms"),
    ("{interval: 5m, anchor: 2027-01-01}", "2:34: x.schedule.anchor: '2027-01-01' is not an instant; write it like "
     "2027-01-01T00:00:00Z"),
    ("{once: 2027-01-01T00:00:00}",
     "2:18: x.schedule.once: '2027-01-01T00:00:00' is a local time: add Z or an offset such as +01:00, or give a time "
     "zone"),
    ("{once: soon}", "2:18: x.schedule.once: 'soon' is not an instant; write it like 2027-01-01T00:00:00Z"),
    ("{once: 2027-01-01T00:00:00Z, phase: 5s}",
     "2:40: x.schedule: unknown key 'phase'; allowed: time_zone, allow_past"),
    ("{manual: false}", "2:20: x.schedule.manual must be true"),
    ("{manual: true, time_zone: UTC}", "2:26: x.schedule: unknown key 'time_zone'"),
    ("[{manual: true}, {interval: x}]", "2:39: x.schedule[1].interval: 'x' is not a duration; write it like 5s, 1h30m, "
     "PT5M or 5 minutes"),
]

ACTION_MISTAKES: list[tuple[str, str]] = [
    ("echo hi", '3:9: x.action must be a mapping, not text; write it like {shell: {script: "echo hi"}}'),
    ("{shell: echo hi}",
     '3:17: x.action.shell must be a mapping, not text; write it like {script: "echo hi"} or {argv: [echo, hi]}'),
    ("{python: report}", "3:18: x.action.python must be a mapping, not text; write it like {handler: NAME}"),
    ("{}", "3:9: x.action: needs exactly one of 'shell', 'http', 'sql', 'python', 'workflow'"),
    ("{shel: {argv: [a]}}", "3:10: x.action: unknown key 'shel' (did you mean 'shell'?)"),
    ("{shell: {argv: [a]}, sql: {}}", "3:9: x.action: needs exactly one of 'shell', 'http', 'sql', 'python', 'workflow'"),
    ("{shell: {}}", "3:17: x.action.shell: needs exactly one of 'argv' (a list) and 'script' (text)"),
    ("{shell: {argv: [], env: {A: b}}}", "3:24: x.action.shell.argv is empty; the first item is the program"),
    ("{shell: {argv: echo}}", "3:24: x.action.shell.argv must be a list, not text"),
    ("{shell: {argv: [sleep, 5]}}",
     '3:32: x.action.shell.argv[1] must be text, not a number (5); put it in quotes: "5"'),
    ("{shell: {argv: [a], interpreter: [b]}}",
     "3:29: x.action.shell: 'interpreter' goes with 'script'; argv is run as it is"),
    ("{shell: {argv: [a], rlimits: {nofile: many}}}",
     "3:47: x.action.shell.rlimits.nofile must be a whole number, not text"),
    ("{shell: {argv: [a], success_codes: [256]}}",
     "3:45: x.action.shell.success_codes[0] must be from 0 to 255, not 256"),
    ("{http: {method: GET}}", "3:16: x.action.http: `url` is missing"),
    ("{http: {url: x, body_base64: '!'}}", "3:38: x.action.http.body_base64 is not base64"),
    ("{http: {url: x, stdin: x}}",
     "3:25: x.action.http: unknown key 'stdin'; allowed: method, url, headers, expect, "
     "follow_redirects, connect_timeout, read_timeout"),
    ("{workflow: {jobs: [a]}}", "3:21: x.action.workflow: unknown key 'jobs'"),
    ("{sql: {connection: a}}", "3:15: x.action.sql: `statement` is missing"),
    ("{sql: {connection: a, statement: b, parameters: [1]}}",
     "3:57: x.action.sql.parameters must be a mapping, not a list"),
    ("{python: {handler: a, payload: .inf}}",
     "3:40: x.action.python.payload: '.inf' is not a JSON number; put it in quotes if text is meant"),
    ("{python: {handler: a, payload: !!binary aa}}",
     "3:40: x.action.python.payload: a value tagged 'tag:yaml.org,2002:binary' is not JSON"),
    ("{python: {payload: 1}}", "3:18: x.action.python: `handler` is missing"),
]

# fmt: on

SCHEDULE = "{manual: true}"
ACTION = "{shell: {argv: [a]}}"
CASES = [
    *MISTAKES,
    *((f"name: x\nschedule: {SCHEDULE}\naction: {ACTION}\n{line}\n", said) for line, said in JOB_MISTAKES),
    *((f"name: x\nschedule: {line}\naction: {ACTION}\n", said) for line, said in SCHEDULE_MISTAKES),
    *((f"name: x\nschedule: {SCHEDULE}\naction: {line}\n", said) for line, said in ACTION_MISTAKES),
]


@pytest.mark.parametrize(("text", "said"), CASES)
def test_mistakes_are_named_by_place(text: str, said: str) -> None:
    if not said:
        assert len(jobfile.loads(text, "f")) == 1
        return
    with pytest.raises(InvalidFile) as caught:
        jobfile.loads(text, "f")
    assert str(caught.value).splitlines()[0] == f"f:{said}"


def test_what_is_only_in_the_wrong_place_is_not_missing_as_well() -> None:
    with pytest.raises(InvalidFile) as caught:
        jobfile.loads('name: x\ncron: "0 2 * * *"\nshell: {script: "echo hi"}\n', "f")
    assert [problem.text for problem in caught.value.problems] == [
        "x: 'cron' belongs to `schedule`: write `schedule: {cron: ...}`",
        "x: 'shell' belongs to `action`: write `action: {shell: ...}`",
    ]


def test_a_file_of_another_format_is_told_which_ones_are_read(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text('[[jobs]]\nname = "x"\n')
    with pytest.raises(InvalidFile, match="is TOML, and job files are YAML or JSON"):
        jobfile.load(file)


def test_all_mistakes_are_reported_at_once_in_order() -> None:
    text = "jobs:\n- name: A\n- schedule: {manual: true}\n  action: {x: 1}\n- 5\n"
    with pytest.raises(InvalidFile) as caught:
        jobfile.loads(text, "f")
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [
        (2, 3), (2, 3), (2, 9), (3, 3), (4, 12), (5, 3)
    ]  # fmt: skip


def test_a_job_that_is_there_twice() -> None:
    job = f"- name: x\n  schedule: {SCHEDULE}\n  action: {ACTION}\n"
    with pytest.raises(InvalidFile, match=r"^f:4: job 'x' is here twice \(first in line 1\)$"):
        jobfile.loads(job + job, "f")
    assert len(jobfile.loads(job + job.replace("- name: x", "- name: x\n  namespace: other"))) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("&a [*a]", "must be a mapping|nested too deeply"),
        ("x: &a {y: *a}", "unknown key"),
        (f"name: x\nschedule: {SCHEDULE}\naction: {{python: {{handler: a, payload: &a [*a]}}}}", "nested too deeply"),
        (
            f"name: x\nschedule: {SCHEDULE}\naction: {{python: {{handler: a, payload: {'[' * 50 + ']' * 50}}}}}",
            "payload has more than 20 lists and objects inside each other",
        ),
        ("[" * 5000, "nested too deeply|not valid YAML"),
        ('{"a":' * 50_000, "nested too deeply"),
    ],
)
def test_endless_files_end(text: str, said: str) -> None:
    with pytest.raises(InvalidFile, match=said):
        jobfile.loads(text, "f")


def test_aliases_cannot_multiply_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horologe.client.documents.VALUES_MAX", 20_000)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    payload = "{" + ", ".join(lines) + "}"
    text = f"name: x\nschedule: {SCHEDULE}\naction: {{python: {{handler: a, payload: {payload}}}}}"
    with pytest.raises(InvalidFile, match="more than 20,000 values"):
        jobfile.loads(text, "f")


def test_files(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(FULL)
    assert len(jobfile.load(good)) == 5
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: ä".encode("latin-1"))
    with pytest.raises(InvalidFile, match="is not UTF-8 text"):
        jobfile.load(latin)
    with pytest.raises(InvalidFile, match=r"absent.yaml: cannot be read: No such file"):
        jobfile.load(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.json"
    broken.write_text('{"name": "x",\n "schedule": }')
    with pytest.raises(InvalidFile, match=r"broken.json:2:14: not valid JSON: Expecting value"):
        jobfile.load(broken)
