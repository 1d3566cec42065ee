"""The simulation's clients: what each wants, what it was told, and what it may rely on then."""

import dataclasses
import random

from penstock.v1 import task_pb2
from penstock_dispatcher.core import admission, units
from penstock_dispatcher.core import task as tasks
from rig import simulated


@dataclasses.dataclass
class Call:
    """One task that somebody wants, under one request id."""

    wanted: tasks.Submission
    delay_ns: int
    patience_ns: int
    """How long after its submission it must have started, 0 = the pool says."""
    task_id: str = ""
    """As the dispatcher answered; empty = not accepted yet."""
    cancelled: bool = False
    """As the dispatcher answered."""


def call(number: int, rng: random.Random, *, timed: bool) -> Call:
    """What client `number` wants; `timed` = maybe later, maybe not after some time."""
    payload = f"payload-{number}".encode()
    body = task_pb2.Task(type="work", payload=payload)
    wanted = tasks.Submission(
        task_id="",
        type="work",
        body=body.SerializeToString(),
        size=len(payload),
        priority=rng.choice([None, 0, 5, -(2**31), 2**31 - 1]),
        request_id=f"request-{number}",
        fingerprint=number,
    )
    return Call(
        wanted,
        delay_ns=rng.choice([0, 0, 5, 60]) * units.SECOND if timed else 0,
        patience_ns=rng.choice([0, 0, 30, 300]) * units.SECOND if timed else 0,
    )


class Clients:
    """All of them."""

    def __init__(self, calls: list[Call], rng: random.Random) -> None:
        self.calls = calls
        self._rng = rng
        self._names = 0

    @property
    def satisfied(self) -> bool:
        """Everything that is wanted was accepted."""
        return all(one.task_id for one in self.calls)

    def _submission(self, one: Call, now: int) -> tasks.Submission:
        self._names += 1
        return one.wanted._replace(
            task_id=f"t{self._names}",
            not_before=now + one.delay_ns if one.delay_ns else 0,
            expire_time=now + one.patience_ns if one.patience_ns else 0,
        )

    def submit(self, server: simulated.Server, now: int) -> None:
        """One client's call: new, repeated after a lost answer, or simply twice."""
        self._submit(server, now, wait_ns=None)

    def submit_or_wait(self, server: simulated.Server, now: int) -> None:
        """The same, with patience."""
        self._submit(server, now, wait_ns=self._rng.choice([0, 2, 20]) * units.SECOND)

    def abandon(self, server: simulated.Server) -> None:
        """A client that waits goes away."""
        if server.waiting:
            server.abandon(self._rng.choice(list(server.waiting)))

    def _submit(self, server: simulated.Server, now: int, *, wait_ns: int | None) -> None:
        one = self._rng.choice(self.calls)
        book, config = server.pool.book, server.pool.config
        waiting = [task for task in book.tasks.values() if task.place is not tasks.Place.NOWHERE]
        size = sum(task.size for task in waiting) + one.wanted.size
        fits = len(waiting) < config.max_pending and size <= config.max_pending_bytes
        known = book.requests.find(one.wanted.request_id, now) is not None
        wanted = self._submission(one, now)
        self._call(one, wanted, server, wait_ns=wait_ns)
        if not known:
            accepted = wanted.task_id in book.tasks
            # Who waits may get in at once, by what the turn after the call has assigned.
            assert accepted == fits or (accepted and wait_ns is not None), "the bound is exact"

    def submit_missing(self, server: simulated.Server, now: int) -> None:
        """Everybody who was not accepted yet tries again, as far as there is room."""
        for one in self.calls:
            if not one.task_id and server.pool.book.waiting < server.pool.config.max_pending:
                self._call(one, self._submission(one, now), server)

    def _call(
        self,
        one: Call,
        wanted: tasks.Submission,
        server: simulated.Server,
        *,
        wait_ns: int | None = None,
    ) -> None:
        def answer(decided: admission.Admission) -> None:
            if decided.admitted:
                assert one.task_id in ("", decided.task_id), "one request id, one task"
                one.task_id = decided.task_id
            else:
                assert not one.task_id, "what was accepted is never refused later"

        if wait_ns is None:
            server.submit(wanted, answer)
        else:
            server.submit_or_wait(wanted, answer, wait_ns=wait_ns)

    def cancel(self, server: simulated.Server) -> None:
        """One client does not want its task any more."""
        accepted = [one for one in self.calls if one.task_id]
        if accepted:
            one = self._rng.choice(accepted)

            def answer() -> None:
                one.cancelled = True

            server.cancel(server.pool.book.tasks[one.task_id], answer)
