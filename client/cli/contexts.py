"""`horologe login`, `logout` and `context`: which clusters there are, and who one is there.

What they write is the file of `context_store.py`. A token is never an argument: everybody on this machine could see it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.output import Column, Record, print_data, print_details
from horologe.client.cli.session import (
    AddressOption,
    ContextOption,
    InsecureOption,
    NamespaceOption,
    OutputOption,
    Session,
    settings_of,
)
from horologe.client.errors import InvalidArgument, InvalidContext

if TYPE_CHECKING:
    from horologe.client.cluster_context import ClusterContext
    from horologe.client.context_store import Store

__all__ = ["app", "login", "logout"]

app = typer.Typer(name="context", help="Where clusters are, and who you are there.", no_args_is_help=True)

TOKEN_LENGTH_MAX = 65_536
DEFAULT_NAME = "default"
COLUMNS = (
    Column("CURRENT", lambda record: "*" if record["current"] else ""),
    Column("NAME", "name"),
    # A certificate is of use at the port for workers only.
    Column(
        "ADDRESSES",
        lambda record: (record["proof"] == "certificate" and record["worker_addresses"]) or record["addresses"],
    ),
    Column("NAMESPACE", "namespace"),
    Column("SECURITY", "security"),
    Column("PROOF", "proof"),
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The context.")]


_Name = Annotated[str, typer.Option("--name", metavar="NAME", help="The context to write. What it says already stays.")]
_WorkerAddress = Annotated[
    list[str] | None,
    typer.Option(
        "--worker-address", metavar="HOST:PORT", help="A node's port for workers and certificates; repeat it."
    ),
]
_CaFile = Annotated[
    Path | None, typer.Option("--ca-file", metavar="FILE", help="Who signs the certificates of the nodes.")
]
_TlsDir = Annotated[
    Path | None,
    typer.Option(
        "--tls-dir",
        metavar="FOLDER",
        help="A certificate of yours: cert.pem, key.pem, and ca.pem, which counts without --ca-file.",
    ),
]
_ServerName = Annotated[
    str | None, typer.Option("--server-name", metavar="NAME", help="The name in the nodes' certificates.")
]
_Token = Annotated[
    str | None, typer.Option("--token", metavar="-", help="Read the token (or a JWT) from standard input.")
]
_TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Where the token is, and stays; readable for you alone."),
]
_Oidc = Annotated[bool, typer.Option("--oidc", help="Log in at an identity provider, with a browser.")]
_Issuer = Annotated[str, typer.Option("--issuer", metavar="URL", help="With --oidc: the identity provider.")]
_ClientId = Annotated[
    str, typer.Option("--client-id", metavar="ID", help="With --oidc: what it calls Horologe's command line.")
]
_Scope = Annotated[str, typer.Option("--scope", metavar="WORDS", help="With --oidc: what is asked for.")]


def login(
    typer_context: typer.Context,
    name: _Name = DEFAULT_NAME,
    address: AddressOption = None,
    worker_address: _WorkerAddress = None,
    namespace: NamespaceOption = None,
    ca_file: _CaFile = None,
    tls_dir: _TlsDir = None,
    server_name: _ServerName = None,
    insecure: InsecureOption = None,
    token: _Token = None,
    token_file: _TokenFile = None,
    oidc: _Oidc = False,
    issuer: _Issuer = "",
    client_id: _ClientId = "",
    scope: _Scope = "openid",
    output: OutputOption = None,
) -> None:
    """Keep in a context how to reach a cluster and who you are there, once the cluster has said yes; it becomes the current one.

    Without --token, --token-file, --oidc or --tls-dir the token is that of HOROLOGE_TOKEN, or you are asked for it.

    For example: horologe login --name prod --address n1.example.org:7400 --ca-file ca.pem --token -
    """
    from horologe.client import context_store
    from horologe.client.names import ID_RULE, is_id

    session = _session(typer_context, output)
    settings = session.settings
    if not is_id(name):
        raise InvalidArgument(f"{name!r} is not a context's name: {ID_RULE}")
    if sum((token is not None, token_file is not None, oidc)) > 1:
        raise InvalidArgument("give one of --token -, --token-file and --oidc")
    store = context_store.read()
    given = {
        "addresses": list(address or settings.address) or None,
        "worker_addresses": worker_address,
        "namespace": namespace or settings.namespace,
        "ca_file": ca_file and str(ca_file.absolute()),
        "tls_dir": tls_dir and str(tls_dir.absolute()),
        "server_name": server_name,
        "insecure": insecure or settings.insecure,
    }
    table = _changed(store.contexts.get(name, {}), given)
    proof = _proof(session, token, token_file, oidc, (issuer, client_id, scope), bool(table.get("tls_dir")))
    if proof:
        table = {key: value for key, value in table.items() if key not in ("token", "token_file")} | proof
    record = _who(session, table, context_store.path().parent, name)
    store.contexts[name], store.current = table, name
    file = context_store.write(store)
    if session.is_data:
        print_data(session.output, {"context": name, "file": str(file), **record})
    elif record["principal"]:
        typer.echo(f"you are {record['principal']} ({record['method']}) in {name}, written to {file}")
    else:
        typer.echo(f"{name} runs without security: everybody may do everything there; written to {file}")


def _changed(table: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a context says, with what was given over it. Clear text, and what is meant for TLS, drive each other out.

    So does a folder with a CA of its own the CA that was named before.
    """
    out: tuple[str, ...] = ()
    if given["ca_file"]:
        out = ("insecure",)
    elif given["tls_dir"]:
        out = ("insecure", "ca_file")
    elif given["insecure"] and not table.get("insecure"):
        out = ("ca_file", "tls_dir", "token", "token_file")
    kept = {key: value for key, value in table.items() if key not in out}
    return kept | {key: value for key, value in given.items() if value is not None}


