"""Another pool of the same dispatcher, so that records and fencing tokens are not one pool's alone.

Its worker does everything at once and never fails.
"""

from penstock_dispatcher.core import budget, effects, leases, outcome, records, settings, workers
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks

UID = "uid-neighbour"
CONFIG = settings.PoolSettings(name="namespaces/default/pools/neighbour", uid=UID)


class Neighbour:
    """The pool and its worker, for as long as the process lives."""

    def __init__(
        self,
        *,
        log: records.RecordLog,
        tokens: leases.TokenSource,
        memory: budget.Budget,
        now: int,
    ) -> None:
        self._pool = pools.Pool(
            CONFIG, log=log, tokens=tokens, draw=lambda: 0.0, now=now, memory=memory
        )
        worker = workers.Introduction(session_id="n", pod_name="n", pod_uid="n", slots=1)
        self._pool.fleet.hello(worker, now)
        self._pool.fleet.credit("n", 1)
        self._count = 0
        self.book = self._pool.book

    def submit(self, now: int) -> None:
        """One more task."""
        self._count += 1
        wanted = tasks.Submission(task_id=f"n{self._count}", type="work", body=b"", size=0)
        self._pool.submit(wanted, now)

    def turn(self, durable_lsn: int, now: int) -> None:
        """What is assigned is done."""
        for effect in self._pool.take_effects(durable_lsn, now):
            if isinstance(effect, effects.Assigned):
                done = outcome.Outcome(
                    lease_id=effect.lease.id,
                    token=effect.lease.token,
                    kind=outcome.OutcomeKind.COMPLETED,
                )
                self._pool.fleet.outcome("n", done, now)
                self._pool.fleet.credit("n", 1)
