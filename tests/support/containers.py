"""Runs services of docker-compose.yml without Docker, by what the file says: commands, users, environments, volumes, health.

A container is a process in namespaces: its own network address, its own processes of which it is the first, and a root on which
nothing can be written but its volumes and its tmpfs. What the image would bring comes from this machine: the system, and the
program as it is installed for tests; which folders it prepares is read from the Dockerfile. bubblewrap makes the namespaces but
that of the network.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from horologe.chaos.network import NamespaceNetwork, Place

ROOT = Path(__file__).parents[2]
END_SECONDS = 120.0
SYSTEM = ("/usr", "/etc/ssl", "/etc/alternatives", "/etc/ld.so.cache")


@dataclass(slots=True)
class Container:
    """One that runs, or has run."""

    process: subprocess.Popen[bytes]
    pid: int
    """Of its first process, as this machine counts."""
    log: Path

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(END_SECONDS)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Composition:
    """The services of a file. Volumes are folders below `folder`."""

    file: Path
    folder: Path
    network: NamespaceNetwork
    places: dict[str, Place] = field(default_factory=dict)
    containers: list[Container] = field(default_factory=list)

    @cached_property
    def content(self) -> dict[str, Any]:
        content = yaml.safe_load(self.file.read_text())
        assert isinstance(content, dict)
        return content

    @cached_property
    def image(self) -> Image:
        return Image.read(self.file.parent / "Dockerfile")

    def service(self, name: str) -> dict[str, Any]:
        service = self.content["services"][name]
        assert isinstance(service, dict)
        return service

    def prepare(self, *names: str) -> None:
        """Gives services their addresses, and the file by which they find one another."""
        self.places |= {name: self.network.place(name) for name in names}
        lines = ["127.0.0.1 localhost", *(f"{place.host} {name}" for name, place in self.places.items())]
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")
        user = self.image.user_number
        (self.folder / "passwd").write_text(f"root:x:0:0::/:/bin/sh\nhorologe:x:{user}:{user}::/:/bin/sh\n")
        (self.folder / "group").write_text(f"root:x:0:\nhorologe:x:{user}:\n")

    def start(self, name: str, *words: str) -> Container:
        """Starts a service, with these words in place of its command if there are any."""
        service = self.service(name)
        command = list(words) or _words(service.get("command", []))
        return self._start(name, [*_words(service.get("entrypoint", self.image.entrypoint)), *command])

    def probe(self, name: str) -> int:
        """What the file says about how to see that it is well: 0 if it is."""
        kind, *words = self.service(name)["healthcheck"]["test"]
        assert kind == "CMD"
        return self._start(name, words).wait()

    def end(self) -> None:
        """Kills what is left."""
        for container in self.containers:
            container.process.kill()
            container.process.wait()

    def _start(self, name: str, words: list[str]) -> Container:
        log = self.folder / f"{name}-{len(self.containers)}.log"
        read, write = os.pipe()
        with log.open("wb") as out, os.fdopen(read, "rb") as told:
            process = subprocess.Popen(
                [*self.places[name].prefix, "bwrap", "--info-fd", str(write), *self._walls(name), *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=[write],
            )
            os.close(write)
            text = told.read()
        assert text, log.read_text()
        container = Container(process, json.loads(text)["child-pid"], log)
        self.containers.append(container)
        return container

    def _walls(self, name: str) -> list[str]:
        """bubblewrap's words, and those that give up every right."""
        service = self.service(name)
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        words = [
            "--die-with-parent",
            "--unshare-pid",
            "--as-pid-1",
            "--unshare-ipc",
            "--unshare-uts",
            "--hostname",
            name,
        ]
        programs = dict.fromkeys((sys.base_prefix, sys.prefix, str(ROOT)))
        targets = [volume.split(":")[1] for volume in service["volumes"]]
        for folder in _parents([*SYSTEM, *programs, *targets]):
            # bubblewrap would make them for root alone.
            words += ["--perms", "0755", "--dir", folder]
        for path in SYSTEM:
            words += ["--ro-bind", path, path]
        for link in ("bin", "lib", "lib64", "sbin"):
            words += ["--symlink", f"usr/{link}", f"/{link}"]
        for file in ("hosts", "passwd", "group"):
            words += ["--ro-bind", str(self.folder / file), f"/etc/{file}"]
        # The program, in place of /opt/horologe.
        for path in programs:
            words += ["--ro-bind", path, path]
        words += ["--proc", "/proc", "--dev", "/dev"]
        for path in service["tmpfs"]:
            words += ["--perms", "1777", "--tmpfs", path]
        for volume in service["volumes"]:
            source, target, *mode = volume.split(":")
            words += ["--ro-bind" if mode == ["ro"] else "--bind", str(self._volume(source, target)), target]
        words += ["--remount-ro", "/", "--chdir", "/", "--clearenv"]
        path = f"{Path(sys.prefix) / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
        for key, value in {**self.image.environment, **service.get("environment", {}), "PATH": path}.items():
            assert isinstance(value, str), f"{name}: {key} is no text, and Docker would make one of it"
            words += ["--setenv", key, value]
        user, group = service["user"].split(":")
        rights = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        return [*words, "--", "setpriv", "--reuid", user, "--regid", group, *rights, "--"]

    def _volume(self, name: str, target: str) -> Path:
        """A volume that is empty becomes what the image has at that place: a folder of somebody."""
        assert name in self.content["volumes"], f"{name} is no volume"
        folder = self.folder / "volumes" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            mode = self.image.folders[target]
            folder.chmod(mode)
            os.chown(folder, self.image.user_number, self.image.user_number)
        return folder


@dataclass(frozen=True, slots=True)
class Image:
    """What of a Dockerfile's last stage decides how containers begin."""

    user_number: int
    entrypoint: list[str]
    environment: Mapping[str, str]
    folders: Mapping[str, int]
    """The folders of the user, with their modes."""

    @classmethod
    def read(cls, file: Path) -> Image:
        text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
        last = text.rpartition("\nFROM ")[2]
        lines = [line.partition(" ")[::2] for line in last.splitlines() if line.strip()]
        values = {word: rest.strip() for word, rest in lines}
        folders: dict[str, int] = {}
        for words in re.findall(r"install --directory ([^&\n]*)", last):
            _, _, _, _, _, mode, *paths = shlex.split(words)
            folders |= dict.fromkeys(paths, int(mode, 8))
        user, _, group = values["USER"].partition(":")
        assert user == group and f"--uid {user} " in last
        environment = dict(pair.split("=", 1) for pair in shlex.split(values["ENV"]))
        return cls(int(user), json.loads(values["ENTRYPOINT"]), environment, folders)


def _parents(paths: list[str]) -> list[str]:
    """All folders above, the upper ones first."""
    found = {str(parent) for path in paths for parent in Path(path).parents if parent != Path("/")}
    return sorted(found, key=len)


def _words(value: list[str] | str) -> list[str]:
    """A command of the file; `$$` is a dollar sign, and a single one would be a variable of whoever calls docker."""
    words = shlex.split(value) if isinstance(value, str) else value
    for word in words:
        assert "$" not in word.replace("$$", ""), word
    return [word.replace("$$", "$") for word in words]


def can_run() -> str:
    """Why containers cannot be run here; empty if they can."""
    missing = [program for program in ("bwrap", "setpriv", "ip") if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else "" if os.geteuid() == 0 else "this takes root"
