"""What holds for every scaling decision, whatever is known."""

import dataclasses

import hypothesis
from hypothesis import strategies as st

from penstock_operator import scaling, sections, spec

NOW = 1_000_000.0


@st.composite
def pools(draw, modes=tuple(sections.Mode)):
    maximum = draw(st.integers(1, 12))
    mode = draw(st.sampled_from(modes))
    limit = sections.RateLimit()
    if draw(st.booleans()):
        limit = sections.RateLimit(
            tasks=draw(st.integers(1, 1000)), period_seconds=draw(st.integers(1, 60))
        )
    replicas = None
    if mode is not sections.Mode.AUTO:
        replicas = draw(st.integers(0, 15))
    return spec.WorkerPoolSpec(
        namespace="default",
        name="pool",
        uid="u",
        generation=1,
        template={},
        replicas=replicas,
        suspend=draw(st.booleans()),
        slots_per_worker=draw(st.integers(1, 4)),
        rate_limit=limit,
        scaling=sections.Scaling(
            mode=mode,
            paused=draw(st.booleans()),
            min_replicas=draw(st.integers(0, maximum)),
            max_replicas=maximum,
            warm_replicas=draw(st.integers(0, maximum)),
            utilization_threshold_percent=draw(st.integers(1, 100)),
            idle_timeout_seconds=draw(st.sampled_from([0, 5, 60, 600])),
        ),
    )


@st.composite
def fleets(draw):
    ready, starting, stuck = (draw(st.integers(0, 8)) for _ in range(3))
    return scaling.Fleet(
        current=ready + starting + stuck,
        ready=ready,
        starting=starting,
        expendable=draw(st.integers(0, stuck)),
    )


@st.composite
def loads(draw, fleet_max=10):
    idle = draw(st.lists(st.floats(0, 1000), max_size=fleet_max))
    return scaling.Load(
        runnable_slots=draw(st.integers(0, 60)),
        slots_in_use=draw(st.integers(0, 20)),
        mean_execution_seconds=draw(st.none() | st.floats(0, 100)),
        tokens=draw(st.floats(0, 100)),
        slots_per_task=draw(st.floats(1, 4)),
        idle_since=tuple(NOW - seconds for seconds in idle),
    )


def after(fleet, decision):
    """The fleet once a decision was carried out: what was added is starting, what went, ready."""
    change = decision.desired - decision.current
    if change >= 0:
        return dataclasses.replace(
            fleet, current=decision.desired, starting=fleet.starting + change
        )
    never = min(-change, fleet.expendable)
    return dataclasses.replace(
        fleet,
        current=decision.desired,
        expendable=fleet.expendable - never,
        ready=max(0, fleet.ready + change + never),
    )


@hypothesis.given(pools(), st.none() | loads(), fleets())
def test_never_raised_above_the_maximum(pool, load, fleet):
    decision = scaling.decide(pool, load=load, fleet=fleet, now=NOW)
    assert decision.desired <= max(pool.scaling.max_replicas, fleet.current)


@hypothesis.given(pools(modes=(sections.Mode.AUTO,)), st.none() | loads(), fleets())
def test_never_lowered_below_the_minimum(pool, load, fleet):
    decision = scaling.decide(pool, load=load, fleet=fleet, now=NOW)
    floor = max(pool.scaling.min_replicas, pool.scaling.warm_replicas)
    assert decision.desired >= min(floor, fleet.current)
    if not pool.scaling.paused:
        assert decision.desired >= floor


@hypothesis.given(pools(), fleets())
def test_unknown_demand_never_shrinks(pool, fleet):
    decision = scaling.decide(pool, load=None, fleet=fleet, now=NOW)
    assert decision.desired >= fleet.current


@hypothesis.given(pools(), loads(), fleets())
def test_the_same_input_gives_no_second_step(pool, load, fleet):
    """Scale-up is idempotent: acting on a decision leaves nothing to do for the same demand."""
    decision = scaling.decide(pool, load=load, fleet=fleet, now=NOW)
    if decision.desired > decision.current:
        again = scaling.decide(pool, load=load, fleet=after(fleet, decision), now=NOW)
        assert again.desired <= decision.desired


@hypothesis.given(pools(modes=(sections.Mode.AUTO,)), loads(), fleets())
def test_a_scale_down_is_not_followed_by_a_scale_up(pool, load, fleet):
    """No flapping: the workers that left were not needed, so nobody is missed."""
    decision = scaling.decide(pool, load=load, fleet=fleet, now=NOW)
    if decision.desired < decision.current:
        left = decision.current - decision.desired
        calmer = dataclasses.replace(load, idle_since=tuple(sorted(load.idle_since)[left:]))
        again = scaling.decide(pool, load=calmer, fleet=after(fleet, decision), now=NOW)
        assert again.desired <= decision.desired


@hypothesis.given(pools(modes=(sections.Mode.AUTO,)), loads(), fleets(), st.integers(1, 500))
def test_more_demand_never_means_fewer_workers(pool, load, fleet, more):
    less = scaling.decide(pool, load=load, fleet=fleet, now=NOW)
    busier = dataclasses.replace(load, runnable_slots=load.runnable_slots + more)
    assert scaling.decide(pool, load=busier, fleet=fleet, now=NOW).desired >= less.desired


@hypothesis.given(pools(modes=(sections.Mode.AUTO,)), loads(), fleets())
def test_only_idle_or_dead_workers_leave(pool, load, fleet):
    decision = scaling.decide(pool, load=load, fleet=fleet, now=NOW)
    if decision.desired < decision.current and not decision.busy_may_go:
        idle = [NOW - since >= pool.scaling.idle_timeout_seconds for since in load.idle_since]
        assert decision.current - decision.desired <= sum(idle) + fleet.expendable


@hypothesis.given(pools(), st.none() | loads(), fleets())
def test_a_paused_pool_stays(pool, load, fleet):
    paused = dataclasses.replace(pool, scaling=dataclasses.replace(pool.scaling, paused=True))
    assert scaling.decide(paused, load=load, fleet=fleet, now=NOW).desired == fleet.current


@hypothesis.given(pools(), st.none() | loads(), fleets())
def test_a_recheck_is_in_the_future_and_says_why(pool, load, fleet):
    decision = scaling.decide(pool, load=load, fleet=fleet, now=NOW)
    assert decision.message
    if decision.recheck_after_seconds is not None:
        assert decision.recheck_after_seconds > 0
