"""`make binary`: dist/horologe, one executable with everything in it, from what is committed and what ops/locks names.

PyInstaller freezes Python, our packages and theirs into a folder; launcher.sh and that folder, packed, become one file.
(PyInstaller's own single file unpacks itself at each start, and runs the program as a child of its own, which stays when only the
parent is killed.)

The same commit, Python and machine give the same bytes: versions and checksums are locked, and every time is that of the commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = ROOT / "ops" / "binary"
LOCKS = ROOT / "ops" / "locks"
WORK = ROOT / "build" / "binary"
VENV = WORK / "venv"
PACKAGED = "raft", "node", "client", "chaos", "proto"
NOT_IN_IT = {
    "_tkinter",
    "antigravity",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "test",
    "this",
    "tkinter",
    "turtle",
    "turtledemo",
    "venv",
}
"""Of the standard library. All the rest is there: handlers of jobs may need it."""
WHOLE = ("horologe", "opentelemetry", "pymysql", "psycopg", "uvicorn", "sqlalchemy.dialects", "rich._unicode_data")
"""Packages of which PyInstaller would miss something: they are imported by names that are put together."""
BUCKETS = {"s3", "sso", "sso-oidc", "sts"}
"""What of botocore's data reaching a bucket takes: the service, and those who say who one is."""


def main() -> None:
    output = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist" / "horologe").absolute()
    commit, commit_time, epoch = origin()
    os.environ |= {"SOURCE_DATE_EPOCH": epoch, "PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    install()
    folder = freeze(epoch)
    glibc = oldest_glibc(folder)
    build = {"commit": commit, "commit_time": commit_time, "python": platform.python_version(), "glibc": glibc}
    (folder / "_internal" / "build.json").write_text(json.dumps(build) + "\n")
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    values = {"VERSION": version, "COMMIT": commit[:12], "MACHINE": platform.machine(), "GLIBC": glibc}
    pack(folder, output, epoch, values)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, sha256 {digest(output.read_bytes())}")


def origin() -> tuple[str, str, str]:
    """The commit, and its time for people and for programs. What was unpacked from an archive knows none."""
    if not (ROOT / ".git").exists():
        return "unknown", "an unknown time", "946684800"
    commit, time, epoch = (git("log", "-1", f"--format={form}") for form in ("%H", "%cI", "%ct"))
    changed = git("status", "--porcelain", "--", *PACKAGED, "pyproject.toml", "ops/locks", "ops/binary")
    return commit + ("-modified" if changed else ""), time, epoch


def install() -> None:
    """An environment with what the locks name, and our wheel. It is kept until the locks change."""
    locks = [LOCKS / "build.txt", LOCKS / "runtime.txt"]
    wanted = digest(b"".join(path.read_bytes() for path in locks) + sys.version.encode())
    mark = VENV / "locks"
    if not mark.exists() or mark.read_text() != wanted:
        shutil.rmtree(VENV, ignore_errors=True)
        run(sys.executable, "-m", "venv", VENV)
        pip("install", "--require-hashes", "--only-binary", ":all:", "--requirement", locks[0])
        # Not isolated: what has no wheel is built with the setuptools of the lock.
        pip("install", "--require-hashes", "--no-build-isolation", "--requirement", locks[1])
        mark.write_text(wanted)
    # From a copy, so that no folder of an earlier build gets into the wheel.
    source, wheels = WORK / "source", WORK / "wheels"
    for folder in (source, wheels):
        shutil.rmtree(folder, ignore_errors=True)
    source.mkdir(parents=True)
    for name in PACKAGED:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source)
    pip("install", "--no-deps", "--force-reinstall", *wheels.glob("*.whl"))


