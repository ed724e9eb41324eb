"""The words of scenario files about who may do what; see world.py. `as ada ...` does what follows in the name of ada."""

from __future__ import annotations

from typing import TYPE_CHECKING

from horologe.log.v1 import log_pb2
from horologe.raft.model import Code, Result
from support import commands
from support.driver import Driver
from support.spans import ms_of

if TYPE_CHECKING:

    class Base:
        """What World brings."""

        _driver: Driver

        def _do(self, command: log_pb2.Command) -> str: ...
        def _apply(self, command: log_pb2.Command) -> Result: ...
        def _put_all(self, names: tuple[str, ...]) -> Result: ...

else:
    Base = object


class AccessWords(Base):
    """Command words, as in World."""

    _actor: log_pb2.Actor | None = None

    def _speaker(self, arguments: list[str]) -> tuple[str, list[str]]:
        """The words that follow `as`, after the name (`ada`, or `ada/t1` with a token; `ada+dev,ops` from these groups)."""
        who, word, *rest = arguments
        name, _, token = who.partition("/")
        name, has_groups, groups = name.partition("+")
        self._actor = log_pb2.Actor(
            principal=name,
            token=token,
            has_groups=bool(has_groups),
            groups=[each for each in groups.split(",") if each],
        )
        return word, rest

    def secure(self, admin: str) -> str:
        return self._do(commands.begin_security(admin))

    def grant(self, subject: str, namespace: str, *what: str) -> str:
        """A role, or verbs."""
        return self._do(commands.set_grant(subject, namespace, *what))

    def take_away(self, subject: str, namespace: str) -> str:
        return self._do(commands.delete_grant(subject, namespace))

    def token(self, id_: str, principal: str, role: str = "", namespaces: str = "", expires: str = "") -> str:
        return self._do(
            commands.put_token(
                id_,
                principal,
                role=role,
                namespaces=namespaces.split(",") if namespaces else (),
                expire_time_ms=self._driver.now_ms + ms_of(expires) if expires else 0,
            )
        )

    def revoke_token(self, id_: str) -> str:
        return self._do(log_pb2.Command(revoke_token=log_pb2.RevokeToken(id=id_)))

    def disable(self, name: str) -> str:
        return self._do(log_pb2.Command(set_principal=log_pb2.SetPrincipal(name=name, disabled=True)))

    def enable(self, name: str) -> str:
        return self._do(log_pb2.Command(set_principal=log_pb2.SetPrincipal(name=name)))

    def secret(self, name: str, value: str) -> str:
        if value == "none":
            return self._do(log_pb2.Command(delete_secret=log_pb2.DeleteSecret(name=name)))
        return self._do(log_pb2.Command(set_secret=log_pb2.SetSecret(name=name, value=value.encode())))

    def create_all(self, *names: str) -> str:
        """Jobs without a schedule, in one command."""
        result = self._put_all(names)
        return "created" if result.code is Code.OK else f"refused: {result.code.name} ({result.text})"

    def owner(self, name: str) -> str:
        """In whose name a job runs, and how many jobs run in that name."""
        key = self._driver.tables.job_name.get(name.encode())
        assert key is not None, f"there is no job {name}"
        owner = self._driver.job(int.from_bytes(key, "big")).run_as
        raw = self._driver.tables.principal.get(owner.encode()) if owner else None
        return f"{owner}, of {log_pb2.PrincipalRecord.FromString(raw).job_count}" if raw else "nobody"
