"""How lanes are found: by type, and across all types.

The lanes of one shape and fairness key (and of one priority, where the pool is fair) make a *flow*.
Workers take some types by name, or whatever type it is, and a task may need several slots. So a
flow stands among those of its type, and, for each number of slots, among those of all types, where
flows that differ in nothing but the type make a *column*:

    slots, type ── flows by place ── lanes by place ── tasks by (rank, sequence)
    slots ── columns by place ── flows by place ── …

In a fair pool a flow's place is (priority, the turn of its key, sequence); see `fairness`.
Otherwise it is the place of its first task. A start moves the turn of a key back, and with it a
column at once, however many types it has.
"""

import dataclasses
from typing import Any

from penstock_dispatcher.core import fairness, heads, lazy_heap

_Listed = tuple[heads.Place, int, Any] | None


@dataclasses.dataclass(slots=True, eq=False)
class Lane:
    """Tasks of one flow and one concurrency key; where there is no cap, of all of them."""

    flow: "Flow"
    key: str
    tasks: lazy_heap.LazyHeap[lazy_heap.Stay]
    listed: _Listed = None
    parked: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class Flow:
    """Lanes of one shape and one fairness key; where that does not matter, of all of them."""

    of_type: "Type"
    column: "Column"
    key: str
    priority: int
    share: fairness.Share | None
    heads: heads.Heads[Lane]
    lanes: dict[str, Lane]
    listed: _Listed = None
    parked: bool = False
    owed: bool = False
    """A task of it was passed over because it fitted nowhere: it is first of its priority."""


@dataclasses.dataclass(slots=True, eq=False)
class Spot:
    """Where a flow stands in its column."""

    flow: Flow
    listed: _Listed = None


@dataclasses.dataclass(slots=True, eq=False)
class Column:
    """Flows that differ in nothing but the type."""

    heads: heads.Heads[Spot]
    spots: dict[str, Spot]
    listed: _Listed = None


@dataclasses.dataclass(slots=True, eq=False)
class Type:
    """Flows of one shape."""

    size: "Size"
    type: str
    heads: heads.Heads[Flow]
    flows: dict[tuple[int, str], Flow]


@dataclasses.dataclass(slots=True, eq=False)
class Size:
    """What takes the same number of slots."""

    slots: int
    heads: heads.Heads[Column]
    columns: dict[tuple[int, str], Column]
    by_type: dict[str, Type]


def place(flow: Flow, entry: lazy_heap.Stay) -> heads.Place:
    """Where a flow stands whose first task is that."""
    if flow.share is None:
        return entry[:2]
    turn = fairness.OWED if flow.owed else flow.share.turn
    return -flow.priority, turn, entry[1]


def place_in_column(flow: Flow, entry: lazy_heap.Stay) -> heads.Place:
    """The same without what all of a column have in common."""
    if flow.share is None:
        return entry[:2]
    return 0 if flow.owed else 1, entry[1]


def offer(flow: Flow, entry: lazy_heap.Stay) -> None:
    """The flow's first task is that, or one further ahead."""
    at, column = place(flow, entry), flow.column
    flow.of_type.heads.offer(flow, at)
    column.heads.offer(column.spots[flow.of_type.type], place_in_column(flow, entry))
    flow.of_type.size.heads.offer(column, at)
