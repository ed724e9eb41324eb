"""`horologe token`, `grant`, `principal` and `whoami`: who may do what."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from horologe.client.cli.failures import warn
from horologe.client.cli.limit import RequestIdOption
from horologe.client.cli.output import Column, print_data, print_details
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidArgument

__all__ = ["GRANT_COLUMNS", "grants", "principals", "tokens", "whoami"]

tokens = typer.Typer(name="token", help="Tokens of the API.", no_args_is_help=True)
grants = typer.Typer(name="grant", help="Who may do what in which namespace.", no_args_is_help=True)
principals = typer.Typer(name="principal", help="Whom the cluster knows.", no_args_is_help=True)

TOKEN_COLUMNS = (
    Column("ID", "id"),
    Column("PRINCIPAL", "principal"),
    Column("STATE", lambda record: "revoked" if record["revoked"] else "valid"),
    Column("NAMESPACES", lambda record: record["namespaces"] or "all"),
    Column("ROLE", lambda record: record["role"] or ("-" if record["verbs"] else "all")),
    Column("VERBS", "verbs", is_wide=True),
    Column("EXPIRES", "expire_time"),
    Column("LAST USED", "last_use_time"),
    Column("CREATED", "create_time", is_wide=True),
    Column("DESCRIPTION", "description"),
)
GRANT_COLUMNS = (
    Column("SUBJECT", "subject"),
    Column("NAMESPACE", "namespace"),
    Column("ROLE", "role"),
    Column("VERBS", "verbs"),
    Column("CHANGED", "update_time", is_wide=True),
)
PRINCIPAL_COLUMNS = (
    Column("NAME", "name"),
    Column("STATE", lambda record: "disabled" if record["disabled"] else "enabled"),
    Column("JOBS", "job_count"),
    Column("GROUPS", "groups"),
)
SubjectArgument = Annotated[
    str,
    typer.Argument(metavar="SUBJECT", help="A principal, or group:NAME for all in a group of the identity provider."),
]
RoleOption = Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer, editor, operator or admin.")]
VerbsOption = Annotated[
    list[str] | None,
    typer.Option("--verb", metavar="VERB", help="A verb beside those of the role, as job.run; repeat it."),
]
EverywhereOption = Annotated[
    bool,
    typer.Option("--everywhere", help="In all namespaces, and for what belongs to none: queues, workers, the cluster."),
]


@tokens.command("create")
@connected
def create_token(
    session: Session,
    principal: Annotated[str, typer.Argument(metavar="[PRINCIPAL]", help="For whom it speaks. Default: you.")] = "",
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="What it is for.")] = "",
    time_to_live: Annotated[
        str | None,
        typer.Option(
            "--ttl",
            metavar="DURATION",
            help="It expires after so long, no later than the token that asks for it. Default: 90d, or as long as that.",
        ),
    ] = None,
    in_namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--in", metavar="NAMESPACE", help="Of use only there; repeat it. Default: wherever its principal is."
        ),
    ] = None,
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="Of no use beyond: viewer, editor, operator or admin.")
    ] = "",
    verb: Annotated[
        list[str] | None, typer.Option("--verb", metavar="VERB", help="Of use for these verbs only; repeat it.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the token there, for you alone, and do not print it."),
    ] = None,
    request_id: RequestIdOption = "",
) -> None:
    """Make a token. It is shown once, now: the cluster itself cannot show it again.

    For example: horologe token create deployer --in shop --role editor --ttl 30d
    """
    from horologe.client import access_records
    from horologe.client.private_files import create_private

    with ExitStack() as stack:
        # Before there is a token: what cannot be written would be lost.
        stream = stack.enter_context(create_private(out)) if out is not None else None
        made = session.client.create_token(
            principal,
            description=description,
            time_to_live=time_to_live,
            namespaces=in_namespace or (),
            role=role,
            verbs=verb or (),
            request_id=request_id,
        )
        if stream is not None:
            stream.write(f"{made.secret}\n")
    record = access_records.token(made.token)
    if session.is_data:
        print_data(session.output, record if out is not None else {**record, "secret": made.secret})
        return
    if out is None and made.secret:
        # The one thing on standard output, so that it can be put where it belongs.
        typer.echo(made.secret)
    elif not made.secret:
        warn("This token was made before, with this request id; it is shown only once.")
    limits = ", ".join(filter(None, (record["expire_time"], record["role"], *record["namespaces"], *record["verbs"])))
    typer.echo(f"{record['name']} speaks for {record['principal']} ({limits})", err=True)


@tokens.command("list")
@connected
def list_tokens(
    session: Session,
    principal: Annotated[str, typer.Option("--principal", metavar="NAME", help="Of this one only.")] = "",
) -> None:
    """List tokens, without their secrets: yours, or those of all if you may read them."""
    from horologe.client import access_records

    found = session.client.list_tokens(principal)
    session.print_list((access_records.token(entry) for entry in found), TOKEN_COLUMNS, "There are no tokens.")


@tokens.command("revoke")
@connected
def revoke_token(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="ID", help="The token's id. Not the token itself.")],
    request_id: RequestIdOption = "",
) -> None:
    """Make a token useless, everywhere and for ever."""
    from horologe.client.names import token_name

    session.client.revoke_token(name, request_id=request_id)
    _done(session, token_name(name), "revoked")


@grants.command("set")
@connected
def set_grant(
    session: Session,
    subject: SubjectArgument,
    role: RoleOption = "",
    verb: VerbsOption = None,
    everywhere: EverywhereOption = False,
    request_id: RequestIdOption = "",
) -> None:
    """Give rights in the namespace (--namespace), in place of those that the subject had there.

    For example: horologe grant set group:shop-developers --role editor --namespace shop
    """
    from horologe.client import access_records

    if not role and not verb:
        raise InvalidArgument("name what is granted: --role or --verb", reason="INVALID_FIELD")
    found = session.client.set_grant(subject, role, verbs=verb or (), everywhere=everywhere, request_id=request_id)
    session.print_one(access_records.grant(found), GRANT_COLUMNS)


@grants.command("list")
@connected
def list_grants(
    session: Session,
    subject: Annotated[str, typer.Option("--subject", metavar="SUBJECT", help="Of this one only.")] = "",
    in_namespace: Annotated[
        str, typer.Option("--in", metavar="NAMESPACE", help="In this namespace only; * for those everywhere.")
    ] = "",
) -> None:
    """List who may do what."""
    from horologe.client import access_records

    found = session.client.list_grants(subject, in_namespace=in_namespace)
    session.print_list((access_records.grant(entry) for entry in found), GRANT_COLUMNS, "There are no grants.")


@grants.command("delete")
@connected
def delete_grant(
    session: Session,
    subject: SubjectArgument,
    everywhere: EverywhereOption = False,
    request_id: RequestIdOption = "",
) -> None:
    """Take away the rights that a subject has in the namespace (--namespace). Those elsewhere stay."""
    session.client.delete_grant(subject, everywhere=everywhere, request_id=request_id)
    _done(session, f"grant of {subject} {'everywhere' if everywhere else f'in {session.namespace}'}", "deleted")


@principals.command("list")
@connected
def list_principals(session: Session) -> None:
    """List everybody who has written something, has a token or has a grant."""
    from horologe.client import access_records

    found = session.client.list_principals()
    records = (access_records.principal(entry) for entry in found)
    session.print_list(records, PRINCIPAL_COLUMNS, "There are no principals.")


PrincipalArgument = Annotated[str, typer.Argument(metavar="NAME", help="The principal.")]


@principals.command("disable")
@connected
def disable(session: Session, name: PrincipalArgument, request_id: RequestIdOption = "") -> None:
    """Let somebody do nothing any more. Its jobs do not run; its tokens and grants stay, for when it is enabled again."""
    _update(session, name, True, request_id)


@principals.command("enable")
@connected
def enable(session: Session, name: PrincipalArgument, request_id: RequestIdOption = "") -> None:
    """Let somebody do again what its grants say. Its jobs run from their next due times on."""
    _update(session, name, False, request_id)


@connected
def whoami(session: Session) -> None:
    """Show who you are for the cluster, how you proved it, and what you may do."""
    from horologe.client import access_records

    record = access_records.who(session.client.who_am_i())
    if session.is_data:
        print_data(session.output, record)
        return
    if not record["principal"]:
        typer.echo("The cluster runs without security: everybody may do everything.")
        return
    token = record["token"]
    print_details(
        [
            ("Principal", record["principal"]),
            ("By", record["method"]),
            ("Token", token and f"{token['name']}, expires {token['expire_time'] or 'never'}"),
            ("Namespaces", token and (token["namespaces"] or "all")),
            ("No more than", token and [*filter(None, [token["role"]]), *token["verbs"]]),
            ("Groups", record["groups"]),
        ]
    )
    session.print_list(record["grants"], GRANT_COLUMNS, "There are no grants.")


def _update(session: Session, name: str, disabled: bool, request_id: str) -> None:
    from horologe.client import access_records

    found = session.client.update_principal(name, disabled=disabled, request_id=request_id)
    session.print_one(access_records.principal(found), PRINCIPAL_COLUMNS)


def _done(session: Session, name: str, outcome: str) -> None:
    if session.is_data:
        print_data(session.output, {"name": name, "outcome": outcome})
    else:
        typer.echo(f"{outcome} {name}")
