"""Restoring with crashes anywhere in it: every task is in one of both pools, as it was, always."""

import dataclasses

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from penstock.v1 import task_pb2
from penstock_dispatcher.core import outcome, restoring
from penstock_dispatcher.core import task as tasks
from rig import twin_pools

Kind = outcome.OutcomeKind
TERMINAL_KINDS = [Kind.COMPLETED, Kind.FAILED, Kind.LOST]
NAMES = [f"t{number}" for number in range(8)]


@dataclasses.dataclass(frozen=True)
class Known:
    """What nobody may change by a move or a crash."""

    uid: str
    body: bytes
    attempt: int
    losses: int
    not_before: int
    schedule_time: int
    expire_time: int
    dead: bool
    failure: tasks.Failure | None
    checkpoint: bytes
    size: int
    keys: tuple[str, str, int]


def known(task: tasks.Task) -> Known:
    return Known(
        uid=task.uid,
        body=task.body,
        attempt=task.attempt,
        losses=task.worker_losses,
        not_before=task.not_before,
        schedule_time=task.schedule_time,
        expire_time=task.expire_time,
        dead=task.state is tasks.TaskState.DEAD_LETTERED,
        failure=task.failure,
        checkpoint=task.checkpoint,
        size=task.size,
        keys=(task.fairness_key, task.concurrency_key, task.slots),
    )


@st.composite
def deleted(draw: st.DrawFn) -> twin_pools.Twins:
    """A deleted pool with tasks that wait, were tried, are delayed, are over or dead letters."""
    twins = twin_pools.Twins()
    old = twins.old
    for name in NAMES:
        delay = draw(st.sampled_from([0, 0, 50]))
        old.submit(
            name,
            uid=f"uid-{name}",
            body=task_pb2.Task(type=name).SerializeToString(),
            priority=draw(st.integers(0, 2)),
            not_before=old.now + delay * 10**9 if delay else 0,
            expire_time=draw(st.sampled_from([0, old.now + 500 * 10**9])),
            request_id=f"r-{name}",
            fingerprint=7,
            fairness_key=draw(st.sampled_from(["", "f"])),
            concurrency_key=draw(st.sampled_from(["", "c"])),
            slots=draw(st.integers(1, 2)),
        )
    old.worker("w", slots=2)
    for kind in draw(st.lists(st.sampled_from(TERMINAL_KINDS), max_size=6)):
        for task_id in old.assigned():
            lease = old.task(task_id).lease
            assert lease is not None
            old.pool.fleet.progress("w", lease.id, b"", draw(st.sampled_from([b"", b"half"])))
            retryable = draw(st.booleans())
            old.end(task_id, kind, retryable=retryable)
    old.effects()
    old.pool.fleet.gone("w", "Deleted", old.now)
    twins.delete()
    old.effects()
    return twins


def kept(twins: twin_pools.Twins) -> dict[str, Known]:
    """What both pools hold. A name in both would be a task twice."""
    found: dict[str, Known] = {}
    for bench in (twins.old, twins.new):
        for name, task in bench.pool.book.tasks.items():
            assert name not in found, f"{name} is in both"
            found[name] = known(task)
    return found


@hypothesis_settings(deadline=None)
@given(
    deleted(),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=5),
)
def test_no_crash_loses_or_doubles_a_task(
    twins: twin_pools.Twins, parts: list[tuple[int, int]]
) -> None:
    before = kept(twins)
    places = [name for name in before if not twins.old.task(name).terminal]
    durable = twins.old.log.last
    for count, lost in parts:
        done = twins.restore(count)
        assert len(done) <= count
        # What was there before the restoring began was durable.
        twins = twins.crashed(lost=min(lost, twins.old.log.last, twins.old.log.last - durable))
        durable = 0
        assert kept(twins) == before
    twins.restore()
    twins = twins.crashed()
    assert kept(twins) == before
    moved = {name for name, task in before.items() if task.dead} | set(places)
    assert set(twins.new.pool.book.tasks) == moved
    assert restoring.remaining(twins.old.pool) == 0
    # In their order among themselves, and known by their request ids.
    by_sequence = sorted(places, key=lambda name: twins.new.task(name).sequence)
    assert by_sequence == places
    for name in moved:
        again = twins.new.submit("x", request_id=f"r-{name}", fingerprint=7)
        assert again.task is twins.new.task(name)
