"""`horologe plan` and `horologe apply`: a folder of definitions, what it would change, and exactly that change.

What is shown is what is done: the plan carries the etags that it was made from, and the cluster refuses it as a whole when
one of its jobs has changed since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client import errors
from horologe.client.cli.failures import printable
from horologe.client.cli.job_sources import load_files, placed
from horologe.client.cli.output import print_data
from horologe.client.cli.session import Session, connected

if TYPE_CHECKING:
    from horologe.client.differences import Difference
    from horologe.client.jobfile import SourcedJob
    from horologe.v1.definition_service_pb2 import JobChange

__all__ = ["print_differences", "register"]

FileOption = Annotated[
    list[str],
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="YAML or JSON; a folder with its folders; - for standard input. Repeatable.",
    ),
]
PruneOption = Annotated[
    bool, typer.Option("--prune", help="Delete jobs of the same set that are in none of the files.")
]
SetOption = Annotated[
    str, typer.Option("--set", metavar="NAME", help="The apply set of all these jobs. Default: as the files say.")
]

_OUTCOMES = ("", "created", "updated", "unchanged", "deleted")
"""By the number of JobChange.Kind."""
_SIGNS = {"created": "+", "updated": "~", "unchanged": " ", "deleted": "-"}
_COLOURS = {"+": typer.colors.GREEN, "-": typer.colors.RED, "~": typer.colors.YELLOW}


@dataclass(frozen=True, slots=True)
class _Step:
    """One job of a plan, as it is shown."""

    name: str
    namespace: str
    outcome: str
    differences: Sequence[Difference]

    def record(self) -> dict[str, Any]:
        """For programs."""
        changes = [{"field": each.field, "before": each.before, "after": each.after} for each in self.differences]
        return {"name": self.name, "namespace": self.namespace, "outcome": self.outcome, "changes": changes}


def register(app: typer.Typer) -> None:
    """Adds both commands to the program."""
    app.command("plan")(plan)
    app.command("apply")(apply)


@connected
def plan(session: Session, file: FileOption, prune: PruneOption = False, set_: SetOption = "") -> None:
    """Show what `horologe apply` would do with these files. Changes nothing.

    For example: horologe plan -f jobs/ --prune --set shop
    """
    *_, steps = _plan(session, file, prune, set_)
    _show(session, steps)


@connected
def apply(
    session: Session,
    file: FileOption,
    prune: PruneOption = False,
    set_: SetOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
    ] = "",
) -> None:
    """Make the cluster hold the jobs of these files: show what that changes, ask, and do exactly that, all or nothing.

    For example: horologe apply -f jobs/ --prune --set shop --yes
    """
    sourced, changes, steps = _plan(session, file, prune, set_)
    if not session.is_data:
        _show(session, steps)
    if any(step.outcome != "unchanged" for step in steps):
        if not yes:
            _ask(session)
        placed(sourced, lambda: session.client.apply_plan(changes, request_id=request_id))
        if not session.is_data:
            typer.echo("Done.")
    if session.is_data:
        _show(session, steps)


def print_differences(differences: Iterable[Difference], indent: str = "    ") -> None:
    """Fields that differ, as lines with a sign, coloured on a terminal."""
    from horologe.client.differences import lines

    for difference in differences:
        for sign, text in lines(difference):
            typer.secho(f"{indent}{sign} {printable(text)}", fg=_COLOURS.get(sign))


def _plan(
    session: Session, files: Sequence[str], prune: bool, set_: str
) -> tuple[list[SourcedJob], list[JobChange], list[_Step]]:
    sourced = load_files(files, session.namespace, is_pruning=prune)
    if set_:
        _put_into_set(sourced, set_)
    jobs = [entry.job for entry in sourced]
    prune_set = _set_of(sourced) if prune else ""
    changes = placed(sourced, lambda: session.client.plan_jobs(jobs, prune_set=prune_set))
    padded = _padded(sourced, len(changes))
    return sourced, changes, [_step(change, entry) for change, entry in zip(changes, padded, strict=True)]


def _padded(sourced: Sequence[SourcedJob], length: int) -> list[SourcedJob | None]:
    """Deletions come last, and from no file."""
    return [*sourced, *[None] * (length - len(sourced))]


def _put_into_set(sourced: Sequence[SourcedJob], name: str) -> None:
    problems = [
        errors.Problem(entry.file, entry.line, 0, f"says apply_set {entry.job.apply_set!r}, and --set says {name!r}")
        for entry in sourced
        if entry.job.apply_set not in ("", name)
    ]
    if problems:
        raise errors.InvalidFile(problems)
    for entry in sourced:
        entry.job.apply_set = name


def _set_of(sourced: Sequence[SourcedJob]) -> str:
    """The set that all jobs name: only what was applied together is pruned together."""
    names = {entry.job.apply_set for entry in sourced}
    if len(names) != 1 or "" in names:
        raise typer.BadParameter(
            "say which set is pruned: --set NAME, or one `apply_set` in all jobs of the files", param_hint="--prune"
        )
    return names.pop()


def _step(change: JobChange, entry: SourcedJob | None) -> _Step:
    from horologe.client.differences import differences
    from horologe.client.names import job_id, namespace_id

    outcome = _OUTCOMES[change.kind]
    found: list[Difference] = []
    if outcome == "created" and entry is not None:
        # As it was written: the defaults are the same for every job.
        found = differences(None, entry.job)
    elif outcome == "updated":
        found = differences(change.before, change.after)
    name = change.before.name or change.after.name
    return _Step(job_id(name), namespace_id(name), outcome, found)


def _show(session: Session, steps: Sequence[_Step]) -> None:
    if session.is_data:
        print_data(session.output, [step.record() for step in steps])
        return
    for step in steps:
        if step.outcome != "unchanged":
            sign = _SIGNS[step.outcome]
            label = step.name if step.namespace == session.namespace else f"{step.namespace}/{step.name}"
            typer.secho(f"{sign} {label}  {step.outcome}", fg=_COLOURS[sign], bold=True)
            print_differences(step.differences)
    counts = Counter(step.outcome for step in steps)
    typer.echo(", ".join(f"{counts[outcome]} {outcome}" for outcome in _SIGNS))


def _ask(session: Session) -> None:
    if not session.is_interactive():
        raise errors.InvalidArgument("nobody is here to be asked: look at the plan, then apply it with --yes")
    if not typer.confirm("Do that?", err=True):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)
