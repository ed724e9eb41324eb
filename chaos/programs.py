"""Programs of two releases side by side: each is a wheel, installed into an environment of its own.

`releases_of` builds both wheels of one source tree, so that an upgrade can be played before there is anything to upgrade to. They
differ as neighbouring minor versions may: LATER_KINDS are kinds of commands that the older program does not know, and that the
newer one puts into a log only when the cluster has the next version. `installed` takes a wheel that there is.

An environment takes the libraries that Horologe needs from the one in which this runs: nothing is fetched.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from horologe.client import own_program

LATER_KINDS = ("set_calendar", "delete_calendar")
"""In this play calendars came with the newer release."""
BUILD_SECONDS = 600.0

_OLDER = {
    "raft/cluster_version.py": f"""
KINDS = {{version: kinds - set({LATER_KINDS!r}) for version, kinds in KINDS.items()}}
THIS_PROGRAM = Program(RELEASES, KINDS, FIELDS)
""",
    "raft/machine.py": f"""
_dispatch_known = StateMachine._dispatch


def _dispatch(machine, state, command):
    kind = command.WhichOneof("kind")
    if kind in {LATER_KINDS!r}:
        raise InvariantError(f"entry {{state.index}} holds a command of kind {{kind!r}} that this program does not know")
    return _dispatch_known(machine, state, command)


StateMachine._dispatch = _dispatch
""",
}
_NEWER = {
    "raft/cluster_version.py": f"""
_later = frozenset({LATER_KINDS!r})
_next_version = max(RELEASES) + 1
RELEASES = {{**RELEASES, _next_version: "{{minor_version}}"}}
KINDS = {{**{{version: kinds - _later for version, kinds in KINDS.items()}}, _next_version: _later}}
THIS_PROGRAM = Program(RELEASES, KINDS, FIELDS)
""",
}
"""What is added to the end of a file, and so decides when it is imported."""


class ProgramError(Exception):
    """A program could not be built or installed. The text says what failed, and what it said."""


@dataclass(frozen=True, slots=True)
class InstalledProgram:
    """One release, ready to be started."""

    version: str
    command: tuple[str, ...]
    """It takes the arguments of `horologe`."""


@dataclass(frozen=True, slots=True)
class Releases:
    """The program that a cluster runs, and the one that it is upgraded to."""

    older: InstalledProgram
    newer: InstalledProgram
    knows_later_kinds: bool
    """Whether LATER_KINDS tell one from the other: they were made here."""


def installed(wheel: Path, folder: Path) -> InstalledProgram:
    """Installs a wheel into a new environment. Raises ProgramError."""
    if not wheel.is_file() or wheel.suffix != ".whl":
        raise ProgramError(f"{wheel} is no wheel: give the path of a file horologe-VERSION-py3-none-any.whl")
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    _pip("--python", str(python), "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel))
    own = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"]
    # After pip, which must not think that what is installed there is this environment's.
    borrowed = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (Path(own) / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return InstalledProgram(wheel.name.split("-")[1], (str(folder / "bin" / "horologe"),))


def releases_of(tree: Path, folder: Path) -> Releases:
    """Builds and installs two releases of a source tree: its own version, and the next minor one. Raises ProgramError."""
    older = _version_of(tree)
    major, minor = older.split(".")[:2]
    next_minor = f"{major}.{int(minor) + 1}"
    newer_text = {name: text.replace("{minor_version}", next_minor) for name, text in _NEWER.items()}

    def make(name: str, version: str, additions: Mapping[str, str]) -> InstalledProgram:
        return installed(_build(tree, folder / f"{name}-source", version, additions), folder / name)

    with ThreadPoolExecutor() as pool:
        making = [
            pool.submit(make, "older", older, _OLDER),
            pool.submit(make, "newer", f"{next_minor}.0", newer_text),
        ]
        return Releases(making[0].result(), making[1].result(), knows_later_kinds=True)


def wheels_of(older: Path, newer: Path, folder: Path) -> Releases:
    """Installs two releases that there are. Raises ProgramError."""
    return Releases(installed(older, folder / "older"), installed(newer, folder / "newer"), knows_later_kinds=False)


def _build(tree: Path, copy: Path, version: str, additions: Mapping[str, str]) -> Path:
    """The wheel of a copy of the tree, under this version and with these additions."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())
    folders = {path.split("/")[0] for path in project["tool"]["setuptools"]["package-dir"].values()}
    for name in folders:
        shutil.copytree(tree / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (project["project"]["readme"], *project["project"]["license-files"]):
        shutil.copy(tree / name, copy / name)
    text = (tree / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', text, count=1))
    for name, addition in additions.items():
        with (copy / name).open("a") as file:
            file.write(addition)
    out = copy / "dist"
    _pip("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(out), str(copy))
    [wheel] = out.glob("*.whl")
    return wheel


def _version_of(tree: Path) -> str:
    try:
        project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise ProgramError(
            f"{tree} is no source tree of horologe: {error!r}; give one, or two wheels (--older, --newer)"
        ) from error
    if project.get("name") != "horologe":
        raise ProgramError(f"{tree} holds the sources of {project.get('name')}, not of horologe")
    return str(project["version"])


def _pip(*arguments: str) -> None:
    if own_program.FROZEN:
        raise ProgramError("this binary cannot build or install wheels: run horologe from a Python that has pip")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-20:])
        raise ProgramError(f"`pip {' '.join(arguments)}` failed (it needs pip and setuptools here):\n{said}")
