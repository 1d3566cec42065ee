"""The processes as the operator's reconcile sees them, and when one may be started."""

import dataclasses

from penstock_operator import actions, demand, memory, observed, reconcile, sections, spec
from penstock_operator.local import picture, workers

NOW = 1_000_000.0
State = demand.WorkerState
POOL = spec.WorkerPoolSpec(
    namespace="default",
    name="p",
    uid="u",
    generation=1,
    template={},
    scaling=sections.Scaling(min_replicas=1, max_replicas=4, idle_timeout_seconds=5),
)
REVISION = reconcile.resources.revision_hash(POOL)


def process(uid: str, **changes: object) -> workers.Process:
    one = workers.Process(name=f"p-{REVISION}-{uid}", uid=uid, started=NOW - 60, connected=True)
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def worker(uid: str, state: State, **changes: object) -> demand.Worker:
    one = demand.Worker(pod_name=f"p-{REVISION}-{uid}", pod_uid=uid, state=state, revision=REVISION)
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def plan(
    processes: list[workers.Process],
    *table: demand.Worker,
    replicas: int | None,
    problem: str = "",
    **load: int,
) -> reconcile.Plan:
    known = {each.pod_uid: each for each in table}
    deployments: tuple[observed.Deployment, ...] = ()
    if replicas is not None:
        deployments = (
            workers.deployment(POOL, revision=REVISION, replicas=replicas, problem=problem),
        )
    return reconcile.plan(
        reconcile.Observation(
            pool=POOL,
            deployments=deployments,
            pods=workers.pods(processes, pool=POOL, revision=REVISION, workers=known),
            demand=demand.Demand(workers=known, **load),  # type: ignore[arg-type]
            memory=memory.Memory(),
            now=NOW,
        )
    )


def test_at_first_the_minimum_is_asked_for() -> None:
    [step] = plan([], replicas=None).actions
    assert isinstance(step, actions.CreateDeployment)
    assert step.replicas == 1


def test_a_queue_is_answered_in_one_step() -> None:
    busy = worker("1", State.BUSY, slots_used=1)
    found = plan([process("1")], busy, replicas=1, runnable_slots=9, slots_in_use=1)
    [step] = found.actions
    assert isinstance(step, actions.ScaleDeployment)
    assert (step.current, step.replicas) == (1, 4)
    # Those that are on their way count: nothing more is asked for.
    starting = [process("1"), *(process(uid, connected=False, started=NOW) for uid in "234")]
    assert plan(starting, busy, replicas=4, runnable_slots=9, slots_in_use=1).actions == ()


def test_idle_workers_are_reserved_and_never_picked_here() -> None:
    table = [worker(uid, State.READY, idle_since=NOW - 6) for uid in "123"]
    found = plan([process(uid) for uid in "123"], *table, replicas=3)
    [step] = found.actions
    assert isinstance(step, actions.ReserveWorkers)
    assert (step.count, step.idle_only, step.idle_for_seconds) == (2, True, 5)


def test_one_that_was_told_to_leave_counts_no_more() -> None:
    processes = [process("1"), process("2", leaving=True)]
    table = [worker("1", State.READY, idle_since=NOW), worker("2", State.DRAINED)]
    assert plan(processes, *table, replicas=1).actions == ()


def test_workers_of_a_fleet_of_before_are_reported_gone() -> None:
    [step] = plan(
        [process("1")], worker("1", State.READY), worker("9", State.LOST), replicas=1
    ).actions
    assert isinstance(step, actions.ReportGone)
    assert (step.pod_uid, step.absent) == ("9", True)


def test_crashing_workers_are_no_capacity() -> None:
    found = plan([], replicas=4, problem="exit status 1")
    assert (found.fleet.current.stuck, found.fleet.current.starting) == (4, 0)
    assert found.actions == ()


def test_starts_wait_longer_with_every_death() -> None:
    starts = workers.Starts()
    assert starts.allowed(5, unproven=0, now=NOW) == 5
    waits = []
    now = NOW
    for _ in range(6):
        starts.died(lived_seconds=0.5, words="exit status 2: no module 'tasks'", now=now, draw=1.0)
        waits.append(starts.left(now))
        assert starts.allowed(5, unproven=0, now=now) == 0
        now += waits[-1]
        assert starts.allowed(5, unproven=0, now=now) == 1, "one at a time"
        assert starts.allowed(5, unproven=1, now=now) == 0
    assert waits == [2, 4, 8, 16, 30, 30]
    assert (starts.deaths, starts.problem) == (6, "exit status 2: no module 'tasks'")
    starts.connected()
    assert (starts.allowed(5, unproven=1, now=now), starts.problem) == (5, "")


def test_one_that_has_lived_is_replaced_at_once() -> None:
    starts = workers.Starts()
    starts.died(lived_seconds=3600, words="killed by SIGKILL", now=NOW, draw=1.0)
    assert starts.allowed(1, unproven=0, now=NOW) == 1


def test_each_process_is_counted_once() -> None:
    load = demand.Demand(
        workers={
            "1": worker("1", State.BUSY, slots_used=1),
            "2": worker("2", State.READY, idle_since=NOW),
            "3": worker("3", State.READY, reservation_id="r"),
            "4": worker("4", State.DRAINED),
        }
    )
    seen = picture.of_pool(
        name=POOL.full_name,
        load=load,
        known=True,
        processes=[
            *(process(uid) for uid in "123"),
            process("4", leaving=True),
            process("5", connected=False),
        ],
        plan=None,
        scales=(),
        problem="",
    )
    assert (seen.busy, seen.ready, seen.draining, seen.starting) == (1, 1, 2, 1)
    assert seen.processes == 5


def test_the_queue_by_priority() -> None:
    assert picture.by_priority({}) == "0"
    assert picture.by_priority({0: 7}) == "7"
    assert picture.by_priority({0: 2, 10: 1, -1: 3}) == "6 (10: 1, 0: 2, -1: 3)"
    many = dict.fromkeys(range(6), 1)
    assert picture.by_priority(many) == "6 (5: 1, 4: 1, 3: 1, 2: 1, …)"
