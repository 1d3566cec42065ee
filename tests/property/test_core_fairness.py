"""Shares of keys over long runs, for any weights and sizes; and waiting room lines by key."""

import collections

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from penstock_dispatcher.core import admission, effects, fairness, units
from rig import pool_bench

S = units.SECOND
KEYS = ("", "a", "b", "c", "d")
ROUNDS = 60
"""Of each key's weight: a share is off by one task at most, which is little of that."""


def fair_bench(weights: dict[str, int]) -> pool_bench.Bench:
    return pool_bench.Bench(
        fair=True,
        fairness_weights=weights,
        max_pending=10**6,
        max_pending_bytes=10**6,
        result_retention_ns=0,
        lease_ns=10**6 * S,
        execution_timeout_ns=10**6 * S,
    )


@given(
    weights=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 8), min_size=2),
    sizes=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 3)),
    slots=st.integers(3, 7),
)
@hypothesis_settings(max_examples=30, deadline=None)
def test_shares_are_within_five_percent_of_weights(
    weights: dict[str, int], sizes: dict[str, int], slots: int
) -> None:
    bench = fair_bench(weights)
    bench.worker("w", slots=slots)
    total = sum(weights.values())
    number = 0
    served: collections.Counter[str] = collections.Counter()
    while sum(served.values()) < ROUNDS * total:
        for key in weights:
            while bench.pool.book.by_key.of(key) < 2 * slots:
                number += 1
                size = sizes.get(key, 1)
                bench.submit(f"t{number}", fairness_key=key, slots=size)
        for effect in bench.effects(effects.Assigned):
            served[effect.task.fairness_key] += effect.task.slots
            bench.end(effect.task.id)
    for key, weight in weights.items():
        wanted = sum(served.values()) * weight / total
        assert abs(served[key] - wanted) <= 0.05 * wanted, (served, weights)


@given(
    pauses=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    weight=st.integers(1, 5),
)
@hypothesis_settings(max_examples=50, deadline=None)
def test_an_absence_earns_nothing_and_costs_nothing(pauses: list[int], weight: int) -> None:
    """A key that comes and goes has its share while it is there, and no more afterwards."""
    bench = fair_bench({"b": weight})
    bench.worker("w")
    number = 0

    def run(count: int, keys: str) -> collections.Counter[str]:
        nonlocal number
        served: collections.Counter[str] = collections.Counter()
        for _ in range(count):
            for key in keys:
                while bench.pool.book.by_key.of(key) < 2:
                    number += 1
                    bench.submit(f"t{number}", fairness_key=key)
            for effect in bench.effects(effects.Assigned):
                served[effect.task.fairness_key] += 1
                bench.end(effect.task.id)
        return served

    for pause in pauses:
        run(pause, "a")
        there = run(10 * (weight + 1), "ab")
        assert abs(there["b"] - 10 * weight) <= weight + 1
        while bench.pool.book.by_key.of("b"):
            run(1, "a")


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["wait", "submit", "free"]), st.sampled_from("abc")),
        max_size=40,
    ),
    per_key=st.integers(1, 3),
    bound=st.integers(1, 6),
)
@hypothesis_settings(max_examples=200, deadline=None)
def test_room_goes_to_the_first_who_waits_and_whose_key_has_room(
    steps: list[tuple[str, str]], per_key: int, bound: int
) -> None:
    bench = pool_bench.Bench(max_pending=bound, max_pending_per_key=per_key)
    waiting: list[str] = []  # in the order in which they came, as key and number
    inside: list[str] = []

    def settle() -> list[str]:
        let_in = []
        for name in list(waiting):
            same = [each for each in inside if each[0] == name[0]]
            if len(inside) < bound and len(same) < per_key:
                waiting.remove(name)
                inside.append(name)
                let_in.append(name)
        return let_in

    for number, (step, key) in enumerate(steps):
        name = f"{key}{number}"
        fits = len(inside) < bound and sum(each[0] == key for each in inside) < per_key
        if step == "wait":
            answer = bench.wait_for_room(name, fairness_key=key)
            assert isinstance(answer, admission.Waiter) is not fits
            (inside if fits else waiting).append(name)
        elif step == "submit":
            assert bench.submit(name, fairness_key=key).admitted is fits
            if fits:
                inside.append(name)
        elif inside:
            gone = inside.pop(len(inside) // 2)
            bench.pool.cancel(bench.task(gone), "", bench.now)
        assert [task_id for task_id, _ in bench.answers()] == settle()
        assert bench.pool.book.waiting == len(inside)
        assert {each: bench.pool.book.by_key.of(each) for each in "abc"} == {
            each: sum(name[0] == each for name in inside) for each in "abc"
        }


@given(weights=st.lists(st.integers(1, 1000), min_size=2, max_size=6))
@hypothesis_settings(max_examples=20, deadline=None)
def test_turns_follow_any_weights(weights: list[int]) -> None:
    names = {f"k{number}": weight for number, weight in enumerate(weights)}
    shares = fairness.Shares(names)
    members = {name: shares.join(0, name, 1) for name in names}
    served: collections.Counter[str] = collections.Counter()
    rounds = -(-30 // min(weights))
    for _ in range(rounds * sum(weights)):
        name = min(members, key=lambda each: (members[each].turn, each))
        shares.charge(members[name], 1, owed=False)
        served[name] += 1
    for name, weight in names.items():
        wanted = rounds * weight
        assert abs(served[name] - wanted) <= max(1, 0.05 * wanted)
