"""Whoever gives a job's name where the number of an execution is wanted is told which command shows the numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_cluster import FakeCluster
from typer.testing import Result


@pytest.mark.parametrize(
    ("arguments", "listing"),
    [
        ("execution get tick", "horologe execution list tick"),
        ("execution logs tick", "horologe execution list tick"),
        ("execution cancel namespaces/prod/jobs/tick", "horologe execution list namespaces/prod/jobs/tick"),
        ("execution story -- -5", "horologe execution list"),
        ("dead-letter show fl", "horologe dead-letter list fl"),
        ("dead-letter redrive 7 fl", "horologe dead-letter list fl"),
        ("dead-letter purge fl", "horologe dead-letter list fl"),
        ("workflow rerun etl", "horologe workflow runs etl"),
    ],
)
def test_a_name_where_a_number_is_wanted(
    fake: FakeCluster, run: Callable[..., Result], arguments: str, listing: str
) -> None:
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert f"is not an execution: give its number, or namespaces/NAMESPACE/jobs/JOB/executions/NUMBER; `{listing}`" in (
        result.stderr
    )
    assert fake.received == []
    assert run(*listing.split()[1:], "--help").exit_code == 0
