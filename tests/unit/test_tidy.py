"""What no linter knows: what may import what, how long things may be, and what must not be written anywhere."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.pages import MADE_FOLDERS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("raft", "node", "client", "chaos")
FUNCTION_LINES_MAX = 80
FILE_LINES_MAX = 600
PURE_CORE = (
    "model", "records", "recent", "plain", "tables",
    "wheel", "commands", "spans", "malformed", "state", "machine", "jobs", "hot_parts", "creation", "executions",
    "settling", "overlap", "cancellation", "starting", "lines", "priorities", "permits",
    "lanes", "rates", "queues", "limits", "namespace_records", "namespaces", "sessions",
    "requests", "history", "keeping", "failures", "time_limits", "beside", "dead_letters", "backfills", "operations",
    "versions", "cluster_version", "apply_sets", "events", "facets", "search", "dependencies", "tallies", "workflows", "reruns",
    "pending", "pauses", "calendars", "deadlines", "intake", "pulse", "backlog",
    "access", "audit", "audit_subjects", "authority", "owners", "principals", "secrets", "notifications", "notices",
)  # fmt: skip
PURE_LIBRARY = frozenset(
    {
        "__future__",
        "collections",
        "collections.abc",
        "dataclasses",
        "enum",
        "hashlib",
        "heapq",
        "itertools",
        "struct",
        "typing",
    }
)
"""All of the standard library that the core may use: nothing that reads a clock, a file, a socket or chance."""
GENERATED = ("horologe.v1.", "horologe.log.v1.")
LAYERS = {
    "raft": {"horologe.raft", "horologe.log", "horologe.peer", "horologe.v1"},
    "node": {"horologe.node", "horologe.raft", "horologe.log", "horologe.peer", "horologe.v1"},
    "client": {"horologe.client", "horologe.v1"},
    "chaos": {
        "horologe.chaos", "horologe.node", "horologe.raft", "horologe.client",
        "horologe.log", "horologe.peer", "horologe.v1",
    },
}  # fmt: skip
CLIENT_KNOWN = (
    "node/channels.py", "node/dev.py", "node/local_cluster.py", "node/web/job_text.py",
    "node/doctor.py", "node/doctor_network.py", "node/doctor_command.py",
    "node/backups.py", "node/backup_service.py", "node/restore.py", "node/restore_commands.py",
)  # fmt: skip
"""What of a node knows the client: notifications go through the guard of its HTTP jobs, one file shows a cluster at work, one
starts processes of this program, one shows jobs as job files, a node's machine is examined by the rules that hold for a worker's,
and a backup is a file that the client reads without a cluster."""
ONE_PLACE = {
    "pysyncobj": lambda path: path == "raft/core_engine.py",
    "lmdb": lambda path: path in ("raft/store.py", "raft/snapshot.py", "node/outputs.py"),
    "croniter": lambda path: path == "node/cron.py",
}
"""One file per technology, so that it can be replaced, and so that its traps are known in one place."""


def python_files(*folders: str) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "_pb2" not in path.name and "__pycache__" not in path.parts
    )


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full module name of each import; `from package import module` names the module."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: write the whole name of what is imported"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def each_file(*folders: str) -> pytest.MarkDecorator:
    files = python_files(*folders)
    return pytest.mark.parametrize("path", files, ids=[name_of(path) for path in files])


# Imports


@pytest.mark.parametrize("module", PURE_CORE)
def test_the_core_is_pure(module: str) -> None:
    """It imports itself, the generated messages, and a handful of harmless modules; so its imports are pure all the way."""
    path = ROOT / "raft" / f"{module}.py"
    core = {f"horologe.raft.{name}" for name in PURE_CORE}
    for line, name in imports_of(path):
        allowed = (
            name.rpartition(".")[0] in PURE_LIBRARY
            or name in PURE_LIBRARY
            or name in core
            or name.rpartition(".")[0] in core
            or name.startswith(GENERATED)
        )  # fmt: skip
        assert allowed, f"raft/{module}.py:{line} imports {name}"
    called = {
        node.func.id
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "hash", "id", "input", "print", "eval", "exec", "__import__"}


def test_the_core_is_listed() -> None:
    """In ARCHITECTURE.md, all of it and nothing else."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    listed = text.partition("these modules are the pure core:")[2].partition("They\nimport no clock")[0]
    assert sorted(re.findall(r"`raft/(\w+)\.py`", listed)) == sorted(PURE_CORE)


