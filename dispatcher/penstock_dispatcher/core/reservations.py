"""Scale-down, seen from the dispatcher: reserve, revoke, confirm.

A reservation names workers that get no more work and are asked to drain. Until a worker has
confirmed, it can be taken back; from then on its pod is a tombstone, also after a restart, and
whatever its process says later. A silent worker is not chosen: only its own word could confirm, and
others can go at once. A pod that is no worker can be made one without a reservation.
"""

from collections.abc import Collection, Iterable

from penstock_dispatcher.core import effects, ledger, records, workers


class Reservations:
    """Reservations of one pool."""

    def __init__(self, *, book: ledger.Ledger, table: workers.WorkerTable) -> None:
        self._book = book
        self._table = table

    def reserve(
        self,
        *,
        count: int,
        idle_for_ns: int | None,
        revision: str,
        reservation_id: str,
        now: int,
    ) -> list[workers.Worker]:
        """Choose up to `count` workers to leave and ask them to drain: longest idle first, then, if
        `idle_for_ns` is None, busy ones too.
        """
        chosen = self._table.reservable(idle_for_ns=idle_for_ns, revision=revision, now=now)[:count]
        for worker in chosen:
            self.drain(worker, reservation_id=reservation_id)
        return chosen

    def drain(self, worker: workers.Worker, *, reservation_id: str) -> None:
        """Ask one certain worker to leave; nothing changes if it leaves already."""
        if worker.drained or worker.reservation_id:
            return
        worker.reservation_id, worker.credit = reservation_id, 0
        self._table.touch(worker)
        self._book.effects.append(effects.DrainRequested(worker.session_id, reservation_id))

    def release(self, reservation_id: str, pod_uids: frozenset[str]) -> list[workers.Worker]:
        """Take back those (empty = all) of a reservation that have not confirmed; they grant credit
        anew.
        """
        released = [
            worker
            for worker in self._table.all()
            if worker.reservation_id == reservation_id
            and not worker.drained
            and (not pod_uids or worker.pod_uid in pod_uids)
        ]
        for worker in released:
            worker.reservation_id = ""
            self._table.touch(worker)
            self._book.effects.append(effects.DrainRevoked(worker.session_id, reservation_id))
        return released

    def confirm(self, session_id: str) -> None:
        """The worker runs nothing and is not ready. It counts even if the reservation was revoked
        meanwhile: the two crossed.
        """
        worker = self._table.heard(session_id)
        if worker is None or worker.leases:
            return
        worker.drained, worker.credit = True, 0
        self._entomb(worker.pod_uid)
        self._table.touch(worker)

    def shut_out(self, pod_uids: Iterable[str], *, expected: Collection[str]) -> list[str]:
        """Of these pods, those that are no worker of the pool: they get no work any more, should
        they connect. A pod whose session may come back after a restart (`expected`) is a worker.
        """
        absent = [
            uid for uid in pod_uids if self._table.of_pod(uid) is None and uid not in expected
        ]
        for uid in absent:
            self._entomb(uid)
        return absent

    def _entomb(self, pod_uid: str) -> None:
        if pod_uid in self._table.tombstones:
            return
        self._book.log.append(records.WorkerDrained(self._book.pool_uid, pod_uid))
        removed = self._table.entomb(pod_uid)
        if removed is not None:
            self._book.log.append(records.WorkerForgotten(self._book.pool_uid, removed))
