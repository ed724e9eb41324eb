"""`horologe cron next` and `horologe cron explain`."""

from __future__ import annotations

import json

import pytest
import typer
import yaml
from typer.testing import CliRunner

from horologe.node import cron_commands

BERLIN = ("--tz", "Europe/Berlin")


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.callback()(lambda: None)
    cron_commands.register(made)
    return made


def run(app: typer.Typer, *arguments: str, stdin: bytes = b"", exit_code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["cron", *arguments], input=stdin)
    assert result.exit_code == exit_code, result.output
    return result.stdout, result.stderr


def test_next_as_json_marks_what_was_moved(app: typer.Typer) -> None:
    out, _ = run(
        app, "next", "30 2 * * *", *BERLIN, "--from", "2027-03-27T12:00:00+01:00", "--count", "2", "-o", "json"
    )
    assert json.loads(out) == [
        {"time": "2027-03-28T01:00:00Z", "local": "2027-03-28T03:00:00+02:00", "note": "moved: 02:30 does not exist"},
        {"time": "2027-03-29T00:30:00Z", "local": "2027-03-29T02:30:00+02:00", "note": ""},
    ]


def test_next_marks_what_was_merged(app: typer.Typer) -> None:
    out, _ = run(app, "next", "0 2,3 * * *", *BERLIN, "--from", "2027-03-28T00:00:00Z", "--count", "1", "-o", "json")
    assert json.loads(out)[0]["note"] == "merged: 02:00 does not exist, and 03:00 is due anyway"


def test_next_marks_what_is_repeated(app: typer.Typer) -> None:
    out, _ = run(
        app, "next", "30 2 * * *", *BERLIN, "--dst-overlap", "both", "--from", "2027-10-30T12:00:00Z", "-o", "yaml"
    )
    notes = [each["note"] for each in yaml.safe_load(out)]
    assert notes == ["repeated local time, first", "repeated local time, second", "", "", ""]


def test_next_marks_nothing_for_a_starred_hour_after_a_gap(app: typer.Typer) -> None:
    out, _ = run(app, "next", "0 * * * *", *BERLIN, "--from", "2027-03-28T00:30:00Z", "--count", "1", "-o", "json")
    assert json.loads(out) == [{"time": "2027-03-28T01:00:00Z", "local": "2027-03-28T03:00:00+02:00", "note": ""}]


def test_next_prints_a_table_by_default(app: typer.Typer) -> None:
    out, _ = run(
        app, "next", "30 2 * * *", *BERLIN, "--dst-gap", "skip", "--from", "2027-03-27T12:00:00Z", "--count", "1"
    )
    assert out.split() == [
        *("TIME", "(UTC)", "LOCAL"),
        *("2027-03-29T00:30:00Z", "Mon", "2027-03-29T02:30:00+02:00"),
    ]


