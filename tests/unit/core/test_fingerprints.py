"""Errors that differ only in what changes from one time to the next have one fingerprint."""

from __future__ import annotations

import pytest

from horologe.node.fingerprints import fingerprint_of, normalised
from horologe.raft.dead_letters import EXECUTION_TIMEOUT_FINGERPRINT, LOST_FINGERPRINT, TIMEOUT_FINGERPRINT
from horologe.raft.failures import EXIT, HTTP, LOST, Failure


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("exit code 3", "exit code *"),
        ("KeyError: 'user-17'", "KeyError: *"),
        ('OperationalError: near "SELEKT": syntax error', "OperationalError: near *: syntax error"),
        ("order 0b1f5a9e-1111-4222-8333-9a4b5c6d7e8f is gone", "order * is gone"),
        ("<Thing object at 0x7FA740464D60>", "<Thing object at *>"),
        ("commit 18aba23f0 not found", "commit * not found"),
        ("cannot read /var/lib/app/17.db: no such file", "cannot read *: no such file"),
        ("a decade ago", "a decade ago"),  # letters that are hexadecimal digits too
        (
            "GET https://example.org/a: HTTP 503 Service Unavailable",
            "GET https://example.org/a: HTTP * Service Unavailable",
        ),
        ("took 1.5 s\n  of 2", "took *.* s of *"),
    ],
)
def test_what_changes_is_left_out(error: str, expected: str) -> None:
    assert normalised(error) == expected


def test_kinds_and_words_tell_errors_apart() -> None:
    assert fingerprint_of(Failure("KeyError"), "order 1") == fingerprint_of(Failure("KeyError"), "order 2")
    assert fingerprint_of(Failure("KeyError"), "order 1") != fingerprint_of(Failure("ValueError"), "order 1")
    assert fingerprint_of(Failure(EXIT, 1), "exit code 1") != fingerprint_of(Failure(EXIT, 2), "exit code 2")
    assert fingerprint_of(Failure(HTTP, None, 404), "HTTP 404") != fingerprint_of(Failure(HTTP, None, 503), "HTTP 503")


def test_no_worker_can_say_what_the_cluster_says_itself() -> None:
    own = {LOST_FINGERPRINT, TIMEOUT_FINGERPRINT, EXECUTION_TIMEOUT_FINGERPRINT}
    assert len(own) == 3
    assert all(fingerprint_of(Failure(LOST), str(number)) >= 1 << 63 for number in range(100))
    assert max(own) < 1 << 63
