"""A token bucket for each fairness key.

A key that has taken nothing lately has no bucket of its own: it stands as `_unseen` does, the
bucket of every key that never took a token. That one starts as the pool's: full in a new pool,
empty after a restart and when a limit is switched on, and it never refills by being reconfigured.
So a key that this process has not seen gets no fresh burst either. A key's bucket is forgotten once
it is full again: what is kept is bounded by the keys that took a token within the time in which a
bucket fills.

Tokens can be *held* for tasks that are as good as started (see `turn`): they are kept from others.
"""

import heapq

from penstock_dispatcher.core import bucket, settings, units


class KeyRates:
    """Buckets of one pool, all with the same limit."""

    def __init__(self, rate: settings.RateLimit, *, now: int, full: bool) -> None:
        self._unseen = bucket.TokenBucket(rate, now=now, full=full)
        self._buckets: dict[str, bucket.TokenBucket] = {}
        self._full_at: list[tuple[int, str]] = []
        """When each bucket is full again, at the earliest: a heap, one entry for each bucket."""
        self._held: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    @property
    def rate(self) -> settings.RateLimit:
        """The limit in force."""
        return self._unseen.rate

    def _of(self, key: str) -> bucket.TokenBucket:
        return self._buckets.get(key, self._unseen)

    def available(self, key: str, now: int) -> int:
        """Tokens of that key that nothing is held for."""
        return self._of(key).available(now) - self._held.get(key, 0)

    def take(self, key: str, now: int) -> None:
        """Take a token that is available."""
        self.sweep(now)
        one = self._buckets.get(key)
        if one is None:
            one = self._buckets[key] = self._unseen.copy()
            heapq.heappush(self._full_at, (one.full_at(), key))
        taken = one.take(now)
        assert taken, "asked before it is taken"

    def ready_at(self, key: str, now: int) -> int | None:
        """When a key has one more token than is held for it, if nothing is taken meanwhile; None =
        never, as long as that many are held.
        """
        held = self._held.get(key, 0)
        return None if held >= self.rate.burst else self._of(key).ready_at(now, held + 1)

    def hold(self, key: str) -> None:
        """Keep one of its tokens from others."""
        self._held[key] = self._held.get(key, 0) + 1

    def release_all(self) -> list[str]:
        """Nothing is held any more; returns the keys for which something was."""
        keys = list(self._held)
        self._held.clear()
        return keys

    def reconfigure(self, rate: settings.RateLimit, now: int) -> None:
        """Change the limit; see `TokenBucket.reconfigure`."""
        self._unseen.reconfigure(rate, now)
        for one in self._buckets.values():
            one.reconfigure(rate, now)
        self._full_at = [(one.full_at(), key) for key, one in self._buckets.items()]
        heapq.heapify(self._full_at)

    def sweep(self, now: int) -> None:
        """Forget the keys whose buckets are full again."""
        while self._full_at and self._full_at[0][0] <= now:
            key = self._full_at[0][1]
            full_at = self._buckets[key].full_at()
            if full_at <= now:
                heapq.heappop(self._full_at)
                del self._buckets[key]
            else:
                heapq.heapreplace(self._full_at, (full_at, key))


class Throttled:
    """Keys that wait for a token, by the time at which they have one."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []

    def add(self, key: str, due: int) -> None:
        """Idempotent: a key waits for one time."""
        if key not in self._due:
            self._due[key] = due
            heapq.heappush(self._order, (due, key))

    def take_due(self, now: int) -> list[str]:
        """Keys whose time has come."""
        due = []
        while self._order and self._order[0][0] <= now:
            key = heapq.heappop(self._order)[1]
            del self._due[key]
            due.append(key)
        return due

    def next_due(self) -> int:
        """When `take_due` has something."""
        return self._order[0][0] if self._order else units.NEVER
