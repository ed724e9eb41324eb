"""`horologe cluster recover`: the last resort after the loss of a majority. What people must know before they do it.

What it does to the data is in raft/recovery.py. It works on the folder of a stopped node, and asks before it writes.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from horologe.node.clock import process_clock
from horologe.node.config import NodeConfig
from horologe.node.key_sources import key_source_of
from horologe.node.keyring import Keyring
from horologe.raft import recovery
from horologe.raft.journal import Journal
from horologe.raft.membership import Member
from horologe.raft.recovery import CannotRecoverError, Findings
from horologe.raft.store import Store


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came of it."""

    cluster_id: str
    index: int


class Recovery:
    """The folder of one stopped node, held open so that nobody starts it meanwhile. Use in `with`.

    Raises StoreError, CorruptLogError or CannotRecoverError.
    """

    def __init__(self, config: NodeConfig) -> None:
        folder = config.data_dir / "state"
        if not (folder / "data.mdb").exists():
            raise CannotRecoverError(f"{folder} holds no node's state; correct `data_dir`")
        self._config = config
        keyring = Keyring(folder, key_source_of(config), process_clock().wall_ms)
        self._store = Store(folder, config.name, bytes_max=config.store_bytes_max, open_cipher=keyring.open)
        try:
            self._store.check()
            self._journal = Journal(self._store)
            self.findings = recovery.findings(self._journal, self._store.tables, config.name)
        except BaseException:
            self._store.close()
            raise

    def __enter__(self) -> Recovery:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def others(self) -> list[str]:
        """Names of the members that are given up."""
        configuration = self.findings.configuration
        names = configuration.by_name if configuration is not None else [each.name for each in self._config.members]
        return sorted(set(names) - {self._config.name})

    def commit(self) -> Recovered:
        """Does it."""
        cluster_id = str(uuid.uuid4())
        member = Member(self._config.name, self._store.id, self._config.peer_advertised)
        index = recovery.recover(self._journal, self._store, self._store.tables, member, cluster_id)
        self._store.commit()
        return Recovered(cluster_id, index)


def details(config: NodeConfig, found: Findings) -> list[tuple[str, str]]:
    """Labels and values: what this node has, to be compared with the other nodes that are left."""
    time = datetime.fromtimestamp(found.log_time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return [
        ("Node", f"{config.name} in {config.data_dir}"),
        ("Cluster", found.cluster_id),
        ("Last entry", f"{found.last_index} of term {found.last_term}"),
        ("Committed, as far as it knows", f"up to {found.commit_index}"),
        ("Last applied entry", f"{found.applied_index}, of {time.replace('+00:00', 'Z')}"),
        ("Newest term that it has seen", str(found.term)),
    ]


def warnings(name: str, others: list[str], found: Findings) -> list[str]:
    """What it costs, one sentence or two each."""
    lost = ", ".join(others) or "no other member"
    count = found.unconfirmed_count
    return [
        f"{name} becomes the only member of a new cluster. This cannot be undone; copy its folder before.",
        f"What the others acknowledged and {name} never received is lost: jobs, changes, outcomes. If another node is left whose "
        "last entry is of a newer term, or of the same term and later, recover that one instead.",
        f"Everything in the log of {name} counts as committed from now on. Of its last {count} entries nobody knows whether a "
        "majority had them: their callers may have been told nothing."
        if count
        else f"Everything in the log of {name} was committed, as far as it knows.",
        f"These must never come back: {lost}. Remove their data folders first. A majority of them would go on as the old "
        "cluster beside this one, and both would run every job.",
        "What ran when the majority was lost may run again, by each job's `on_lease_loss`. Output on the others is gone.",
    ]
