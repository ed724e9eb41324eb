"""`horologe audit`: who did what, and the proof that nobody has changed the account of it."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from horologe.client.cli import filters
from horologe.client.cli.output import Column, Record, print_data, print_table
from horologe.client.cli.session import Session, connected
from horologe.client.errors import InvalidFile, Problem

if TYPE_CHECKING:
    from horologe.client.audit_chain import Finding, Verification
    from horologe.v1.audit_service_pb2 import AuditCheckpoint

__all__ = ["app"]

app = typer.Typer(name="audit", help="Who did what, in a chain that nobody can change unnoticed.", no_args_is_help=True)
EXIT_UNSOUND = 1
EXIT_INCOMPLETE = 2


def _objects(record: Record) -> str:
    more = record["object_count"] - len(record["objects"])
    return ", ".join(record["objects"]) + (f" and {more} more" if more > 0 else "")


def _result(record: Record) -> str:
    result = "done" if record["allowed"] else record["reason"]
    return f"{result} ({record['repeat_count']} times)" if record["repeat_count"] > 1 else result


COLUMNS = (
    Column("RECORD", "sequence"),
    Column("TIME", "time"),
    Column("PRINCIPAL", "principal"),
    Column("METHOD", "method"),
    Column("OBJECTS", _objects),
    Column("RESULT", _result),
    Column("BEFORE", "before", is_wide=True),
    Column("AFTER", "after", is_wide=True),
    Column("SOURCE", "source", is_wide=True),
    Column("TOKEN", "token", is_wide=True),
    Column("CERTIFICATE", "certificate", is_wide=True),
    Column("REVISION", "revision", is_wide=True),
)
HEAD_COLUMNS = (
    Column("NODE", "node"),
    Column("RECORD", "sequence"),
    Column("HASH", lambda record: record["hash"][:16]),
    Column("KEY", "public_key"),
    Column("ERROR", "error"),
)
FileArgument = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="An export, or - for standard input.")]


@app.command("list")
@connected
def list_(
    session: Session,
    principal: Annotated[str, typer.Option("--principal", metavar="NAME", help="Only what this one asked for.")] = "",
    method: Annotated[str, typer.Option("--method", metavar="NAME", help="Only this, as JobService.DeleteJob.")] = "",
    object_name: Annotated[
        str, typer.Option("--object", metavar="NAME", help="Only about this, by its full name: executions/12.")
    ] = "",
    denied: Annotated[bool, typer.Option("--denied", help="Only what was refused.")] = False,
    time_from: Annotated[
        str, typer.Option("--from", metavar="TIME", help="At this instant or later: RFC 3339, or -1h.")
    ] = "",
    time_before: Annotated[str, typer.Option("--before", metavar="TIME", help="Before this instant.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")] = 50,
) -> None:
    """List who did what, and who was not allowed to, newest first.

    For example: horologe audit list --denied --from -1d --principal ann
    """
    from horologe.client import audit_file, calls

    found = session.client.list_audit_records(
        principal=principal,
        method=method,
        object_name=object_name,
        denied_only=denied,
        time_from=filters.instant(time_from, "--from"),
        time_before=filters.instant(time_before, "--before"),
        page_size=min(limit, calls.PAGE_SIZE) or calls.PAGE_SIZE,
    )
    shown = itertools.islice(found, limit or None)
    session.print_list(
        (audit_file.plain(record) for record in shown), COLUMNS, "No records; a cluster without security keeps none."
    )


@app.command("export")
@connected
def export(
    session: Session,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to. Default: standard output.")] = None,
    first: Annotated[
        int, typer.Option("--from", metavar="N", min=0, help="The first record; 0: the oldest that is kept.")
    ] = 0,
) -> None:
    """Write the chain as JSON lines: a header, the records, and at last a checkpoint that a node has signed.

    For example: horologe audit export audit.jsonl --from 1000
    """
    from horologe.client import audit_file

    header: audit_file.Header | None = None
    cluster_id = session.client.audit_checkpoint().cluster_id
    with _written(file) as out:
        for answer in session.client.export_audit_records(first):
            if header is None:
                next_one = answer.records[0].sequence if answer.records else answer.checkpoint.sequence + 1
                header = audit_file.Header(cluster_id, next_one, answer.base_hash)
                _write(out, audit_file.header_line(header))
            for record in answer.records:
                _write(out, audit_file.record_line(record))
            if answer.HasField("checkpoint"):
                _write(out, audit_file.checkpoint_line(answer.checkpoint))


@app.command("checkpoint")
@connected
def checkpoint(session: Session) -> None:
    """Show where the chain stands on each node, signed; keep what `-o json` prints, for `horologe audit verify --checkpoint`.

    Exits 2 when not all nodes answer.
    """
    from horologe.client import audit_compare

    found = audit_compare.heads(session.client)
    records = [_head(node) for node in found]
    if session.is_data:
        print_data(session.output, [record for record in records if not record["error"]])
    else:
        print_table(session.output, records, HEAD_COLUMNS, "No members.")
    if any(node.error for node in found):
        raise typer.Exit(EXIT_INCOMPLETE)


@app.command("verify")
@connected
def verify(
    session: Session,
    file: FileArgument = None,
    checkpoint_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="Checkpoints that were kept: an older export, a node's log; repeatable.",
        ),
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="HEX", help="Trust only these nodes' keys; repeatable.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Without FILE: read all records of all nodes.")] = False,
) -> None:
    """Prove that an export is whole and unchanged; without FILE, that all nodes have one chain.

    Checkpoints that were kept on another machine find a chain that was cut off, or rewritten and signed anew. Exits 1 when
    something is wrong, 2 when not everything could be looked at.

    For example: horologe audit verify audit.jsonl --checkpoint last-week.jsonl
    """
    from horologe.client import audit_file

    kept: list[AuditCheckpoint] = []
    for path in checkpoint_files or ():
        kept += audit_file.find_checkpoints(str(path), _text_of(path))
    keys = [_key(text) for text in key or ()]
    if file is None:
        _verify_cluster(session, kept, keys, full=full)
    else:
        _verify_file(session, file, kept, keys)


def _verify_file(session: Session, file: Path, kept: list[AuditCheckpoint], keys: list[bytes]) -> None:
    from horologe.client import audit_file

    with _read(file) as lines:
        report = audit_file.verify(str(file), lines, kept, keys)
    chain = report.chain
    record = {
        "sound": report.finding is None,
        "cluster_id": report.header.cluster_id,
        **_span(chain),
        "checkpoint": None if report.checkpoint is None else audit_file.plain(report.checkpoint),
        "kept_checkpoints": len(kept),
        "kept_checkpoints_compared": chain.compared,
        "findings": [] if report.finding is None else [_finding(report.finding)],
    }
    if session.is_data:
        print_data(session.output, record)
    else:
        _tell_records(chain.first, chain.last, "No record was proved to be in its place.")
        if report.finding is None and report.checkpoint is not None:
            signer = report.checkpoint
            typer.echo(f"Signed by node {signer.node} with the key {signer.public_key.hex()}.")
        if len(kept) > chain.compared and report.finding is None:
            typer.echo(f"{len(kept) - chain.compared} of {len(kept)} kept checkpoints are of records before these.")
        _tell([] if report.finding is None else [report.finding], "The export is whole, and was not changed.")
    if report.finding is not None:
        raise typer.Exit(EXIT_UNSOUND)


def _verify_cluster(session: Session, kept: list[AuditCheckpoint], keys: list[bytes], *, full: bool) -> None:
    from horologe.client import audit_compare

    found = audit_compare.compare(session.client, kept, keys, full=full)
    heads = [_head(node) for node in found.nodes]
    if session.is_data:
        record = {
            "sound": found.is_sound,
            "complete": found.is_complete,
            "first_record": found.first,
            "last_record": found.last,
            "nodes": heads,
            "kept_checkpoints": len(kept),
            "kept_checkpoints_compared": len(kept) - found.uncompared,
            "findings": [_finding(finding) for finding in found.findings],
        }
        print_data(session.output, record)
    else:
        print_table(session.output, heads, HEAD_COLUMNS, "No members.")
        _tell_records(found.first, found.last, "No records were read: the heads are at one record. --full reads all.")
        if found.uncompared:
            typer.echo(
                f"{found.uncompared} of {len(kept)} kept checkpoints are of records that are too old to be here."
            )
        _tell(found.findings, "One chain leads to the heads of all nodes that answered.")
    if not found.is_sound:
        raise typer.Exit(EXIT_UNSOUND)
    if not found.is_complete:
        typer.secho("Not all nodes answered.", fg=typer.colors.RED, err=True)
        raise typer.Exit(EXIT_INCOMPLETE)


def _tell_records(first: int, last: int, nothing: str) -> None:
    typer.echo(f"Records {first} to {last} fit together." if last >= first else nothing)


def _tell(findings: list[Finding], nothing: str) -> None:
    for finding in findings:
        typer.secho(f"{finding.kind.value}: {finding.text}", fg=typer.colors.RED)
    if not findings:
        typer.secho(nothing, fg=typer.colors.GREEN)


def _span(chain: Verification) -> dict[str, int]:
    return {"first_record": chain.first, "last_record": chain.last}


def _finding(finding: Finding) -> Record:
    return {"kind": finding.kind.value, "record": finding.sequence, "text": finding.text}


def _head(node: object) -> Record:
    from horologe.client import audit_compare, audit_file
    from horologe.v1.audit_service_pb2 import AuditCheckpoint

    assert isinstance(node, audit_compare.NodeChain)
    head = audit_file.plain(node.checkpoint or AuditCheckpoint())
    return {**head, "node": node.name, "error": node.error}


def _key(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise typer.BadParameter(f"{text!r} is no Ed25519 public key: 64 hexadecimal digits", param_hint="--key")
    return found


@contextmanager
def _written(file: Path | None) -> Iterator[TextIO]:
    """Under the file's name there is a whole export, or what was there before."""
    if file is None or str(file) == "-":
        yield sys.stdout
        return
    draft = file.with_name(f"{file.name}.part")
    try:
        with draft.open("w", encoding="utf-8") as out:
            yield out
        draft.replace(file)
    except OSError as error:
        raise _unusable(file, error) from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _read(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdin
        return
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield lines
    except OSError as error:
        raise _unusable(file, error) from error


def _text_of(file: Path) -> str:
    with _read(file) as lines:
        return lines.read()


def _unusable(file: Path, error: OSError) -> InvalidFile:
    return InvalidFile([Problem(str(file), 0, 0, error.strerror or str(error))])


def _write(out: TextIO, record: Record) -> None:
    out.write(json.dumps(record, ensure_ascii=False) + "\n")
