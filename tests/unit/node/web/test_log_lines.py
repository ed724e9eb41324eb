"""Output as lines, and going on from any place without losing or repeating one."""

from __future__ import annotations

import random

import pytest

from horologe.node.web.log_lines import LINE_BYTES_MAX, Line, LineReader, Place, readable

BEGINNING = Place(1)


def taken(pieces: list[tuple[bool, bytes]], start: Place = BEGINNING) -> list[tuple[Line, Place]]:
    """Lines, each with the place after the piece that ended it. Pieces have positions from 1."""
    reader = LineReader(start)
    found = []
    for position, (is_error, data) in enumerate(pieces, 1):
        if position > start.position:
            lines = reader.take(data, position, is_error=is_error)
            found += [(line, reader.place) for line in lines]
    return found + [(line, reader.place) for line in reader.finish()]


def test_lines_end_where_terminals_end_them() -> None:
    pieces = [(False, b"one\r\ntwo\n3"), (False, b"3\r"), (False, b"\n10%\r20%\r\nlast")]
    assert [line.text for line, _ in taken(pieces)] == ["one", "two", "33", "10%", "20%", "last"]


def test_streams_are_read_apart() -> None:
    pieces = [(False, b"out "), (True, b"err\n"), (False, b"put\n")]
    assert [line for line, _ in taken(pieces)] == [Line(True, "err"), Line(False, "out put")]


def test_a_letter_in_two_pieces() -> None:
    first, second = "ä\n".encode()[:1], "ä\n".encode()[1:]
    assert [line.text for line, _ in taken([(False, first), (False, second)])] == ["ä"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b(Bplain\x1bc", "plain"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"a\x1b", "a\x1b"),
    ],
)
def test_what_only_terminals_understand_is_left_out(raw: bytes, text: str) -> None:
    assert readable(raw) == text


def test_a_line_without_end_is_cut() -> None:
    lines = [line.text for line, _ in taken([(False, b"x" * (2 * LINE_BYTES_MAX + 1))])]
    assert [len(line) for line in lines] == [LINE_BYTES_MAX, LINE_BYTES_MAX, 1]


def test_going_on_from_any_place_gives_the_rest() -> None:
    chance = random.Random(7)
    for _ in range(300):
        pieces = [
            (chance.random() < 0.4, bytes(chance.choice(b"ab\n\r") for _ in range(chance.randrange(6))))
            for _ in range(chance.randrange(12))
        ]
        whole = taken(pieces)
        lines = [line for line, _ in whole]
        for number, (_, place) in enumerate(whole, 1):
            is_last_of_its_piece = number == len(whole) or whole[number][1] != place
            if not is_last_of_its_piece:
                continue
            rest = [] if place.attempt == 2 else [line for line, _ in taken(pieces, place)]
            assert rest == lines[number:], (pieces, place)


@pytest.mark.parametrize("text", ["", "1", "0-1-2", "1-2", "1-2-3-4", "a-b-c", "1--1-0", "1-²-0", "1-2-3\n"])
def test_what_is_no_place(text: str) -> None:
    assert Place.parse(text) is None


def test_a_place_is_written_and_read() -> None:
    assert Place.parse(str(Place(3, 17, 2))) == Place(3, 17, 2)
