"""The logs of containers that come back: each line is told once, and none is passed over."""

from rig.logs import Line, Lives


def _log(life: int, count: int) -> list[Line]:
    return [Line("pod", "uid", f"2026-11-01T00:0{life}:{n:02}Z", f"line {n}") for n in range(count)]


def test_a_broken_stream_goes_on_where_it_broke() -> None:
    lives = Lives()
    log = _log(1, 5)
    assert list(lives.unread(log[:3])) == log[:3]
    assert list(lives.unread(log)) == log[3:]
    assert list(lives.unread(log)) == []


def test_a_life_that_is_opened_as_the_one_before_is_told_from_its_first_line() -> None:
    lives = Lives()
    first, second = _log(1, 4), _log(2, 6)
    assert list(lives.unread(first)) == first
    assert list(lives.unread(second[:2])) == second[:2]
    assert list(lives.unread(second)) == second[2:]


def test_a_log_without_a_line_yet_is_no_life() -> None:
    lives = Lives()
    log = _log(1, 2)
    assert list(lives.unread([])) == []
    assert list(lives.unread(log)) == log
