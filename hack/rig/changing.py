"""Somebody changes when a simulated task may start, by when it must, and what comes before it."""

import dataclasses
import random

from penstock_dispatcher.core import control, units
from rig import promises, simulated


def update(
    server: simulated.Server, promised: promises.Promises, rng: random.Random, now: int
) -> None:
    """One call for a task drawn from all; once it is answered the new terms are promised."""
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
    number = promised.next_number()
    if server.update(task, wanted, lambda: promised.saw_terms(task.id, number)):
        promised.asked_for(task.id, before, wanted, number)
