"""What a handler may tell, and how the newest of it is taken."""

import threading
from typing import Any

import pytest

import penstock.testing
from penstock.v1 import task_pb2
from penstock_worker import told


def test_the_newest_counts_and_a_checkpoint_is_taken_once() -> None:
    subject = told.Told()
    assert subject.take() is None
    subject.progress(0.1, "one")
    subject.save(b"a")
    subject.save(bytearray(b"b"))
    subject.progress(1, "two")
    assert subject.take() == task_pb2.Progress(fraction=1.0, message="two", checkpoint=b"b")
    assert subject.take() is None
    subject.progress(0.5, "")
    assert subject.take() == task_pb2.Progress(fraction=0.5)


def test_whoever_listens_is_called_once_until_it_is_taken() -> None:
    subject = told.Told()
    calls: list[int] = []
    subject.listen(lambda: calls.append(1))
    subject.save(b"a")
    subject.progress(0.5, "")
    assert len(calls) == 1
    subject.take()
    subject.progress(0.6, "")
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("fraction", "message", "error"),
    [
        (-0.1, "", ValueError),
        (1.1, "", ValueError),
        (float("nan"), "", ValueError),
        (float("inf"), "", ValueError),
        ("half", "", TypeError),
        (0.5, b"half", TypeError),
        (0.5, "x" * 1025, ValueError),
        (0.5, "ä" * 513, ValueError),
    ],
)
def test_progress_that_cannot_travel_is_refused(
    fraction: Any, message: Any, error: type[Exception]
) -> None:
    subject = told.Told()
    with pytest.raises(error):
        subject.progress(fraction, message)
    assert subject.take() is None


def test_progress_at_its_bounds() -> None:
    subject = told.Told()
    subject.progress(0, "ä" * 512)
    subject.progress(1, "\ud800")  # such as in the name of a file
    taken = subject.take()
    assert taken is not None
    assert taken.message == "\\ud800"


@pytest.mark.parametrize(
    ("data", "error"), [(b"", ValueError), (b"x" * 65_537, ValueError), ("text", TypeError)]
)
def test_a_checkpoint_that_cannot_travel_is_refused(data: Any, error: type[Exception]) -> None:
    task = penstock.testing.task(checkpoint=b"of before")
    with pytest.raises(error, match="checkpoint must"):
        task.save_checkpoint(data)
    assert (task.told.checkpoint, task.checkpoint) == (b"", b"of before")


def test_a_handlers_test_sees_what_was_told() -> None:
    task = penstock.testing.task(checkpoint=b"7")
    task.progress(0.25, "page 7")
    task.save_checkpoint(b"x" * 65_536)
    assert (task.told.fraction, task.told.message) == (0.25, "page 7")
    assert len(task.told.checkpoint) == 65_536
    assert task.checkpoint == b"7", "what the attempt began with"


def test_many_threads_tell_and_the_last_word_of_each_is_not_lost() -> None:
    subject = told.Told()
    taken: list[task_pb2.Progress] = []
    over = threading.Event()

    def tell() -> None:
        for number in range(200):
            subject.progress(number / 200, str(number))
            subject.save(str(number).encode())

    def take() -> None:
        while not over.is_set():
            found = subject.take()
            if found is not None:
                taken.append(found)

    taker = threading.Thread(target=take)
    tellers = [threading.Thread(target=tell) for _ in range(4)]
    for thread in (taker, *tellers):
        thread.start()
    for thread in tellers:
        thread.join()
    over.set()
    taker.join()
    last = subject.take()
    taken += [] if last is None else [last]
    assert (
        [each.checkpoint for each in taken if each.checkpoint][-1] == subject.checkpoint == b"199"
    )
    assert taken[-1].message == "199"
