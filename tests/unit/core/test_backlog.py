"""What a leader has appended and not applied yet."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.backlog import Backlog


def command(origin: str, origin_id: int) -> log_pb2.Command:
    return log_pb2.Command(origin=origin, origin_id=origin_id)


def test_it_knows_how_much_and_what_is_on_its_way() -> None:
    backlog = Backlog()
    backlog.add(5, 100, [command("n1", 1), command("n2", 1)])
    backlog.add(6, 20, [command("n1", 2)])
    assert backlog.size_bytes == 120
    asked = [command("n1", 1), command("n1", 3), command("n2", 2), command("n2", 1)]
    assert backlog.without_repeats(asked) == [command("n1", 3), command("n2", 2)]
    backlog.applied(5)
    assert backlog.size_bytes == 20
    assert backlog.without_repeats(asked) == asked
    backlog.applied(4)
    assert backlog.size_bytes == 20, "an entry of another leader"
    backlog.clear()
    assert backlog.size_bytes == 0
    assert backlog.without_repeats([command("n1", 2)]) == [command("n1", 2)]


def test_of_copies_that_come_together_the_first_is_taken() -> None:
    first, second = command("n1", 1), command("n1", 1)
    second.barrier.SetInParent()
    [taken] = Backlog().without_repeats([first, second])
    assert taken is first


def test_a_command_without_an_id_is_never_a_repeat() -> None:
    backlog = Backlog()
    backlog.add(1, 10, [command("", 0)])
    assert len(backlog.without_repeats([command("", 0), command("", 0)])) == 2
