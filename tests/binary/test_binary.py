"""dist/horologe on a Debian that has its essential packages and nothing else: no Python, no pip, no library of ours.

The Debian is put together from the packages of this machine, so that nothing is fetched. `make binary` comes first.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BINARY = ROOT / "dist" / "horologe"
USER = 10001
SCRIPT_SECONDS_MAX = 400.0


def packages() -> dict[str, tuple[bool, list[str]]]:
    """What is installed here: whether it is essential, and what it needs."""
    form = "${Package}\t${Essential}\t${Pre-Depends}, ${Depends}\n"
    done = subprocess.run(["dpkg-query", "--show", f"--showformat={form}"], capture_output=True, text=True, check=True)
    found = {}
    for line in done.stdout.splitlines():
        name, essential, needs = line.split("\t")
        found[name] = (essential == "yes", re.findall(r"(?:^|,|\|)\s*([a-z0-9][a-z0-9.+-]+)", needs))
    return found


def essential() -> list[str]:
    """The essential packages with all that they need."""
    installed = packages()
    wanted = [name for name, (is_essential, _) in installed.items() if is_essential]
    for name in wanted:
        wanted += [other for other in installed[name][1] if other in installed and other not in wanted]
    return wanted


def make_debian(root: Path) -> None:
    """Their files, below `root`."""
    root.chmod(0o755)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("proc", "dev", "tmp"):
        (root / name).mkdir()
    listed = subprocess.run(["dpkg", "--listfiles", *essential()], capture_output=True, text=True, check=True).stdout
    files = sorted({Path(line) for line in listed.splitlines() if line.startswith("/") and "/share/" not in line})
    for file in files:
        if not (file.is_file() or file.is_symlink()) or file.is_dir():
            continue
        target = root / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() and not target.is_symlink():
            shutil.copy2(file, target, follow_symlinks=False)


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("debian")
    make_debian(root)
    assert (root / "usr/bin/tar").exists() and not list(root.rglob("python*"))
    return root


def run(debian: Path, folder: Path, words: Sequence[str], *more: str) -> subprocess.CompletedProcess[str]:
    """Runs something there as a user without rights, with `folder` as the only place that can be written, and no network."""
    walls = ["--die-with-parent", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--ro-bind", str(debian), "/"]
    walls += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp", "--clearenv"]
    walls += [
        "--bind",
        str(folder),
        "/tmp/here",
        "--chdir",
        "/tmp/here",
        "--setenv",
        "PATH",
        "/usr/bin:/usr/sbin",
        *more,
    ]
    rights = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    user = ["setpriv", "--reuid", str(USER), "--regid", str(USER), *rights, "--"]
    return subprocess.run(
        ["bwrap", *walls, "--", *user, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SCRIPT_SECONDS_MAX,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of that user, with the binary in it."""
    assert BINARY.exists(), "there is no dist/horologe; `make binary` builds it"
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy2(BINARY, here / "horologe")
    for path in (here, here / "horologe"):
        shutil.chown(path, USER, USER)
    return here


@pytest.mark.timeout(SCRIPT_SECONDS_MAX + 60)
def test_three_nodes_a_worker_jobs_and_a_failover(debian: Path, folder: Path) -> None:
    script = (Path(__file__).parent / "newcomer.sh").read_text()
    done = run(debian, folder, ["sh", "-c", script])
    assert done.returncode == 0 and done.stdout.rstrip().endswith("== done"), done.stdout
    origin = r"commit ([0-9a-f]{40}(-modified)?|unknown) of .+; Python 3\.\S+, glibc 2\.\d+ or newer"
    version = re.search(rf"^horologe \S+\n{origin}$", done.stdout, re.MULTILINE)
    assert version is not None, done.stdout
    assert "\nsum 42\n" in done.stdout and "\nhandled 23\n" in done.stdout
    # Jobs find nothing of how the program was loaded.
    assert not re.search(r"^(LD_LIBRARY_PATH|_PYI_\w+|HOROLOGE_LAUNCHER)=", done.stdout, re.M)
    # Once, and for this user alone.
    [unpacked] = (folder / ".cache" / "horologe").iterdir()
    assert unpacked.parent.stat().st_mode & 0o077 == 0


def test_where_it_unpacks_itself(debian: Path, folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "theirs").mkdir(mode=0o777)
    (folder / "theirs").chmod(0o777)
    refused = run(debian, folder, ["./horologe", "--version"], "--setenv", "HOROLOGE_UNPACK_DIR", "/tmp/here/theirs")
    assert refused.returncode == 1 and "is not ours alone" in refused.stdout
    # No home: below /tmp. A file that is cut off is noticed, and leaves nothing behind.
    assert run(debian, folder, ["sh", "-c", "./horologe --version && ls -d /tmp/horologe-10001/*"]).returncode == 0
    script = "head -c 5000000 horologe > half; chmod +x half; ./half --version; echo $?; ls -A cache"
    cut = run(debian, folder, ["sh", "-c", script], "--setenv", "HOROLOGE_UNPACK_DIR", "/tmp/here/cache")
    assert "is it whole" in cut.stdout and cut.stdout.rstrip().endswith("\n1"), cut.stdout
