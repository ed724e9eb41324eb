"""Two releases side by side: nodes are upgraded in the middle of work, rolled back, and upgraded again; nothing is lost, nothing
comes twice.

The full form, which also judges how late anything starts, is `horologe chaos upgrade`. Here less load, and no clock.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from horologe.chaos import programs, upgrade
from horologe.raft.cluster_version import THIS_PROGRAM

ROOT = Path(__file__).parents[2]
RATE = 20
PERIOD_SECONDS = 2


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> programs.Releases:
    return programs.releases_of(ROOT, tmp_path_factory.mktemp("programs"))


# Two wheels are built, and ten nodes start one after the other, on a machine that may have other work.
@pytest.mark.timeout(600)
async def test_a_rolling_upgrade_back_and_again_loses_and_doubles_nothing(
    tmp_path: Path, releases: programs.Releases
) -> None:
    report = await upgrade.run(tmp_path, releases, RATE, PERIOD_SECONDS, print, quiet_seconds=0.5)
    print(report.summary())
    assert report.course.verdict.violations == {}, report.summary()
    assert report.is_sound, report.summary()
    played = report.course.done
    # Once before, after each of nine replacements, by each of three nodes.
    assert played.refused_count == 3 * (1 + 9)
    newest = THIS_PROGRAM.versions.newest
    assert played.versions == (newest, newest + 1)
    told = f"the state is of cluster version {newest + 1}, and this program can apply {THIS_PROGRAM.versions}"
    assert told in played.complaint
    assert [member.name for member in played.verification.members] == ["n1", "n2", "n3"]
