"""Holds the leadership: takes the Lease, renews it, and says when it is lost.

`acquire` returns when this process leads; `hold` renews until that fails for
`RENEW_DEADLINE_SECONDS` or somebody else has it, and then raises `Lost`: the process must end,
for another one may act already. A renewal counts from before its request, and neither a wait nor a
request goes past the deadline: whatever happens, this process has said `Lost` a third of a Lease's
duration before somebody else can take it. See `lease`.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from penstock_operator import cluster, lease

POLL_JITTER_SECONDS: Final = 0.5

logger = logging.getLogger(__name__)


class Lost(Exception):  # noqa: N818  it says what happened
    """This process leads no more."""


class Leader:
    """One candidate. `wall` and `clock` give the time of day and a monotonic one, in seconds."""

    def __init__(
        self,
        *,
        api: cluster.Cluster,
        namespace: str,
        name: str,
        identity: str,
        wall: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._wall = wall
        self._clock = clock
        self._held: cluster.Body | None = None
        self._renewed = 0.0
        """Before the last request that the Lease was written with."""
        self.epoch = 0
        """Of the leadership; 0 = not the leader yet."""

    async def acquire(self) -> None:
        """Wait until this process leads."""
        seen, since = "", self._clock()
        while True:
            try:
                found = await self._api.get_lease(self._namespace, self._name)
                version = str(found["metadata"]["resourceVersion"]) if found is not None else ""
                if version != seen:
                    seen, since = version, self._clock()
                claim = lease.claim(
                    found,
                    name=self._name,
                    namespace=self._namespace,
                    identity=self._identity,
                    unchanged_seconds=self._clock() - since,
                    now=self._wall(),
                )
                if claim is not None:
                    self._renewed = self._clock()
                    self._held = await self._api.write_lease(
                        self._namespace, claim.body, create=claim.create
                    )
                    self.epoch = claim.epoch
                    logger.info("leading as %s in epoch %d", self._identity, self.epoch)
                    return
                logger.debug("the Lease is held by somebody else")
            except cluster.Conflict:
                logger.debug("somebody else was faster")
            except cluster.ApiError as error:
                logger.warning("cannot take the Lease: %s", error)
            await asyncio.sleep(lease.RENEW_SECONDS + random.uniform(0, POLL_JITTER_SECONDS))

    async def hold(self) -> None:
        """Renew until it is lost."""
        while True:
            await asyncio.sleep(max(0.0, min(lease.RENEW_SECONDS, self._left())))
            if self._left() <= 0:
                raise Lost(f"the Lease was not renewed for {lease.RENEW_DEADLINE_SECONDS:.0f} s")
            began = self._clock()
            try:
                async with asyncio.timeout(self._left()):
                    await self._renew()
                self._renewed = began
            except (cluster.ApiError, TimeoutError) as error:
                logger.warning("cannot renew the Lease: %s", str(error) or "no answer in time")

    def _left(self) -> float:
        return self._renewed + lease.RENEW_DEADLINE_SECONDS - self._clock()

    async def _renew(self) -> None:
        assert self._held is not None, "acquire comes first"
        try:
            body = lease.renewal(self._held, now=self._wall())
            self._held = await self._api.write_lease(self._namespace, body, create=False)
        except cluster.Conflict:
            found = await self._api.get_lease(self._namespace, self._name)
            if found is None or lease.holder_of(found) != self._identity:
                raise Lost("the Lease is held by somebody else") from None
            self._held = found
            raise

    async def release(self) -> None:
        """Let the next one have it at once. Failing does no harm: the Lease runs out."""
        if self._held is None:
            return
        try:
            await self._api.write_lease(
                self._namespace, lease.release(self._held, now=self._wall()), create=False
            )
        except cluster.ApiError as error:
            logger.info("the Lease is left to run out: %s", error)
        self._held = None
