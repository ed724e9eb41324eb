"""`horologe forecast`: the load of the hours ahead, its spikes and who causes them, and how to spread them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.output import Column, print_data, print_table
from horologe.client.cli.session import Session, YesOption, connected

if TYPE_CHECKING:
    from horologe.v1.forecast_service_pb2 import GetForecastResponse, ProposedChange, ProposeSpreadResponse

__all__ = ["forecast"]

CHANGES_MAX = 10_000
SPIKES_MAX = 100
_SPIKES = (
    Column("START TIME", "start_time"),
    Column("STARTS", "start_count"),
    Column("SCHEDULE", "schedule"),
    Column("JOBS", "job_count"),
    Column("OF THEM", "cause_count"),
    Column("SUCH AS", "jobs"),
)
_CHANGES = (
    Column("JOB", "job"),
    Column("BEFORE", "before"),
    Column("AFTER", "after"),
    Column("OUTCOME", "outcome"),
)


@connected
def forecast(
    session: Session,
    window: Annotated[str, typer.Option("--window", metavar="DURATION", help="How far ahead, up to 24h.")] = "24h",
    step: Annotated[
        str, typer.Option("--step", metavar="DURATION", help="How much time one figure stands for: 1m to 1h.")
    ] = "1m",
    spikes: Annotated[
        int, typer.Option("--spikes", metavar="N", min=1, max=SPIKES_MAX, help="How many spikes to show.")
    ] = 5,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    spread: Annotated[
        bool, typer.Option("--spread", help="Propose other schedules for jobs that start together with many others.")
    ] = False,
    changes: Annotated[
        int, typer.Option("--changes", metavar="N", min=1, max=CHANGES_MAX, help="With --spread: so many at most.")
    ] = 500,
    apply: Annotated[bool, typer.Option("--apply", help="With --spread: change the jobs.")] = False,
    yes: YesOption = False,
) -> None:
    """Show how many starts are planned for the time ahead, when they pile up, and who causes that.

    For example: horologe forecast --window 6h --spread
    """
    if apply and not spread:
        raise typer.BadParameter("it goes with --spread", param_hint="--apply")
    ahead: dict[str, Any] = {
        "parent": "-" if all_namespaces else "",
        "window": _duration(window, "--window"),
        "step": _duration(step, "--step"),
    }
    if spread:
        proposal = session.client.propose_spread(**ahead, change_count=changes)
        outcomes = _apply(session, proposal, yes) if apply else {}
        _print_proposal(session, proposal, outcomes)
        if any(outcome != "changed" for outcome in outcomes.values()):
            raise typer.Exit(1)
        return
    _print_forecast(session, session.client.get_forecast(**ahead, spike_count=spikes))


def _print_forecast(session: Session, found: GetForecastResponse) -> None:
    from horologe.client import times, words
    from horologe.v1.forecast_service_pb2 import LeftOut

    spikes: list[dict[str, Any]] = [
        {
            "start_time": times.render(spike.start_time),
            "start_count": spike.start_count,
            "causes": [
                {
                    "schedule": cause.schedule,
                    "job_count": cause.job_count,
                    "start_count": cause.start_count,
                    "jobs": list(cause.jobs),
                }
                for cause in spike.causes
            ],
        }
        for spike in found.spikes
    ]
    left_out = {words.render(LeftOut.Reason, each.reason): each.job_count for each in found.left_out}
    if session.is_data:
        record = {
            "start_time": times.render(found.start_time),
            "step_seconds": found.step.seconds,
            "start_counts": list(found.start_counts),
            "total_count": found.total_count,
            "peak_count": found.peak_count,
            "job_count": found.job_count,
            "spikes": spikes,
            "spike_total": found.spike_total,
            "left_out": left_out,
            "compute_time": times.render(found.compute_time),
        }
        print_data(session.output, record)
        return
    typer.echo(f"{found.total_count} starts of {found.job_count} jobs, at most {found.peak_count} in one step")
    for reason, count in left_out.items():
        typer.echo(f"not counted, or not in full: {count} ({reason})")
    rows = [
        _row(spike, cause, is_first=position == 0)
        for spike in spikes
        for position, cause in enumerate(spike["causes"][:3])
    ]
    typer.echo()
    print_table(session.output, rows, _SPIKES, "No step has twice the average or more.")
    if found.spike_total > len(spikes):
        typer.echo(f"and {found.spike_total - len(spikes)} more spikes")


def _row(spike: dict[str, Any], cause: dict[str, Any], *, is_first: bool) -> dict[str, Any]:
    """A cause; the spike stands in the row of its first one."""
    return {
        "start_time": spike["start_time"] if is_first else "",
        "start_count": spike["start_count"] if is_first else "",
        "schedule": cause["schedule"],
        "job_count": cause["job_count"],
        "cause_count": cause["start_count"],
        "jobs": ", ".join(name.rpartition("/")[2] for name in cause["jobs"][:3]),
    }


def _print_proposal(session: Session, proposal: ProposeSpreadResponse, outcomes: dict[str, str]) -> None:
    rows = [
        {
            "job": change.job,
            "before": change.before,
            "after": change.after,
            "outcome": outcomes.get(change.job) or "proposed",
        }
        for change in proposal.changes
    ]
    if session.is_data:
        record = {
            "peak_before": proposal.peak_before,
            "peak_after": proposal.peak_after,
            "more_count": proposal.more_count,
            "changes": rows,
        }
        print_data(session.output, record)
        return
    print_table(session.output, rows, _CHANGES, "No other schedules would make the load more even.")
    if rows:
        typer.echo(
            f"at most {proposal.peak_before} starts in one step as it is, {proposal.peak_after} with these changes"
        )
    if proposal.more_count:
        typer.echo(f"{proposal.more_count} more jobs could be spread; see --changes")


def _apply(session: Session, proposal: ProposeSpreadResponse, yes: bool) -> dict[str, str]:
    """What became of each job that was to be changed."""
    question = f"Change the schedules of {len(proposal.changes)} jobs?"
    if proposal.changes and not yes and session.is_interactive() and not typer.confirm(question, err=True):
        raise typer.Exit(1)
    return {change.job: _change(session, change) for change in proposal.changes}


def _change(session: Session, change: ProposedChange) -> str:
    """Each by itself: one that is refused holds up no other."""
    from horologe.client.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
    from horologe.v1.job_pb2 import Job

    job = Job(name=change.job, etag=change.etag, schedules=change.schedules)
    if change.HasField("jitter"):
        job.jitter.CopyFrom(change.jitter)
    try:
        session.client.update_job(job, update_mask=["schedules" if change.schedules else "jitter"])
    except (Conflict, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied) as error:
        return str(error)
    return "changed"


def _duration(text: str, option: str) -> timedelta:
    from horologe.client import durations

    try:
        return durations.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
