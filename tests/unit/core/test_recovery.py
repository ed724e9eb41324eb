"""What a lone member makes of its data when the others are lost for good (raft/recovery.py, node/recover.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import commands
from support.keys import keyring_of, store_of
from typer.testing import CliRunner

from horologe.client.cli.main import build
from horologe.log.v1 import log_pb2
from horologe.raft.core_messages import REGULAR_COMMAND
from horologe.raft.journal import Journal
from horologe.raft.machine import NUMBER_GAP, StateMachine, cluster_id_of, first_cluster_id_of
from horologe.raft.membership import CONFIGURATION_COMMAND_TYPE, Configuration, Member, to_message
from horologe.raft.model import Counters
from horologe.raft.recovery import CannotRecoverError, findings, recover
from horologe.raft.store import Store

MEMBERS = Configuration.of(("n1", "n2", "n3"))
REQUEST_ID = b"r" * 16


class Member1:
    """The folder of a member with six entries: three applied, four known as committed."""

    def __init__(self, folder: Path, configuration: Configuration = MEMBERS) -> None:
        self.store = Store(folder, "n1", bytes_max=1 << 26)
        self.journal = Journal(self.store)
        self.journal.setCurrentTerm(5, "n2")
        for command in (
            commands.bootstrap("old"),
            log_pb2.Command(change_membership=log_pb2.ChangeMembership(configuration=to_message(configuration))),
            commands.requested(commands.create("tick"), REQUEST_ID),
            commands.connect(),
            commands.run("tick"),
        ):
            self._append(command)
        self.journal.setRaftCommitIndex(4)
        machine = StateMachine()
        for index in (2, 3):
            item = self.journal.entry_at(index)
            assert item is not None
            machine.apply(self.store.tables, index, log_pb2.Entry.FromString(item[0][1:]))
        self.journal.set_applied_index(3)
        self.store.commit()

    def _append(self, command: log_pb2.Command) -> None:
        kind = CONFIGURATION_COMMAND_TYPE if command.HasField("change_membership") else REGULAR_COMMAND
        entry = log_pb2.Entry(time_ms=1_800_000_000_000, commands=[command]).SerializeToString()
        self.journal.add(bytes([kind]) + entry, self.journal.last_index + 1, 4)


@pytest.fixture
def member(tmp_path: Path) -> Member1:
    return Member1(tmp_path / "data" / "state")


def test_what_a_member_has_is_told(member: Member1) -> None:
    found = findings(member.journal, member.store.tables, "n1")
    assert (found.cluster_id, found.term, found.configuration) == ("old", 5, MEMBERS)
    assert (found.last_index, found.last_term, found.commit_index, found.applied_index) == (6, 4, 4, 3)
    assert found.unconfirmed_count == 2


def test_a_recovered_member_is_alone_in_another_cluster_and_has_forgotten_nothing(member: Member1) -> None:
    store, own = member.store, Member("n1", "ab", "h:1")
    begin = recover(member.journal, store, store.tables, own, "new")
    store.commit()
    journal = Journal(store)
    assert journal.first_index == journal.last_index == journal.commit_index == journal.applied_index == begin
    assert (journal.hard_state.term, journal.hard_state.voted_for) == (6, None)
    assert journal.configuration is not None
    assert journal.configuration.index == begin
    assert journal.configuration.configuration == Configuration((own,), (), "new")
    tables = store.tables
    assert (cluster_id_of(tables), first_cluster_id_of(tables)) == ("new", "old")
    assert tables.request.get(REQUEST_ID) is not None
    counters = Counters.load(tables)
    assert (counters.jobs, counters.queued + counters.running) == (1, 1)


def test_no_number_is_given_twice(member: Member1) -> None:
    """Tokens and revisions are indexes; executions and sessions are counted."""
    begin = recover(member.journal, member.store, member.store.tables, Member("n1"), "new")
    counters = Counters.load(member.store.tables)
    assert min(begin, counters.last_execution, counters.last_session) > NUMBER_GAP
    change = log_pb2.ChangeMembership(configuration=to_message(Configuration((Member("n1"), Member("n2")), (), "new")))
    entry = log_pb2.Entry(commands=[log_pb2.Command(change_membership=change)])
    StateMachine().apply(member.store.tables, begin + 1, entry)
    assert Counters.load(member.store.tables).last_execution == counters.last_execution
    assert first_cluster_id_of(member.store.tables) == "old"


def test_names_that_are_gone_stay_gone_and_so_does_who_was_removed(tmp_path: Path) -> None:
    left = Member1(tmp_path / "left", MEMBERS.without("n3"))
    recover(left.journal, left.store, left.store.tables, Member("n1"), "new")
    left.store.commit()
    configuration = Journal(left.store).configuration
    assert configuration is not None
    assert configuration.configuration.removed == ("n3",)
    removed = Member1(tmp_path / "removed", MEMBERS.without("n1"))
    with pytest.raises(CannotRecoverError, match="removed from the cluster"):
        findings(removed.journal, removed.store.tables, "n1")


def test_an_empty_folder_has_nothing_to_recover(tmp_path: Path) -> None:
    store = Store(tmp_path / "state", "n1", bytes_max=1 << 26)
    with pytest.raises(CannotRecoverError, match="nothing to recover"):
        findings(Journal(store), store.tables, "n1")


@pytest.fixture
def config(member: Member1, tmp_path: Path) -> Path:
    """The configuration file of that member, which is stopped; its keys are in its folder."""
    member.store.close()
    (tmp_path / "data" / "state" / "data.mdb").rename(tmp_path / "aside")
    keyring = keyring_of(tmp_path / "data")
    keyring.open()
    keyring.take_in(member.store.cipher.keys, tmp_path / "gone")
    (tmp_path / "aside").rename(tmp_path / "data" / "state" / "data.mdb")
    path = tmp_path / "node.toml"
    members = ", ".join(f'{{name = "n{number}", peer_address = "127.0.0.1:750{number}"}}' for number in (1, 2, 3))
    path.write_text(
        f'name = "n1"\ndata_dir = "data"\npeer_listen = "127.0.0.1:7501"\ninsecure = true\nmembers = [{members}]\n'
    )
    return path


def test_the_command_asks_and_says_what_is_lost(config: Path) -> None:
    refused = CliRunner().invoke(build(), ["cluster", "recover", "--config", str(config)], input="n2\n")
    assert refused.exit_code == 1
    assert "nothing was changed" in refused.stderr
    assert "must never come back: n2, n3." in refused.stderr
    assert "Of its last 2 entries nobody knows" in refused.stderr
    assert "6 of term 4" in refused.stdout
    done = CliRunner().invoke(build(), ["cluster", "recover", "--config", str(config)], input="n1\n")
    assert done.exit_code == 0, done.output
    assert "n1 is now the only member of cluster" in done.stdout
    store = store_of(config.parent / "data", "n1", bytes_max=1 << 26)
    assert cluster_id_of(store.tables) in done.stdout
    store.close()


def test_the_command_refuses_a_node_that_runs_and_a_folder_that_is_none(config: Path, tmp_path: Path) -> None:
    command = ["cluster", "recover", "--config", str(config), "--yes-i-lose", "n1"]
    running = store_of(config.parent / "data", "n1", bytes_max=1 << 26)
    assert "another process has it open" in CliRunner().invoke(build(), command).stderr
    running.close()
    config.write_text(config.read_text().replace('"data"', '"elsewhere"'))
    nothing = CliRunner().invoke(build(), command)
    assert nothing.exit_code == 1
    assert "holds no node's state" in nothing.stderr
    assert not (tmp_path / "elsewhere").exists()
    config.write_text("nonsense = 1\n")
    assert CliRunner().invoke(build(), command).exit_code == 2
