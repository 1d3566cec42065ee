"""Calls from other threads: each once, in order, with few wake-ups."""

import asyncio
import threading

import pytest

from penstock_worker import handoff

CALLS, THREADS = 5_000, 4


class CountingLoop(asyncio.SelectorEventLoop):
    wakes = 0

    def call_soon_threadsafe(self, *args, **options):  # type: ignore[no-untyped-def]
        self.wakes += 1
        return super().call_soon_threadsafe(*args, **options)


def test_every_call_arrives_once_and_in_order() -> None:
    loop = CountingLoop()
    hand = handoff.Handoff(loop)
    seen: list[tuple[int, int]] = []

    def arrive(thread: int, number: int) -> None:
        seen.append((thread, number))
        if len(seen) == CALLS * THREADS:
            loop.stop()

    def send(thread: int) -> None:
        for number in range(CALLS):
            hand.call(arrive, thread, number)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    for number in range(THREADS):
        assert [call for thread, call in seen if thread == number] == list(range(CALLS))
    assert loop.wakes <= len(seen)
    loop.close()


def test_what_gathers_before_the_loop_looks_needs_one_wake_up() -> None:
    loop = CountingLoop()
    hand = handoff.Handoff(loop)
    seen: list[int] = []
    for number in range(100):
        hand.call(seen.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == list(range(100))
    assert loop.wakes == 1
    loop.close()


def test_a_call_that_fails_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    loop = CountingLoop()
    hand = handoff.Handoff(loop)
    seen: list[int] = []
    hand.call(int, "no number")
    hand.call(seen.append, 1)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1]
    assert "no number" in caplog.text
    loop.close()


def test_a_closed_loop_says_so_every_time() -> None:
    loop = CountingLoop()
    loop.close()
    hand = handoff.Handoff(loop)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            hand.call(print)
