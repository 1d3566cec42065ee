"""What is promised where tasks have keys and sizes; see `rig.keyed`.

The rules are read naively, task by task: who comes before whom, and what may hold a task up at the
moment of a start. Between the keys of one priority of a fair pool nothing is said of the order.
What is passed over because it fits nowhere keeps a place of its keys, and one worker: which tasks
those are is not seen from outside, so each that is wide enough to be one counts.
"""

import collections

from penstock_dispatcher.core import settings, workers
from penstock_dispatcher.core import task as tasks
from rig import changing, clients, promises, rate_window, simulated, simulated_disk

FAIRNESS_KEYS = ("", "a", "b")
CONCURRENCY_KEYS = ("", "x", "y")


class KeyedPromises(promises.Promises):
    """What has been seen of one history, and what must be true of it."""

    def __init__(
        self,
        config: settings.PoolSettings,
        disk: simulated_disk.Disk,
        wanted: clients.Clients,
        *,
        now: int,
    ) -> None:
        super().__init__(config, disk, wanted, now=now)
        self.changes = changing.Changes()
        self._rates = {
            key: rate_window.RateWindow(config.rate_limit_per_key, now=now, whose=" of each key")
            for key in FAIRNESS_KEYS
        }

    # ------------------------------------------------------------ what is seen

    def saw_config(self, config: settings.PoolSettings, now: int) -> None:
        super().saw_config(config, now)
        for rate in self._rates.values():
            rate.limited(config.rate_limit_per_key, now)

    def saw_restart(self, now: int) -> None:
        super().saw_restart(now)
        for rate in self._rates.values():
            rate.emptied(now)

    def saw_redriven(self, task: tasks.Task) -> None:
        super().saw_redriven(task)
        self.changes.forget(task)

    def _check_terms(self, task: tasks.Task, call: clients.Call) -> None:
        if not self.changes.concern(task):
            super()._check_terms(task, call)
        wanted = call.wanted
        assert task.fairness_key == wanted.fairness_key, "a task keeps its keys"
        assert task.concurrency_key == wanted.concurrency_key, "a task keeps its keys"
        assert task.slots == wanted.slots, "a task keeps its size"

    def saw_assigned(self, one: simulated.Assigned, server: simulated.Server) -> None:
        super().saw_assigned(one, server)
        self._rates[one.task.fairness_key].started(one.time)

    def _check_order(self, one: simulated.Assigned, server: simulated.Server) -> None:
        moment = _Moment(server, self.config, one.time, token=one.token)
        task = one.task
        assert moment.running < (self.config.max_in_flight or moment.running + 1), (
            "at most maxInFlight"
        )
        cap = self.config.max_in_flight_per_key
        running = moment.running_of[task.concurrency_key] if task.concurrency_key else 0
        assert running < (cap or running + 1), "at most maxInFlight of each key"
        worker = moment.holder(task)
        assert moment.free(worker) >= task.slots, "a worker has a slot for each that it holds"
        better = [
            other.id
            for other in moment.queued
            if self._before(other, task)
            and moment.fits(other, worker)
            and not moment.held_up(other)
        ]
        assert not better, f"the best task first: {better} before {task.id}"

    def _before(self, one: tasks.Task, other: tasks.Task) -> bool:
        if self.config.fair:
            if one.priority != other.priority:
                return one.priority > other.priority
            # A wide one may have been passed over before, and comes first then.
            same = one.fairness_key == other.fairness_key and other.slots == 1
            return same and one.sequence < other.sequence
        return self._rank(one) < self._rank(other)

    def _rank(self, task: tasks.Task) -> tuple[int, int]:
        aging_ns = self.config.priority_aging_ns
        # Aging: it has the priority that it would have had at the beginning of time.
        first = task.create_time - task.priority * aging_ns if aging_ns else -task.priority
        return first, task.sequence

    # ------------------------------------------------------------ after every step

    def check(self, server: simulated.Server, now: int) -> None:
        super().check(server, now)
        self.changes.check(server.pool.book)
        fleet = server.pool.fleet
        slots = sum(lease.task.slots for lease in fleet.leases.all())
        assert fleet.leases.slots == slots, "slots of what runs are counted"
        slots = sum(worker.slots for worker in fleet.workers.all() if worker.takes_work)
        assert fleet.workers.slots == slots, "slots of workers are counted"
        if server.turned_at == now:
            self._check_no_lost_room(server, now)

    def _check_no_lost_room(self, server: simulated.Server, now: int) -> None:
        """A turn of dispatch has just ended: nothing waits that could run."""
        pool = server.pool
        open_ = [each for each in pool.fleet.workers.all() if each.takes_work and each.free > 0]
        cap, limit = self.config.max_in_flight, pool.limits.pool
        if not open_ or not pool.dispatching:
            return
        if limit is not None and not limit.available(now):
            return
        moment = _Moment(server, self.config, now)
        if cap and moment.running >= cap:
            return
        for task in moment.queued:
            fitting = sum(moment.fits(task, worker) for worker in open_)
            aside = len(moment.wide) - (task in moment.wide)
            assert fitting <= aside or moment.held_up(task), f"{task.id} waits, and could run"


class _Moment:
    """A pool as it was when one token was taken, or as it is (`token` 0 = no start is looked at).
    Within a turn nothing ends.
    """

    def __init__(
        self, server: simulated.Server, config: settings.PoolSettings, now: int, *, token: int = 0
    ) -> None:
        self._pool, self._config, self._now = server.pool, config, now
        held = server.pool.fleet.leases.all()
        since = [lease for lease in held if token and lease.token >= token]
        """Given out then, or later in the same turn."""
        waiting = server.pool.book.tasks.values()
        may_run = [task for task in waiting if task.place is tasks.Place.HELD]
        """A worker of before a restart may be at it."""
        self.running = len(held) - len(since) + len(may_run)
        running_of = collections.Counter(lease.task.concurrency_key for lease in held)
        running_of.subtract(lease.task.concurrency_key for lease in since)
        running_of.update(task.concurrency_key for task in may_run)
        self.running_of = running_of
        self._since = since
        self.queued = [
            task
            for task in server.pool.book.tasks.values()
            if task.place is tasks.Place.QUEUED and task.state is tasks.TaskState.PENDING
        ]
        self.wide = [task for task in self.queued if task.slots > 1]

    def holder(self, task: tasks.Task) -> workers.Worker:
        """The worker that has been given the task."""
        assert task.lease is not None
        worker = self._pool.fleet.workers.get(task.lease.session_id)
        assert worker is not None
        return worker

    def free(self, worker: workers.Worker) -> int:
        """Slots that could be given out."""
        return worker.free + sum(
            lease.task.slots for lease in self._since if lease.session_id == worker.session_id
        )

    def fits(self, task: tasks.Task, worker: workers.Worker) -> bool:
        """On that worker, at that moment."""
        known = not worker.task_types or task.type in worker.task_types
        return known and task.slots <= self.free(worker)

    def held_up(self, task: tasks.Task) -> bool:
        """By its keys, and by what may have been passed over and has the same ones."""
        cap, rates = self._config.max_in_flight_per_key, self._pool.limits.keys
        others = [other for other in self.wide if other is not task]
        key = task.concurrency_key
        if cap and key:
            kept = sum(other.concurrency_key == key for other in others)
            if self.running_of[key] + kept >= cap:
                return True
        if rates is None:
            return False
        key = task.fairness_key
        kept = sum(other.fairness_key == key for other in others)
        taken = sum(lease.task.fairness_key == key for lease in self._since)
        return rates.available(key, self._now) + taken - kept < 1
