"""The rate limits of one pool: its own bucket, and one for each fairness key.

They start full in a new pool and empty after a restart, because a burst may have been spent just
before it; one that is switched on later starts empty too, or switching it off and on would refill
it.
"""

from penstock_dispatcher.core import bucket, key_rates, settings


class Limits:
    """`pool` and `keys` are None where there is no limit. `fresh` = not loaded from a journal."""

    __slots__ = ("keys", "pool")

    def __init__(self, config: settings.PoolSettings, *, now: int, fresh: bool) -> None:
        self.pool: bucket.TokenBucket | None = None
        self.keys: key_rates.KeyRates | None = None
        if config.rate_limit is not None:
            self.pool = bucket.TokenBucket(config.rate_limit, now=now, full=fresh)
        if config.rate_limit_per_key is not None:
            self.keys = key_rates.KeyRates(config.rate_limit_per_key, now=now, full=fresh)

    def configure(self, config: settings.PoolSettings, now: int) -> None:
        """Put other limits in force; what has been taken stays taken."""
        limit = config.rate_limit
        if limit is None:
            self.pool = None
        elif self.pool is None:
            self.pool = bucket.TokenBucket(limit, now=now, full=False)
        elif limit != self.pool.rate:
            self.pool.reconfigure(limit, now)
        limit = config.rate_limit_per_key
        if limit is None:
            self.keys = None
        elif self.keys is None:
            self.keys = key_rates.KeyRates(limit, now=now, full=False)
        elif limit != self.keys.rate:
            self.keys.reconfigure(limit, now)

    def sweep(self, now: int) -> None:
        """Forget what is full again."""
        if self.keys is not None:
            self.keys.sweep(now)
