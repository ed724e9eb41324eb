"""`horologe tls ...`: a small CA for those who have none, and the certificates that it issues. None of it needs a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from horologe.node.cron_commands import OutputFormat, print_data

app = typer.Typer(
    name="tls", help="A small CA, and the certificates of nodes, workers and clients.", no_args_is_help=True
)
issue_app = typer.Typer(name="issue", help="Make a folder with ca.pem, cert.pem and key.pem.", no_args_is_help=True)
app.add_typer(issue_app)

CaOption = Annotated[Path, typer.Option("--dir", metavar="FOLDER", help="Where the CA is: ca.pem and ca.key.")]
DaysOption = Annotated[int, typer.Option("--days", metavar="N", help="Valid for so many days.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="The folder to make. Default: ROLEs/NAME in that of the CA."),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
_CA = Path("tls")
_DAYS = 90


@app.command("init")
def init(folder: CaOption = _CA) -> None:
    """Make a CA: ca.pem, which all need, and ca.key, which only you need. Keep that one away from the cluster."""
    from horologe.node.tls_folder import CA_FILE, CA_KEY_FILE, CaFolder

    with _complaints():
        ca = CaFolder.create(folder)
    typer.echo(
        f"{folder / CA_FILE}: valid until {ca.pair.certificate.not_valid_after_utc:%Y-%m-%d}. {folder / CA_KEY_FILE}: its key."
    )


@issue_app.command("node")
def issue_node(
    name: NameArgument,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", metavar="HOST", help="A name or address by which programs that check hosts find it. Repeat."
        ),
    ] = None,
    days: DaysOption = _DAYS,
    out: OutOption = None,
    folder: CaOption = _CA,
) -> None:
    """For a node, by the name in its configuration. Put the folder where its option `tls_dir` points."""
    _issue("node", name, folder, out, days, hosts=host or [])


@issue_app.command("worker")
def issue_worker(
    name: NameArgument,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", metavar="QUEUE", help="The only queue that it may take from. Repeat.")
    ] = None,
    days: DaysOption = _DAYS,
    out: OutOption = None,
    folder: CaOption = _CA,
) -> None:
    """For a worker called NAME, or for a pool of them called NAME-1, NAME-2, ..."""
    _issue("worker", name, folder, out, days, queues=queue or [])


@issue_app.command("client")
def issue_client(name: NameArgument, days: DaysOption = _DAYS, out: OutOption = None, folder: CaOption = _CA) -> None:
    """For a person or a program. The name is what rights are granted to."""
    _issue("client", name, folder, out, days)


def _issue(
    role: str,
    name: str,
    folder: Path,
    out: Path | None,
    days: int,
    *,
    hosts: list[str] | None = None,
    queues: list[str] | None = None,
) -> None:
    from horologe.node.certificates import CertificateError, Role, checked_identity
    from horologe.node.tls_folder import CaFolder

    with _complaints():
        try:
            identity = checked_identity(Role(role), name, queues or [])
        except CertificateError as error:
            _fail(str(error))
        out = out or folder / f"{role}s" / name
        certificate = CaFolder.open(folder).issue(out, identity, hosts or [], days)
    typer.echo(f"{out}: {role} {name}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}.")


@app.command("rotate")
def rotate(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="Folders of `tls issue`.")] = None,
    new_ca: Annotated[
        bool, typer.Option("--ca", help="Make a new CA beside the old one; who has the folders trusts both.")
    ] = False,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="End that: trust only the newest CA.")] = False,
    days: DaysOption = _DAYS,
    folder: CaOption = _CA,
) -> None:
    """Renew certificates: same owner, same hosts, new key. Running nodes take them by themselves.

    The CA is changed in three steps, each with the folders of all certificates: --ca, then no option, then --drop-old.
    """
    from horologe.node.tls_folder import CaFolder

    chosen = folders or []
    if new_ca and drop_old:
        _fail("--ca begins a change of the CA and --drop-old ends it; give one of them")
    if not chosen and not new_ca and not drop_old:
        _fail("name the folders whose certificates are to be renewed")
    with _complaints():
        ca = CaFolder.open(folder)
        if new_ca:
            ca = ca.succeeded(chosen)
            typer.echo(f"{folder}: a new CA; both are trusted. Next: `horologe tls rotate FOLDER...`")
        elif drop_old:
            ca.without_older(chosen)
            typer.echo(f"{folder}: only the newest CA is trusted.")
        else:
            for out in chosen:
                certificate = ca.renew(out, days)
                typer.echo(f"{out}: valid until {certificate.not_valid_after_utc:%Y-%m-%d}.")


@app.command("show")
def show(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER")],
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to print.")] = OutputFormat.TABLE,
) -> None:
    """Say whose certificate is in a folder, for which hosts, until when, and whose CAs it trusts. Exits 1 if it is no good."""
    from horologe.node.certificates import certificates_in, hosts_in
    from horologe.node.tls_folder import read_tls_folder

    with _complaints():
        files = read_tls_folder(folder)
    record = {
        "role": str(files.identity.role),
        "name": files.identity.name,
        "queues": list(files.identity.queues),
        "hosts": hosts_in(files.certificate),
        "expire_time": files.expires.isoformat(),
        "issuer": files.certificate.issuer.rfc4514_string(),
        "trusts": [one.subject.rfc4514_string() for one in certificates_in(files.ca_pem)],
        "fingerprint": files.identity.fingerprint,
    }
    if output is not OutputFormat.TABLE:
        print_data(record, output)
        return
    for label, value in record.items():
        text = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{label.replace('_', ' ').capitalize() + ':':<14}{text}")


@contextmanager
def _complaints() -> Iterator[None]:
    from horologe.node.tls_folder import TlsError

    try:
        yield
    except TlsError as error:
        typer.echo(f"horologe: {error}", err=True)
        raise typer.Exit(1) from error


def _fail(text: str) -> NoReturn:
    typer.echo(f"horologe: {text}", err=True)
    raise typer.Exit(2)
