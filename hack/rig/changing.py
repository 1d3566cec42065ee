"""Somebody changes when a simulated task may start, by when it must, and what comes before it.

What may be in force then: the terms of before, and those of each call since that was not answered
yet. Once a call is answered, those of earlier ones are over for good, also after a crash.
"""

import dataclasses
import itertools
import random

from penstock_dispatcher.core import control, ledger, units
from penstock_dispatcher.core import task as tasks
from rig import simulated


class Changes:
    """Terms that tasks may have, by task uid and the number of the call that asked for them."""

    def __init__(self) -> None:
        self._allowed: dict[str, dict[int, control.Terms]] = {}
        self._numbers = itertools.count(1)

    def concern(self, task: tasks.Task) -> bool:
        """Somebody has asked for other terms of this task."""
        return task.uid in self._allowed

    def forget(self, task: tasks.Task) -> None:
        """Its times are others for another reason."""
        if self.concern(task):
            self._allowed[task.uid] = {}

    def ask(self, server: simulated.Server, rng: random.Random, now: int) -> None:
        """One call for a task drawn from all, if that may be changed."""
        if not server.pool.book.tasks:
            return
        task = rng.choice(list(server.pool.book.tasks.values()))
        before = control.terms_of(task)
        later, end = (now + rng.randint(*span) * units.SECOND for span in ((-5, 20), (1, 60)))
        wanted = dataclasses.replace(
            before,
            priority=rng.randint(-2, 2),
            schedule_time=rng.choice([before.schedule_time, 0, later]),
            expire_time=rng.choice([before.expire_time, 0, end]),
        )
        number = next(self._numbers)
        if server.update(task, wanted, lambda: self._answered(task.uid, number)):
            allowed = self._allowed.setdefault(task.uid, {})
            if not allowed:
                allowed[0] = before
            allowed[number] = wanted

    def _answered(self, uid: str, number: int) -> None:
        allowed = self._allowed.get(uid, {})
        self._allowed[uid] = {each: terms for each, terms in allowed.items() if each >= number}

    def check(self, book: ledger.Ledger) -> None:
        """What must hold after every step."""
        for task in book.tasks.values():
            allowed = self._allowed.get(task.uid, {})
            terms = control.terms_of(task)
            # What has started in time has no time to start by any more.
            started = [dataclasses.replace(each, expire_time=0) for each in allowed.values()]
            assert not allowed or terms in allowed.values() or terms in started, (
                f"{task.id} has terms that nobody asked for"
            )
