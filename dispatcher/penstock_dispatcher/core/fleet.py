"""The workers' side of a pool: sessions, leases, outcomes, and the way out.

Every verb is one event on a worker's stream, or one word of the operator about a pod. The fleet
decides what becomes of leases; what becomes of their tasks it tells the ledger.

Re-attachment, the rule in one place (`_adopt`): a worker that names a lease in its Hello keeps it
if the task still waits for exactly that attempt, or if the worker's token is newer than that of the
lease the task has now. Whatever else it names is revoked.
"""

import collections
from collections.abc import Callable, Iterable
from typing import Final

from penstock_dispatcher.core import (
    effects,
    leases,
    ledger,
    outcome,
    rates,
    records,
    settings,
    workers,
)
from penstock_dispatcher.core import task as tasks

# By name in an Enum they are found anew each time.
_RUNNING: Final = tasks.TaskState.RUNNING


class Fleet:
    """Workers of one pool. `draw` gives a uniform number in [0, 1) for jitter."""

    def __init__(
        self,
        *,
        book: ledger.Ledger,
        config: settings.PoolSettings,
        tokens: leases.TokenSource,
        draw: Callable[[], float],
    ) -> None:
        self._config = config
        self.workers = workers.WorkerTable()
        self.leases = leases.LeaseTable(book.in_flight_by_key)
        self.expected: dict[str, str] = {}
        """Sessions of before a restart that may still run something: session id → pod UID."""
        self.expected_until = 0
        self.occupancy = rates.Mean()
        """For how long a task keeps its slot: nanoseconds from assignment to outcome."""
        self._book = book
        self._tokens = tokens
        self._judge = outcome.Judge(book=book, config=config, draw=draw)
        self._recorded = leases.Recorded()
        self._away: collections.OrderedDict[str, workers.Worker] = collections.OrderedDict()

    def configure(self, config: settings.PoolSettings) -> None:
        """A new configuration is in force, from the next event on."""
        self._config = config
        self._judge.config = config

    # ------------------------------------------------------------ coming

    def hello(self, intro: workers.Introduction, now: int) -> bool:
        """A stream begins. False = there is no room for one more session."""
        earlier = self.workers.of_pod(intro.pod_uid)
        if earlier is not None and earlier.session_id != intro.session_id:
            # The process in the pod is a new one: what the old one ran is lost.
            self._book.effects.append(effects.SessionReplaced(earlier.session_id))
            self._lose_all(earlier, "its process was restarted", now)
            self._forget(earlier)
        worker = self.workers.get(intro.session_id)
        if worker is None:
            if len(self.workers) >= workers.SESSIONS_MAX:
                return False
            worker = self.workers.introduce(intro, now)
        worker.connected, worker.connect_time, worker.last_heartbeat = True, now, now
        worker.silent = False
        worker.credit, worker.slots, worker.stopping = 0, intro.slots, intro.draining
        worker.task_types, worker.revision = intro.task_types, intro.revision
        self._away.pop(worker.session_id, None)
        revoked = self._reconcile_leases(worker, intro.running, now)
        for session_id, pod_uid in list(self.expected.items()):
            if session_id == intro.session_id or pod_uid == intro.pod_uid:
                self._resolve(session_id, now)
                if session_id != intro.session_id:
                    self._book.log.append(records.SessionClosed(self._book.pool_uid, session_id))
        self.workers.touch(worker)
        lsn = self._book.log.append(
            records.SessionOpened(
                self._book.pool_uid, worker.session_id, worker.pod_name, worker.pod_uid
            )
        )
        self._book.tell_when_durable(lsn, effects.Welcomed(worker.session_id, revoked))
        for lease in worker.leases.values():
            if lease.task.cancelling:
                # The wish may have been lost with the stream.
                self._book.tell_when_durable(
                    lsn, effects.CancelRequested(worker.session_id, lease.id, "cancelled")
                )
        if worker.pod_uid in self.workers.tombstones:
            worker.drained = True
            self.workers.touch(worker)
        if worker.drained or worker.reservation_id:
            self._book.tell_when_durable(
                lsn, effects.DrainRequested(worker.session_id, worker.reservation_id)
            )
        return True

    def _reconcile_leases(
        self, worker: workers.Worker, running: tuple[workers.ClaimedLease, ...], now: int
    ) -> tuple[str, ...]:
        claimed = {claim.lease_id for claim in running}
        for lease in list(worker.leases.values()):
            if lease.id not in claimed:
                self._end_lease(lease, now)
                # The assignment never arrived: nothing ran.
                self._judge.hand_back(lease.task, now)
        revoked: list[str] = []
        for claim in running:
            if claim.lease_id in worker.leases:
                self.leases.extend(claim.lease_id, now + self._config.lease_ns)
            elif not self._adopt(worker, claim, now):
                revoked.append(claim.lease_id)
        return tuple(revoked)

    def _adopt(self, worker: workers.Worker, claim: workers.ClaimedLease, now: int) -> bool:
        task = self._book.tasks.get(claim.task_id)
        if task is None or task.terminal or claim.token > self._tokens.newest:
            return False
        if leases.token_of(claim.lease_id) != claim.token or self.leases.get(claim.lease_id):
            return False  # no lease of ours, or another session's
        if claim.lease_id in self._recorded:
            return False  # its acknowledgement was lost with the stream; the task waits again
        if task.lease is not None:
            if claim.token <= task.lease.token or claim.attempt != task.attempt:
                return False
            usurper = task.lease
            self._end_lease(usurper, now)
            self._book.effects.append(effects.LeasesLost(usurper.session_id, (usurper.id,)))
        else:
            if claim.token < task.fencing_token or claim.attempt != task.attempt + 1:
                return False  # that attempt's outcome is recorded already
            self._book.withdraw(task)
        previous, task.attempt = task.state, claim.attempt
        started = claim.start_time if 0 < claim.start_time < now else now
        self._grant(worker, task, claim.token, now, started=started)
        # After what is still to be told of it, if its last change is not durable yet.
        told = effects.TaskChanged(task, previous, task.state)
        self._book.tell_when_durable(task.lsn, told)
        return True

    def credit(self, session_id: str, slots: int) -> None:
        """The worker has `slots` more free."""
        worker = self.workers.heard(session_id)
        if worker is None or slots <= 0 or not worker.takes_work:
            # A reserved worker may not have seen its Drain yet; if that is revoked, it grants anew.
            return
        # Never more than it has slots, whatever it says.
        worker.credit = min(worker.credit + slots, worker.slots)
        self.workers.loaded(worker)

    def heartbeat(self, session_id: str, lease_ids: Iterable[str], now: int) -> bool:
        """The worker is alive and works on these leases. True = it must be told that some of them
        are not its own any more, or it was silent and takes work again; else nothing comes of it.
        """
        worker = self.workers.get(session_id)
        if worker is None:
            return False
        was_silent = worker.silent
        self.workers.heard(session_id)
        worker.last_heartbeat = now
        expires = now + self._config.lease_ns
        lost = tuple(
            lease_id
            for lease_id in lease_ids
            if lease_id not in worker.leases or not self.leases.extend(lease_id, expires)
            # Its outcome may not be durable yet, and the worker must keep it until it is.
            if lease_id not in self._recorded
        )
        if lost:
            self._book.effects.append(effects.LeasesLost(session_id, lost))
        return bool(lost) or was_silent

    # ------------------------------------------------------------ work

    def assign(self, worker: workers.Worker, task: tasks.Task, now: int) -> None:
        """Give the task, just taken from the backlog, to a worker with credit for it."""
        worker.credit -= task.slots
        task.attempt += 1
        task.progress = b""
        previous = task.state
        lease = self._grant(worker, task, self._tokens.take(), now, started=now)
        self._book.effects.append(effects.Assigned(worker.session_id, task, lease))
        self._book.effects.append(effects.TaskChanged(task, previous, task.state))

    def _grant(
        self, worker: workers.Worker, task: tasks.Task, token: int, now: int, *, started: int
    ) -> leases.Lease:
        deadline = started + task.execution_timeout_ns + self._config.cancel_grace_ns
        if started < now:
            # What was done while nobody listened can still be handed in.
            deadline = max(deadline, now + self._config.heartbeat_ns)
        lease = leases.Lease(
            token=token,
            task=task,
            session_id=worker.session_id,
            start_time=started,
            expires=now + self._config.lease_ns,
            deadline=deadline,
        )
        task.state = _RUNNING
        if task.cancelling:
            task.state = tasks.TaskState.CANCELLING
            lease.deadline = min(lease.deadline, now + self._config.cancel_grace_ns)
        task.start_time = started
        task.worker = worker.pod_name
        self.leases.add(lease)
        worker.leases[lease.id] = lease
        worker.slots_used += task.slots
        worker.awaited = False
        self.workers.loaded(worker)
        return lease

    def _end_lease(self, lease: leases.Lease, now: int) -> None:
        self.leases.end(lease)
        worker = self.workers.get(lease.session_id)
        if worker is not None and worker.leases.pop(lease.id, None) is not None:
            worker.slots_used -= lease.task.slots
            if not worker.leases:
                worker.idle_since = now
            self.workers.loaded(worker)

    def end_leases(self, now: int) -> None:
        """The pool is forgotten: whoever runs something of it is not heard any more."""
        for lease in self.leases.all():
            self._end_lease(lease, now)

    def progress(self, session_id: str, lease_id: str, told: bytes, checkpoint: bytes) -> None:
        """An attempt tells how far it is (a serialized Progress, shown to people) and what the next
        one should begin with (durable); either may be empty. Without its lease neither counts.
        """
        self.workers.heard(session_id)
        lease = self.leases.get(lease_id)
        if lease is None or lease.session_id != session_id:
            return
        task = lease.task
        if told:
            task.progress = told
            if task.state is _RUNNING:
                self._book.effects.append(effects.TaskChanged(task, task.state, task.state))
        if checkpoint and not task.cancelling:
            task.keep_checkpoint(checkpoint)
            self._book.log.append(
                records.TaskCheckpointed(self._book.pool_uid, task.sequence, task.id, checkpoint)
            )
        self._book.memory.charge(task)

    def outcomes(self, session_id: str, ended: Iterable[outcome.Outcome], now: int) -> None:
        """Several attempts ended, in that order."""
        self.workers.heard(session_id)
        for each in ended:
            self.outcome(session_id, each, now)

    def outcome(self, session_id: str, ended: outcome.Outcome, now: int) -> None:
        """An attempt ended. Its lease must be this session's: a late outcome is refused, a repeated
        one acknowledged again.
        """
        lease = self.leases.get(ended.lease_id)
        if lease is None or lease.session_id != session_id or lease.token != ended.token:
            named = leases.token_of(ended.lease_id)
            accepted = named == ended.token and ended.lease_id in self._recorded
            lsn = self._book.log.last
        else:
            self._end_lease(lease, now)
            self.occupancy.add(now - lease.start_time)
            self._judge.outcome(lease.task, ended, now)
            self._recorded.add(lease)
            accepted = True
            lsn = lease.task.lsn
        self._book.tell_when_durable(
            lsn, effects.OutcomeAcked(session_id, ended.lease_id, accepted)
        )

    def cancel(self, task: tasks.Task, reason: str, now: int) -> None:
        """Ask the worker to stop a running task; the outcome follows, at the latest when the grace
        ends.
        """
        assert task.lease is not None, "a running task has a lease"
        if task.cancelling:
            return
        self._book.want_cancelled(task)
        self.leases.hasten(task.lease, now + self._config.cancel_grace_ns)
        self._book.tell_when_durable(
            task.lsn, effects.CancelRequested(task.lease.session_id, task.lease.id, reason)
        )

    # ------------------------------------------------------------ leaving

    def disconnected(self, session_id: str, now: int) -> None:
        """The stream broke: the session keeps its leases until they expire, and has no credit."""
        worker = self.workers.get(session_id)
        if worker is None or not worker.connected:
            return
        worker.connected, worker.credit, worker.disconnect_time = False, 0, now
        self._away[session_id] = worker
        self.workers.touch(worker)

    def goodbye(self, session_id: str, now: int) -> None:
        """The session ends in order. What it still holds (it should not) is handed back."""
        worker = self.workers.get(session_id)
        if worker is None:
            return
        for lease in list(worker.leases.values()):
            self._end_lease(lease, now)
            # The two crossed: a worker that leaves in order has nothing running.
            self._judge.hand_back(lease.task, now)
        self._forget(worker)

    def stopping(self, session_id: str) -> None:
        """SIGTERM was seen: no more work."""
        worker = self.workers.heard(session_id)
        if worker is not None:
            worker.stopping, worker.credit = True, 0
            self.workers.touch(worker)

    def gone(self, pod_uid: str, cause: str, now: int) -> None:
        """The pod has ended, as the operator saw: nothing of it runs any more. Idempotent."""
        worker = self.workers.of_pod(pod_uid)
        if worker is not None:
            self._book.effects.append(effects.SessionReplaced(worker.session_id))
            self._lose_all(worker, cause, now)
            self._forget(worker)
        for session_id, expected_pod in list(self.expected.items()):
            if expected_pod == pod_uid:
                self._book.log.append(records.SessionClosed(self._book.pool_uid, session_id))
                self._resolve(session_id, now)
        if pod_uid in self.workers.tombstones:
            del self.workers.tombstones[pod_uid]
            self._book.log.append(records.WorkerForgotten(self._book.pool_uid, pod_uid))

    def _lose_all(self, worker: workers.Worker, cause: str, now: int) -> None:
        for lease in list(worker.leases.values()):
            self._end_lease(lease, now)
            self._judge.lost(lease.task, reason="WORKER_LOST", cause=cause, now=now)

    def _forget(self, worker: workers.Worker) -> None:
        self._away.pop(worker.session_id, None)
        self.workers.forget(worker)
        self._book.log.append(records.SessionClosed(self._book.pool_uid, worker.session_id))

    def _resolve(self, session_id: str, now: int) -> None:
        if self.expected.pop(session_id, None) is not None and not self.expected:
            self._book.release_held(self._config, now)

    # ------------------------------------------------------------ time

    def tick(self, now: int) -> None:
        """Act on leases, absences and graces that are over."""
        for lease in self.leases.take_due(now):
            if lease.expires <= now:  # else it was heard, and only its execution took too long
                self.workers.silence(lease.session_id)
            self._end_lease(lease, now)
            if lease.deadline <= now:
                self._judge.overdue(lease.task, now)
            else:
                self._judge.lost(
                    lease.task,
                    reason="LEASE_EXPIRED",
                    cause="no heartbeat for the lease's duration",
                    now=now,
                )
            self._book.effects.append(effects.LeasesLost(lease.session_id, (lease.id,)))
        while self._away:
            worker = next(iter(self._away.values()))
            if worker.leases or worker.disconnect_time + self._away_ns > now:
                break
            self._forget(worker)
        if self.expected and self.expected_until <= now:
            for session_id in list(self.expected):
                self._book.log.append(records.SessionClosed(self._book.pool_uid, session_id))
                self._resolve(session_id, now)

    @property
    def _away_ns(self) -> int:
        return max(self._config.reconnect_grace_ns, self._config.lease_ns)

    def next_due(self) -> int:
        """When `tick` has something to do; may be early, never late."""
        due = self.leases.next_due()
        if self._away:
            worker = next(iter(self._away.values()))
            if not worker.leases:
                due = min(due, worker.disconnect_time + self._away_ns)
        if self.expected:
            due = min(due, self.expected_until)
        return due