def _proof(
    session: Session,
    token: str | None,
    token_file: Path | None,
    oidc: bool,
    provider: tuple[str, str, str],
    has_certificate: bool,
) -> dict[str, str]:
    """What the context says of the token."""
    from horologe.client.cluster_context import TOKEN_VARIABLE, read_token

    if oidc:
        return {"token": _log_in_with_browser(session, *provider)}
    if token_file is not None:
        read_token(token_file)
        return {"token_file": str(token_file.absolute())}
    if token is not None and token != "-":
        raise InvalidArgument(
            "a token is no argument, everybody on this machine could see it; give `--token -` and the token on standard input"
        )
    found = "" if token == "-" else os.environ.get(TOKEN_VARIABLE, "")
    if not found and (token == "-" or (not has_certificate and session.is_interactive())):
        is_asked = session.is_interactive()
        found = typer.prompt("Token", hide_input=True, err=True) if is_asked else sys.stdin.read(TOKEN_LENGTH_MAX)
        if not found.strip():
            raise InvalidArgument("there is no token on standard input")
    return {"token": found.strip()} if found.strip() else {}


def _log_in_with_browser(session: Session, issuer: str, client_id: str, scope: str) -> str:
    from horologe.client.device_flow import Invitation, obtain

    if not issuer or not client_id:
        raise InvalidArgument("--oidc needs --issuer and --client-id")

    def invite(invitation: Invitation) -> None:
        typer.echo(f"Open {invitation.url} and enter the code {invitation.code}", err=True)
        if invitation.url_with_code:
            typer.echo(f"or open {invitation.url_with_code}", err=True)

    return obtain(issuer, client_id, scope, invite, session.pause)


def _who(session: Session, table: dict[str, Any], folder: Path, name: str) -> Record:
    from horologe.client import access_records
    from horologe.client.client import Client
    from horologe.client.cluster_context import of_table

    context = of_table(table, folder, f"the context {name}")
    seconds = session.settings.call_timeout_seconds
    with Client(context, timeout_seconds=seconds, unreachable_seconds=session.unreachable_seconds) as client:
        return access_records.who(client.who_am_i())


