"""YAML and JSON text as a tree in which every value knows its line and column, readers that collect problems, and YAML again.

Nothing about jobs is known here; see `jobfile.py`. JSON is read as YAML, whose subset it nearly is, after its own parser
has checked it. Values keep their text as written, so that a date or a number in the wrong place can be quoted back.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import yaml

from horologe.client import words
from horologe.client.errors import InvalidFile, Problem

__all__ = ["DEPTH_MAX", "VALUES_MAX", "Mapped", "Reader", "dump", "is_sound", "parse", "read_text"]

VALUES_MAX = 1_000_000
"""Values in one file, aliases counted as often as they are used: a few lines of aliases can stand for billions."""

DEPTH_MAX = 64
"""Levels of nesting: far above what a person writes, far below what would exhaust the stack."""

PROBLEMS_MAX = 100
"""Problems reported at once; more than that is one mistake repeated."""

Value = TypeVar("Value")
Mapped = dict[str, tuple[yaml.Node, yaml.Node]]
"""Key to (node of the key, node of the value)."""

_EXPONENT = re.compile(r"[+-]?\d+(\.\d+)?[eE][+-]?\d+", re.ASCII)
# Ends of lines to YAML, and to nobody else: single quotes do not keep them.
_ODD_BREAK = re.compile("[\r\x85\u2028\u2029]")
# A script: lines that begin with something, at least two.
_LINES = re.compile(r"\S[^\n]*\n(.*\n)*.*")
_TAGS = {
    "tag:yaml.org,2002:str": "text",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:seq": "a list",
    "tag:yaml.org,2002:map": "a mapping",
}


class Reader:
    """Reads values of one file and remembers everything that is wrong with it, by place."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._values_left = VALUES_MAX

    def problem(self, node: yaml.Node, text: str) -> None:
        """Something is wrong at this node."""
        self._add(node.start_mark.line + 1, node.start_mark.column + 1, text)

    def _add(self, line: int, column: int, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(self.file, line, column, text))

    def finish(self) -> None:
        """InvalidFile with all problems, in the order of the file, if there are any."""
        if self.problems:
            raise InvalidFile(sorted(self.problems, key=lambda problem: (problem.line, problem.column)))

    def fail(self, line: int, column: int, text: str) -> InvalidFile:
        """The error for a file that cannot be read any further."""
        self._add(line, column, text)
        return InvalidFile(self.problems)

    def mapping(self, node: yaml.Node, path: str, example: str = "") -> Mapped | None:
        """The entries of a mapping with text keys; keys that come twice are problems. `example`: for who wrote something else."""
        if not isinstance(node, yaml.MappingNode):
            hint = f"; write it like {example}" if example else ""
            self.problem(node, f"{path} must be a mapping, not {_kind(node)}{hint}")
            return None
        entries: Mapped = {}
        for key, value in node.value:
            self._count(key)
            if not isinstance(key, yaml.ScalarNode):
                self.problem(key, f"{path}: a key must be text, not {_kind(key)}")
            elif key.tag == "tag:yaml.org,2002:merge":
                self.problem(key, f"{path}: merge keys (<<) are not read; repeat the entries")
            elif not is_sound(key.value):
                self.problem(key, f"{path}: a key contains a NUL character or half of a surrogate pair")
            elif key.value in entries:
                first = entries[key.value][0].start_mark.line + 1
                self.problem(key, f"{path}: key {key.value!r} is here twice (first in line {first})")
            else:
                entries[key.value] = (key, value)
        return entries

    def unknown(self, key: yaml.Node, path: str, name: str, allowed: Iterable[str]) -> None:
        """A key that has no meaning here."""
        names = list(allowed)
        hint = words.suggest(name, names) or f"; allowed: {', '.join(names)}"
        self.problem(key, f"{path}: unknown key {name!r}{hint}")

    def sequence(self, node: yaml.Node, path: str) -> list[yaml.Node]:
        """The items of a list."""
        if not isinstance(node, yaml.SequenceNode):
            self.problem(node, f"{path} must be a list, not {_kind(node)}")
            return []
        for item in node.value:
            self._count(item)
        return list(node.value)

    def text(self, node: yaml.Node, path: str) -> str | None:
        """A text. Numbers, dates and truth values must be quoted, so that nothing is reinterpreted silently."""
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            value: str = node.value
            if not is_sound(value):
                self.problem(node, f"{path} contains a NUL character or half of a surrogate pair")
                return None
            return value
        hint = ""
        if isinstance(node, yaml.ScalarNode) and node.tag in _TAGS and node.value:
            hint = f'; put it in quotes: "{node.value}"'
        self.problem(node, f"{path} must be text, not {_kind(node)}{hint}")
        return None

    def raw(self, node: yaml.Node, path: str) -> str | None:
        """A scalar exactly as it was written, whatever YAML takes it for: dates, durations."""
        if isinstance(node, yaml.ScalarNode) and node.tag != "tag:yaml.org,2002:null":
            value: str = node.value
            return value
        self.problem(node, f"{path} must be text, not {_kind(node)}")
        return None

    def boolean(self, node: yaml.Node, path: str) -> bool | None:
        """True or false."""
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:bool":
            lowered: str = node.value.lower()
            return lowered in ("true", "yes", "on")
        self.problem(node, f"{path} must be true or false, not {_kind(node)}")
        return None

    def integer(self, node: yaml.Node, path: str, low: int, high: int) -> int | None:
        """A whole number within bounds."""
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int":
            # Only plain decimals: YAML also takes 017, 1_000 and 12:30 for numbers.
            if re.fullmatch(r"[+-]?(0|[1-9]\d{0,18})", node.value, re.ASCII) is None:
                self.problem(node, f"{path} must be a decimal number, not {node.value!r}")
                return None
            number = int(node.value)
            if not low <= number <= high:
                self.problem(node, f"{path} must be from {low:,} to {high:,}, not {number}")
                return None
            return number
        self.problem(node, f"{path} must be a whole number, not {_kind(node)}")
        return None

    def number(self, node: yaml.Node, path: str, low: float, high: float) -> float | None:
        """A number within bounds."""
        if isinstance(node, yaml.ScalarNode):
            value = _number(node)
            if value is not None and low <= value <= high:
                return float(value)
            if value is not None:
                self.problem(node, f"{path} must be from {low:g} to {high:g}, not {node.value}")
                return None
        self.problem(node, f"{path} must be a number, not {_kind(node)}")
        return None

    def converted(self, node: yaml.Node, path: str, text: str | None, convert: Callable[[str], Value]) -> Value | None:
        """`convert(text)`, whose ValueError becomes a problem at this node."""
        if text is None:
            return None
        try:
            return convert(text)
        except ValueError as error:
            self.problem(node, f"{path}: {error}")
            return None

    def json(self, node: yaml.Node, path: str, depth: int = 0) -> object:
        """Any JSON value. Dates stay text as they were written."""
        self._count(node)
        if depth > DEPTH_MAX:
            raise self.fail(node.start_mark.line + 1, node.start_mark.column + 1, f"{path} is nested too deeply")
        if isinstance(node, yaml.MappingNode):
            entries = self.mapping(node, path) or {}
            return {name: self.json(value, f"{path}.{name}", depth + 1) for name, (_, value) in entries.items()}
        if isinstance(node, yaml.SequenceNode):
            return [self.json(item, f"{path}[{position}]", depth + 1) for position, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: str) -> object:
        kind = node.tag.rpartition(":")[2]
        if kind == "null":
            return None
        if kind == "bool":
            return self.boolean(node, path)
        if kind in ("int", "float") or _is_exponent(node):
            value = _number(node)
            if value is None:
                self.problem(node, f"{path}: {node.value!r} is not a JSON number; put it in quotes if text is meant")
            return value
        if kind in ("str", "timestamp"):
            return node.value
        self.problem(node, f"{path}: a value tagged {node.tag!r} is not JSON")
        return None

    def _count(self, node: yaml.Node) -> None:
        self._values_left -= 1
        if self._values_left < 0:
            raise self.fail(
                node.start_mark.line + 1, node.start_mark.column + 1, f"more than {VALUES_MAX:,} values in one file"
            )


