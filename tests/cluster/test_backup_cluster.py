"""Backups of a cluster under load, and the cluster that one of them becomes: every due time is accounted for on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from horologe.chaos import backup

RATE = 30


# Eight processes, one after the other in two clusters, on a machine that may have other work.
@pytest.mark.timeout(300)
async def test_a_cluster_is_backed_up_under_load_and_restored_elsewhere(tmp_path: Path) -> None:
    said: list[str] = []
    report = await backup.run(tmp_path, RATE, 3, said.append, nodes=2)
    assert report.is_sound, report.summary()
    revisions = [saved.backup.revision for saved in report.backups]
    assert revisions == sorted(revisions)
    assert report.during is not None
    # All that was due before the backup came with it, and what was due meanwhile was caught up.
    assert report.restored.due >= RATE
    assert [member.name for member in report.restored.members] == ["n1", "n2"]
