"""Export and import: what people have defined comes back as it was, what is there already stays, and each change is named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from one_node import one_node

from horologe.client import jobs, portable
from horologe.client.client import Client
from horologe.client.errors import InvalidFile, NotFound
from horologe.v1.calendar_pb2 import Calendar
from horologe.v1.notification_pb2 import EmailChannel, NotificationEvent, NotificationRule, SlackChannel


def define(client: Client) -> None:
    client.update_namespace("shop", max_running=7, history_retention="14d", start_rate="10/s", burst=3)
    client.update_queue("reports", start_rate="5/1m", aging="1m")
    client.set_limit("database", 3)
    client.set_calendar(Calendar(name="holidays", time_zone="Europe/Berlin", dates=["2026-12-25"]))
    client.set_grant("ada", "editor", verbs=["job.pause"], everywhere=True)
    client.apply_jobs(
        [
            jobs.job("second", jobs.after("first"), jobs.shell("true"), limits=["database"]),
            jobs.job(
                "first", jobs.every("1h"), jobs.shell(["echo", "naïve"]), calendars=["holidays"], labels={"a": "b"}
            ),
            jobs.job("manual", jobs.manual(), jobs.python("handler", {"x": [1, None]}), queue="reports"),
        ]
    )
    client.pause_job("manual", reason="not yet")
    rule = NotificationRule(name="ops", events=[NotificationEvent.NOTIFICATION_EVENT_FAILED])
    rule.email.CopyFrom(EmailChannel(to=["ops@example.com"]))
    client.set_notification(rule)


def undo(client: Client) -> None:
    client.delete_notification("ops")
    for name in ("second", "first", "manual"):
        client.delete_job(name)
    client.delete_calendar("holidays")
    client.delete_limit("database")
    client.delete_grant("ada", everywhere=True)
    client.update_namespace("shop", max_running=9, start_rate="none")
    client.update_queue("reports", aging="5s")


def lines(client: Client) -> list[str]:
    return [definition.line() for definition in portable.export(client)]


def imported(client: Client, wanted: list[str], **options: bool) -> set[tuple[str, str, str]]:
    changes = portable.import_(client, portable.parse(wanted, "file"), **options)
    return {(change.kind, change.name.rpartition("/")[2], change.outcome) for change in changes} - UNTOUCHED


UNTOUCHED = {("namespace", "default", "unchanged"), ("queue", "default", "unchanged")}


def there_and_back(address: str) -> None:
    with Client(address, insecure=True, timeout_seconds=30) as client:
        define(client)
        wanted = lines(client)
        text = "\n".join(wanted)
        assert "etag" not in text
        assert '"uid"' not in text
        assert {outcome for _, _, outcome in imported(client, wanted)} == {"unchanged"}
        undo(client)
        before = lines(client)
        assert before != wanted
        expected = {
            *(("namespace", "shop", "updated"), ("queue", "reports", "updated"), ("limit", "database", "created")),
            *(("calendar", "holidays", "created"), ("grant", "ada in *", "created"), ("job", "first", "created")),
            *(("job", "second", "created"), ("job", "manual", "created"), ("notification", "ops", "created")),
        }
        # Those that name a calendar which is not there cannot be tried without it.
        tried = [line for line in wanted if '"kind": "job"' not in line]
        changes = imported(client, tried, dry_run=True)
        assert changes == {change for change in expected if change[0] != "job"}
        assert lines(client) == before
        assert imported(client, list(reversed(wanted))) == expected
        assert lines(client) == wanted
        assert {outcome for _, _, outcome in imported(client, wanted)} == {"unchanged"}


async def test_what_was_exported_comes_back_and_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await asyncio.to_thread(there_and_back, here.address)


VALUES = {"db-password": "correct horse", "api": "battery staple", "slack": "https://hooks.example/very-secret"}


def with_secrets(address: str) -> None:
    with Client(address, insecure=True, timeout_seconds=30) as client:
        for name, value in VALUES.items():
            client.set_secret(name, value)
        header = {"Authorization": "Bearer {{ secrets.api }}"}
        client.create_job(jobs.job("asks", jobs.manual(), jobs.http("POST", "https://example.com/", headers=header)))
        env = {"PGPASSWORD": '{{ secrets["db-password"] | trim }}'}
        client.create_job(jobs.job("dumps", jobs.manual(), jobs.shell(["true"], env=env)))
        rule = NotificationRule(
            name="namespaces/default/notifications/ops", events=[NotificationEvent.NOTIFICATION_EVENT_FAILED]
        )
        rule.slack.CopyFrom(SlackChannel(url_secret="slack"))
        client.set_notification(rule)
        client.set_limit("database", 3)
        wanted = lines(client)
        text = "\n".join(wanted)
        assert all(name in text for name in VALUES)
        assert not any(value in text for value in VALUES.values())

        client.delete_notification(rule.name)
        for job in ("asks", "dumps"):
            client.delete_job(job)
        client.delete_limit("database")
        for name in ("db-password", "slack"):
            client.delete_secret(name)
        before = lines(client)
        for dry_run in (True, False):
            with pytest.raises(NotFound) as caught:
                imported(client, wanted, dry_run=dry_run)
            told = str(caught.value)
            assert (
                "namespaces/default/secrets/db-password, namespaces/default/secrets/slack; nothing was changed" in told
            )
            assert "secrets/api" not in told
        assert lines(client) == before
        for name in ("db-password", "slack"):
            client.set_secret(name, "another value")
        assert ("job", "dumps", "created") in imported(client, wanted)
        assert lines(client) == wanted


async def test_no_value_of_a_secret_is_exported_and_an_import_names_those_that_are_missing(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await asyncio.to_thread(with_secrets, here.address)


def test_lines_that_are_no_definitions_are_all_named() -> None:
    wrong = ["", "{", '{"kind": "planet"}', '{"kind": "job", "definition": {"nmae": "x"}}', "[]"]
    with pytest.raises(InvalidFile) as caught:
        portable.parse(wrong, "file")
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4, 5]
