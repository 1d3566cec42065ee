"""Events about a pool, as values, and how many of them are let through.

Every change of the number of workers is an Event with its arithmetic; so is every turn to the
worse or the better among the conditions, and the news that a deleted pool can be had back. A
`Budget` lets a burst through and then one per `REFILL_SECONDS` and pool, and never says the same
thing twice within `REPEAT_SECONDS`. Pure.
"""

import collections
import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final

BURST: Final = 25
REFILL_SECONDS: Final = 10.0
REPEAT_SECONDS: Final = 600.0
REMEMBERED_MAX: Final = 100
NOTE_CHARACTERS_MAX: Final = 1000

WARNINGS: Final[Mapping[tuple[str, str], str]] = {
    ("Ready", "InvalidSpec"): "InvalidSpec",
    ("Ready", "ConfigRefused"): "ConfigRefused",
    ("Ready", "KubernetesRefused"): "KubernetesRefused",
    ("DispatcherConnected", "Unreachable"): "DispatcherUnreachable",
    ("AbleToScale", "WaitingForPods"): "WaitingForPods",
}
"""(Condition, reason) that are an Event of their own kind while the condition is False."""
ALARMS: Final = ("Degraded", "TasksFailing")
"""Conditions that are bad while True; their reason is the Event's."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What is posted. `reason` is one word, `note` the sentence; `action` what was being done."""

    reason: str
    note: str
    warning: bool = False
    action: str = "Reconcile"


def scaled(*, before: int, after: int, message: str) -> Event:
    """The number of workers was changed."""
    return Event(
        reason="ScaledUp" if after > before else "ScaledDown",
        note=f"Scaled {before} → {after}: {message}",
        action="Scale",
    )


def restorable(*, pool: str, tasks: int, uid: str, until: float | None) -> Event:
    """A deleted pool of the same name still holds tasks. `until`: seconds since the epoch."""
    end = (
        ""
        if until is None
        else f" until {dt.datetime.fromtimestamp(until, dt.UTC):%Y-%m-%d %H:%M} UTC"
    )
    return Event(
        reason="TasksRestorable",
        note=f"The deleted pool of this name ({uid}) keeps {tasks} tasks{end}: "
        f"'penstock restore {pool}' moves them into this one",
    )


def transitions(
    previous: Iterable[Mapping[str, Any]], current: Iterable[Mapping[str, Any]]
) -> tuple[Event, ...]:
    """Events for the conditions that turned."""
    before = {each.get("type"): each for each in previous}
    found = []
    for condition in current:
        old = before.get(condition["type"], {})
        if (old.get("status"), old.get("reason")) == (condition["status"], condition["reason"]):
            continue
        kind, reason, note = condition["type"], condition["reason"], condition["message"]
        if kind in ALARMS and condition["status"] == "True":
            found.append(Event(reason=reason, note=note, warning=True))
        elif kind in ALARMS and old.get("status") == "True":
            found.append(Event(reason="Recovered", note=f"{kind} is over: {note}"))
        elif condition["status"] == "False" and (kind, reason) in WARNINGS:
            found.append(Event(reason=WARNINGS[kind, reason], note=note, warning=True))
        elif kind == "DispatcherConnected" and old.get("status") == "False":
            found.append(Event(reason="DispatcherConnected", note=note))
    return tuple(found)


class Budget:
    """How many Events of one pool are let through."""

    def __init__(self) -> None:
        self._tokens = float(BURST)
        self._filled = 0.0
        self._said: collections.OrderedDict[tuple[str, str], float] = collections.OrderedDict()

    def allows(self, event: Event, *, now: float) -> bool:
        """May it be posted now? If so it is counted."""
        key = (event.reason, event.note)
        if now - self._said.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        self._tokens = min(float(BURST), self._tokens + (now - self._filled) / REFILL_SECONDS)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self._said[key] = now
        self._said.move_to_end(key)
        if len(self._said) > REMEMBERED_MAX:
            self._said.popitem(last=False)
        return True
