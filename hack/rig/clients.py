"""The simulation's clients: what each wants, what it was told, and what it may rely on then."""

import dataclasses
import random
from collections.abc import Iterable
from typing import Final

from penstock.v1 import task_pb2
from penstock_dispatcher.core import admission, bounds, settings, units
from penstock_dispatcher.core import task as tasks
from rig import simulated

LARGE_BYTES: Final = 20_000
"""Of a task, where payloads are large."""


@dataclasses.dataclass
class Call:
    """One task that somebody wants, under one request id."""

    wanted: tasks.Submission
    delay_ns: int
    patience_ns: int
    """How long after its submission it must have started, 0 = the pool says."""
    task_id: str = ""
    """As the dispatcher answered; empty = not accepted yet."""
    task_uid: str = ""
    sequence: int = 0
    cancelled: bool = False
    """As the dispatcher answered."""
    deleting: bool = False
    """Somebody wants the task to be forgotten: it may be gone."""


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


def key_has_room(
    fairness_key: str, waiting: Iterable[tasks.Task], config: settings.PoolSettings
) -> bool:
    """One more of that key is within its bound, as far as keys are concerned."""
    bound = config.max_pending_per_key
    return not bound or sum(task.fairness_key == fairness_key for task in waiting) < bound


class Clients:
    """All of them."""

    def __init__(self, calls: list[Call], rng: random.Random) -> None:
        self.calls = calls
        self._by_request = {one.wanted.request_id: one for one in calls}
        self._rng = rng
        self._names = 0

    def find(self, request_id: str) -> Call:
        """Who has this request id."""
        return self._by_request[request_id]

    def add(self, one: Call) -> None:
        """One more client."""
        self.calls.append(one)
        self._by_request[one.wanted.request_id] = one

    def swell(self) -> None:
        """Everybody's payload is large, which the pool's own bounds do not count."""
        for one in self.calls:
            task = task_pb2.Task.FromString(one.wanted.body)
            task.payload += bytes(self._rng.randint(LARGE_BYTES // 4, LARGE_BYTES))
            one.wanted = dataclasses.replace(one.wanted, body=task.SerializeToString())

    @property
    def satisfied(self) -> bool:
        """Everything that is wanted was accepted."""
        return all(one.task_id for one in self.calls)

    def _submission(self, one: Call, now: int) -> tasks.Submission:
        self._names += 1
        return dataclasses.replace(
            one.wanted,
            task_id=one.wanted.task_id or f"t{self._names}",
            uid=f"u{self._names}",
            not_before=now + one.delay_ns if one.delay_ns else 0,
            expire_time=now + one.delay_ns + one.patience_ns if one.patience_ns else 0,
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
        fits = fits and key_has_room(one.wanted.fairness_key, waiting, config)
        fits = fits and server.memory.has_room(bounds.memory_bytes(one.wanted))
        shut = server.pool.closed_time or server.pool.draining
        known = book.requests.find(one.wanted.request_id, now) is not None
        wanted = self._submission(one, now)
        self._call(one, wanted, server, wait_ns=wait_ns)
        if not known:
            accepted = wanted.task_id in book.tasks
            if shut:
                assert not accepted, "a pool that is shut admits nothing"
                return
            # Who waits may get in at once, by what the turn after the call has assigned.
            assert accepted == fits or (accepted and wait_ns is not None), "the bound is exact"

    def submit_missing(self, server: simulated.Server, now: int) -> None:
        """Everybody who was not accepted yet tries again, as far as there is room."""
        book, config = server.pool.book, server.pool.config
        for one in self.calls:
            left = config.max_pending_bytes - book.waiting_bytes
            fits = book.waiting < config.max_pending and one.wanted.size <= left
            fits = fits and server.memory.has_room(bounds.memory_bytes(one.wanted))
            if fits and not one.task_id:
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
                written = server.disk.requests.get(one.wanted.request_id)
                assert written is not None, "nobody is told of a task that a crash could take back"
                assert one.task_id in ("", decided.task_id), "one request id, one task"
                own = decided.task is None or decided.task.uid == written.uid
                assert own, "a repeated call is told of its own task"
                one.task_id = decided.task_id
                one.task_uid, one.sequence = written.uid, written.sequence
            else:
                assert not one.task_id, "what was accepted is never refused later"

        if wait_ns is None:
            server.submit(wanted, answer)
        else:
            server.submit_or_wait(wanted, answer, wait_ns=wait_ns)

    def cancel(self, server: simulated.Server) -> None:
        """One client does not want its task any more."""
        there = server.pool.book.tasks
        accepted = [one for one in self.calls if one.task_id in there and not one.deleting]
        if accepted:
            one = self._rng.choice(accepted)

            def answer() -> None:
                assert one.sequence in server.disk.stopped_ever, (
                    "nobody is told of a cancel that a crash could take back"
                )
                one.cancelled = True

            server.cancel(server.pool.book.tasks[one.task_id], answer)
