"""The local fleet on a screen and in lines."""

import io

import pytest
import rich.console

from penstock.cli import board
from penstock_operator import demand, status
from penstock_operator.local import picture

SCALE = status.LastScale(time=100.0, before=1, after=4, reason="Demand", message="3 + 1 = 4")


def pool(**changes: object) -> picture.PoolPicture:
    load = demand.Demand(
        pending_by_priority={5: 2, 0: 1},
        delayed=1,
        in_flight=3,
        slots_in_use=3,
        slots_total=4,
        completion_rate=12.34,
        oldest_pending_time=58.0,
        succeeded_total=40,
        failed_total=2,
    )
    found = {
        "name": "namespaces/default/pools/p",
        "load": load,
        "known": True,
        "starting": 0,
        "ready": 1,
        "busy": 3,
        "draining": 0,
        "wanted": 4,
        "scales": (SCALE,),
        "problem": "",
        **changes,
    }
    return picture.PoolPicture(**found)  # type: ignore[arg-type]


def seen(seconds: float, *pools: picture.PoolPicture, problem: str = "") -> picture.Picture:
    return picture.Picture(
        stage=picture.Stage.RUNNING,
        seconds=seconds,
        now=100.0 + seconds,
        address="127.0.0.1:1",
        pools=pools,
        problem=problem,
    )


def test_the_table_says_everything() -> None:
    text = io.StringIO()
    rich.console.Console(file=text, width=200).print(
        board.table(seen(3, pool(problem="[red]no module")))
    )
    said = text.getvalue()
    for words in (
        "3 (5: 2, 0: 1) + 1 delayed",
        "4: 3 busy, 1 ready",
        "3/4",
        "12.3/s",
        "45s",
        "p: 1 → 4 workers (Demand): 3 + 1 = 4 (3s ago)",
        "p: [red]no module",
        "Ctrl-C",
    ):
        assert words in said


def test_lines_come_when_something_changes(capsys: pytest.CaptureFixture[str]) -> None:
    shown = board.Board()
    with shown:
        shown.show(seen(0, pool(scales=())))
        shown.show(seen(0.2, pool()))
        shown.show(seen(0.4, pool(busy=4), problem="the dispatcher has ended"))
        shown.show(seen(0.6, pool(busy=4, problem="died; the next one starts in 3 s")))
        shown.show(seen(0.8, pool(busy=4, problem="died; the next one starts in 2 s")))
        shown.show(seen(1.2, pool(busy=4)))
        shown.show(seen(5.0, pool(busy=4)))
    lines = [line.split(" s  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    line = "p: queued 3 (5: 2, 0: 1) + 1 delayed, running 3"
    assert lines == [
        "running, dispatcher at 127.0.0.1:1",
        f"{line}, workers 4: 3 busy, 1 ready, done 40, failed 2",
        "p: 1 → 4 workers (Demand): 3 + 1 = 4",
        "the dispatcher has ended",
        "p: died",
        f"{line}, workers 5: 4 busy, 1 ready, done 40, failed 2",
    ]


def test_a_pool_outside_of_the_default_namespace() -> None:
    assert board.short("namespaces/default/pools/p") == "p"
    assert board.short("namespaces/n/pools/p") == "n/p"
