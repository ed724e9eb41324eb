"""`horologe service ...`: a node or a worker of this machine as a service of systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from horologe.node.service_units import Kind, Unit, hidden_from, unit_of

app = typer.Typer(
    name="service", help="A node or a worker of this machine as a service of systemd.", no_args_is_help=True
)

UNIT_FOLDER = Path("/etc/systemd/system")
LAUNCHER_VARIABLE = "HOROLOGE_LAUNCHER"
"""Where the binary is that was started; what runs is what it has unpacked."""

KindArgument = Annotated[Kind, typer.Argument(help="node or worker.")]
ProgramOption = Annotated[
    Path | None,
    typer.Option("--program", metavar="FILE", help="The program that the service starts. Default: this one."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@app.command("show")
def show(kind: KindArgument, program: ProgramOption = None) -> None:
    """Print the unit, as `install` would write it."""
    typer.echo(unit_of(kind, _program(program)).text, nl=False)


@app.command("install")
def install(kind: KindArgument, program: ProgramOption = None, dry_run: DryRunOption = False) -> None:
    """Make the service's user, write its unit, and let it start with the machine; it is not started now.

    Run again, it writes the unit anew.
    """
    unit = unit_of(kind, _visible(kind, _program(program)))
    commands = [] if _exists(unit.user) else [_add_user(unit.user)]
    if dry_run:
        _tell(commands)
        typer.echo(f"write {UNIT_FOLDER / unit.name}:\n{unit.text}", nl=False)
        _tell(_enabling(unit))
        return
    _insist_on_root()
    _run(commands)
    try:
        (UNIT_FOLDER / unit.name).write_text(unit.text)
    except OSError as error:
        _fail(f"{UNIT_FOLDER / unit.name} cannot be written: {error.strerror}; is this a machine with systemd?")
    _run(_enabling(unit))
    typer.echo(f"{UNIT_FOLDER / unit.name} is written.")
    for path in unit.needs:
        if not path.exists():
            typer.echo(f"Still missing: {path}, which {unit.user} must be able to read.")
    typer.echo(f"Start it: systemctl start {unit.name}")


@app.command("uninstall")
def uninstall(kind: KindArgument, dry_run: DryRunOption = False) -> None:
    """Stop the service and remove its unit. Its data, its configuration and its user stay."""
    unit = unit_of(kind, Path("/"))
    path = UNIT_FOLDER / unit.name
    before, after = [["systemctl", "disable", "--now", unit.name]], [["systemctl", "daemon-reload"]]
    if dry_run:
        _tell(before)
        typer.echo(f"remove {path}")
        _tell(after)
        return
    _insist_on_root()
    if not path.exists():
        _fail(f"{path} is not there: {unit.name} is not installed")
    _run(before)
    path.unlink()
    _run(after)
    typer.echo(f"{path} is removed. What it wrote is still in /var/lib, its configuration in /etc/horologe.")


def _program(given: Path | None) -> Path:
    """What the unit starts. A name from the path is good for this shell only."""
    if given is not None:
        return given.absolute()
    started = os.environ.get(LAUNCHER_VARIABLE) or sys.argv[0]
    found = shutil.which(started)
    if found is None:
        _fail(f"{started!r} is no program that a service could start; name it with --program")
    return Path(found).absolute()


def _visible(kind: Kind, program: Path) -> Path:
    """The program, if the service will find all of it."""
    hidden = hidden_from(kind, program)
    if hidden is not None:
        file, folder = hidden
        _fail(
            f"the service could not start {program}: its unit hides {folder} from the {kind} (ProtectHome=yes), and {file} is in "
            "there; put the program into /opt or /usr/local, with its Python if it has one, or name another with --program"
        )
    return program


def _exists(user: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _add_user(user: str) -> list[str]:
    return ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", user]


def _enabling(unit: Unit) -> list[list[str]]:
    return [["systemctl", "daemon-reload"], ["systemctl", "enable", unit.name]]


def _tell(commands: list[list[str]]) -> None:
    for words in commands:
        typer.echo(f"run {' '.join(words)}")


def _run(commands: list[list[str]]) -> None:
    for words in commands:
        try:
            subprocess.run(words, check=True)
        except FileNotFoundError:
            _fail(f"{words[0]} is not installed here")
        except subprocess.CalledProcessError as error:
            _fail(f"`{' '.join(words)}` ended with {error.returncode}")


def _insist_on_root() -> None:
    if os.geteuid() != 0:
        _fail("services are root's business: run this as root, or with --dry-run to see what it would do")


def _fail(text: str) -> NoReturn:
    typer.echo(f"horologe: {text}", err=True)
    raise typer.Exit(1)
