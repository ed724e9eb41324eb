"""The pages of docs/ that are made from the code: the command line, the configuration, the API, and tables in other pages.

`make docs-reference` writes them; tests/unit/test_docs.py fails when they are out of date.
"""

from __future__ import annotations

import ast
import html
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import typer
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, ServiceDescriptor

from horologe.client.cli import worker_config
from horologe.client.cli.main import build
from horologe.node.config import describe_options
from horologe.node.http.comments import comments
from horologe.node.http.routes import ROUTES
from horologe.node.services import SERVICES
from support.pages import marked, page_text

COMMON_SHARE = 40
"""An option that so many commands have, word for word, is told once."""
MADE = "<!-- Made from the code by `make docs-reference`. -->"


def reference_pages() -> dict[str, str]:
    """What each page is to hold, by its path."""
    return {
        "docs/reference-cli.md": command_line(),
        "docs/reference-configuration.md": configuration(),
        "docs/reference-api.md": api(),
        "docs/sizing.md": within("docs/sizing.md", "sizes", sizes()),
    }


def within(name: str, mark: str, made: str) -> str:
    """A page with another text between its marks."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    text = page_text(name)
    return text.replace(f"{begin}{marked(name, mark)}{end}", f"{begin}\n{made}{end}")


def cell(text: str) -> str:
    """A text in a cell of a table: in one line, and nothing in it is Markdown but code spans."""
    parts = " ".join(text.split()).split("`")
    for position, part in enumerate(parts):
        if position % 2:
            parts[position] = code(part)
        else:
            parts[position] = re.sub(r"([*\[\]|])", r"\\\1", part.replace("<", "&lt;"))
    return "".join(parts)


def code(text: str) -> str:
    """Code in a cell; readers of Markdown do not agree on a bar in it."""
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def page(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


# The command line


@cache
def commands() -> list[tuple[str, Any]]:
    """All commands by their whole names, in the order of the program's own help."""
    return list(_leaves(typer.main.get_command(build()), "horologe"))


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    subcommands = getattr(command, "commands", None)
    # Some groups do something of their own.
    if not subcommands or command.invoke_without_command:
        yield path, command
    for name, subcommand in (subcommands or {}).items():
        if not subcommand.hidden:
            yield from _leaves(subcommand, f"{path} {name}")


def options_of(command: Any) -> list[tuple[str, str]]:
    """Options with their help, as cells."""
    context = typer.Context(command)
    found = []
    for parameter in command.params:
        if parameter.param_type_name == "argument" or parameter.hidden:
            continue
        names, text = parameter.get_help_record(context)
        found.append((code(names), cell(text)))
    return found


def command_line() -> str:
    return page(_command_line())


def _command_line() -> Iterator[str]:
    uses = Counter(option for _, command in commands() for option in options_of(command))
    common = [option for option, count in uses.items() if count >= COMMON_SHARE]
    yield from (MADE, "", "# Command line", "")
    yield f"All {len(commands())} commands of `horologe`. `--help` behind a command shows the same in the terminal."
    yield from ("", "## Options of most commands", "")
    yield from table(("Option", ""), common)
    group = ""
    for path, command in commands():
        if (heading := path.split()[1]) != group:
            group = heading
            yield from (f"## {group}", "")
        yield from (f"### {path}", "")
        yield from _told(command.help or command.short_help or "")
        taken = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        usage = " ".join(_argument(parameter) for parameter in taken)
        yield from (f"`{path} [OPTIONS] {usage}".rstrip() + "`", "")
        own = [option for option in options_of(command) if option not in common]
        own = [
            (f"`{_argument_name(parameter)}`", cell(parameter.help or "")) for parameter in taken if parameter.help
        ] + own
        if own:
            yield from table(("Argument or option", ""), own)


def _told(text: str) -> Iterator[str]:
    """Paragraphs of a help text."""
    for paragraph in inspect.cleandoc(text).replace("\b", "").split("\n\n"):
        if paragraph.strip():
            example, _, line = paragraph.partition("For example:")
            yield f"For example: `{' '.join(line.split())}`" if line and not example.strip() else cell(paragraph)
            yield ""


def _argument_name(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).upper()


def _argument(parameter: Any) -> str:
    name = _argument_name(parameter) + ("..." if parameter.nargs < 0 else "")
    return name if parameter.required else f"[{name}]"


# Sizes

EXECUTIONS_A_DAY = (100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000)
CORE_SECONDS = 0.8 / 612
"""Of all three nodes for one execution: README.md, `horologe bench steady --rate 612`."""
HISTORY_BYTES = 500
"""Of one execution on each node's disk: docs/sizing.md says how it was measured."""


def sizes() -> str:
    """What follows from two measured figures, by multiplication."""
    head = (
        "Executions a day",
        "A second, on average",
        "Cores of all three nodes",
        "Disk of each node for a day",
        "For 30 days",
    )
    return page(table(head, (_size(a_day) for a_day in EXECUTIONS_A_DAY)))


