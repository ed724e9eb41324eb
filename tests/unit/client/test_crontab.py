"""Crontabs: what each line means, what cannot be carried over, and which lines are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horologe.client import crontab, jobs, names
from horologe.client.crontab_names import base_name, name_jobs
from horologe.client.errors import InvalidFile

# In the form of the files that packages of a Linux distribution install.
SYSTEM = """\
# Check and clean, now and then.
SHELL=/bin/bash
PATH=/usr/local/sbin:/usr/sbin:/sbin:/bin

30 3 * * 0 root test -e /run/systemd/system || SERVICE_MODE=1 /usr/lib/e2scrub_all_cron
57 0 * * 0 root if [ -x /usr/share/checkarray ] && [ $(date +\\%d) -le 7 ]; then /usr/share/checkarray --all; fi
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || ( cd / && run-parts --report /etc/cron.daily )
@weekly www-data php /srv/app/clean.php
"""


def ids(table: crontab.Crontab) -> list[str]:
    return [names.job_id(job.name) for job in table.jobs]


def test_the_system_form() -> None:
    table = crontab.loads(SYSTEM, "system", time_zone="Europe/Berlin")
    assert table.is_system
    assert ids(table) == ["e2scrub-all-cron", "checkarray", "cron-daily", "clean"]
    assert table.jobs[1] == jobs.job(
        "namespaces/default/jobs/checkarray",
        jobs.cron("57 0 * * 0", time_zone="Europe/Berlin", dialect="unix"),
        jobs.shell(
            "if [ -x /usr/share/checkarray ] && [ $(date +%d) -le 7 ]; then /usr/share/checkarray --all; fi",
            interpreter=["/bin/bash"],
            env={"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/bin", "SHELL": "/bin/bash"},
        ),
        description="Imported from system",
    )
    assert [(notice.line, notice.text) for notice in table.notices] == [
        (5, "runs as the worker's user, not as 'root'"),
        (6, "runs as the worker's user, not as 'root'"),
        (7, "runs as the worker's user, not as 'root'"),
        (8, "runs as the worker's user, not as 'www-data'"),
    ]
    assert table.entries[3].expression == "@weekly"


def test_the_user_form() -> None:
    table = crontab.loads("*/5 * * * mon-fri /opt/poll.sh --quick # not a comment  \r\n@hourly echo hi\r\n")
    assert not table.is_system
    assert table.notices == []
    assert [entry.command for entry in table.entries] == ["/opt/poll.sh --quick # not a comment", "echo hi"]
    assert table.jobs[0].schedules[0].cron.expression == "*/5 * * * mon-fri"
    assert list(table.jobs[0].action.shell.interpreter) == ["/bin/sh"]


@pytest.mark.parametrize(
    ("line", "command", "stdin"),
    [
        ("mail -s hi you%Dear you,%%Bye", "mail -s hi you", "Dear you,\n\nBye\n"),
        (r"date +\%Y-\%m", "date +%Y-%m", ""),
        (r"cat%50\% off", "cat", "50% off\n"),
        ("cat%", "cat", ""),
        (r"echo a\\%b", r"echo a\\", "b\n"),
        (r"echo a\b", r"echo a\b", ""),
        ("cat%ends\\", "cat", "ends\\\n"),
    ],
)
def test_percent_signs(line: str, command: str, stdin: str) -> None:
    action = crontab.loads(f"* * * * * {line}\n").jobs[0].action.shell
    assert (action.script, action.stdin.decode()) == (command, stdin)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("A=b", "A", "b"),
        ("  A = b c \t", "A", "b c"),
        ('A=" b "', "A", " b "),
        ("A=' b '", "A", " b "),
        ("'A'=b", "A", "b"),
        ('"A B" = c', "A B", "c"),
        ("A=", "A", ""),
        ("A=$HOME/x", "A", "$HOME/x"),
        ("A=b=c", "A", "b=c"),
        ("A='", "A", "'"),
    ],
)
def test_environment_lines(line: str, name: str, value: str) -> None:
    table = crontab.loads(f"{line}\n0 0 * * * x\n")
    assert dict(table.jobs[0].action.shell.env) == {name: value}


def test_environment_holds_for_the_lines_below() -> None:
    table = crontab.loads("0 1 * * * a\nA=1\nHOME=/srv\n0 2 * * * b\nA=2\nSHELL=\n0 3 * * * c\n")
    environments = [dict(job.action.shell.env) for job in table.jobs]
    assert environments == [{}, {"A": "1", "HOME": "/srv"}, {"A": "2", "HOME": "/srv", "SHELL": ""}]
    assert [job.action.shell.cwd for job in table.jobs] == ["", "/srv", "/srv"]
    assert table.jobs[2].action.shell.interpreter == ["/bin/sh"]


def test_time_zones() -> None:
    text = "0 1 * * * a\nCRON_TZ=Asia/Tokyo\n0 2 * * * b\nTZ=UTC\n0 3 * * * c\n"
    table = crontab.loads(text, time_zone="Europe/Berlin")
    assert [job.schedules[0].cron.time_zone for job in table.jobs] == ["Europe/Berlin", "Asia/Tokyo", "Asia/Tokyo"]
    assert dict(table.jobs[2].action.shell.env) == {"TZ": "UTC"}
    assert [notice.line for notice in table.notices] == [4]


def test_what_cannot_be_carried_over_is_listed_by_line() -> None:
    text = 'MAILTO=me\nMAILTO=""\nRANDOM_DELAY=5\n-0 0 * * * a\n@reboot b\n'
    table = crontab.loads(text, "t", skip_unsupported=True)
    assert [str(notice) for notice in table.notices] == [
        "t:1: MAILTO is not carried over: no mail is sent; the output is kept, see `horologe execution logs`",
        "t:4: the leading '-' (do not log) is not carried over",
        "t:5: @reboot cannot be carried over: a cluster has no start of the machine",
    ]
    assert ids(table) == ["a"]
    assert table.jobs[0].jitter.seconds == 300
    table = crontab.loads("0 1 * * * a\nRANDOM_DELAY=5\n0 2 * * * b\nRANDOM_DELAY=0\n0 3 * * * c\n")
    assert [job.jitter.seconds for job in table.jobs] == [0, 300, 0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("RANDOM_DELAY=soon", "RANDOM_DELAY: 'soon' is not a number of minutes"),
        ("@reboot x", "@reboot cannot be carried over: a cluster has no start of the machine"),
        (
            "@dayly x",
            "'@dayly' is not known; there are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly",
        ),
        ("@daily", "the command is missing"),
        ("* * * * *", "the command is missing"),
        ("* * * * * %", "the command is missing"),
        ("* * * *", "is neither an entry (five fields and a command), NAME=value, nor a comment"),
        ("hello", "is neither an entry (five fields and a command), NAME=value, nor a comment"),
        ("60 * * * * x", "minute '60': must be from 0 to 59"),
        ("* 24 * * * x", "hour '24': must be from 0 to 23"),
        ("* * 0 * * x", "day of month '0': must be from 1 to 31"),
        ("* * * 13 * x", "month '13': must be from 1 to 12"),
        ("* * * * 8 x", "day of week '8': must be from 0 to 7"),
        ("* * * july * x", "month 'july': 'july' is not *, a number or a name like jan, a range or a step"),
        ("a * * * * x", "minute 'a': 'a' is not *, a number, a range or a step"),
        ("*/0 * * * * x", "minute '*/0': the step after / must be a number above 0"),
        ("*/ * * * * x", "minute '*/': the step after / must be a number above 0"),
        ("5/15 * * * * x", "minute '5/15': a step needs * or a range before it"),
        ("30-10 * * * * x", "minute '30-10': the range 30-10 runs backwards"),
        ("* * * * fri-sun x", "day of week 'fri-sun': the range fri-sun runs backwards"),
        ("1,,2 * * * * x", "minute '1,,2': '' is not *, a number, a range or a step"),
        ("0~30 * * * * x", "minute '0~30': '0~30' is not *, a number, a range or a step"),
        ("CRON_TZ=Mars/Base", "CRON_TZ: 'Mars/Base' is not a time zone; use an IANA name such as Europe/Berlin or UTC"),
        ("* * * * * a\0b", "contains a NUL character"),
        ("''=x", "a variable without a name"),
    ],
)
def test_lines_that_are_wrong(line: str, said: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        crontab.loads(f"# first\n0 0 * * * good\n{line}\n", "t", system=False)
    assert str(caught.value) == f"t:3: {said}"


def test_all_wrong_lines_are_listed() -> None:
    with pytest.raises(InvalidFile) as caught:
        crontab.loads("x\n0 0 * * * a\n99 99 * * * b\n", "t")
    assert [problem.line for problem in caught.value.problems] == [1, 3, 3]


@pytest.mark.parametrize("text", ["", "\n\n", "# only this\n", "A=b\n"])
def test_nothing_to_import(text: str) -> None:
    with pytest.raises(InvalidFile, match="holds no entry that could be imported"):
        crontab.loads(text)


@pytest.mark.parametrize(
    ("file", "text", "is_system"),
    [
        ("/etc/cron.d/x", "0 0 * * * run-parts /x", True),
        ("/etc/crontab", "0 0 * * * run-parts /x", True),
        ("t", "0 0 * * * root /x", True),
        ("t", "@daily root /x", True),
        ("t", "0 0 * * * root /x\n0 0 * * * /y z", False),
        ("t", "0 0 * * * root", False),
        ("t", "0 0 * * * echo root", False),
        ("t", "A=b\n", False),
    ],
)
def test_the_form_is_found_out(file: str, text: str, is_system: bool) -> None:
    assert crontab._is_system(file, text.splitlines()) is is_system


def test_the_form_can_be_said() -> None:
    assert crontab.loads("0 0 * * * root /x", system=False).entries[0].command == "root /x"
    assert crontab.loads("0 0 * * * someone /x", system=True).entries[0].user == "someone"
    with pytest.raises(InvalidFile, match="t:1: the command is missing; is this the user form"):
        crontab.loads("0 0 * * * x", "t", system=True)
    with pytest.raises(InvalidFile, match=r"t:1: '/x' is not a user's name; is this the user form"):
        crontab.loads("0 0 * * * /x y", "t", system=True)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_bytes(b"\xef\xbb\xbf0 0 * * * caf\xc3\xa9\n")
    assert crontab.load(file).entries[0].command == "café"
    file.write_bytes(b"# x\n0 0 * * * caf\xe9\n")
    with pytest.raises(InvalidFile, match=r"crontab:2: is not UTF-8 text"):
        crontab.load(file)
    with pytest.raises(InvalidFile, match="cannot be read"):
        crontab.load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/backup.sh --full", "backup"),
        ("python3 /opt/report.py --x", "report"),
        ("python3 -m http.server", "http-server"),
        ("cd /srv && ./clean_up", "clean-up"),
        ("[ -x /a/b ] && /a/b", "b"),
        ("test -x /usr/sbin/anacron", "anacron"),
        ("A=1 B=2 sync-all", "sync-all"),
        ("nice -n 19 /opt/Crunch", "crunch"),
        ("flock -n /tmp/lock /opt/x", "lock"),
        ("/bin/sh -c 'do-it now'", "do-it"),
        ("echo $(date)", "echo"),
        ("test -d /run && perl -e 'sleep int(rand(9))' && certbot -q renew", "certbot"),
        ("123", "job"),
        ("%%%", "job"),
        ("x" * 100, "x" * 63),
    ],
)
def test_names_come_from_commands(command: str, name: str) -> None:
    assert base_name(command) == name


def test_names_stay_when_other_lines_come_and_go() -> None:
    alone = name_jobs(["a", "b"], ["1", "2"])
    assert alone == ["a", "b"]
    same = name_jobs(["a", "a", "b"], ["1", "2", "3"])
    assert same[2] == "b"
    assert same[0] != same[1]
    assert name_jobs(["a", "a", "a"], ["2", "1", "4"])[:2] == [same[1], same[0]]
    assert len(set(name_jobs(["a", "a", "a"], ["1", "1", "1"]))) == 3
    assert name_jobs(["a"], ["1"], prefix="host-") == ["host-a"]


@given(st.lists(st.text(max_size=80), max_size=6), st.text(max_size=10))
def test_names_are_always_valid_and_unique(commands: list[str], prefix: str) -> None:
    found = name_jobs(commands, commands, prefix)
    assert all(names.is_id(name) for name in found)
    assert len(set(found)) == len(commands)


@given(st.text(max_size=200))
def test_any_text_is_a_crontab_or_a_list_of_lines(text: str) -> None:
    try:
        assert crontab.loads(text).jobs
    except InvalidFile as error:
        assert all(problem.line >= 1 for problem in error.problems)