def logout(
    name: Annotated[
        str,
        typer.Option(
            "--name", metavar="NAME", help="The context. Default: that of HOROLOGE_CONTEXT, or the current one."
        ),
    ] = "",
) -> None:
    """Forget the token of a context. The token stays of use where else it is kept, until it is revoked or expires."""
    from horologe.client import context_store

    store = context_store.read()
    chosen, table = _chosen(store, name or _named_by_environment(store))
    token = str(table.pop("token", ""))
    if table.pop("token_file", None) is None and not token:
        typer.echo(f"{chosen} has no token", err=True)
        return
    context_store.write(store)
    typer.echo(f"forgot the token of {chosen}")
    if token.startswith("hlg_") and token.count("_") >= 2:
        typer.echo(f"To make it useless: horologe token revoke {token.split('_')[1]}", err=True)


def _named_by_environment(store: Store) -> str:
    """Refuses where a file is named: the token that counts is in there, and another context's must not go in its place."""
    from horologe.client.cluster_context import CONTEXT_VARIABLE

    wanted = os.environ.get(CONTEXT_VARIABLE, "")
    if wanted and wanted not in store.contexts:
        raise InvalidContext(
            f"{CONTEXT_VARIABLE} names {wanted}, which is none of your contexts: take the token out of that file yourself, or "
            "say with --name which context is meant (`horologe context list` shows them)"
        )
    return wanted


@app.command("list")
def list_(typer_context: typer.Context, output: OutputOption = None) -> None:
    """List the contexts that you have."""
    from horologe.client import context_store

    store, session = context_store.read(), _session(typer_context, output)
    records = [_record(store, name, context_store.path().parent) for name in sorted(store.contexts)]
    session.print_list(records, COLUMNS, "There are no contexts; `horologe login` makes one.")


@app.command("use")
def use(name: NameArgument) -> None:
    """Make a context the current one: it counts where nothing names another."""
    from horologe.client import context_store

    store = context_store.read()
    store.current, _ = _chosen(store, name)
    context_store.write(store)
    typer.echo(f"{name} is the current context")


@app.command("show")
def show(
    typer_context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[NAME|FILE]", help="The context. Default: the one that counts now.")
    ] = "",
    context_file: ContextOption = None,
    output: OutputOption = None,
) -> None:
    """Show what is known of a cluster, with everything that the environment adds. A token is not shown."""
    from horologe.client import cluster_context

    session = _session(typer_context, output)
    found = cluster_context.load(context_file=name or context_file or session.settings.context)
    record = _described(found)
    if session.is_data:
        print_data(session.output, record)
    else:
        print_details([(label.replace("_", " ").capitalize(), value) for label, value in record.items()])


@app.command("delete")
def delete(name: NameArgument) -> None:
    """Delete a context. Certificates and token files that it names stay."""
    from horologe.client import context_store

    store = context_store.read()
    _chosen(store, name)
    del store.contexts[name]
    if store.current == name:
        store.current = ""
    context_store.write(store)
    typer.echo(f"deleted {name}")


def _session(typer_context: typer.Context, output: OutputOption) -> Session:
    settings = settings_of(typer_context)
    return Session(settings, output or settings.output)


def _chosen(store: Store, name: str) -> tuple[str, dict[str, Any]]:
    chosen = name or store.current
    if not chosen:
        raise InvalidContext("no context is the current one; name it (`horologe context list` shows them)")
    if chosen not in store.contexts:
        raise InvalidContext(f"there is no context {chosen!r}; `horologe context list` shows them")
    return chosen, store.contexts[chosen]


def _record(store: Store, name: str, folder: Path) -> Record:
    from horologe.client.cluster_context import of_table

    described = _described(of_table(store.contexts[name], folder, f"the context {name}"))
    return {"name": name, "current": name == store.current, **described}


def _described(context: ClusterContext) -> Record:
    proofs = [("token", context.has_token), ("certificate", context.tls_dir is not None)]
    return {
        "source": context.source or "the defaults",
        "addresses": list(context.addresses),
        "worker_addresses": list(context.worker_addresses),
        "namespace": context.namespace,
        "security": "none" if context.insecure else "TLS",
        "ca_file": str(context.ca_file or "") or None,
        "tls_dir": str(context.tls_dir or "") or None,
        "token_file": str(context.token_file or "") or None,
        "server_name": None if context.insecure else context.server_name or "the host of the address",
        "proof": next((kind for kind, is_there in proofs if is_there), None),
    }