def _size(a_day: int) -> tuple[str, ...]:
    a_second = a_day / 86_400
    gigabytes = a_day * HISTORY_BYTES / 1e9
    return (
        f"{a_day:,}",
        f"{a_second:,.0f}",
        f"{a_second * CORE_SECONDS:.2f}",
        f"{gigabytes:,.2f} GB",
        f"{30 * gigabytes:,.1f} GB",
    )


# The configuration


def configuration() -> str:
    return page(_configuration())


def _configuration() -> Iterator[str]:
    yield from (MADE, "", "# Configuration", "")
    yield "## Of a node"
    yield from (
        "",
        "A value comes from a flag (`--pulse-ms 50`), else from the environment, else from the TOML file, else by default.",
        "",
    )
    yield from table(
        ("Option", "Variable", "Default", "Meaning"),
        (
            (f"`{option.name}`", f"`{option.environment}`", f"`{option.default}`", cell(option.description))
            for option in describe_options()
        ),
    )
    yield from (
        "## Of a worker",
        "",
        "The file that `horologe worker run --config FILE` reads. Flags of `horologe worker run` count before it.",
        "",
    )
    for title, prefix, model in (
        ("", "", worker_config.WorkerConfig),
        ("### [shell]", "shell.", worker_config.ShellSettings),
        ("### [http]", "http.", worker_config.HttpSettings),
        ("### [sql]", "sql.", worker_config.SqlSettings),
    ):
        yield from (title, "") if title else ()
        yield from table(("Option", "Default", "Meaning"), _settings(model, prefix))


def _settings(model: type[Any], prefix: str) -> Iterator[tuple[str, ...]]:
    """Options with their defaults and the texts below them."""
    [definition] = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in pairwise(definition.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                default = json.dumps(model.model_fields[name].default)
                yield f"`{prefix}{name}`", "none" if default == "null" else f"`{default}`", cell(text)


# The API


def api() -> str:
    return page(_api())


def services() -> list[ServiceDescriptor]:
    pool = descriptor_pool.Default()
    return [pool.FindServiceByName(name) for name in sorted(SERVICES)]


def _api() -> Iterator[str]:
    yield from (MADE, "", "# API", "")
    yield "gRPC, package `horologe.v1`, and the same [over HTTP](http-api.md), whose path stands beside each method."
    yield "Who may call what is in [access](access.md)."
    yield ""
    for service in services():
        yield from (f"## {service.name}", "")
        yield from _told(comments().get(service.full_name, ""))
        for method in service.methods:
            route = ROUTES.get(f"{service.name}.{method.name}")
            places = [f"`{route.verb} {template.text}`" for template in route.templates] if route else []
            yield from (f"### {service.name}.{method.name}", "")
            yield from _told(comments().get(method.full_name, ""))
            streams = "stream of " if method.server_streaming else ""
            yield f"`{method.input_type.name}` → {streams}`{method.output_type.name}`; " + (
                " or ".join(places) or "over gRPC only"
            )
            yield ""
    yield from ("## Messages", "")
    for message in messages():
        yield from _message(message)
    yield from ("## Enumerations", "")
    for enum in enums():
        yield from (f"### {_name(enum)}", "")
        yield from _told(comments().get(enum.full_name, ""))
        yield from table(
            ("Value", ""),
            ((f"`{value.name}`", cell(comments().get(f"{enum.full_name}.{value.name}", ""))) for value in enum.values),
        )


def _message(message: Descriptor) -> Iterator[str]:
    yield from (f"### {_name(message)}", "")
    yield from _told(comments().get(message.full_name, ""))
    rows = ((f"`{field.name}`", _type(field), cell(comments().get(field.full_name, ""))) for field in message.fields)
    if message.fields:
        yield from table(("Field", "Type", ""), rows)


def _name(described: Any) -> str:
    return str(described.full_name.removeprefix("horologe.v1."))


def _type(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return "map of " + _type(field.message_type.fields_by_name["value"])
    kind = field.message_type or field.enum_type
    names = {
        value: name.removeprefix("TYPE_").lower()
        for name, value in vars(FieldDescriptor).items()
        if name.startswith("TYPE_")
    }
    name = names[field.type] if kind is None else _name(kind)
    return ("repeated " if field.is_repeated else "") + f"`{name}`"


@cache
def messages() -> list[Descriptor]:
    """All messages of our own that methods take and answer, and what is in them."""
    found: dict[str, Descriptor] = {}
    left = [
        message
        for service in services()
        for method in service.methods
        for message in (method.input_type, method.output_type)
    ]
    while left:
        message = left.pop()
        if message.full_name in found or not message.full_name.startswith("horologe.v1."):
            continue
        found[message.full_name] = message
        left += [field.message_type for field in message.fields if field.message_type is not None]
    return [message for _, message in sorted(found.items()) if not message.GetOptions().map_entry]


def enums() -> list[EnumDescriptor]:
    found = {
        field.enum_type.full_name: field.enum_type
        for message in messages()
        for field in message.fields
        if field.enum_type
    }
    return [enum for name, enum in sorted(found.items()) if name.startswith("horologe.v1.")]
