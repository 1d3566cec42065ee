"""A watch that is resumed, cut and resumed again ends with everything as it is, and with a mark."""

import asyncio
import random
import types

import pytest

from penstock_dispatcher import resuming, watches
from penstock_dispatcher.core import afterlife, effects, outcome
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.services import listing, watching
from rig import pool_bench

TASKS = 60
STEPS = 400


class Pool:
    """A pool on the bench, whose records become durable some time after they were made."""

    def __init__(self) -> None:
        self.bench = pool_bench.Bench(max_pending=100_000, max_pending_bytes=100_000)
        self.pool = self.bench.pool
        self.watches = watches.Watches()
        self.commits = types.SimpleNamespace(durable_lsn=0)
        self.order = listing.Order()
        self.count = 0

    def now(self) -> int:
        return self.bench.now

    def submit(self, count: int = 1) -> None:
        for _ in range(count):
            self.bench.submit(f"t{self.count}")
            self.count += 1

    def worker(self) -> None:
        self.bench.worker("w", slots=5)

    def turn(self, durable_lsn: int | None = None) -> None:
        """Records up to that one are durable (None = all), and it is told of."""
        last = self.bench.log.last
        self.commits.durable_lsn = last if durable_lsn is None else durable_lsn
        for each in self.pool.take_effects(self.commits.durable_lsn, self.now()):
            if isinstance(each, effects.TaskChanged):
                self.watches.changed(self.pool, each, self.now())
        self.watches.turned(self.pool, self.commits.durable_lsn)


