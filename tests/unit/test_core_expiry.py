"""By when a task must start, and what counts as an end."""

import pytest

from penstock_dispatcher.core import admission, outcome, units
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
T0 = pool_bench.T0
State = tasks.TaskState
Bench = pool_bench.Bench


@pytest.mark.parametrize("how", ["its worker is lost", "it is handed back"])
def test_what_has_started_does_not_expire(how: str) -> None:
    bench = Bench()
    bench.worker("w1")
    bench.submit("a", expire_time=T0 + 5 * S)
    assert bench.assigned() == ["a"]
    if how == "its worker is lost":
        bench.pool.fleet.gone("w1", "Error", bench.now)
    else:
        bench.end("a", outcome.OutcomeKind.RELEASED, execution_time_ns=1)
        bench.pool.fleet.gone("w1", "Error", bench.now)
    assert bench.assigned() == []
    for each in (bench, bench.restarted()):
        each.wait(20)
        each.pool.tick(each.now)
        assert each.task("a").state is State.PENDING
        each.worker("w2")
        assert each.assigned() == ["a"]


def test_what_never_arrived_may_still_expire() -> None:
    bench = Bench()
    bench.worker("w1")
    bench.submit("a", expire_time=T0 + 5 * S)
    assert bench.assigned() == ["a"]
    bench.worker("w1", credit=0)  # it comes back, and knows of nothing
    assert bench.assigned() == []
    bench.wait(6)
    bench.pool.tick(bench.now)
    assert bench.task("a").state is State.EXPIRED


def test_what_is_called_off_while_it_waits_completes_nothing() -> None:
    bench = Bench(max_pending=1000, max_pending_bytes=1000)
    for number in range(300):
        bench.submit(f"c{number}")
        bench.submit(f"e{number}", expire_time=T0 + S)
    bench.effects()
    for number in range(300):
        bench.pool.cancel(bench.task(f"c{number}"), "not wanted", bench.now)
    bench.wait(1)
    bench.pool.tick(bench.now)
    stats = bench.pool.stats(bench.now)
    assert stats.pending == 0
    assert (stats.completion_per_second, stats.estimated_wait_ns) == (0.0, -1)


def test_the_pools_time_to_live_begins_when_a_task_may_start() -> None:
    bench = Bench(ttl_ns=2 * S)
    bench.submit("now")
    bench.submit("later", not_before=T0 + 10 * S)
    bench.effects()
    assert bench.task("now").expire_time == T0 + 2 * S
    assert bench.task("later").expire_time == T0 + 12 * S
    bench.wait(3)
    bench.pool.tick(bench.now)
    assert (bench.task("now").state, bench.task("later").state) == (State.EXPIRED, State.DELAYED)
    bench.wait(8)
    bench.worker("w")
    assert bench.assigned() == ["later"]


def test_what_would_expire_before_it_may_start_is_refused() -> None:
    bench = Bench()
    end = T0 + 9 * S
    for start in (end, end + S):
        refused = bench.submit("never", not_before=start, expire_time=end)
        assert refused.reason is admission.AdmissionReason.UNSCHEDULABLE
        assert refused.message.startswith("expire_time leaves no time to start")
    fields = {"expire_time": end, "request_id": "nightly", "fingerprint": 1}
    assert bench.submit("a", not_before=end - 1, **fields).admitted
    # Sent again a moment later, with the same delay: it is the same task.
    again = bench.submit("b", not_before=end + S, **fields)
    assert again.reason is admission.AdmissionReason.DUPLICATE


@pytest.mark.parametrize("crossed", ["its worker had said goodbye", "its worker handed it back"])
def test_what_is_handed_back_unstarted_may_still_expire(crossed: str) -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a", expire_time=T0 + 5 * S)
    assert bench.assigned() == ["a"]
    if crossed == "its worker had said goodbye":
        bench.pool.fleet.goodbye("w", bench.now)
    else:
        bench.pool.fleet.stopping("w")
        bench.end("a", outcome.OutcomeKind.RELEASED)
    bench.effects()
    assert bench.task("a").expire_time == T0 + 5 * S
    bench.wait(20)
    assert bench.task("a").state is State.EXPIRED