def freeze(epoch: str) -> Path:
    """The folder with the program `horologe` and its libraries."""
    dist = WORK / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    words = ["--onedir", "--name", "horologe", "--noconfirm", "--clean", "--log-level", "ERROR", "--noupx"]
    words += ["--distpath", dist, "--workpath", WORK / "work", "--specpath", WORK]
    for package in ("raft", "node", "client", "chaos", "v1", "log", "peer"):
        words += ["--collect-data", f"horologe.{package}"]
    words += [
        "--copy-metadata",
        "horologe",
        "--copy-metadata",
        "opentelemetry-sdk",
        "--copy-metadata",
        "opentelemetry-api",
    ]
    words += ["--collect-data", "tzdata", "--collect-binaries", "psycopg_binary"]
    # The supervisor of jobs runs as a file of its own.
    words += ["--add-data", f"{site_packages() / 'horologe/client/executors/supervisor.py'}:horologe/client/executors"]
    for name in [*standard_library(), *(name for folder in WHOLE for name in modules_below(site_packages(), folder))]:
        words += ["--hidden-import", name]
    for name in sorted(NOT_IN_IT | {"pip", "setuptools", "PyInstaller"}):
        words += ["--exclude-module", name]
    # -P: what lies in this folder, an egg-info say, is none of its business.
    run(VENV / "bin" / "python", "-P", "-m", "PyInstaller", *words, HERE / "entry.py")
    folder = dist / "horologe"
    for path in folder.rglob("horologe-*.dist-info/*"):
        # They name folders of this machine.
        if path.name in ("direct_url.json", "RECORD"):
            path.unlink()
    # Backups go into buckets, and boto3 knows all that Amazon has.
    for path in (folder / "_internal" / "botocore" / "data").iterdir():
        if path.is_dir() and path.name not in BUCKETS:
            shutil.rmtree(path)
    # Debugging information, a quarter of the size. What wheels bring in .libs was moved about, which strip does not survive.
    libraries = [path for path in folder.rglob("*.so*") if not path.is_symlink() and path.parent.suffix != ".libs"]
    run("strip", "--strip-debug", *sorted(libraries))
    return folder


def standard_library() -> list[str]:
    """All its modules, but for tests and what is not for programs without a screen."""
    found = []
    for name in sorted(sys.stdlib_module_names - NOT_IN_IT - {"__main__"}):
        if (spec := find_spec(name)) is not None:
            folder = (spec.submodule_search_locations or [""])[0]
            found += modules_below(Path(folder).parent, name) if folder else [name]
    return found


def modules_below(root: Path, package: str) -> list[str]:
    """A package and all in it, by the names of its files: PyInstaller would import each to ask it."""
    files = sorted((root / package.replace(".", "/")).rglob("*.py"))
    parts = [file.relative_to(root).with_suffix("").parts for file in files]
    names = [".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts if part[-1] != "__main__"]
    return [name for name in names if not re.search(r"\.(tests?|idle_test)(\.|$)", name)]


def oldest_glibc(folder: Path) -> str:
    """The newest version that any of the libraries asks for."""
    versions = {(2, 17)}
    for path in folder.rglob("*"):
        if path.is_file() and path.open("rb").read(4) == b"\x7fELF":
            found = re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?=[.\0])", path.read_bytes())
            versions |= {(int(major), int(minor)) for major, minor in found}
    return "{}.{}".format(*max(versions))


def pack(folder: Path, output: Path, epoch: str, values: dict[str, str]) -> None:
    """The launcher with the packed folder behind it."""
    archive = WORK / "horologe.tar"
    words = ["--format=gnu", "--sort=name", f"--mtime=@{epoch}", "--owner=0", "--group=0", "--numeric-owner"]
    run("tar", "--create", *words, "--mode=u+rwX,go=rX", "--file", archive, "--directory", folder, ".")
    run("gzip", "--no-name", "-6", "--force", archive)
    packed = Path(f"{archive}.gz").read_bytes()
    text = (HERE / "launcher.sh").read_text()
    for name, value in {**values, "BUILD": digest(packed)[:16]}.items():
        text = text.replace(f"@{name}@", value)
    # The offset has as many digits as its place, which stands in it.
    begin = text.replace("@OFFSET@", f"{len(text.encode()) - len('@OFFSET@') + 8 + 1:08}")
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_suffix(".new")
    fresh.write_bytes(begin.encode() + packed)
    fresh.chmod(0o755)
    fresh.replace(output)


def site_packages() -> Path:
    [folder] = (VENV / "lib").glob("python3*/site-packages")
    return folder


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()


def pip(*words: object) -> None:
    run(VENV / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", *words)


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)


if __name__ == "__main__":
    main()
