"""Templates in actions, checked when a job is created: do they parse, and is everything there that they name?

Only text with `{{` in it is a template. What it may say is small on purpose: the values below, their parts, and a few filters. No
template is rendered here; that is the worker's business, right before the attempt. Of secrets only the names are known here;
their values go to the worker alone (gateway.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache

from google.protobuf.struct_pb2 import Value
from jinja2 import Environment, TemplateSyntaxError, nodes

from horologe.node.names import ID_RULE, is_id, shorten
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
SECRETS = "secrets"
SECRET_FILTERS = frozenset({"string", "tojson", "trim"})
"""What a secret may go through: afterwards it still looks like itself, and is found and taken out of what the job prints."""
SECRETS_PER_JOB_MAX = 20
"""All of them travel with each assignment."""
_MARK = "{{"
_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Const,
    nodes.Filter, nodes.Keyword, nodes.Neg,
)  # fmt: skip
Upstream = Callable[[], Collection[str]]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a text stands in an action."""

    field: str
    text: str
    exposed: str = ""
    """Who sees what comes out there, and what to do instead; with a value, no secret may be named."""


_ARGUMENTS = "arguments are visible to every user of the worker's machine; use env or stdin"
_SCRIPT = "a script is written to a file on the worker's machine; put the secret into env, and read the variable in the script"
_FOLDER = "a folder's name is visible to every user of the worker's machine; use env or stdin"


def template_violations(action: job_pb2.Action, path: str, upstream: Upstream) -> Iterator[Violation]:
    """All that is wrong with the templates of an action. `upstream` names the jobs before it; asked only if one is mentioned."""
    if _MARK.encode() not in action.SerializeToString():
        return
    for place in _places(action):
        if _MARK in place.text:
            complaint = _complaint(place.text, upstream) or _exposure(place)
            if complaint:
                yield Violation(f"{path}.{place.field}", complaint)
    if _MARK in action.sql.statement and not _complaint(action.sql.statement, upstream):
        yield Violation(
            f"{path}.sql.statement",
            "templates are not rendered in a statement; write :name in it, and the template into the parameter of that name",
        )
    for position, text in enumerate(action.shell.interpreter):
        if _MARK in text and _names_in(text):
            yield Violation(
                f"{path}.shell.interpreter[{position}]", "templates are not rendered there; use env or stdin"
            )
    count = len(secret_names(action))
    if count > SECRETS_PER_JOB_MAX:
        yield Violation(path, f"it names {count} secrets; at most {SECRETS_PER_JOB_MAX} go with one job")


def secret_names(action: job_pb2.Action) -> list[str]:
    """The ids of the secrets that an action names, sorted, as its templates say once they are parsed."""
    content = action.SerializeToString()
    if _MARK.encode() not in content or SECRETS.encode() not in content:
        return []
    return sorted({name for place in _places(action) if _MARK in place.text for name in _names_in(place.text)})


def skeleton(text: str) -> str:
    """The text with something harmless in the place of its templates, for checks of its form."""
    while (start := text.find(_MARK)) >= 0 and (end := text.find("}}", start)) >= 0:
        text = text[:start] + "x" + text[end + 2 :]
    return text


def _places(action: job_pb2.Action) -> Iterator[_Place]:
    """Where templates are rendered, and what stands there."""
    shell, http = action.shell, action.http
    for position, text in enumerate(shell.argv):
        yield _Place(f"shell.argv[{position}]", text, _ARGUMENTS)
    yield from (_Place(f"shell.env[{name}]", text) for name, text in sorted(shell.env.items()))
    yield _Place("shell.script", shell.script, _SCRIPT)
    yield _Place("shell.cwd", shell.cwd, _FOLDER)
    yield _Place("shell.stdin", _text(shell.stdin))
    yield from (_Place(f"http.headers[{name}]", text) for name, text in sorted(http.headers.items()))
    yield from (_Place("http.url", http.url), _Place("http.body", _text(http.body)))
    for name, value in sorted(action.sql.parameters.fields.items()):
        yield from _inside(f"sql.parameters[{name}]", value)
    yield from _inside("python.payload", action.python.payload)


def _text(content: bytes) -> str:
    """Bytes that are no text are no template either."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return ""


def _inside(field: str, value: Value) -> Iterator[_Place]:
    match value.WhichOneof("kind"):
        case "string_value":
            yield _Place(field, value.string_value)
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


def _exposure(place: _Place) -> str:
    """What is wrong with the secrets in a text that is a good template; empty if nothing is."""
    names = _names_in(place.text) if place.exposed else []
    return f"secrets.{names[0]} may not stand here: {place.exposed}" if names else ""


def _names_in(text: str) -> list[str]:
    """The secrets that a text names, in their order; none if it is no template."""
    try:
        return [name for way in _ways_to_secrets(_environment().parse(text)) if len(way) > 1 and (name := way[1])]
    except (TemplateSyntaxError, ValueError, RecursionError):
        return []


def _ways_to_secrets(node: nodes.Node) -> Iterator[list[str | None]]:
    """Every place under a node where a secret is named."""
    if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem):
        way = _way(node)
        if way and way[0] == SECRETS:
            yield way
            return
    for child in node.iter_child_nodes():
        yield from _ways_to_secrets(child)


def _complaints(node: nodes.Node, upstream: Upstream) -> Iterator[str]:
    if isinstance(node, nodes.Sub):
        yield 'names with a hyphen are written as an item: upstream["load-data"].result, secrets["db-password"]'
    elif not isinstance(node, _ALLOWED):
        yield f"templates know values, their parts and filters, and no {type(node).__name__}; {WAY_OUT}"
    elif isinstance(node, nodes.Filter) and node.name not in FILTERS:
        yield f"there is no filter {shorten(node.name)}; there are {', '.join(sorted(FILTERS))}"
    elif isinstance(node, nodes.Filter) and node.name not in SECRET_FILTERS and any(_ways_to_secrets(node)):
        yield (
            f"a secret that went through {node.name} would not be recognised in what the job prints; with secrets go "
            f"{', '.join(sorted(SECRET_FILTERS))}"
        )
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
            if any(_ways_to_secrets(node.arg)):
                yield "a secret in brackets would be told by the error when there is no such item; compare it in the job itself"
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
    if way[0] == SECRETS:
        return _secret_complaint(way)
    for name in NAMES:
        parts = name.split(".")
        if way[: len(parts)] == parts:
            further = [part for part in way[len(parts) :] if part is not None and not part.lstrip("-").isdigit()]
            return f"{name} is a plain value, and has no {shorten(further[0])}" if further else ""
    said = ".".join(part or "?" for part in way[:2])
    return f"there is no {shorten(said)}; there are {', '.join(NAMES)}, upstream.JOB.result and secrets.NAME; {WAY_OUT}"


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


def _secret_complaint(way: list[str | None]) -> str:
    if len(way) < 2 or way[1] is None:
        return "secrets stands for many values; name one: secrets.NAME"
    if not is_id(way[1]):
        return f"{shorten(way[1])} is no secret's name; use {ID_RULE}"
    return f"secrets.{way[1]} goes as a whole; it has no parts" if len(way) > 2 else ""


@cache
def _environment() -> Environment:
    # As where templates are rendered; the shell's ${#name} is no comment.
    # Nothing here is HTML, and nothing is rendered.
    return Environment(comment_start_string="{{#", comment_end_string="#}}", autoescape=False)  # nosec B701
