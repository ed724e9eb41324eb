"""The graph of a workflow as a picture: nodes in columns by their layers, edges as curves between them.

Pure: numbers for a template that draws them. The layers come from the API; within a layer a node stands near those that it is
after, so that few edges cross (Sugiyama's method, some sweeps of the barycentre).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from horologe.v1 import workflow_service_pb2

NODE_WIDTH, NODE_HEIGHT = 170, 44
COLUMN_GAP, ROW_GAP, MARGIN = 70, 18, 12
NODES_DRAWN_MAX = 150
"""More are not to be read in one picture; then what is around one node is drawn."""
EDGES_DRAWN_MAX = 1_000
SWEEPS = 4
NEIGHBOUR_STEPS = 2


@dataclass(frozen=True, slots=True)
class Box:
    """One node, drawn."""

    x: float
    y: float
    node: workflow_service_pb2.WorkflowNode


@dataclass(frozen=True, slots=True)
class Curve:
    """One edge, drawn: the path of an SVG."""

    path: str
    upstream: str
    downstream: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it, in units of the view box."""

    width: float
    height: float
    boxes: list[Box]
    curves: list[Curve]
    omitted_count: int
    """Nodes that are not drawn."""
    omitted_edge_count: int
    """Edges between nodes that are."""


Edges = Sequence[workflow_service_pb2.WorkflowEdge]


def picture_of(workflow: workflow_service_pb2.Workflow, focus: str = "") -> Picture:
    """Of all nodes, or of those around one where there are too many."""
    nodes = list(workflow.nodes)
    if len(nodes) > NODES_DRAWN_MAX:
        near = around(focus or nodes[0].job, workflow.edges)
        nodes = [node for node in nodes if node.job in near][:NODES_DRAWN_MAX]
    drawn = {node.job for node in nodes}
    edges = [edge for edge in workflow.edges if edge.upstream in drawn and edge.downstream in drawn]
    columns = ordered(nodes, edges)
    height = MARGIN * 2 + max((len(column) for column in columns), default=0) * (NODE_HEIGHT + ROW_GAP) - ROW_GAP
    boxes: dict[str, Box] = {}
    for index, column in enumerate(columns):
        top = (height - len(column) * (NODE_HEIGHT + ROW_GAP) + ROW_GAP) / 2
        for row, node in enumerate(column):
            x = MARGIN + index * (NODE_WIDTH + COLUMN_GAP)
            boxes[node.job] = Box(x, round(top + row * (NODE_HEIGHT + ROW_GAP), 1), node)
    return Picture(
        width=MARGIN * 2 + len(columns) * (NODE_WIDTH + COLUMN_GAP) - COLUMN_GAP if columns else MARGIN * 2,
        height=max(height, MARGIN * 2),
        boxes=list(boxes.values()),
        curves=[_curve(boxes[edge.upstream], boxes[edge.downstream]) for edge in edges[:EDGES_DRAWN_MAX]],
        omitted_count=len(workflow.nodes) - len(nodes),
        omitted_edge_count=max(0, len(edges) - EDGES_DRAWN_MAX),
    )


def ordered(
    nodes: Iterable[workflow_service_pb2.WorkflowNode], edges: Edges
) -> list[list[workflow_service_pb2.WorkflowNode]]:
    """A column for each layer that there is, each from top to bottom."""
    by_layer: dict[int, list[workflow_service_pb2.WorkflowNode]] = defaultdict(list)
    for node in nodes:
        by_layer[node.layer].append(node)
    columns = [sorted(by_layer[layer], key=lambda node: node.job) for layer in sorted(by_layer)]
    above, below = _neighbours(edges)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        places = {node.job: row - len(column) / 2 for column in columns for row, node in enumerate(column)}
        beside = above if forward else below
        for column in columns if forward else reversed(columns):

            def middle(node: workflow_service_pb2.WorkflowNode) -> float:
                near = [places[job] for job in beside[node.job] if job in places]  # noqa: B023 - used at once
                return sum(near) / len(near) if near else places[node.job]  # noqa: B023

            column.sort(key=middle)
            for row, node in enumerate(column):
                places[node.job] = row - len(column) / 2
    return columns


def around(job: str, edges: Edges) -> frozenset[str]:
    """The job with what is a few steps before and after it."""
    above, below = _neighbours(edges)
    found = {job}
    for neighbours in (above, below):
        line = {job}
        for _ in range(NEIGHBOUR_STEPS):
            line = {near for one in line for near in neighbours[one]}
            found |= line
    return frozenset(found)


def _neighbours(edges: Edges) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What each is after, and what is after each."""
    above: dict[str, list[str]] = defaultdict(list)
    below: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        above[edge.downstream].append(edge.upstream)
        below[edge.upstream].append(edge.downstream)
    return above, below


def _curve(start: Box, end: Box) -> Curve:
    x1, y1 = start.x + NODE_WIDTH, start.y + NODE_HEIGHT / 2
    x2, y2 = end.x, end.y + NODE_HEIGHT / 2
    bend = COLUMN_GAP * 0.6
    path = f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
    return Curve(path, start.node.job, end.node.job)
