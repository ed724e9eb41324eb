"""Runs of workflows: whether their nodes kept the order that their conditions ask for, and whether each ended as its nodes did.

Plain data in, a verdict out; a run is what the cluster says of it, starts and ends are what handlers saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from horologe.chaos.checker import Rule, Verdict
from horologe.chaos.evidence import Kind, Mark

BAD_STATES = frozenset({"FAILED", "DEAD", "CANCELLED"})


class Node(NamedTuple):
    """One job of a run."""

    execution: int
    state: str
    condition: str = "ALL_SUCCEEDED"
    upstream: tuple[str, ...] = ()
    reason: str = ""
    """Why it was skipped."""
    redriven: bool = False
    """It was dead, and driven again: those after it may have been decided before."""


class Run(NamedTuple):
    """One execution of a workflow."""

    root: int
    state: str
    unfinished: int
    """Nodes that are not over, by the cluster's own count."""
    nodes: Mapping[str, Node]
    """By the ids of their jobs."""


def check_runs(verdict: Verdict, runs: Iterable[Run], marks: Iterable[Mark]) -> None:
    """Notes every run that is not over, ended otherwise than its nodes, or had a node out of its order."""
    first_start_ns: dict[int, int] = {}
    last_end_ns: dict[int, int] = {}
    for mark in marks:
        if mark.kind == Kind.STARTED:
            earliest = first_start_ns.get(mark.execution, mark.monotonic_ns)
            first_start_ns[mark.execution] = min(earliest, mark.monotonic_ns)
        elif mark.kind == Kind.ENDED:
            last_end_ns[mark.execution] = max(last_end_ns.get(mark.execution, 0), mark.monotonic_ns)
    for run in runs:
        verdict.runs += 1
        _check_end(verdict, run)
        for job, node in run.nodes.items():
            _check_node(verdict, run, job, node)
            _check_order(verdict, run, job, node, first_start_ns, last_end_ns)


def _check_end(verdict: Verdict, run: Run) -> None:
    bad = {job: node.state for job, node in run.nodes.items() if node.state in BAD_STATES}
    if run.unfinished or run.state not in ("COMPLETED", "FAILED", "CANCELLED"):
        verdict.note(Rule.RUN_NOT_OVER, f"{run}")
    elif run.state != "CANCELLED" and (run.state == "FAILED") != bool(bad):
        verdict.note(Rule.RUN_ENDED_OTHERWISE, f"run {run.root} is {run.state}, and of its nodes ended badly: {bad}")


def _check_node(verdict: Verdict, run: Run, job: str, node: Node) -> None:
    states = [run.nodes[one].state for one in node.upstream if one in run.nodes]
    redriven = any(run.nodes[one].redriven for one in node.upstream if one in run.nodes)
    if not node.upstream or len(states) < len(node.upstream) or run.state == "CANCELLED" or redriven:
        return
    completed, bad = states.count("COMPLETED"), sum(state in BAD_STATES for state in states)
    is_met = {
        "ALL_SUCCEEDED": completed == len(states),
        "ALL_DONE": True,
        "ANY_SUCCEEDED": completed > 0,
        "ANY_FAILED": bad > 0,
    }[node.condition]
    if node.state == "SKIPPED" and node.reason != "upstream":
        # A pause, or a policy of its own.
        return
    if is_met == (node.state == "SKIPPED"):
        verdict.note(
            Rule.RUN_ENDED_OTHERWISE, f"run {run.root}: {job} is {node.state} after {states}, {node.condition}"
        )


def _check_order(
    verdict: Verdict,
    run: Run,
    job: str,
    node: Node,
    first_start_ns: Mapping[int, int],
    last_end_ns: Mapping[int, int],
) -> None:
    started_ns = first_start_ns.get(node.execution)
    if started_ns is None or node.condition != "ALL_SUCCEEDED":
        return
    for one in node.upstream:
        upstream = run.nodes.get(one)
        if upstream is None or upstream.state != "COMPLETED":
            verdict.note(Rule.RUN_OUT_OF_ORDER, f"run {run.root}: {job} started although {one} did not end well")
        elif started_ns < last_end_ns.get(upstream.execution, 0):
            verdict.note(Rule.RUN_OUT_OF_ORDER, f"run {run.root}: {job} started before {one} had ended")
