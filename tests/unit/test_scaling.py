"""The scaling decision, as step tables: what is known → how many workers, and why."""

# ruff: noqa: E501  a row of a table is read as a row

import dataclasses

import pytest

from penstock_operator import scaling, sections, spec

R = scaling.Reason
NOW = 1_000_000.0


def pool(**overrides):
    names = {field.name for field in dataclasses.fields(sections.Scaling)}
    scaled = {key: value for key, value in overrides.items() if key in names}
    rest = {key: value for key, value in overrides.items() if key not in names}
    return spec.WorkerPoolSpec(
        namespace="default",
        name="pool",
        uid="u",
        generation=1,
        template={},
        scaling=sections.Scaling(**scaled),
        **rest,
    )


def decide(
    *,
    current,
    ready=None,
    starting=0,
    load=(0, 0),
    idle=(),
    now=NOW,
    held=None,
    exists=True,
    expendable=0,
    mean=None,
    tokens=0.0,
    per_task=1.0,
    **overrides,
):
    """`load` = (runnable, in use) slots or None; `idle` = for how long workers have been idle."""
    ready = current - starting if ready is None else ready
    return scaling.decide(
        pool(**overrides),
        load=None
        if load is None
        else scaling.Load(
            runnable_slots=load[0],
            slots_in_use=load[1],
            mean_execution_seconds=mean,
            tokens=tokens,
            slots_per_task=per_task,
            idle_since=tuple(now - seconds for seconds in idle),
        ),
        fleet=scaling.Fleet(
            current=current,
            ready=ready,
            starting=starting,
            held=held,
            exists=exists,
            expendable=expendable,
        ),
        now=now,
    )


DEMO = {"min_replicas": 2, "max_replicas": 10, "idle_timeout_seconds": 5}
RATE = sections.RateLimit(tasks=10, period_seconds=1, burst=3)


