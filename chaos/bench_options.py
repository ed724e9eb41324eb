"""Options that several commands of `horologe bench` have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from horologe.client.cli.output import Format


def _has_a_folder(file: Path | None) -> Path | None:
    """Said before anything is measured, not after it."""
    if file is not None and not file.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {file.parent}; make it first")
    return file


Nodes = Annotated[int, typer.Option(min=1, max=9, help="Nodes of the cluster that is started.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")]
Slots = Annotated[int, typer.Option(min=1, max=10_000, help="Attempts that each worker takes at a time.")]
Address = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST:PORT", help="Measure this cluster instead of starting one; repeat for each node."),
]
Pid = Annotated[
    list[int] | None,
    typer.Option(metavar="PID", help="With --address: a node process on this machine to measure; repeat."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        exists=True,
        file_okay=False,
        writable=True,
        help="Make the scratch folder in here, to measure this disk; it is removed at the end.",
    ),
]
Secure = Annotated[
    bool, typer.Option("--secure", help="With TLS, certificates and rights; otherwise the cluster is an insecure one.")
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the report.")]
WarmUp = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Run so long before anything is measured.")]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save",
        metavar="FILE",
        callback=_has_a_folder,
        help="Keep the report here too, as JSON, for `horologe bench compare`.",
    ),
]