def read_text(path: str | Path) -> str:
    """What a file says. Raises InvalidFile for one that cannot be read, or is no text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidFile([Problem(str(path), 1, 0, f"is not UTF-8 text (byte {error.start})")]) from error
    except OSError as error:
        raise InvalidFile([Problem(str(path), 0, 0, f"cannot be read: {error.strerror or error}")]) from error


def parse(reader: Reader, text: str) -> list[yaml.Node]:
    """The documents of a file, empty ones left out. InvalidFile when it is neither YAML nor JSON."""
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    if text.lstrip()[:1] in ("{", "["):
        text = _check_json(reader, text)
    try:
        return [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if not _is_empty(node)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        said = error.problem or error.context or "cannot be read"
        raise reader.fail(line, column, f"not valid YAML: {said}{_hint(text, line)}") from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise reader.fail(line, 0, f"not valid YAML: {error.reason}") from error
    except RecursionError as error:
        raise reader.fail(1, 0, "is nested too deeply") from error


def _check_json(reader: Reader, text: str) -> str:
    """JSON text made readable as YAML; other text (YAML in braces) as it is."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if reader.file.endswith(".json"):
            raise reader.fail(error.lineno, error.colno, f"not valid JSON: {error.msg}") from error
        return text
    except RecursionError as error:
        raise reader.fail(1, 0, "is nested too deeply") from error
    except ValueError as error:
        # A number with thousands of digits.
        raise reader.fail(1, 0, f"not valid JSON: {error}") from error
    # YAML has no tabs between tokens and does not join surrogate pairs; in valid JSON every tab is between tokens.
    return re.sub(
        r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}",
        lambda match: str(json.loads(f'"{match[0]}"')),
        text.replace("\t", " "),
    )


