"""Templates in actions, checked when a job is created: do they parse, and is everything there that they name?

Only text with `{{` in it is a template. What it may say is small on purpose: the values below, their parts, and a few filters. No
template is rendered here; that is the worker's business, right before the attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cache

from google.protobuf.struct_pb2 import Value
from jinja2 import Environment, TemplateSyntaxError, nodes

from horologe.node.names import shorten
from horologe.node.schedule import Violation
from horologe.v1 import job_pb2

WAY_OUT = "where it is meant literally, write {% raw %}{{ ... }}{% endraw %}"
TEXT_BYTES_MAX = 64 << 10
"""Of a text that is a template. Longer texts with `{{` in them are data, which belongs into a file or a payload."""
FILTERS = frozenset({"default", "float", "int", "round", "string", "tojson"}) | frozenset(
    {"first", "join", "last", "length", "lower", "replace", "trim", "upper"}
)
NAMES = ("due_time", "namespace", "job.name", "execution.id", "execution.attempt", "execution.idempotency_key")
UPSTREAM_PARTS = ("result", "state", "execution")
_MARK = "{{"
_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Const,
    nodes.Filter, nodes.Keyword, nodes.Neg,
)  # fmt: skip
Upstream = Callable[[], Collection[str]]


def template_violations(action: job_pb2.Action, path: str, upstream: Upstream) -> Iterator[Violation]:
    """All that is wrong with the templates of an action. `upstream` names the jobs before it; asked only if one is mentioned."""
    if _MARK.encode() not in action.SerializeToString():
        return
    for field, text in _texts(action):
        if _MARK in text:
            complaint = _complaint(text, upstream)
            if complaint:
                yield Violation(f"{path}.{field}", complaint)
    if _MARK in action.sql.statement and not _complaint(action.sql.statement, upstream):
        yield Violation(
            f"{path}.sql.statement",
            "templates are not rendered in a statement; write :name in it, and the template into the parameter of that name",
        )


def skeleton(text: str) -> str:
    """The text with something harmless in the place of its templates, for checks of its form."""
    while (start := text.find(_MARK)) >= 0 and (end := text.find("}}", start)) >= 0:
        text = text[:start] + "x" + text[end + 2 :]
    return text


def _texts(action: job_pb2.Action) -> Iterator[tuple[str, str]]:
    """Where templates are rendered, and what stands there."""
    shell, http = action.shell, action.http
    yield from ((f"shell.argv[{position}]", text) for position, text in enumerate(shell.argv))
    yield from ((f"shell.env[{name}]", text) for name, text in sorted(shell.env.items()))
    yield from (("shell.script", shell.script), ("shell.cwd", shell.cwd), ("shell.stdin", _text(shell.stdin)))
    yield from ((f"http.headers[{name}]", text) for name, text in sorted(http.headers.items()))
    yield from (("http.url", http.url), ("http.body", _text(http.body)))
    for name, value in sorted(action.sql.parameters.fields.items()):
        yield from _inside(f"sql.parameters[{name}]", value)
    yield from _inside("python.payload", action.python.payload)


def _text(content: bytes) -> str:
    """Bytes that are no text are no template either."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return ""


def _inside(field: str, value: Value) -> Iterator[tuple[str, str]]:
    match value.WhichOneof("kind"):
        case "string_value":
            yield field, value.string_value
        case "list_value":
            for position, item in enumerate(value.list_value.values):
                yield from _inside(f"{field}[{position}]", item)
        case "struct_value":
            for name, item in sorted(value.struct_value.fields.items()):
                yield from _inside(f"{field}.{name}", item)


def _complaint(text: str, upstream: Upstream) -> str:
    """What is wrong with one text; empty if nothing is."""
    if len(text.encode()) > TEXT_BYTES_MAX:
        return f"a text with templates has at most {TEXT_BYTES_MAX} bytes; {WAY_OUT}"
    try:
        return next(_complaints(_environment().parse(text), upstream), "")
    except (TemplateSyntaxError, ValueError, RecursionError) as error:
        # A number of thousands of digits, or a chain of thousands of filters.
        return f"it has {{{{ and is no template ({error}); {WAY_OUT}"


def _complaints(node: nodes.Node, upstream: Upstream) -> Iterator[str]:
    if isinstance(node, nodes.Sub):
        yield 'names with a hyphen are written as an item: upstream["load-data"].result'
    elif not isinstance(node, _ALLOWED):
        yield f"templates know values, their parts and filters, and no {type(node).__name__}; {WAY_OUT}"
    elif isinstance(node, nodes.Filter) and node.name not in FILTERS:
        yield f"there is no filter {shorten(node.name)}; there are {', '.join(sorted(FILTERS))}"
    elif isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem) and (way := _way(node)):
        complaint = _name_complaint(way, upstream)
        if complaint:
            yield complaint
        yield from _complaints_of_items(node, upstream)
        return
    for child in node.iter_child_nodes():
        yield from _complaints(child, upstream)


def _complaints_of_items(node: nodes.Node, upstream: Upstream) -> Iterator[str]:
    """What stands in brackets may be a value of its own."""
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        if isinstance(node, nodes.Getitem):
            yield from _complaints(node.arg, upstream)
        node = node.node


def _way(node: nodes.Node) -> list[str | None]:
    """The name and the parts that lead to a value, None for one that only the run knows; empty if it begins with no name."""
    way: list[str | None] = []
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        if isinstance(node, nodes.Getattr):
            way.append(node.attr)
        else:
            way.append(str(node.arg.value) if isinstance(node.arg, nodes.Const) else None)
        node = node.node
    if not isinstance(node, nodes.Name):
        return []
    return [node.name, *reversed(way)]


def _name_complaint(way: list[str | None], upstream: Upstream) -> str:
    if way[0] == "upstream":
        return _upstream_complaint(way, upstream)
    for name in NAMES:
        parts = name.split(".")
        if way[: len(parts)] == parts:
            further = [part for part in way[len(parts) :] if part is not None and not part.lstrip("-").isdigit()]
            return f"{name} is a plain value, and has no {shorten(further[0])}" if further else ""
    said = ".".join(part or "?" for part in way[:2])
    return f"there is no {shorten(said)}; there are {', '.join(NAMES)}, and upstream.JOB.result; {WAY_OUT}"


def _upstream_complaint(way: list[str | None], upstream: Upstream) -> str:
    before = sorted(upstream())
    if len(way) < 2 or way[1] is None:
        return "upstream stands for many jobs; name one: upstream.JOB.result"
    if way[1] not in before:
        known = f"this job is after {', '.join(before[:20])}" if before else "this job is after no other"
        return f"{shorten(way[1])} is not upstream of this job: {known}"
    if len(way) < 3 or way[2] not in UPSTREAM_PARTS:
        return f"upstream.{way[1]} has {', '.join(UPSTREAM_PARTS)}; name one of them"
    return ""


@cache
def _environment() -> Environment:
    # As where templates are rendered; the shell's ${#name} is no comment.
    return Environment(comment_start_string="{{#", comment_end_string="#}}", autoescape=False)
