"""An event made on demand behaves like one made at once."""

import threading

from penstock_worker import stopping


def test_it_is_set_once_and_for_all() -> None:
    event = stopping.StopEvent()
    assert not event.is_set()
    assert not event.wait(0.0)
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait()


def test_everybody_who_waits_is_woken() -> None:
    event = stopping.StopEvent()
    waiting = threading.Barrier(5)
    woken: list[bool] = []

    def wait() -> None:
        waiting.wait(10)
        woken.append(event.wait(30))

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    waiting.wait(10)
    event.set()
    for thread in threads:
        thread.join(30)
    assert woken == [True] * 4


def test_no_set_is_missed_between_asking_and_waiting() -> None:
    for _ in range(200):
        event = stopping.StopEvent()
        setter = threading.Thread(target=event.set)
        setter.start()
        assert event.wait(30)
        setter.join()
