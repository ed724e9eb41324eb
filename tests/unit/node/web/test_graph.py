"""The picture of a workflow's graph."""

from __future__ import annotations

from itertools import combinations, pairwise

from horologe.node.web.graph import (
    EDGES_DRAWN_MAX,
    NODE_HEIGHT,
    NODE_WIDTH,
    NODES_DRAWN_MAX,
    around,
    ordered,
    picture_of,
)
from horologe.v1 import workflow_service_pb2


def workflow(layers: list[list[str]], edges: list[tuple[str, str]]) -> workflow_service_pb2.Workflow:
    made = workflow_service_pb2.Workflow()
    for layer, jobs in enumerate(layers, 1):
        for job in jobs:
            made.nodes.add(job=job, layer=layer)
    for upstream, downstream in edges:
        made.edges.add(upstream=upstream, downstream=downstream)
    return made


def crossings(columns: list[list[str]], edges: list[tuple[str, str]]) -> int:
    row = {job: number for column in columns for number, job in enumerate(column)}
    return sum((row[a] - row[c]) * (row[b] - row[d]) < 0 for (a, b), (c, d) in combinations(edges, 2))


def test_layers_are_columns_and_boxes_do_not_overlap() -> None:
    made = workflow([["a"], ["b", "c", "d"], ["e"]], [("a", "b"), ("a", "c"), ("b", "e"), ("c", "e"), ("d", "e")])
    picture = picture_of(made)
    x = {box.node.job: box.x for box in picture.boxes}
    assert x["a"] < x["b"] == x["c"] == x["d"] < x["e"]
    for one, other in combinations(picture.boxes, 2):
        assert abs(one.x - other.x) >= NODE_WIDTH or abs(one.y - other.y) >= NODE_HEIGHT
    for box in picture.boxes:
        assert 0 <= box.x <= picture.width - NODE_WIDTH
        assert 0 <= box.y <= picture.height - NODE_HEIGHT
    assert {(curve.upstream, curve.downstream) for curve in picture.curves} == {
        (edge.upstream, edge.downstream) for edge in made.edges
    }


def test_few_edges_cross() -> None:
    edges = [("a", "z"), ("b", "y"), ("c", "x")]
    made = workflow([["a", "b", "c"], ["x", "y", "z"]], edges)
    columns = [[node.job for node in column] for column in ordered(made.nodes, made.edges)]
    assert crossings(columns, edges) == 0


def test_a_large_graph_is_drawn_around_one_node() -> None:
    jobs = [f"j{number:04}" for number in range(NODES_DRAWN_MAX + 100)]
    edges = list(pairwise(jobs))
    made = workflow([[job] for job in jobs], edges)
    picture = picture_of(made, "j0100")
    assert [box.node.job for box in picture.boxes] == ["j0098", "j0099", "j0100", "j0101", "j0102"]
    assert picture.omitted_count == len(jobs) - 5
    assert [box.node.job for box in picture_of(made).boxes] == ["j0000", "j0001", "j0002"]


def test_an_empty_workflow() -> None:
    picture = picture_of(workflow([], []))
    assert (picture.boxes, picture.curves) == ([], [])
    assert around("a", []) == {"a"}


def test_too_many_edges_are_left_out() -> None:
    layers = [[f"a{number:02}" for number in range(60)], [f"b{number:02}" for number in range(60)]]
    picture = picture_of(workflow(layers, [(one, other) for one in layers[0] for other in layers[1]]))
    assert (len(picture.curves), picture.omitted_edge_count) == (EDGES_DRAWN_MAX, 3_600 - EDGES_DRAWN_MAX)
