"""A heap whose entries die where they lie, against a sorted list."""

from hypothesis import stateful
from hypothesis import strategies as st

from penstock_dispatcher.core import lazy_heap


class LazyHeapMachine(stateful.RuleBasedStateMachine):
    """Entries are (key, number); the living are in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.model: set[tuple[int, int]] = set()
        self.heap: lazy_heap.LazyHeap[tuple[int, int]] = lazy_heap.LazyHeap(
            lambda entry: entry in self.model
        )
        self.number = 0

    @stateful.rule(keys=st.lists(st.integers(0, 20), min_size=1, max_size=300))
    def push(self, keys: list[int]) -> None:
        for key in keys:
            self.number += 1
            self.model.add((key, self.number))
            self.heap.push((key, self.number))

    @stateful.rule(count=st.integers(1, 300))
    def push_in_order(self, count: int) -> None:
        self.push([max(self.model, default=(0, 0))[0]] * count)

    @stateful.rule(count=st.integers(1, 200), step=st.sampled_from([1, 2, 7]), last=st.booleans())
    def die(self, count: int, step: int, last: bool) -> None:
        for entry in sorted(self.model, reverse=last)[::step][:count]:
            self.model.remove(entry)
            self.heap.died()

    @stateful.rule(count=st.integers(1, 200))
    def pop(self, count: int) -> None:
        for _ in range(min(count, len(self.model))):
            least = min(self.model)
            assert self.heap.head() == least
            assert self.heap.pop() == least
            self.model.discard(least)

    @stateful.invariant()
    def counts(self) -> None:
        assert len(self.heap) == len(self.model)
        assert self.heap.head() == min(self.model, default=None)
        assert set(self.heap) == self.model
        free = lazy_heap.DEAD_ENTRIES_FREE + lazy_heap.SWEPT_AT_ONCE
        assert self.heap.dead <= len(self.model) * 5 // 4 + free


TestLazyHeap = LazyHeapMachine.TestCase