@pytest.mark.parametrize(
    ("why", "given", "desired", "reason"),
    [
        # The four demo pools' numbers.
        ("a burst of 20 takes 2 to 10 in one step", {"current": 2, "load": (20, 0), **DEMO}, 10, R.DEMAND),
        ("a burst of 10 takes 2 to 10", {"current": 2, "load": (10, 0), **DEMO}, 10, R.DEMAND),
        ("7 tasks take 2 to 7", {"current": 2, "load": (7, 0), **DEMO}, 7, R.DEMAND),
        ("a burst that runs in part", {"current": 2, "load": (18, 2), **DEMO}, 10, R.DEMAND),
        ("10 running need 10", {"current": 10, "load": (0, 10), **DEMO}, 10, R.STEADY),
        ("idle, not for long enough", {"current": 10, "idle": [4.9] * 10, **DEMO}, 10, R.WAITING_FOR_IDLE),
        ("idle for the time-out", {"current": 10, "idle": [5.0] * 10, **DEMO}, 2, R.IDLE),
        ("some are idle", {"current": 10, "load": (0, 7), "idle": [9.0, 9.0, 1.0], **DEMO}, 8, R.IDLE),
        ("never below the minimum", {"current": 3, "idle": [99.0] * 3, **DEMO}, 2, R.IDLE),
        ("at the minimum", {"current": 2, "idle": [99.0] * 2, **DEMO}, 2, R.STEADY),
        # The threshold: idle capacity is used first.
        ("7 of 10 slots", {"current": 10, "load": (1, 6), "warm_replicas": 4, "max_replicas": 20}, 10, R.BELOW_THRESHOLD),
        ("8 of 10 slots", {"current": 10, "load": (2, 6), "warm_replicas": 4, "max_replicas": 20}, 12, R.DEMAND),
        ("threshold 100", {"current": 10, "load": (3, 6), "warm_replicas": 4, "max_replicas": 20, "utilization_threshold_percent": 100}, 10, R.BELOW_THRESHOLD),
        ("no capacity counts as 100", {"current": 0, "min_replicas": 0, "load": (1, 0)}, 1, R.DEMAND),
        ("stuck pods are no capacity", {"current": 3, "ready": 0, "starting": 0, "load": (4, 0)}, 4, R.DEMAND),
        # Starting pods are capacity: no second step for the same demand, one more for a second burst.
        ("8 of 10 are starting", {"current": 10, "ready": 2, "starting": 8, "load": (18, 2), **DEMO}, 10, R.STEADY),
        ("second burst during start-up", {"current": 5, "ready": 2, "starting": 3, "load": (6, 2)}, 8, R.DEMAND),
        ("starting pods carry it", {"current": 5, "ready": 2, "starting": 3, "load": (2, 1)}, 5, R.WAITING_FOR_IDLE),
        # Slots per worker.
        ("20 over 4 slots", {"current": 1, "load": (20, 0), "slots_per_worker": 4}, 5, R.DEMAND),
        ("21 over 4 slots", {"current": 1, "load": (21, 0), "slots_per_worker": 4}, 6, R.DEMAND),
        ("3 of 4 slots is below 80 %", {"current": 1, "load": (3, 0), "slots_per_worker": 4}, 1, R.STEADY),
        ("5 over 4 slots", {"current": 1, "load": (1, 4), "slots_per_worker": 4}, 2, R.DEMAND),
        # Slots per task: of 4 slots tasks of 3 can use 3, of 8 slots tasks of 5 can use 5.
        ("10 tasks of 3 over 4 slots", {"current": 1, "load": (30, 0), "slots_per_worker": 4, "per_task": 3.0}, 10, R.DEMAND),
        ("8 of 10 tasks of 3 run", {"current": 8, "load": (6, 24), "slots_per_worker": 4, "per_task": 3.0}, 10, R.DEMAND),
        ("every worker has one task of 5", {"current": 8, "load": (5, 40), "slots_per_worker": 8, "per_task": 5.0}, 9, R.DEMAND),
        ("tasks of 2 fill 4 slots", {"current": 1, "load": (20, 0), "slots_per_worker": 4, "per_task": 2.0}, 5, R.DEMAND),
        ("mixed tasks", {"current": 1, "load": (30, 0), "slots_per_worker": 4, "per_task": 2.4}, 10, R.DEMAND),
        ("larger than a worker", {"current": 1, "load": (8, 0), "slots_per_worker": 4, "per_task": 9.0}, 2, R.DEMAND),
        ("rate 10/s, 0.4 s, 2 slots each", {"current": 1, "load": (100, 1), "rate_limit": RATE, "mean": 0.4, "per_task": 2.0, "slots_per_worker": 2}, 5, R.DEMAND),
        ("rate 10/s, 0.4 s, 3 of 4 slots each", {"current": 1, "load": (100, 3), "rate_limit": RATE, "mean": 0.4, "per_task": 3.0, "slots_per_worker": 4}, 5, R.DEMAND),
        ("3 tokens for tasks of a whole worker", {"current": 1, "load": (100, 0), "rate_limit": RATE, "tokens": 3.0, "per_task": 4.0, "slots_per_worker": 4}, 3, R.DEMAND),
        # Minimum, maximum, warm.
        ("below the minimum", {"current": 1, "min_replicas": 3}, 3, R.BELOW_MINIMUM),
        ("warm from nothing", {"current": 0, "min_replicas": 0, "warm_replicas": 2}, 2, R.BELOW_MINIMUM),
        ("warm is a floor", {"current": 1, "min_replicas": 1, "warm_replicas": 3}, 3, R.BELOW_MINIMUM),
        ("warm on top of demand", {"current": 5, "load": (0, 5), "warm_replicas": 2}, 7, R.DEMAND),
        ("warm within the maximum", {"current": 9, "load": (0, 9), "warm_replicas": 5}, 10, R.DEMAND),
        ("a lowered maximum", {"current": 10, "load": (50, 10), "max_replicas": 6}, 6, R.ABOVE_MAXIMUM),
        ("to zero", {"current": 1, "min_replicas": 0, "idle": [60.0]}, 0, R.IDLE),
        ("zero and nothing to do", {"current": 0, "min_replicas": 0}, 0, R.STEADY),
        # The rate limit: 10 a second, 0.24 s each → 3 workers, 0.4 s → 5.
        ("rate 10/s, 0.24 s", {"current": 1, "load": (100, 1), "rate_limit": RATE, "mean": 0.24}, 3, R.DEMAND),
        ("rate 10/s, 0.4 s", {"current": 1, "load": (100, 1), "rate_limit": RATE, "mean": 0.4}, 5, R.DEMAND),
        ("over 2 slots", {"current": 1, "load": (100, 1), "rate_limit": RATE, "mean": 0.4, "slots_per_worker": 2}, 3, R.DEMAND),
        ("unaware", {"current": 1, "load": (100, 1), "rate_limit": RATE, "mean": 0.4, "rate_limit_aware": False}, 10, R.DEMAND),
        ("before a sample: the tokens", {"current": 1, "load": (100, 0), "rate_limit": RATE, "tokens": 3.0}, 3, R.DEMAND),
        ("before a sample, no token", {"current": 1, "load": (100, 0), "rate_limit": RATE, "tokens": 0.4}, 1, R.STEADY),
        ("no token, no worker: one", {"current": 0, "min_replicas": 0, "load": (100, 0), "rate_limit": RATE}, 1, R.DEMAND),
        ("what runs is never cut", {"current": 8, "load": (100, 8), "rate_limit": RATE, "mean": 0.1}, 8, R.STEADY),
        ("short queue", {"current": 1, "load": (2, 0), "rate_limit": RATE, "mean": 10.0}, 2, R.DEMAND),
        ("in flight only limits no rate", {"current": 1, "load": (9, 0), "rate_limit": sections.RateLimit(max_in_flight=3)}, 9, R.DEMAND),
        # Unknown demand, paused, suspended.
        ("unknown holds", {"current": 7, "load": None}, 7, R.DEMAND_UNKNOWN),
        ("unknown, a new pool", {"current": 0, "load": None, "exists": False, "min_replicas": 2}, 2, R.BELOW_MINIMUM),
        ("unknown, a raised minimum", {"current": 2, "load": None, "min_replicas": 4}, 4, R.BELOW_MINIMUM),
        ("unknown, above the maximum", {"current": 12, "load": None}, 12, R.DEMAND_UNKNOWN),
        ("paused", {"current": 3, "load": (99, 0), "paused": True}, 3, R.PAUSED),
        ("paused, a new pool", {"current": 0, "load": (0, 0), "paused": True, "exists": False, "min_replicas": 2}, 2, R.BELOW_MINIMUM),
        ("suspended: nothing is runnable", {"current": 1, "load": (50, 0), "suspend": True}, 1, R.STEADY),
        ("suspended: idle ones leave", {"current": 5, "load": (50, 0), "suspend": True, "idle": [61.0] * 5}, 1, R.IDLE),
        # Manual, External.
        ("manual up", {"current": 2, "mode": sections.Mode.MANUAL, "replicas": 6}, 6, R.MANUAL),
        ("manual down", {"current": 6, "mode": sections.Mode.MANUAL, "replicas": 2, "load": (50, 6)}, 2, R.MANUAL),
        ("manual ignores the minimum", {"current": 2, "mode": sections.Mode.MANUAL, "replicas": 0}, 0, R.MANUAL),
        ("manual up, unknown demand", {"current": 2, "mode": sections.Mode.MANUAL, "replicas": 6, "load": None}, 6, R.MANUAL),
        ("manual down, unknown demand", {"current": 6, "mode": sections.Mode.MANUAL, "replicas": 2, "load": None}, 6, R.DEMAND_UNKNOWN),
        ("manual, as asked", {"current": 6, "mode": sections.Mode.MANUAL, "replicas": 6}, 6, R.STEADY),
        ("external", {"current": 2, "mode": sections.Mode.EXTERNAL, "replicas": 5}, 5, R.EXTERNAL),
        ("external, nobody has said", {"current": 4, "mode": sections.Mode.EXTERNAL}, 4, R.STEADY),
        ("external, new", {"current": 0, "mode": sections.Mode.EXTERNAL, "exists": False, "min_replicas": 2}, 2, R.EXTERNAL),
        ("external above the maximum", {"current": 2, "mode": sections.Mode.EXTERNAL, "replicas": 50}, 10, R.EXTERNAL),
        # Pods that never start do not stay for ever.
        ("pods that do not start", {"current": 10, "ready": 2, "expendable": 8, "min_replicas": 2}, 2, R.IDLE),
        ("some do not start, some are idle", {"current": 10, "ready": 7, "expendable": 3, "idle": [60.0] * 2}, 5, R.IDLE),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_decision(why, given, desired, reason):
    decision = decide(**given)
    assert (decision.desired, decision.reason) == (desired, reason), decision.message
    assert decision.current == given["current"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"current": 2, "load": (20, 0), **DEMO},
            "20 runnable + 0 running over 1 slot = 20, at most 10",
        ),
        (
            {"current": 2, "load": (20, 1), "slots_per_worker": 4},
            "20 runnable + 1 running over 4 slots = 6",
        ),
        (
            {"current": 1, "load": (100, 1), "rate_limit": RATE, "mean": 0.24},
            (
                "100 runnable + 1 running over 1 slot = 101, but 10 tasks per 1 s x 0.24 s x 1.25 over "
                "1 slot = 3"
            ),
        ),
        (
            {"current": 10, "idle": [5.0] * 10, **DEMO},
            "0 runnable + 0 running over 1 slot = 0, at least 2; 8 of 10 idle for 5 s",
        ),
        (
            {
                "current": 1,
                "load": (100, 3),
                "rate_limit": RATE,
                "mean": 0.4,
                "per_task": 3.0,
                "slots_per_worker": 4,
            },
            (
                "100 runnable + 3 running over 3 of 4 slots = 35, but 10 tasks per 1 s x 0.4 s x "
                "3 slots x 1.25 over 3 of 4 slots = 5"
            ),
        ),
        (
            {"current": 5, "load": (0, 5), "warm_replicas": 2},
            "0 runnable + 5 running over 1 slot = 5, + 2 warm = 7",
        ),
    ],
)
def test_the_message_is_the_arithmetic(given, message):
    assert decide(**given).message == message