def test_next_shows_five_from_now(app: typer.Typer) -> None:
    out, _ = run(app, "next", "@daily", "-o", "json")
    assert len(json.loads(out)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "EXPR is missing"),
        (("0 0 2 * * *",), "seconds first"),
        (("0 0 31 2 *",), "never due"),
        (("0 0 * * *", "--tz", "Europe/Berlim"), 'did you mean "Europe/Berlin"?'),
        (("0 0 * * *", "--count", "0"), "count 0 is outside 1 to 10,000"),
        (("0 0 * * *", "--count", "10001"), "outside 1 to 10,000"),
        (("0 0 * * *", "--from", "2027-01-01"), "not RFC 3339 with an offset"),
        (("0 0 * * *", "--from", "2027-01-01T00:00:00"), "not RFC 3339 with an offset"),
        (("0 0 * * *", "--from", "2027-02-30T00:00:00Z"), "not RFC 3339 with an offset"),
        (("0 0 * * *", "--from", "0001-01-01T00:00:00+14:00"), "not RFC 3339 with an offset"),
        (("0 0 * * *", "--stdin"), "give either EXPR or --stdin"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(app: typer.Typer, arguments: tuple[str, ...], message: str) -> None:
    out, err = run(app, "next", *arguments, exit_code=2)
    assert out == ""
    assert message in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_an_unknown_policy_is_refused(app: typer.Typer) -> None:
    _, err = run(app, "next", "0 0 * * *", "--dst-gap", "sometimes", exit_code=2)
    assert "sometimes" in err


def test_stdin_answers_every_line(app: typer.Typer) -> None:
    requests: list[object] = [
        {"expr": "0 0 * * *", "from": "2027-01-01T00:00:00Z", "count": 2},
        {
            "expr": "30 2 * * *",
            "dialect": "unix",
            "tz": "Europe/Berlin",
            "dst_gap": "skip",
            "dst_overlap": "second",
            "day_match": "both",
            "from": "2027-10-30T12:00:00Z",
            "count": 1,
        },
        {"expr": "0 0 * * *", "tz": None, "from": "2027-01-01T00:00:00Z", "count": 1},
    ]
    stdin = "\n".join(json.dumps(request) for request in requests) + "\n\n"
    out, _ = run(app, "next", "--stdin", stdin=stdin.encode())
    assert [json.loads(line) for line in out.splitlines()] == [
        {"times": ["2027-01-02T00:00:00Z", "2027-01-03T00:00:00Z"]},
        {"times": ["2027-10-31T01:30:00Z"]},
        {"times": ["2027-01-02T00:00:00Z"]},
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nope", "the line is not JSON"),
        (b"\xff\xfe\x00", "the line is not JSON"),
        (b"[" * 60_000, "the line is not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "expr is missing"),
        (b'{"expr": 5}', "expr must be a text"),
        (b'{"expr": "* * * * *", "count": "5"}', "count must be a whole number"),
        (b'{"expr": "* * * * *", "count": true}', "count must be a whole number"),
        (b'{"expr": "* * * * *", "count": 1e999}', "count must be a whole number"),
        (b'{"expr": "* * * * *", "count": 100000}', "outside 1 to 10,000"),
        (b'{"expr": "* * * * *", "zone": "UTC"}', '"zone" is not a known key'),
        (b'{"expr": "0 0 2 * * *"}', "Six can be read as unix-seconds-first"),
        (b'{"expr": "* * * * *", "dialect": "quartz"}', "the quartz dialect has six or seven"),
        (b'{"expr": "* * * * *", "dialect": "cron"}', 'dialect "cron" is not known; use unix or unix-seconds-first or'),
        (b'{"expr": "0 0 0 1 1 ? 2020", "dialect": "quartz"}', "its years have passed"),
        (b'{"expr": "* * * * *", "identity": 5}', "identity must be a text"),
        (b'{"expr": "* * * * *", "dst_gap": "x"}', 'dst_gap "x" is not known; use run_after or skip'),
        (b'{"expr": "* * * * *", "tz": "\\ud800"}', "not a time zone"),
        (b'{"expr": "\\ud800 * * * *"}', "is not a number"),
        (b'{"expr": "' + b"*" * 70_000 + b'"}', "at most 65,536 are read"),
    ],
)
def test_stdin_answers_a_bad_line_with_an_error_and_goes_on(app: typer.Typer, line: bytes, message: str) -> None:
    good = b'{"expr": "0 0 * * *", "from": "2027-01-01T00:00:00Z", "count": 1}'
    out, _ = run(app, "next", "--stdin", stdin=line + b"\n" + good + b"\n")
    bad_answer, good_answer = (json.loads(answer) for answer in out.splitlines())
    assert list(bad_answer) == ["error"]
    assert message in bad_answer["error"]
    assert good_answer == {"times": ["2027-01-02T00:00:00Z"]}


def test_stdin_reads_every_dialect_and_hashes_identities(app: typer.Typer) -> None:
    start = {"from": "2027-01-01T00:00:00Z", "count": 1}
    requests: list[dict[str, object]] = [
        {"expr": "30 0 2 * * *", "dialect": "unix-seconds-first"},
        {"expr": "0 2 * * * 30", "dialect": "unix_seconds_last", "dst_gap": "run-after"},
        {"expr": "30 0 2 ? * 7#1 2027", "dialect": "quartz"},
        {"expr": "0 0 */2 * 1", "dialect": "kubernetes"},
        {"expr": "@every 1h30m"},
        {"expr": "H H 1 * *", "identity": "namespaces/default/jobs/nightly"},
    ]
    stdin = "\n".join(json.dumps(request | start) for request in requests)
    out, _ = run(app, "next", "--stdin", stdin=stdin.encode())
    assert [json.loads(line)["times"] for line in out.splitlines()] == [
        ["2027-01-01T02:00:30Z"],
        ["2027-01-01T02:00:30Z"],
        ["2027-01-02T02:00:30Z"],
        ["2027-01-03T00:00:00Z"],
        ["2027-01-01T01:30:00Z"],
        ["2027-01-01T14:57:00Z"],
    ]


def test_next_reads_the_options_that_stdin_has(app: typer.Typer) -> None:
    options = (
        "--dialect",
        "quartz",
        "--day-match",
        "both",
        "--from",
        "2027-03-28T00:59:59Z",
        "--count",
        "1",
        "-o",
        "json",
    )
    out, _ = run(app, "next", "20 30 2 ? * SUN", *BERLIN, *options)
    assert json.loads(out)[0]["note"] == "moved: 02:30:20 does not exist"
    out, _ = run(
        app, "next", "H 0 * * *", "--identity", "a", "--from", "2027-01-01T00:00:00Z", "--count", "1", "-o", "json"
    )
    assert json.loads(out)[0]["time"].startswith("2027-01-01T00:")
    out, _ = run(app, "next", "@every 90m", *BERLIN, "--from", "2027-03-28T00:00:00Z", "--count", "1", "-o", "json")
    assert json.loads(out) == [{"time": "2027-03-28T01:30:00Z", "local": "2027-03-28T03:30:00+02:00", "note": ""}]


SENTENCES = [
    ("unix", "0 0 L * *", "At 00:00, on the last day of the month (UTC)"),
    ("unix", "0 0 LW,15W,L-3,L-2W,1 jan *",
     "At 00:00, on day 1, the weekday nearest day 15, the day 3 days before the last, "
     "the weekday nearest the day 2 days before the last and the last weekday of the month, only in January (UTC)"),
    ("unix", "0 0 * * mon#2,tue,friL",
     "At 00:00, on every Tuesday, the second Monday of the month and the last Friday of the month (UTC)"),
    ("unix", "30 9 L * 1#1", "At 09:30, on the last day of the month, or on the first Monday of the month (UTC)"),
    ("unix-seconds-first", "*/10 * * * * *", "Every 10 seconds (UTC)"),
    ("unix-seconds-last", "0 2 * * * 30", "At 02:00:30 (UTC)"),
    ("quartz", "0 15 10 ? * 6#3 2027-2029", "At 10:15, on the third Friday of the month, 2027 through 2029 (UTC)"),
    ("quartz", "0 0 22-1 ? * MON-FRI",
     "At 00:00, 01:00, 22:00 and 23:00, Monday through Friday (UTC)"),
    ("quartz", "0 /15 * * * ?", "Every 15 minutes (UTC)"),
    ("kubernetes", "0 */2 * * 1-5", "Every 2 hours, Monday through Friday (UTC)"),
    ("kubernetes", "@every 1h30m", "every 1 hour 30 minutes"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "expression", "sentence"), SENTENCES)
def test_explain_says_it_in_english(app: typer.Typer, dialect: str, expression: str, sentence: str) -> None:
    out, _ = run(app, "explain", expression, "--dialect", dialect)
    assert out.splitlines()[0] == sentence


@pytest.mark.parametrize(
    ("expression", "dialect", "warning"),
    [
        ("H 0 * * *", "unix", "`H` is another value for each job"),
        ("H 0 * * *", "kubernetes", "Kubernetes itself reads neither `H` nor 7"),
        ("0 0 * * 7", "kubernetes", "Kubernetes itself reads neither `H` nor 7"),
        ("0 0 */2 * 1", "unix", "begins with `*` counts as unrestricted: a day must fit both"),
        ("0 0 */2 * 1", "kubernetes", "both restricted: a day that fits either of them matches"),
        ("0 0 31 * *", "unix", "months that have no day 31 are passed over; `L` is the last day of every month"),
        ("@every 5m", "unix", "counts its period from a phase of its own"),
        ("3/20 * * * *", "unix", "runs from 3 to its end; some other crons read just 3"),
    ],
)
def test_explain_warns(app: typer.Typer, expression: str, dialect: str, warning: str) -> None:
    out, _ = run(app, "explain", expression, "--dialect", dialect, "-o", "json")
    assert any(warning in each for each in json.loads(out)["warnings"])


def test_explain_is_a_sentence_the_next_times_and_warnings(app: typer.Typer) -> None:
    out, _ = run(app, "explain", "*/45 2 13 * 5", *BERLIN, "--count", "3")
    lines = out.splitlines()
    assert lines[0].startswith("At 0 and 45 minutes past the hour, at 02:00, on day 13 of the month, or on Friday")
    assert lines[0].endswith("(Europe/Berlin)")
    assert sum("+0" in line for line in lines) == 3
    warnings = [line for line in lines if line.startswith("Warning: ")]
    assert "day of month and day of week are both restricted" in warnings[0]
    assert "*/45 in the minute field starts again at 0" in warnings[1]


def test_explain_warns_of_daylight_saving(app: typer.Typer) -> None:
    out, _ = run(app, "explain", "30 2 * * *", *BERLIN, "-o", "json")
    warnings = json.loads(out)["warnings"]
    assert len(warnings) == 2
    assert any("02:30 does not exist and is due at 03:00 instead (dst_gap=run_after)" in each for each in warnings)
    assert any("02:30 comes twice and is due the first time (dst_overlap=first)" in each for each in warnings)


@pytest.mark.parametrize("expression", ["0 12 * * *", "0 * * * *", "*/15 9-17 * * mon-fri", "0 12 L * *", "@hourly"])
def test_explain_does_not_warn_without_cause(app: typer.Typer, expression: str) -> None:
    out, _ = run(app, "explain", expression, *BERLIN, "-o", "json")
    assert json.loads(out)["warnings"] == []


def test_explain_refuses_in_one_line(app: typer.Typer) -> None:
    _, err = run(app, "explain", "0 0 L * *", "--dialect", "kubernetes", exit_code=2)
    assert err == (
        'Error: day of month field "L": `L`, `W` and `#` are not part of the kubernetes dialect; '
        "the unix and quartz dialects have them\n"
    )
