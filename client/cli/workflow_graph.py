"""Drawing a workflow in a terminal: its jobs in layers, each with a sign for its state and what it is after.

Wide layers are folded into columns, so that fifty jobs fit a screen; for pictures of any other kind there is `-o json`.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from rich.columns import Columns
from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from horologe.client.cli.output import Record

__all__ = ["draw", "drawing"]

_SIGNS = {
    None: ("·", "dim"),
    "scheduled": ("◷", "cyan"),
    "queued": ("◌", "cyan"),
    "running": ("▶", "cyan"),
    "completed": ("✔", "green"),
    "failed": ("✘", "red"),
    "dead": ("✘", "red"),
    "cancelled": ("■", "yellow"),
    "skipped": ("↷", "yellow"),
}
_UPSTREAM_TOLD_MAX = 3
"""Names of what a job is after; more are counted."""


def draw(record: Record) -> None:
    """Prints the graph of `workflow_records.workflow`."""
    Console().print(drawing(record))


def drawing(record: Record) -> Group:
    """The layers from the first to the last, and a line with how many nodes stand how."""
    layers: dict[int, list[Record]] = defaultdict(list)
    for node in record["nodes"]:
        layers[node["layer"]].append(node)
    parts: list[Text | Padding] = []
    for layer in sorted(layers):
        parts.append(Text(f"{'│' if parts else ' '} {layer}", style="dim"))
        parts.append(Padding(Columns([_chip(node) for node in layers[layer]], padding=(0, 3)), (0, 0, 0, 4)))
    return Group(*parts, Text(""), _legend(record))


def _chip(node: Record) -> Text:
    sign, style = _SIGNS.get(node["state"], ("?", ""))
    text = Text.assemble((f"{sign} ", style), (node["job"], f"bold {style}"))
    if node["after"]:
        text.append(f" ← {_upstream(node)}", style="dim")
    return text


def _upstream(node: Record) -> str:
    after: list[str] = node["after"]
    told = ", ".join(after) if len(after) <= _UPSTREAM_TOLD_MAX else f"{after[0]} and {len(after) - 1} more"
    condition = node["condition"]
    return told if condition in (None, "all_succeeded") else f"{told} ({condition.replace('_', ' ')})"


def _legend(record: Record) -> Text:
    counts = Counter(node["state"] for node in record["nodes"])
    text = Text()
    for state in (state for state in _SIGNS if counts[state]):
        sign, style = _SIGNS[state]
        text.append(f"{sign} {counts[state]} {state or 'not decided'}   ", style=style)
    return text
