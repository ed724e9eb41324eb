"""What is no program to be installed is refused before anything is built. That two are built and run: tests/cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from horologe.chaos import programs
from horologe.raft.cluster_version import KINDS

ROOT = Path(__file__).parents[3]


def test_what_is_no_source_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(programs.ProgramError, match="is no source tree of horologe"):
        programs.releases_of(tmp_path, tmp_path / "programs")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\nversion = "1.0"\n')
    with pytest.raises(programs.ProgramError, match="holds the sources of other, not of horologe"):
        programs.releases_of(tmp_path, tmp_path / "programs")
    assert not (tmp_path / "programs").exists()


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "horologe-0.1.0.tar.gz"
    archive.touch()
    for path in (archive, tmp_path / "horologe-0.1.0-py3-none-any.whl"):
        with pytest.raises(programs.ProgramError, match="is no wheel: give the path of a file"):
            programs.installed(path, tmp_path / "older")
    assert not (tmp_path / "older").exists()


def test_what_tells_two_releases_apart_is_there_to_be_told_apart() -> None:
    """The additions go to files that are there, and name kinds of commands that are there."""
    assert set(programs.LATER_KINDS) <= set().union(*KINDS.values())
    for name in {*programs._OLDER, *programs._NEWER}:
        assert (ROOT / name).is_file()
