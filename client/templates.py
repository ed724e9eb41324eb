"""Templates in actions: `{{ due_time }}`, `{{ upstream.extract.result.rows }}`. Here they are rendered, right before an attempt,
and read for the secrets that they name.

Only text with `{{` in it is a template. The cluster has checked it when the job was created; what can still be missing is a part
of a result. A value that is no text is written as JSON; in SQL parameters and payloads, a text that is nothing but one expression
becomes what the expression is, so that numbers stay numbers. Jinja2's sandbox renders, with nothing in it but these values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from google.protobuf import json_format, struct_pb2
from jinja2 import StrictUndefined, TemplateError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from horologe.client.context import Context
from horologe.client.json_value import to_python
from horologe.v1 import job_pb2

RENDERED_BYTES_MAX = 1 << 20
"""Of one text. What comes out larger is a mistake: all results of a run together have half of it."""
_MARK = "{{"
_ONE_EXPRESSION = re.compile(r"\s*\{\{(?P<expression>(?:(?!\}\}|\{\{).)*)\}\}\s*", re.DOTALL)
Values = Mapping[str, Any]


class RenderError(Exception):
    """A template cannot be rendered; the message says which, and why, in one line."""


class _Secrets(dict[str, str]):
    """The cluster sends those that there are: one that a deleted job still names may be gone."""

    def __missing__(self, name: str) -> str:
        raise ValueError(f"there is no secret {name} any more")


def values_of(context: Context) -> Values:
    """What templates can name."""
    return {
        "due_time": context.due_time_text,
        "namespace": context.namespace,
        "job": {"name": context.job},
        "execution": {
            "id": context.execution,
            "attempt": context.attempt,
            "idempotency_key": context.idempotency_key,
        },
        "upstream": {
            name: {"result": one.result, "state": one.state, "execution": one.execution}
            for name, one in context.upstream.items()
        },
        "secrets": _Secrets(context.secrets),
    }


def render_action(action: job_pb2.Action, values: Values) -> job_pb2.Action:
    """The action with its templates rendered. RenderError names the first that cannot be."""
    rendered = job_pb2.Action()
    rendered.CopyFrom(action)
    match rendered.WhichOneof("kind"):
        case "shell":
            _render_shell(rendered.shell, values)
        case "http":
            rendered.http.url = _text("url", rendered.http.url, values)
            _render_map("headers", rendered.http.headers, values)
            rendered.http.body = _bytes("body", rendered.http.body, values)
        case "sql":
            for name, value in rendered.sql.parameters.fields.items():
                value.CopyFrom(_value(f"parameters.{name}", value, values))
        case "python" if rendered.python.HasField("payload"):
            rendered.python.payload.CopyFrom(_value("payload", rendered.python.payload, values))
    return rendered


def secret_names(action: job_pb2.Action) -> set[str]:
    """The ids of the secrets that its templates name. What is no template names none: the cluster says what is wrong with it."""
    fields = json_format.MessageToDict(action)
    binary = (action.shell.stdin, action.http.body)
    texts = [*_texts_in(fields), *(content.decode(errors="replace") for content in binary)]
    found = set()
    for text in texts:
        try:
            template = _environment().parse(text) if _MARK in text else nodes.Template([])
        except (TemplateError, ValueError, RecursionError):
            continue
        items = [item.arg for item in template.find_all(nodes.Getitem) if _is_secrets(item.node)]
        found |= {str(item.value) for item in items if isinstance(item, nodes.Const)}
        found |= {part.attr for part in template.find_all(nodes.Getattr) if _is_secrets(part.node)}
    return found


def _is_secrets(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "secrets"


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)


def _render_shell(shell: job_pb2.ShellAction, values: Values) -> None:
    # Every user of the machine can read the arguments of a process and where it is; and a script becomes a file.
    visible = {name: value for name, value in values.items() if name != "secrets"}
    shell.argv[:] = [_text(f"argv[{position}]", text, visible) for position, text in enumerate(shell.argv)]
    shell.script = _text("script", shell.script, visible)
    _render_map("env", shell.env, values)
    shell.stdin = _bytes("stdin", shell.stdin, values)
    shell.cwd = _text("cwd", shell.cwd, visible)


def _render_map(field: str, texts: Any, values: Values) -> None:
    for name in list(texts):
        texts[name] = _text(f"{field}.{name}", texts[name], values)


def _text(field: str, text: str, values: Values) -> str:
    if _MARK not in text:
        return text
    rendered: str = _attempt(field, lambda: _environment().from_string(text).render(values))
    if len(rendered) > RENDERED_BYTES_MAX:
        raise RenderError(f"{field}: the template makes a text of more than {RENDERED_BYTES_MAX} characters")
    return rendered


def _bytes(field: str, content: bytes, values: Values) -> bytes:
    """Bytes that are no text are left alone."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content
    return _text(field, text, values).encode()


def _value(field: str, value: struct_pb2.Value, values: Values) -> struct_pb2.Value:
    if _MARK not in str(value):
        return value
    return json_format.Parse(json.dumps(_inside(field, to_python(value), values)), struct_pb2.Value())


def _inside(field: str, value: Any, values: Values) -> Any:
    """The texts in a JSON value rendered, keys excepted."""
    if isinstance(value, dict):
        return {name: _inside(f"{field}.{name}", item, values) for name, item in value.items()}
    if isinstance(value, list):
        return [_inside(f"{field}[{position}]", item, values) for position, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    alone = _ONE_EXPRESSION.fullmatch(value)
    if alone is None:
        return _text(field, value, values)
    expression = alone["expression"]

    def evaluate() -> Any:
        found = _environment().compile_expression(expression, undefined_to_none=False)(**values)
        # To look at it is what makes one that is not there complain.
        return str(found) if isinstance(found, Undefined) else found

    return _attempt(field, evaluate)


def _attempt(field: str, render: Callable[[], Any]) -> Any:
    try:
        return render()
    except (TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise RenderError(f"{field}: the template cannot be rendered: {error}") from error


class _Environment(ImmutableSandboxedEnvironment):
    """In which `result.items` is what the result calls so, and not a method of Python's."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            if isinstance(obj, _Secrets):
                return obj[attribute]
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)


@cache
def _environment() -> _Environment:
    environment = _Environment(
        # As where templates are checked; the shell's ${#name} is no comment.
        comment_start_string="{{#",
        comment_end_string="#}}",
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        finalize=_as_text,
    )
    environment.globals.clear()
    return environment


def _as_text(value: Any) -> Any:
    """Values that are no text are written as JSON, not as Python writes them."""
    if isinstance(value, str | Undefined):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