@each_file(*PACKAGES)
def test_imports_flow_one_way(path: Path) -> None:
    package = name_of(path).partition("/")[0]
    allowed = LAYERS[package] | ({"horologe.client"} if name_of(path) in CLIENT_KNOWN else set())
    for line, name in imports_of(path):
        if is_within(name, "horologe"):
            assert any(is_within(name, layer) for layer in allowed), f"{name_of(path)}:{line} imports {name}"


@each_file(*PACKAGES)
def test_each_technology_has_one_place(path: Path) -> None:
    for line, name in imports_of(path):
        is_home = ONE_PLACE.get(name.partition(".")[0])
        assert is_home is None or is_home(name_of(path)), f"{name_of(path)}:{line} imports {name}"


def test_every_module_is_used() -> None:
    """By an import, or by an entry point."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = [*project["scripts"].values()]
    points += [point for group in project["entry-points"].values() for point in group.values()]
    used = {point.partition(":")[0] for point in points}
    for path in python_files(*PACKAGES, "tests"):
        for _, name in imports_of(path):
            used |= {name, name.rpartition(".")[0]}
    modules = {"horologe." + name_of(path).removesuffix(".py").replace("/", ".") for path in python_files(*PACKAGES)}
    unused = {name for name in modules - used if not name.endswith((".__init__", ".__main__"))}
    assert not unused


# Size and habits


@each_file(*PACKAGES, "tests")
def test_files_and_functions_are_short(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= FILE_LINES_MAX, f"{name_of(path)} has {lines} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{name_of(path)}:{node.lineno} {node.name} has {length} lines"


@each_file(*PACKAGES, "tests")
def test_files_say_what_belongs_in_them(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), f"{name_of(path)} has no docstring"


@each_file(*PACKAGES, "tests")
def test_nothing_sleeps_on_hope_or_swallows_errors(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("time", "sleep"), f"{where} sleeps: wait for a condition"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{where}: `except` without a type"
            broad = isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            silent = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            assert not (broad and silent), f"{where} swallows every error"


BANNED = ("TO" + "DO", "FIX" + "ME", "X" * 3, "../" + "shared", "/" + "work" + "/")


def test_names_of_test_files_are_unique() -> None:
    """Pytest imports them by their bare names: two of one name cannot be collected together."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_banned_words() -> None:
    texts = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile")]
    texts += [ROOT / "pyproject.toml", ROOT / ".ci" / "run", *(ROOT / "proto").rglob("*.proto")]
    examples = (path for path in (ROOT / "examples").rglob("*") if not MADE_FOLDERS & set(path.parts))
    texts += [path for path in examples if path.is_file()]
    texts += python_files(*PACKAGES, "tests") + sorted((ROOT / "tests").rglob("*.txt"))
    found = [
        f"{name_of(path)}:{number}: {word}"
        for path in texts
        if path.exists()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        for word in BANNED
        if word in line
    ]
    assert not found


# Packaging


def test_the_package_list_is_complete() -> None:
    """A package that is missing there works in an editable install and is absent from the wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for package in (*PACKAGES, "proto")
        for path in (ROOT / package).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert folders == set(settings["package-dir"].values())
    assert set(settings["packages"]) == settings["package-dir"].keys()
    for name, folder in settings["package-dir"].items():
        assert name == "horologe." + folder.removeprefix("proto/horologe/").replace("/", ".")
        assert (ROOT / folder / "__init__.py").exists(), folder
    assert not (ROOT / "proto" / "horologe" / "__init__.py").exists(), "horologe is a namespace package"


@pytest.mark.parametrize("folder", [*PACKAGES, "proto/horologe/v1", "proto/horologe/log/v1", "proto/horologe/peer/v1"])
def test_packages_are_typed(folder: str) -> None:
    assert (ROOT / folder / "py.typed").exists()


def test_the_licence_is_here() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