class _Dumper(yaml.SafeDumper):
    """Writes lines as lines, and quotes what would be read as something else."""


def _write_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None
    if _EXPONENT.fullmatch(text) or _ODD_BREAK.search(text):
        style = '"'
    elif _LINES.fullmatch(text):
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)


def dump(data: object) -> str:
    """Plain data as YAML text, which `parse` reads back as the same data."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def is_sound(text: str) -> bool:
    """Whether text can travel: an escape in quotes can make what UTF-8 has no bytes for."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null" and not node.value


def _hint(text: str, line: int) -> str:
    lines = text.splitlines()
    content = lines[line - 1] if 0 < line <= len(lines) else ""
    if re.search(r"(:|-)\s+[*@%`]", content):
        return "; text that starts with *, @, % or ` must be in quotes"
    if "\t" in content:
        return "; YAML is indented with spaces, not with tabs"
    return ""


def _number(node: yaml.Node) -> int | float | None:
    text = node.value
    if node.tag == "tag:yaml.org,2002:int" and re.fullmatch(r"[+-]?(0|[1-9]\d{0,299})", text, re.ASCII):
        return int(text)
    # 1e3 is text to YAML 1.1, and a number to JSON and to people.
    is_float = node.tag == "tag:yaml.org,2002:float" or _is_exponent(node)
    if is_float and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        value = float(text)
        return value if math.isfinite(value) else None
    return None


def _is_exponent(node: yaml.Node) -> bool:
    is_plain_text = isinstance(node, yaml.ScalarNode) and node.style is None and node.tag == "tag:yaml.org,2002:str"
    return is_plain_text and _EXPONENT.fullmatch(node.value) is not None


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        said = _TAGS.get(node.tag, f"a value tagged {node.tag}")
        return f"{said} ({node.value})" if node.value and said != "text" else said
    return _TAGS.get(node.tag, "something else")
