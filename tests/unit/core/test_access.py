"""Rights and scopes, and that docs/access.md tells the roles as they are."""

from __future__ import annotations

import re

import pytest
from support import commands
from support.pages import page_text

from horologe.raft.access import ALL, EVERYWHERE, ROLE_VERBS, Rights, Verb, within_scope
from horologe.v1 import access_pb2

ROLES = (access_pb2.ROLE_VIEWER, access_pb2.ROLE_EDITOR, access_pb2.ROLE_OPERATOR, access_pb2.ROLE_ADMIN)
MIXED = Rights({"team-a": frozenset({"job.read", "job.write"}), EVERYWHERE: frozenset({"job.read", "queue.read"})})


def test_the_page_tells_the_roles() -> None:
    rows = re.findall(
        r"^\| `([a-z_]+\.[a-z_]+)` \|(.*?)\|(.*?)\|(.*?)\|(.*?)\|", page_text("docs/access.md"), re.MULTILINE
    )
    told = {verb: [mark.strip() == "x" for mark in marks] for verb, *marks in rows}
    assert len(rows) == len(told)
    assert told == {str(verb): [verb in ROLE_VERBS[role] for role in ROLES] for verb in Verb}


@pytest.mark.parametrize(
    ("verb", "namespace", "may"),
    [
        ("job.write", "team-a", True),
        ("job.write", "team-b", False),
        ("job.write", EVERYWHERE, False),
        ("job.read", "team-b", True),
        ("queue.read", EVERYWHERE, True),
        ("queue.write", "team-a", False),
    ],
)
def test_what_is_given_everywhere_is_given_in_each_namespace(verb: str, namespace: str, may: bool) -> None:
    assert MIXED.may(verb, namespace) is may


@pytest.mark.parametrize(
    ("scope", "team_a", "team_b", "everywhere"),
    [
        ({}, "job.read job.write queue.read", "job.read queue.read", "job.read queue.read"),
        ({"namespaces": ["*"]}, "job.read job.write queue.read", "job.read queue.read", "job.read queue.read"),
        ({"namespaces": ["team-b"]}, "", "job.read queue.read", ""),
        ({"role": "viewer"}, "job.read queue.read", "job.read queue.read", "job.read queue.read"),
        ({"verbs": ["job.write"]}, "job.write", "", ""),
        ({"verbs": ["cluster.write"], "namespaces": ["team-a"]}, "", "", ""),
    ],
)
def test_a_scope_takes_away_and_gives_nothing(
    scope: dict[str, object], team_a: str, team_b: str, everywhere: str
) -> None:
    left = within_scope(MIXED, commands.token("t", "ada", **scope))  # type: ignore[arg-type]
    for namespace, verbs in (("team-a", team_a), ("team-b", team_b), (EVERYWHERE, everywhere)):
        assert [verb for verb in sorted(Verb) if left.may(verb, namespace)] == verbs.split()


def test_all_is_all() -> None:
    assert all(ALL.may(verb, namespace) for verb in Verb for namespace in ("team-a", EVERYWHERE))
