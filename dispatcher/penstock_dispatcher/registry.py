"""Which pools there are: by uid, which is what a pool is, and by name, which is what people say.

A re-created WorkerPool has another uid and is another pool. The newest one has the name; the one
before is closed, keeps its queue for its retention, and is found by uid (its workers know it) or as
a predecessor, whose tasks the newest can take over (`core.restoring`).
Configurations that are refused change nothing; the reason is kept for the operator to show.
"""

import random
from typing import Final, NamedTuple

from google.rpc import status_pb2

from penstock.v1 import fleet_service_pb2
from penstock_dispatcher import clock as clocks
from penstock_dispatcher import errors
from penstock_dispatcher.convert import names, pool_config
from penstock_dispatcher.core import budget, leases, records, restoring, settings
from penstock_dispatcher.core import pool as pools

POOLS_MAX: Final = 10_000


class RefusedConfig(NamedTuple):
    """Why the last configuration of a pool was refused."""

    pool: str
    status: status_pb2.Status


class Registry:
    """Pools of this dispatcher, which share `memory`; None = no bound."""

    def __init__(
        self, *, log: records.RecordLog, clock: clocks.Clock, memory: budget.Budget | None = None
    ) -> None:
        self.memory = memory or budget.Budget()
        self.tokens = leases.TokenSource(0)
        self.by_uid: dict[str, pools.Pool] = {}
        self.by_name: dict[str, pools.Pool] = {}
        self.config_errors: dict[str, RefusedConfig] = {}
        """By pool uid."""
        self._log = log
        self._clock = clock
        self._written: dict[str, bytes] = {}
        self._of_name: dict[str, list[pools.Pool]] = {}

    def named(self, name: str, field: str = "parent") -> pools.Pool:
        """The pool of that name. Raises Refusal."""
        pool = self.by_name.get(name)
        if pool is None:
            names.check_pool(name, field)
            raise errors.no_pool(name)
        return pool

    def for_worker(self, name: str, uid: str) -> pools.Pool:
        """The pool that a worker was made for. Raises Refusal: a worker of a deleted pool does not
        serve its successor.
        """
        if not uid:
            return self.named(name, "hello.pool")
        pool = self.by_uid.get(uid)
        if pool is None or pool.name != name:
            raise errors.no_pool(f"{name} with uid {uid}")
        return pool

    def of_name(self, name: str) -> tuple[pools.Pool, ...]:
        """The pool of that name and deleted ones of before."""
        return tuple(self._of_name.get(name, ()))

    def predecessors(self, pool: pools.Pool) -> list[pools.Pool]:
        """Deleted pools of its name whose retention has not ended, the one deleted last first."""
        closed = [each for each in self.of_name(pool.name) if each is not pool and each.closed_time]
        return sorted(closed, key=lambda each: each.closed_time, reverse=True)

    def restorable(self, pool: pools.Pool) -> pools.Pool | None:
        """The newest predecessor that has tasks for a pool that takes tasks."""
        if pool.closed_time:
            return None
        return next(filter(restoring.restorable, self.predecessors(pool)), None)

    def begin(self, epoch: int) -> None:
        """The journal has told the epoch; before any pool is made."""
        self.tokens = leases.TokenSource(epoch)

    def make(self, config: settings.PoolSettings, *, fresh: bool) -> pools.Pool:
        """A pool, not registered yet."""
        return pools.Pool(
            config,
            log=self._log,
            tokens=self.tokens,
            draw=random.random,
            now=self._clock.now(),
            memory=self.memory,
            fresh=fresh,
        )

    def add(self, pool: pools.Pool, config: bytes) -> None:
        """Register a loaded pool, and what the journal has as its configuration."""
        self._register(pool)
        self._written[pool.config.uid] = config
        known = self.by_name.get(pool.name)
        if known is None or known.closed_time:
            self.by_name[pool.name] = pool

    def _register(self, pool: pools.Pool) -> None:
        self.by_uid[pool.config.uid] = pool
        self._of_name.setdefault(pool.name, []).append(pool)

    def configure(self, config: fleet_service_pb2.PoolConfig) -> pools.Pool:
        """Put a configuration in force: of a known pool, or of a new one. Raises Refusal."""
        try:
            return self._configure(config)
        except errors.Refusal as refusal:
            if config.uid in self.by_uid or len(self.config_errors) < POOLS_MAX:
                self.config_errors[config.uid] = RefusedConfig(config.name, refusal.status())
            raise

    def _configure(self, config: fleet_service_pb2.PoolConfig) -> pools.Pool:
        found = pool_config.settings_of(config)
        now = self._clock.now()
        pool = self.by_uid.get(found.uid)
        if pool is not None and pool.name != found.name:
            raise errors.invalid("name", f"must stay {pool.name} for uid {found.uid}")
        if pool is None and len(self.by_uid) >= POOLS_MAX:
            raise errors.invalid("uid", f"is one too many: at most {POOLS_MAX} pools")
        self._write(found.uid, found.name, config.SerializeToString(deterministic=True))
        if pool is None:
            pool = self.make(found, fresh=True)
            self._register(pool)
        else:
            pool.configure(found, now)
        earlier = self.by_name.get(found.name)
        if earlier is not None and earlier is not pool:
            earlier.close(now)
            self.forget_refusal(earlier.config.uid)
        self.by_name[found.name] = pool
        self.forget_refusal(found.uid)
        return pool

    def forget_refusal(self, uid: str) -> None:
        """It was taken since, or the pool is no more, and there is nobody to show the reason to."""
        self.config_errors.pop(uid, None)

    def _write(self, uid: str, name: str, config: bytes) -> None:
        if self._written.get(uid) != config:
            self._written[uid] = config
            self._log.append(records.PoolConfigured(uid, name, config))

    def purge(self, pool: pools.Pool) -> None:
        """Forget a pool and everything of it."""
        uid = pool.config.uid
        del self.by_uid[uid]
        self._of_name[pool.name].remove(pool)
        if not self._of_name[pool.name]:
            del self._of_name[pool.name]
        if self.by_name.get(pool.name) is pool:
            del self.by_name[pool.name]
        self._written.pop(uid, None)
        self.forget_refusal(uid)
        self.memory.leave(pool.book.memory)
        self._log.append(records.PoolPurged(uid))