@pytest.mark.parametrize(
    ("given", "recheck"),
    [
        ({"current": 3, "idle": [58.0, 10.0]}, 2.0),
        ({"current": 3, "idle": [60.0, 10.0]}, 50.0),
        ({"current": 3, "idle": []}, None),
        ({"current": 1, "idle": [58.0]}, None),
        ({"current": 2, "idle": [60.0, 10.0]}, None),
        ({"current": 2, "load": (20, 0)}, None),
    ],
)
def test_it_says_when_time_alone_changes_the_answer(given, recheck):
    assert decide(**given).recheck_after_seconds == recheck


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ({"current": 2, "load": (20, 0), **DEMO}, scaling.Limit.MAXIMUM),
        ({"current": 2, **DEMO}, scaling.Limit.MINIMUM),
        ({"current": 5, "load": (0, 5), **DEMO}, scaling.Limit.NONE),
        ({"current": 1, "load": (100, 1), "rate_limit": RATE, "mean": 0.24}, scaling.Limit.RATE),
        ({"current": 10, "load": (50, 10), "max_replicas": 6}, scaling.Limit.MAXIMUM),
    ],
)
def test_it_says_what_limits_the_target(given, limit):
    assert decide(**given).limit is limit


def test_a_lowered_maximum_and_a_manual_decrease_do_not_wait_for_idle_workers():
    assert decide(current=10, load=(50, 10), max_replicas=6).busy_may_go
    manual = {"mode": sections.Mode.MANUAL, "replicas": 2}
    assert decide(current=6, load=(0, 6), **manual).busy_may_go
    assert not decide(current=10, idle=[5.0] * 10, **DEMO).busy_may_go
    assert not decide(current=2, **manual).busy_may_go


def test_the_target_leaves_idle_time_outs_aside():
    decision = decide(current=10, idle=[1.0] * 10, **DEMO)
    assert (decision.desired, decision.target) == (10, 2)
