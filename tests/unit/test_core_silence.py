"""A worker of which nothing is heard: its leases end, and it gets no more work until it speaks."""

from collections.abc import Callable

import pytest

from penstock_dispatcher.core import effects, outcome, workers
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

Bench = pool_bench.Bench
State = tasks.TaskState

S = pool_bench.S


def given(bench: Bench) -> dict[str, str]:
    """Who was given what, since the last look."""
    return {each.task.id: each.session_id for each in bench.effects(effects.Assigned)}


def silenced(**changes: object) -> Bench:
    """`w` of three slots has lost `a` by silence, and has credit for two more; `a` waits."""
    bench = Bench(max_worker_losses=3, **changes)
    bench.worker("w", slots=3)
    bench.submit("a")
    assert given(bench) == {"a": "w"}
    bench.wait(6)
    assert bench.task("a").worker_losses == 1
    return bench


def test_a_task_is_not_given_to_a_silent_worker_again_while_others_are_idle() -> None:
    """A process that holds its interpreter's lock: its connection stays, and it says nothing."""
    bench = Bench(max_worker_losses=3, lease_ns=30 * S, heartbeat_ns=5 * S)
    for name in ("one", "two", "silent"):
        bench.worker(name, slots=10)
    bench.submit("a")
    assert given(bench) == {"a": "silent"}
    for _ in range(6):
        bench.wait(5)
        bench.beat("one")
        bench.beat("two")
    (lost,) = bench.effects(effects.LeasesLost)
    assert lost.session_id == "silent"
    task = bench.task("a")
    assert (task.state, task.worker_losses) == (State.RUNNING, 1)
    assert task.worker in ("one", "two")
    bench.end("a")
    assert (task.state, task.worker_losses) == (State.SUCCEEDED, 1)


def test_one_that_nobody_else_can_take_waits_for_the_worker_to_speak() -> None:
    bench = silenced()
    for _ in range(20):
        bench.wait(6)
        assert given(bench) == {}
    assert (bench.task("a").state, bench.task("a").worker_losses) == (State.PENDING, 1)
    assert bench.beat("w"), "the pool needs a turn"
    assert given(bench) == {"a": "w"}
    assert not bench.beat("w")


def test_it_has_the_credit_that_it_had() -> None:
    bench = silenced(max_pending=10)
    for name in ("b", "c"):
        bench.submit(name)
    assert given(bench) == {}
    bench.beat("w")
    # Of three slots granted, one went with the lease: it is granted anew when its attempt ends.
    assert given(bench) == {"a": "w", "b": "w"}
    bench.pool.fleet.credit("w", 1)
    assert given(bench) == {"c": "w"}


def late_outcome(bench: Bench) -> None:
    late = outcome.Outcome(lease_id="gone", token=1, kind=outcome.OutcomeKind.COMPLETED)
    bench.pool.fleet.outcomes("w", [late], bench.now)


def hello_again(bench: Bench) -> None:
    bench.worker("w", slots=3)


@pytest.mark.parametrize(
    "speak",
    [
        lambda bench: bench.pool.fleet.heartbeat("w", ["gone"], bench.now),
        lambda bench: bench.pool.fleet.credit("w", 0),
        lambda bench: bench.pool.fleet.credit("w", 1),
        lambda bench: bench.pool.fleet.progress("w", "gone", b"x", b""),
        late_outcome,
        hello_again,
    ],
    ids=["heartbeat", "no credit", "credit", "progress", "late outcome", "hello"],
)
def test_whatever_it_says_it_is_there_again(speak: Callable[[Bench], object]) -> None:
    bench = silenced()
    assert given(bench) == {}
    speak(bench)
    assert given(bench) == {"a": "w"}


@pytest.mark.parametrize("leaves", ["stopping", "reserved"])
def test_one_that_speaks_and_leaves_gets_nothing(leaves: str) -> None:
    bench = silenced()
    worker = bench.pool.fleet.workers.get("w")
    assert worker is not None
    if leaves == "stopping":
        bench.pool.fleet.stopping("w")
    else:
        bench.pool.reservations.drain(worker, reservation_id="r")
        bench.beat("w")
    assert given(bench) == {}
    assert worker.state is workers.WorkerState.DRAINING


def test_a_silent_worker_is_no_capacity_is_shown_as_lost_and_is_not_chosen_to_leave() -> None:
    bench = silenced()
    bench.pool.pause(True)
    bench.worker("other", slots=2)
    bench.pool.demand(bench.now)
    bench.now += 60 * S
    silent = bench.pool.fleet.workers.get("w")
    assert silent is not None
    assert bench.pool.stats(bench.now).slots_total == 2
    assert silent.state is workers.WorkerState.LOST
    reserved = bench.pool.reservations.reserve(
        count=2, idle_for_ns=S, revision="", reservation_id="r", now=bench.now
    )
    assert [worker.session_id for worker in reserved] == ["other"]
    bench.beat("w")
    assert bench.pool.stats(bench.now).slots_total == 3
    assert silent.state is workers.WorkerState.READY
    assert silent in bench.pool.demand(bench.now).workers, "the operator is told"


def test_a_drained_one_is_confirmed_by_its_own_word() -> None:
    bench = silenced()
    worker = bench.pool.fleet.workers.get("w")
    assert worker is not None
    bench.pool.reservations.drain(worker, reservation_id="r")
    bench.pool.reservations.confirm("w")
    assert worker.state is workers.WorkerState.DRAINED
    assert not worker.silent


def test_an_execution_that_takes_too_long_is_no_silence() -> None:
    bench = Bench(execution_timeout_ns=60 * S)
    bench.worker("w", slots=2)
    bench.submit("slow", execution_timeout_ns=5 * S)
    bench.submit("b")
    assert set(given(bench)) == {"slow", "b"}
    bench.now += 5 * S
    bench.beat("w")
    bench.wait(2)  # the grace
    assert bench.task("slow").lease is None
    worker = bench.pool.fleet.workers.get("w")
    assert worker is not None
    assert worker.takes_work
    assert bench.pool.stats(bench.now).slots_total == 2


def test_the_other_leases_of_a_silent_worker_go_on_as_long_as_their_own_time() -> None:
    bench = Bench(max_worker_losses=3, max_pending=10)
    bench.worker("w", slots=3)
    bench.submit("a")
    bench.effects()
    bench.now += 3 * S
    bench.submit("b")
    bench.effects()
    bench.wait(3)
    assert bench.task("a").lease is None
    assert bench.task("b").lease is not None
    bench.beat("w")
    assert given(bench) == {"a": "w"}
    bench.wait(3)
    assert bench.task("b").lease is not None


def test_a_stall_of_the_dispatcher_makes_nobody_silent() -> None:
    bench = Bench()
    bench.worker("w", slots=2)
    bench.submit("a")
    bench.effects()
    bench.now += 60 * S
    bench.pool.stalled(bench.now)
    bench.wait(0)
    bench.submit("b")
    assert given(bench) == {"b": "w"}
