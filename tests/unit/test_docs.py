"""The pages say what is so: names, commands, options, links, diagrams and promises in them are checked against the code.

What happens when their examples are run is in tests/integration/test_readme.py and test_examples.py.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from support.pages import ROOT, Block, blocks_of, marked, page_text, pages
from support.reference_pages import reference_pages

from horologe.client import jobfile
from horologe.client.cli.main import build
from horologe.node.config import NodeConfig, describe_options
from horologe.node.templates import secret_names, template_violations
from horologe.node.validation import complete_job
from horologe.raft.model import FINAL_STATES, LEGAL_MOVES, ExecutionState, LedgerOutcome, Reason

PICTURE_BYTES_MAX = 150_000
PAGES = pages()
SOURCE_FOLDERS = ("raft", "node", "client", "chaos", "proto", "tests", "examples")
PROMISE = """
Each due time is *fired* exactly once; a completion is *recorded* exactly once; an attempt runs at most once per token; with
`on_lease_loss=retry` an execution may *run* more than once, never two attempts believing in a live lease at one time
(given bounded clock drift), and every handler gets an idempotency key and its fencing token.
"""
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?:[\w.-]+/)+[\w.-]*")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PACKAGE = re.compile(r"horologe(\.\w+)+$")


def prose_of(page: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page_text(page), flags=re.DOTALL | re.MULTILINE)


def spans_of(page: str) -> list[str]:
    return _SPAN.findall(prose_of(page))


# Files and names


@cache
def names_in(path: Path) -> frozenset[str]:
    """Names that a Python file defines at the top, and `Class.name` for what is in its classes."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        for name in _bound_by(node):
            found.add(name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in _bound_by(inner)}
    return frozenset(found)


def _bound_by(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name() as target):
            return [target.id]
        case _:
            return []


@cache
def words_in_sources() -> frozenset[str]:
    words: set[str] = set()
    for folder in SOURCE_FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".proto") and "_pb2" not in path.name and path.name != "test_docs.py":
                words |= set(re.findall(r"\w+", path.read_text()))
    return frozenset(words)


def test_every_page_is_in_the_index() -> None:
    listed = {link for link in _LINK.findall(page_text("docs/README.md")) if "/" not in link}
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


