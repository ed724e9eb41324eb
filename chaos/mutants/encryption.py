"""Mutants of what a node owes its keys: what is encrypted can be read in the next life, wherever it came from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from unittest.mock import patch

from horologe.chaos.mutants.disk import NO_WORKERS, RESTARTS
from horologe.chaos.mutants.ground import NODE_STOPPED, Ground
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.node import encryption_check
from horologe.node.keyring import Keyring
from horologe.raft.cipher import DataKey, new_data_key

# --- worlds -----------------------------------------------------------------------------------------------------------


def a_restart_after_a_snapshot(ground: Ground) -> None:
    """n3 is so far behind that it fetches the state; soon afterwards it is killed, and starts again."""
    ground.begin("n1")
    ground.crash("n3")
    ground.propose("n1", 60)
    ground.run(0.2)
    for name in ("n1", "n2"):
        ground.core(name).compact(ground.core(name).applied_index)
    ground.restart("n3")
    ground.wait(ground.is_converged, "n3 has the state")
    ground.run(ground.random.random())
    ground.restart("n3")
    ground.wait(ground.is_converged, "all agree")


# --- mutants ----------------------------------------------------------------------------------------------------------


def keep_new_keys_in_memory(ground: Ground) -> AbstractContextManager[object]:
    """A data key is used, and not written down."""
    del ground
    stack = ExitStack()
    stack.enter_context(patch.object(Keyring, "_make", lambda keyring: new_data_key()))
    stack.enter_context(patch.object(encryption_check, "prove", lambda *arguments: None))
    return stack


def keep_foreign_keys_in_memory(ground: Ground) -> AbstractContextManager[object]:
    """The data keys that come with a state are used, and not written down."""
    del ground

    def take_in(keyring: Keyring, keys: Sequence[DataKey], folder: Path) -> None:
        del folder
        keyring.cipher.add(keys)

    return patch.object(Keyring, "take_in", take_in)


FETCHED = Course("a restart after a snapshot", a_restart_after_a_snapshot, NO_WORKERS)
MUTANTS = (
    Mutant(
        "new_keys_kept",
        "A data key is used before it is in the keyring, and never gets there; and no node proves at its start that it is",
        RESTARTS,
        (NODE_STOPPED,),
        patch=keep_new_keys_in_memory,
    ),
    Mutant(
        "foreign_keys_kept",
        "The data keys that come with a state are used, and not put into the keyring",
        FETCHED,
        (NODE_STOPPED,),
        patch=keep_foreign_keys_in_memory,
    ),
)
