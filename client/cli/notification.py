"""`horologe notification`: who is told when something goes wrong, and is well again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from horologe.client.cli.limit import RequestIdOption
from horologe.client.cli.output import Column, Record, print_data
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.v1.notification_pb2 import NotificationRule

__all__ = ["app"]

app = typer.Typer(name="notification", help="Who is told when something goes wrong.", no_args_is_help=True)

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Id in the namespace, or the full name: notifications/ID is of the cluster."),
]
Texts = list[str] | None

_COLUMNS = (
    Column("NAME", lambda record: record["name"], is_wide=True),
    Column("ID", "id"),
    Column("EVENTS", lambda record: ", ".join(record["events"])),
    Column("JOBS", lambda record: ", ".join(record["jobs"]) or "all"),
    Column("CHANNEL", "channel"),
    Column("RECEIVER", "receiver"),
    Column("GROUPS", lambda record: f"by {record['group_by']}, {record['group_window']}", is_wide=True),
    Column("PER HOUR", "max_per_hour", is_wide=True),
    Column("PENDING", "pending_count"),
    Column("HELD BACK", "held_back_count", is_wide=True),
    Column("STATE", lambda record: "disabled" if record["disabled"] else record["last_error"] or "active"),
)
_DELIVERY_COLUMNS = (
    Column("TIME", "time"),
    Column("OUTCOME", "outcome"),
    Column("NOTICES", "notice_count"),
    Column("ABOUT", lambda record: _about(record)),
    Column("ATTEMPTS", "attempt_count"),
    Column("ERROR", "error"),
    Column("ID", "id", is_wide=True),
)


@app.command("set")
@connected
def set_(  # nosec B107
    session: Session,
    name: NameArgument,
    on: Annotated[
        Texts,
        typer.Option(
            "--on",
            metavar="EVENT",
            help="failed, dead_letter, recovered, late, missed; for rules of the cluster also worker_lost, quorum_at_risk, "
            "quorum_restored. Repeatable, or with commas.",
        ),
    ] = None,
    webhook: Annotated[str, typer.Option("--webhook", metavar="URL", help="POST JSON there.")] = "",
    url_secret: Annotated[
        str, typer.Option("--webhook-secret", metavar="SECRET", help="POST JSON to the URL in this secret.")
    ] = "",
    signing_secret: Annotated[
        str, typer.Option("--signing-secret", metavar="SECRET", help="Signs the webhook's requests.")
    ] = "",
    slack_secret: Annotated[
        str,
        typer.Option("--slack-secret", metavar="SECRET", help="The secret with the URL of Slack's incoming webhook."),
    ] = "",
    email: Annotated[Texts, typer.Option("--email", metavar="ADDRESS", help="Mail there; repeatable.")] = None,
    job: Annotated[
        Texts, typer.Option("--job", metavar="PATTERN", help="Only jobs with such ids; * is anything; repeatable.")
    ] = None,
    label: Annotated[
        Texts, typer.Option("--label", metavar="KEY=VALUE", help="Only jobs with this label; repeatable.")
    ] = None,
    late_after: Annotated[
        str, typer.Option("--late-after", metavar="DURATION", help="When a start is late. Default: 1m.")
    ] = "",
    group_by: Annotated[
        str, typer.Option("--group-by", metavar="WHAT", help="job (default), fingerprint, event or rule.")
    ] = "",
    group_window: Annotated[
        str, typer.Option("--group-window", metavar="DURATION", help="Wait so long for more. Default: do not wait.")
    ] = "",
    max_per_hour: Annotated[
        int, typer.Option("--max-per-hour", metavar="N", help="1 to 100 messages. Default: 60.", show_default=False)
    ] = 0,
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="For people.")] = "",
    disabled: Annotated[bool, typer.Option("--disabled", help="Find and send nothing.")] = False,
    request_id: RequestIdOption = "",
) -> None:
    """Create a rule or replace it. It hears of what happens from then on.

    For example: horologe notification set ops --on failed,recovered --email ops@example.com --group-window 1m
    """
    from horologe.client import notification_records as records
    from horologe.v1.notification_pb2 import NotificationRule

    rule = NotificationRule(name=name, description=description, jobs=job or (), disabled=disabled)
    rule.max_per_hour = max_per_hour
    _set_words(rule, on or [], group_by)
    _set_spans(rule, late_after, group_window)
    for text in label or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r}: write KEY=VALUE", param_hint="--label")
        rule.labels[key] = value
    if sum(bool(given) for given in (webhook or url_secret, slack_secret, email)) != 1:
        raise typer.BadParameter("give one of --webhook, --webhook-secret, --slack-secret and --email")
    if webhook or url_secret:
        rule.webhook.url, rule.webhook.url_secret = webhook, url_secret
        rule.webhook.signing_secret = signing_secret
    elif signing_secret:
        raise typer.BadParameter("only webhooks are signed", param_hint="--signing-secret")
    elif slack_secret:
        rule.slack.url_secret = slack_secret
    else:
        rule.email.to.extend(email or ())
    session.print_one(records.rule(session.client.set_notification(rule, request_id=request_id)), _COLUMNS)


def _set_words(rule: NotificationRule, events: list[str], group_by: str) -> None:
    from horologe.client import words
    from horologe.v1.notification_pb2 import NotificationEvent, NotificationRule

    try:
        for text in events:
            rule.events.extend(words.parse(NotificationEvent, word) for word in text.split(",") if word)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--on") from error
    try:
        if group_by:
            rule.group_by = words.parse(NotificationRule.GroupBy, group_by)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--group-by") from error


def _set_spans(rule: NotificationRule, late_after: str, group_window: str) -> None:
    from horologe.client import durations

    for field, option, text in (
        (rule.late_after, "--late-after", late_after),
        (rule.group_window, "--group-window", group_window),
    ):
        try:
            if text:
                field.CopyFrom(durations.to_proto(durations.parse(text)))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=option) from error


@app.command("get")
@connected
def get(session: Session, name: NameArgument) -> None:
    """Show one rule, and how it stands."""
    from horologe.client import notification_records as records

    session.print_one(records.rule(session.client.get_notification(name)), _COLUMNS)


@app.command("list")
@connected
def list_(
    session: Session,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of every namespace, and of the cluster.")
    ] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Of the cluster.")] = False,
) -> None:
    """List rules by name."""
    from horologe.client import notification_records as records

    parent = "-" if all_namespaces else "cluster" if cluster else ""
    found = session.client.list_notifications(parent=parent)
    session.print_list((records.rule(rule) for rule in found), _COLUMNS, "No notification rules.")


@app.command("delete")
@connected
def delete(
    session: Session,
    name: NameArgument,
    etag: Annotated[str, typer.Option("--etag", help="Only if it has not changed since.")] = "",
    request_id: RequestIdOption = "",
) -> None:
    """Delete a rule, with what it had to tell."""
    from horologe.client.names import notification_name

    session.client.delete_notification(name, etag=etag, request_id=request_id)
    full = notification_name(name, session.namespace)
    if session.is_data:
        print_data(session.output, {"name": full, "outcome": "deleted"})
    else:
        typer.echo(f"deleted {full}")


@app.command("test")
@connected
def test(session: Session, name: NameArgument) -> None:
    """Send a test, and say what came of it."""
    answer = session.client.test_notification(name)
    if session.is_data:
        print_data(session.output, {"delivered": answer.delivered, "error": answer.error})
    else:
        typer.echo("delivered" if answer.delivered else f"not delivered: {answer.error}")
    if not answer.delivered:
        raise typer.Exit(1)


@app.command("deliveries")
@connected
def deliveries(session: Session, name: NameArgument) -> None:
    """List what a rule has sent, newest first."""
    from horologe.client import notification_records as records

    found = session.client.list_deliveries(name)
    session.print_list((records.delivery(each) for each in found), _DELIVERY_COLUMNS, "Nothing was sent yet.")


def _about(record: Record) -> str:
    """The first notice of a delivery, in a few words."""
    if record["test"]:
        return "test"
    if not record["notices"]:
        return ""
    first = record["notices"][0]
    subject = first["execution"] or first["job"] or first["worker"] or ", ".join(first["members"])
    held = " (held back)" if record["held_back"] else ""
    return f"{first['event']} {subject}{held}".strip()
