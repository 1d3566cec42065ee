"""What a child writes is kept within bounds, however it comes."""

import pytest

from penstock_worker import capture


def pieces(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_result_is_kept_up_to_its_bound_and_not_beyond(size: int) -> None:
    exact, more = capture.Result(10), capture.Result(10)
    for piece in pieces(b"0123456789", size):
        exact.feed(piece)
        more.feed(piece)
    assert (exact.content(), exact.too_large) == (b"0123456789", False)
    more.feed(b"x")
    assert (more.content(), more.too_large) == (b"", True)
    more.feed(b"y")
    assert more.content() == b"", "nothing is kept any more"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_tail_is_the_last_part(size: int) -> None:
    short, long = capture.Tail(20), capture.Tail(20)
    for piece in pieces(b"short\n", size):
        short.feed(piece)
    assert short.text() == "short"
    for piece in pieces(b"x" * 500 + b"the end of it\n", size):
        long.feed(piece)
    assert long.text().startswith("…xxx")
    assert long.text().endswith("the end of it")
    assert len(long.text()) <= 21


def test_a_tail_is_text_whatever_it_was() -> None:
    tail = capture.Tail(100)
    tail.feed("ü".encode()[:1])
    tail.feed("ü".encode()[1:] + b"\xff")
    assert tail.text() == "ü\\xff"


def test_lines_come_whole() -> None:
    lines = capture.Lines(10)
    assert lines.feed(b"on") == []
    assert lines.feed(b"e\ntwo\r\n\n  \nthr") == ["one", "two"]
    assert lines.feed(b"ee\n") == ["three"]
    assert lines.end() == []
    assert lines.feed(b"rest") == []
    assert lines.end() == ["rest"]


def test_long_lines_come_in_parts_and_nothing_is_held_beyond_the_bound() -> None:
    lines = capture.Lines(4)
    assert lines.feed(b"0123456789") == ["0123", "4567"]
    assert lines.feed(b"ab\ncd") == ["89ab"]
    assert lines.feed(b"efgh\n") == ["cdef", "gh"]


def test_a_line_forges_nothing() -> None:
    assert capture.Lines(100).feed(b"\x1b[2Ja\rb\tc\xe2\x80\xa8d\n") == ["\\x1b[2Ja\\rb\tc\\u2028d"]
