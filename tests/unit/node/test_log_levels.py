"""Log levels that are changed for a time, and the last log lines without what looks like a secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from horologe.node.log_levels import CHANGES_MAX, LogLevelError, LogLevels
from horologe.node.recent_log import LINE_CHARACTERS_MAX, LINES_MAX, RecentLog, without_secrets

NAME = "horologe.test.log_levels"


class Clock:
    """Seconds, as a test says."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def levels(clock: Clock) -> Iterator[LogLevels]:
    root = logging.getLogger().level
    found = LogLevels(clock)
    yield found
    found.undo_all()
    assert logging.getLogger().level == root
    assert logging.getLogger(NAME).level == logging.NOTSET


def test_a_change_ends_by_itself(levels: LogLevels, clock: Clock) -> None:
    logger = logging.getLogger(NAME)
    levels.set(NAME, "debug", 60.0)
    assert logging.getLogger(f"{NAME}.below").isEnabledFor(logging.DEBUG)
    clock.now += 59.0
    levels.expire()
    # Changed once more: the usual level is still the one before the first change.
    levels.set(NAME, "error", 60.0)
    assert logger.level == logging.ERROR
    clock.now += 59.0
    levels.expire()
    assert [(change.logger, change.usual) for change in levels.changes()] == [(NAME, logging.NOTSET)]
    clock.now += 1.0
    levels.expire()
    assert (logger.level, levels.changes()) == (logging.NOTSET, [])


def test_all_loggers_and_back_at_once(levels: LogLevels) -> None:
    before = logging.getLogger().level
    levels.set("", "debug")
    assert logging.getLogger().level == logging.DEBUG
    levels.set("", "")
    levels.set("", "")
    assert logging.getLogger().level == before


@pytest.mark.parametrize(
    ("logger", "level", "seconds", "field"),
    [
        ("a b", "debug", 1, "logger"),
        ("x" * 300, "debug", 1, "logger"),
        (NAME, "loud", 1, "level"),
        (NAME, "debug", 0, "duration"),
        (NAME, "debug", 86_401, "duration"),
        (NAME, "debug", float("nan"), "duration"),
    ],
)
def test_what_there_is_not(levels: LogLevels, logger: str, level: str, seconds: float, field: str) -> None:
    with pytest.raises(LogLevelError) as caught:
        levels.set(logger, level, seconds)
    assert caught.value.field == field
    assert levels.changes() == []


def test_nobody_makes_loggers_without_end(levels: LogLevels) -> None:
    for number in range(CHANGES_MAX):
        levels.set(f"{NAME}.{number}", "debug")
    with pytest.raises(LogLevelError, match="100 loggers"):
        levels.set(f"{NAME}.more", "debug")
    levels.set(f"{NAME}.0", "info")


def test_the_last_lines_are_kept() -> None:
    recent = RecentLog()
    for number in range(LINES_MAX + 5):
        recent.handle(logging.LogRecord("n", logging.INFO, "f", 1, f"line {number} " + "x" * 5_000, None, None))
    lines = recent.lines()
    assert (len(lines), lines[0][:7], max(map(len, lines))) == (LINES_MAX, "line 5 ", LINE_CHARACTERS_MAX)


@pytest.mark.parametrize(
    "text",
    [
        "it was hlg_0123456789abcdef_MARKER-MARKER-MARKER",
        '{"authorization": "Bearer MARKER"}',
        "authorization: Basic MARKER==",
        "jwt eyJhbGciMARKER.eyJzdWIMARKER.MARKER",
        "POST https://hooks.example.com/services/MARKER/x?y=MARKER failed",
        "https://user:MARKER@host.example/",
        "-----BEGIN EC PRIVATE KEY-----\\nMARKER\\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\nMARKER cut off",
        "password=MARKER",
        '"smtp_password": "MARKER"',
        "client_secret='MARKER'",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    assert "MARKER" in text
    assert "MARKER" not in without_secrets(text)


@pytest.mark.parametrize(
    "text", ["token=[hidden]", "job namespaces/default/jobs/a", "http://n1:7400", "the secret is out"]
)
def test_other_words_stay(text: str) -> None:
    assert without_secrets(text) == text