def navigation() -> str:
    return (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_every_page_has_its_place_in_the_navigation_of_the_site(path: Path) -> None:
    name = path.relative_to(ROOT / "docs").as_posix()
    assert re.search(rf": {re.escape(name)}$", navigation(), flags=re.MULTILINE), (
        f"docs/{name} is nowhere in the navigation: add a line `- Title: {name}` under `nav:` in mkdocs.yml"
    )


@pytest.mark.parametrize("page", PAGES)
def test_files_and_names_exist(page: str) -> None:
    for span in spans_of(page):
        location, _, name = span.partition("::" if "::" in span else ":")
        if not _PATH.fullmatch(location) or location.partition("/")[0] not in (*SOURCE_FOLDERS, ".ci"):
            continue
        path = ROOT / location
        assert path.exists(), f"{page} names {location}, which is not there"
        if name:
            assert name in names_in(path), f"{page} names {span}, but there is no {name} in {location}"


def test_words_of_the_code_are_words_of_the_code() -> None:
    """Identifiers that ARCHITECTURE.md puts in code spans occur in the sources."""
    for span in spans_of("ARCHITECTURE.md"):
        if _PACKAGE.match(span) or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", span):
            continue
        assert span.rpartition(".")[2] in words_in_sources(), span


# Commands


@cache
def tree() -> Any:
    return typer.main.get_command(build())


def commands_of(page: str) -> Iterator[tuple[list[str], bool]]:
    """Words of each `horologe ...` in a page, and whether it stands in a block (there it is complete)."""
    for block in blocks_of(page_text(page)):
        if block.language in ("sh", "console"):
            for line in _command_lines(block):
                yield line, True
    for span in spans_of(page):
        if span.startswith("horologe "):
            yield shlex.split(span.replace("...", "")), False


def _command_lines(block: Block) -> Iterator[list[str]]:
    text = re.sub(r"<<END\n.*?^END$", "", block.text, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
    for line in text.splitlines():
        for command in re.findall(r"(?:^|[(;&|]|\s)\s*(horologe .*)", line):
            lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in lexer:
                if set(word) <= set("();<>|&"):
                    if word.startswith(">") and words[-1:] == ["2"]:
                        words.pop()  # of a redirection: 2> file
                    break
                words.append(word)
            yield words


def complaint_about(words: Sequence[str], *, complete: bool) -> str | None:
    """What is wrong with a command line, as far as can be known without running it."""
    command, rest, arguments = tree(), list(words[1:]), 0
    while rest:
        word = rest.pop(0)
        if word == "--":
            arguments += len(rest)
            break
        if word.startswith("-"):
            option, _, value = word.partition("=")
            known = {name: parameter for parameter in command.params for name in _options(parameter)}
            if option not in known and option not in ("--help", "-h"):
                return f"{command.name} has no option {option}"
            parameter = known.get(option)
            if parameter is not None and not parameter.is_flag and not value:
                del rest[: parameter.nargs]
        elif getattr(command, "commands", None):
            if word not in command.commands:
                return f"{command.name} has no command {word}"
            command = command.commands[word]
        else:
            arguments += 1
    if not complete:
        return None
    is_whole = not getattr(command, "commands", None) or command.invoke_without_command
    if not is_whole and words[1:] and not words[-1].startswith("--"):
        return f"{command.name} needs a command"
    taken = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    needed = sum(1 for parameter in taken if parameter.required)
    allowed = 1_000 if any(parameter.nargs < 0 for parameter in taken) else len(taken)
    return None if needed <= arguments <= allowed else f"{command.name} takes other arguments"


def _options(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        return []
    return [*parameter.opts, *parameter.secondary_opts]


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("docs/reference-")])
def test_commands_parse(page: str) -> None:
    for words, complete in commands_of(page):
        problem = complaint_about(words, complete=complete)
        assert problem is None, f"{page}: `{' '.join(words)}`: {problem}"


@pytest.mark.parametrize(
    "line",
    [
        "horologe job crate x",
        "horologe job create x --evry 5s",
        "horologe job create",
        "horologe job",
        "horologe job list x",
    ],
)
def test_wrong_commands_are_seen(line: str) -> None:
    assert complaint_about(shlex.split(line), complete=True) is not None


def test_commands_are_found_in_blocks() -> None:
    block = Block("sh", "", "x=$(horologe cluster status -o json | python -c 'a; b')\nhorologe node run 2> log &\n")
    assert list(_command_lines(block)) == [
        ["horologe", "cluster", "status", "-o", "json"],
        ["horologe", "node", "run"],
    ]
    assert sum(1 for page in PAGES for _ in commands_of(page)) > 50


def leaves(command: Any, path: str) -> Iterator[str]:
    subcommands = getattr(command, "commands", None)
    if not subcommands or command.invoke_without_command:
        yield path
    for name, subcommand in (subcommands or {}).items():
        if subcommand.hidden:
            continue  # a second name of another one
        yield from leaves(subcommand, f"{path} {name}")


def test_the_table_of_commands_is_complete() -> None:
    listed = re.findall(r"^\| `(horologe [^`]+)`", page_text("README.md"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(leaves(tree(), "horologe"))


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith(("README", "docs/", "examples/"))])
def test_every_block_has_a_mark(page: str) -> None:
    """What marks promise is kept by test_snippets.py here, and by tests/integration/test_pages_played.py and its neighbours."""
    unmarked = [block.text for block in blocks_of(page_text(page)) if not block.mark]
    assert not unmarked, (
        f"{page}: write a line before each of these blocks: <!-- test: run --> or another mark that tests/support/page_runner.py "
        "or tests/unit/test_snippets.py knows, or <!-- not run: REASON -->"
    )


def test_make_verbs_exist() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        used = {match[1] for span in spans_of(page) if (match := re.fullmatch(r"(?:\w+=\w+ )?make ([a-z-]+)", span))}
        for block in blocks_of(page_text(page)):
            used |= set(re.findall(r"^make ([a-z-]+)", block.text, flags=re.MULTILINE))
        assert used <= verbs, page


# Links


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_pictures_of_the_dashboard_are_small_and_shown() -> None:
    """Each in light and in dark, and no other ones; `make screenshots` takes them."""
    pictures = {path.name: path.read_bytes() for path in (ROOT / "docs" / "images").iterdir() if path.is_file()}
    shown = set(re.findall(r'"docs/images/([^"]+)"', page_text("README.md")))
    assert shown == pictures.keys()
    subjects = {name.rpartition("-")[0] for name in shown}
    assert {f"{subject}-{look}.png" for subject in subjects for look in ("light", "dark")} == shown
    for name, picture in pictures.items():
        assert picture.startswith(b"\x89PNG"), name
        assert len(picture) < PICTURE_BYTES_MAX, f"{name} has {len(picture)} bytes"


def test_charts_of_the_measurements_are_shown() -> None:
    """Whatever `make bench` has left there, if it was ever run."""
    charts = {path.name for path in (ROOT / "docs" / "images" / "benchmarks").glob("*")}
    assert charts == set(re.findall(r"\(images/benchmarks/([^)]+)\)", page_text("docs/benchmarks.md")))


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_resolve(page: str) -> None:
    for link in _LINK.findall(_SPAN.sub("", prose_of(page))):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors_of(target), f"{page} links to {link}"


# Diagrams and tables made from the code


def state_diagram() -> str:
    """The legal moves of an execution, as Mermaid draws them."""
    moves = sorted(LEGAL_MOVES, key=lambda move: (move[0] or 0, move[1]))
    lines = [f"    {'[*]' if before is None else before.name} --> {after.name}" for before, after in moves]
    reached = {after for _, after in LEGAL_MOVES}
    lines += [f"    {state.name} --> [*]" for state in sorted(FINAL_STATES & reached)]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def test_the_state_diagram_is_the_table(rewrite: bool) -> None:
    text = page_text("ARCHITECTURE.md")
    expected = f"<!-- states -->\n{state_diagram()}\n<!-- /states -->"
    if rewrite:
        text = re.sub(r"<!-- states -->.*<!-- /states -->", lambda _: expected, text, flags=re.DOTALL)
        (ROOT / "ARCHITECTURE.md").write_text(text)
    assert expected in text


def test_the_ledger_table_has_every_outcome_and_reason() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \|", marked("ARCHITECTURE.md", "ledger"), flags=re.MULTILINE)
    assert {outcome for outcome, _ in rows} == {outcome.name for outcome in LedgerOutcome}
    assert sorted(reason for _, reason in rows) == sorted(reason.name for reason in Reason)


@pytest.mark.parametrize("page", list(reference_pages()))
def test_what_is_made_from_the_code_is_up_to_date(page: str, rewrite: bool) -> None:
    expected = reference_pages()[page]
    if rewrite:
        (ROOT / page).write_text(expected)
    assert page_text(page) == expected, f"{page} is out of date: run `make docs-reference`"


# Configuration


def test_alerts_that_pages_name_exist() -> None:
    alerts = set(re.findall(r"alert: (\w+)", page_text("ops/alerts.yaml")))
    for page in PAGES:
        assert set(re.findall(r"\bHorologe[A-Z]\w+", page_text(page))) <= alerts | words_in_sources(), page


def test_the_states_in_the_concepts_are_the_table() -> None:
    rows = re.findall(r"^\| ([A-Z]+) \| .* \| ([^|]*) \|$", marked("docs/concepts.md", "states"), flags=re.MULTILINE)
    found = {(before, after) for before, cell in rows for after in re.findall(r"[A-Z]{4,}", cell)}
    assert found == {(before.name, after.name) for before, after in LEGAL_MOVES if before is not None}
    assert {before for before, _ in rows} == {state.name for state in ExecutionState}


def test_every_option_of_a_node_is_described() -> None:
    described = describe_options()
    assert [option.name for option in described] == list(NodeConfig.model_fields)
    assert all(option.description.endswith(".") and option.default for option in described)


def test_a_node_listens_on_loopback_unless_told_otherwise() -> None:
    config = NodeConfig(name="n1")
    assert config.listen.startswith("127.0.0.1:")
    assert config.peer_listen.startswith("127.0.0.1:")


def test_the_job_file_in_the_readme_is_one() -> None:
    block, workflow = (block for block in blocks_of(page_text("README.md")) if block.mark == "job file")
    assert len(jobfile.loads(workflow.text, "README.md")) == 3
    [sourced] = jobfile.loads(block.text, "README.md")
    assert sourced.job.name == "namespaces/default/jobs/nightly-report"
    # Each action that is commented out must be one as well.
    others = re.findall(r"^    # (.*)$", block.text, flags=re.MULTILINE)
    assert len(others) == 3
    [shell] = re.findall(r"^    shell: .*$", block.text, flags=re.MULTILINE)
    for other in others:
        jobfile.loads(block.text.replace(shell, f"    {other}"), "README.md")


def test_the_job_file_of_the_schedules_is_one() -> None:
    text = page_text("docs/schedules.md")
    [block] = [block for block in blocks_of(text) if block.mark == "job file"]
    [sourced] = jobfile.loads(block.text, "schedules.md")
    assert not complete_job(sourced.job, sourced.job.name, 0)[1]
    # Each kind of schedule in the table must be one as well.
    kinds = re.findall(r"`(\{[^`]*\})`[^|]*\|", text.partition("```yaml")[0])
    assert len(kinds) >= 6
    for kind in kinds:
        jobfile.loads(f"name: x\naction: {{shell: {{script: x}}}}\nschedule: {kind}", kind)


def test_the_job_file_of_the_workflow_is_one() -> None:
    [block] = [block for block in blocks_of(page_text("docs/workflows.md")) if block.mark == "file nightly.yaml"]
    found = {sourced.job.name.rpartition("/")[2]: sourced.job for sourced in jobfile.loads(block.text, "workflows.md")}
    assert list(found) == ["nightly", "extract", "load", "alarm"]
    for job in found.values():
        assert not complete_job(job, job.name, 0)[1]
        assert not list(template_violations(job.action, "action", lambda: found))


def test_the_job_file_of_the_secrets_is_one() -> None:
    [block] = [block for block in blocks_of(page_text("docs/secrets.md")) if block.mark == "job file"]
    named = {}
    for sourced in jobfile.loads(block.text, "secrets.md"):
        job = sourced.job
        assert not complete_job(job, job.name, 0)[1]
        assert not list(template_violations(job.action, "action", lambda: ()))
        named[job.name.rpartition("/")[2]] = secret_names(job.action)
    assert named == {"nightly-dump": ["db-password"], "report": ["api", "signing"]}


# Promises


def test_the_promise_is_in_these_words() -> None:
    assert " ".join(PROMISE.split()) in " ".join(page_text("README.md").split())


def test_every_promise_has_tests() -> None:
    promised = re.findall(r"^- \*\*(P\d+)\*\*", marked("README.md", "promises"), flags=re.MULTILINE)
    rows = re.findall(r"^\| (P\d+) [^|]*\| (.*) \|$", marked("CONTRIBUTING.md", "promises"), flags=re.MULTILINE)
    assert promised == [promise for promise, _ in rows] == [f"P{number}" for number in range(1, len(promised) + 1)]
    # That each exists is checked with all other names in `test_files_and_names_exist`.
    assert all(test.startswith("tests/") for _, tests in rows for test in _SPAN.findall(tests))
    assert all(_SPAN.findall(tests) for _, tests in rows)


def test_every_protection_has_tests() -> None:
    """Whoever reads that something is stopped can run what shows it. That each test exists is checked with all other names."""
    tables = re.findall(
        r"<!-- protections -->\n(.*?)<!-- /protections -->", page_text("docs/threat-model.md"), re.DOTALL
    )
    rows = [row for table in tables for row in table.splitlines()[2:]]
    assert len(tables) >= 5 and len(rows) >= 30
    for row in rows:
        threat, _, shown_by = re.fullmatch(r"\| (.+) \| (.+) \| (.+) \|", row).groups()  # type: ignore[union-attr]
        tests = _SPAN.findall(shown_by)
        assert tests and all(test.startswith("tests/") for test in tests), threat
