"""What the help of commands gives as an example is a command, with options that exist; and shells can complete commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from horologe.client.cli import main


def examples(command: Any) -> Iterator[str]:
    for inner in getattr(command, "commands", {}).values():
        yield from examples(inner)
    yield from re.findall(r"For example: horologe ([^\n]+)", command.help or "")


EXAMPLES = sorted(set(examples(typer.main.get_command(main.app))))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 10


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_can_be_given_as_it_stands(example: str) -> None:
    result = CliRunner().invoke(main.app, [*shlex.split(example), "--help"])
    assert result.exit_code == 0, result.output
    wrong = CliRunner().invoke(main.app, [*shlex.split(example), "--no-such-option", "--help"])
    assert wrong.exit_code == 2, "the check can fail"


def test_a_shell_is_told_what_may_come_next() -> None:
    """By what `horologe --install-completion` puts into its configuration."""
    asked = {"_HOROLOGE_COMPLETE": "complete_bash", "COMP_WORDS": "horologe job re", "COMP_CWORD": "2"}
    result = CliRunner(env=asked).invoke(main.app, prog_name="horologe")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["revert", "resume"]
    assert "--install-completion" in CliRunner().invoke(main.app, ["--help"]).output
