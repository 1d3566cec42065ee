"""A deleted pool and the one that has its name by now, on one log: verb by verb, as `pool_bench`.

A crash leaves a prefix of the records; what both pools know then is all that the next run has.
"""

import dataclasses
from typing import Any

from penstock_dispatcher import loading
from penstock_dispatcher.core import leases, records, restoring
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from rig import pool_bench, simulated_disk

OLD = dataclasses.replace(pool_bench.CONFIG, uid="old", max_pending=1_000, max_pending_bytes=9_999)
NEW = dataclasses.replace(OLD, uid="new")


class Twins:
    """Two benches that share a clock, a log and the fencing tokens."""

    def __init__(self, epoch: int = 1, **changes: Any) -> None:
        self.changes = changes
        self.written: list[records.Record] = []
        self.old, self.new = pool_bench.Bench(epoch), pool_bench.Bench(epoch)
        log, tokens = records.RecordLog(), leases.TokenSource(epoch)
        configs = (OLD, dataclasses.replace(NEW, **changes))
        for bench, config in zip((self.old, self.new), configs, strict=True):
            bench.log, bench.disk = log, simulated_disk.Disk(config.uid)
            bench.pool = pools.Pool(config, log=log, tokens=tokens, draw=lambda: 0.0, now=bench.now)

    def delete(self) -> None:
        """The manifest of the older pool is gone."""
        self.old.effects()
        self.old.pool.close(self.old.now)

    def judge(self, task: tasks.Task) -> restoring.Move:
        return restoring.judge(task, closed=self.old.pool, pool=self.new.pool, now=self.new.now)

    def restore(self, count: int = 1_000) -> list[str]:
        """Move up to so many tasks; returns their ids."""
        moved = []
        for task in list(self.old.pool.book.tasks.values()):
            if len(moved) < count and self.judge(task) is restoring.Move.MOVES:
                restoring.move(task, closed=self.old.pool, pool=self.new.pool, now=self.new.now)
                moved.append(task.id)
        return moved

    def crashed(self, *, lost: int = 0) -> "Twins":
        """The next run; the last `lost` records were not durable."""
        gathered = [*self.written, *self.old.log.take()]
        after = Twins(self.old.epoch + 1, **self.changes)
        after.old.epoch = self.old.epoch + 1
        after.written = gathered[: len(gathered) - lost]
        for bench, before in ((after.old, self.old), (after.new, self.new)):
            bench.now = before.now
            bench.disk.sync(after.written)
            entries = bench.disk.stored_tasks()
            stored = [loading.task_of(entry, bench.pool.config) for entry in entries]
            bench.pool.restore(
                stored=stored,
                requests=bench.disk.outlived(),
                sessions=bench.disk.sessions().items(),
                tombstones=(),
                paused=False,
                closed_time=before.pool.closed_time,
                now=bench.now,
            )
        return after