class Client:
    """Reads streams of one watch, one after the other."""

    def __init__(self, served: Pool, ids: tuple[str, ...] = ()) -> None:
        self.served = served
        self.ids = ids
        self.token = ""
        self.states: dict[str, int] = {}
        self.read = self.marks = 0
        self.gate = asyncio.Semaphore(0)
        self.stream: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Goes on from the last token."""
        pool = self.served.pool
        seen = resuming.seen(self.token, pool.book.tokens.epoch) if self.token else None
        made = watches.Watch(pool, frozenset(self.ids), lambda _: True)
        self.made, self.gate = made, asyncio.Semaphore(0)
        catch_up = watching.CatchUp(
            self.served,  # type: ignore[arg-type] - the part of a pump that counts here
            made,
            self.ids,
            lambda _: self.served.order,
            seen=seen,
        )
        self.served.watches.add(made, self.served.commits.durable_lsn)
        self.stream = asyncio.ensure_future(made.run(self._write, first=catch_up.run()))

    async def _write(self, event: watches.Event) -> None:
        await self.gate.acquire()
        self.token = event.resume_token
        self.read += 1
        if event.HasField("task"):
            self.states[event.task.name.rpartition("/")[2]] = event.task.state
        else:
            self.marks += 1

    async def reads(self, count: int) -> None:
        """As many events as that, if there are."""
        for _ in range(count):
            self.gate.release()
        await settle()

    async def close(self) -> None:
        assert self.stream is not None
        self.served.watches.remove(self.made)
        self.stream.cancel()
        await asyncio.gather(self.stream, return_exceptions=True)

    @property
    def over(self) -> bool:
        assert self.stream is not None
        return self.stream.done()


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def something(served: Pool, chance: random.Random) -> None:
    """One thing that may happen to a pool."""
    pool, there = served.pool, list(served.pool.book.tasks.values())
    task = chance.choice(there) if there else None
    match chance.randrange(5):
        case 0:
            served.submit(chance.randint(1, 4))
        case 1 if task is not None:
            pool.cancel(task, "", served.now())
        case 2 if task is not None and task.lsn <= served.commits.durable_lsn:
            afterlife.delete(pool.book, task)
        case _ if task is not None and task.lease is not None:
            kind = chance.choice((outcome.OutcomeKind.COMPLETED, outcome.OutcomeKind.FAILED))
            failure = tasks.Failure(code=2, reason="R", message="")
            failed = kind is outcome.OutcomeKind.FAILED
            served.bench.end(task.id, kind, failure=failure if failed else None)
    first = served.commits.durable_lsn
    durable_lsn = chance.randint(first, served.bench.log.last)
    if chance.randrange(2):
        served.turn(durable_lsn)
    else:
        served.commits.durable_lsn = durable_lsn  # the turn comes later


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("bound", [6, watches.EVENTS_MAX])
@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_missed(
    seed: int, bound: int, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "EVENTS_MAX", bound)
    monkeypatch.setattr(listing, "STEP_TASKS", 7)
    chance = random.Random(seed)
    served = Pool()
    served.worker()
    client = Client(served, tuple(f"t{number}" for number in range(0, TASKS, 3)) if named else ())
    client.open()
    await client.reads(1)
    await client.close()
    served.submit(TASKS)
    served.turn()
    client.open()
    for _ in range(STEPS):
        match chance.randrange(8):
            case 0:
                await client.close()
            case 1 | 2 | 3:
                await client.reads(chance.randint(1, 5))
            case _:
                something(served, chance)
        if client.over:
            await client.close()
            client.open()
    served.turn()
    served.turn()
    await client.close()
    marks = client.marks
    client.open()
    await client.reads(10_000)
    for _ in range(20):
        await settle()
    assert (client.over, client.marks) == (False, marks + 1)
    there = served.pool.book.tasks
    watched = {id_: task for id_, task in there.items() if not named or id_ in client.ids}
    shown = {id_: client.states.get(id_) for id_ in watched}
    assert shown == {id_: task.state.value for id_, task in watched.items()}
    await client.close()


async def test_what_is_durable_and_not_yet_told_is_missed_by_no_token() -> None:
    served = Pool()
    served.submit()
    served.commits.durable_lsn = served.bench.log.last
    client = Client(served)
    client.open()
    await client.reads(1)
    assert client.marks == 1
    await client.close()
    served.turn()
    client.open()
    await client.reads(2)
    assert client.states == {"t0": tasks.TaskState.PENDING.value}
    await client.close()


async def test_changes_before_the_walk_are_no_burden() -> None:
    served = Pool()
    client = Client(served)
    client.open()
    await client.reads(1)
    await client.close()
    served.submit(2 * watches.EVENTS_MAX)
    served.turn()
    client.open()
    await client.reads(1)
    for task in list(served.pool.book.tasks.values())[10:]:
        served.pool.cancel(task, "", served.now())
    served.turn()
    await client.reads(2 * watches.EVENTS_MAX)
    assert (client.over, client.marks, client.read) == (False, 2, 2 * watches.EVENTS_MAX + 2)
    cancelled = [state == tasks.TaskState.CANCELLED.value for state in client.states.values()]
    assert cancelled == [False] * 10 + [True] * (2 * watches.EVENTS_MAX - 10)
    await client.close()


async def test_what_was_read_is_not_read_again() -> None:
    served = Pool()
    client = Client(served)
    client.open()
    await client.reads(1)
    await client.close()
    served.submit(1_000)
    served.turn()
    for _ in range(5):
        client.open()
        await client.reads(100)
        # More than is kept for anybody: what it has shown is not lost by that.
        served.submit(watches.EVENTS_MAX + 1)
        served.turn()
        await client.reads(1)
        await client.close()
    assert len(client.states) == client.read - 1 >= 5 * 100
    client.open()
    await client.reads(20_000)
    for _ in range(20):
        await settle()
    assert (client.marks, len(client.states)) == (2, served.count)
    await client.close()


@pytest.mark.parametrize(
    "text", ["", "x", "1", "1.", "1.2.3", "1.2.3.4.5", "1.2.x.4", "1.-2", "-1.2", "1.2_3", "1. 2"]
)
def test_only_its_own_tokens_say_something(text: str) -> None:
    with pytest.raises(watches.errors.Refusal):
        resuming.seen(text, 1)


def test_a_number_that_nobody_gave_costs_nothing() -> None:
    with pytest.raises(watches.errors.Refusal):
        resuming.seen("1." + "f" * 15_000_000, 1)


def test_a_token_of_another_run_says_nothing() -> None:
    plain = resuming.token(7, 300)
    assert resuming.seen(plain, 7) == (300, -1, resuming.EVERY)
    assert resuming.seen(plain + resuming.suffix(-1, 20), 7) == (300, -1, 20)
    assert resuming.seen(plain + resuming.suffix(-1, 20), 8) == resuming.Seen()
