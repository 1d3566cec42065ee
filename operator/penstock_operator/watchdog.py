"""Proves that watches still deliver: writes a Lease, which must come back by watch.

A watch that stalls silently would leave the operator deaf while its process, its HTTP and its
writes are all well. So in every served namespace a Lease (`NAME`) is written each `BEAT_SECONDS`;
`seen` hears of it from the watch. One that has not come back for `LATE_SECONDS` makes `late` name
its namespace, and the liveness probe fail. Writes that fail are no fault of the watch: they only
make the next beat later.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from penstock_operator import cluster, lease

NAME: Final = "penstock-operator-watch"
BEAT_SECONDS: Final = 30.0
LATE_SECONDS: Final = 45.0

logger = logging.getLogger(__name__)


class Watchdog:
    """One for all served namespaces."""

    def __init__(
        self,
        *,
        api: cluster.Cluster,
        identity: str,
        wall: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._identity = identity
        self._wall = wall
        self._clock = clock
        self._awaited: dict[str, tuple[str, float]] = {}
        """Namespace → the version that was written and not seen yet, and when."""
        self._seen: dict[str, str] = {}

    def seen(self, namespace: str, version: str) -> None:
        """The watch delivered the Lease in this version."""
        self._seen[namespace] = version
        written = self._awaited.get(namespace)
        if written is not None and _reached(version, written[0]):
            del self._awaited[namespace]

    def late(self) -> tuple[str, ...]:
        """Namespaces whose watch has not brought back what was written."""
        now = self._clock()
        return tuple(
            namespace
            for namespace, (_, since) in self._awaited.items()
            if now - since > LATE_SECONDS
        )

    async def run(self, namespaces: Iterable[str]) -> None:
        """Beat for ever in the namespaces that are watched."""
        watched = tuple(namespaces)
        while True:
            for namespace in watched:
                try:
                    await self._beat(namespace)
                except cluster.ApiError as error:
                    logger.warning("cannot write the watch Lease in %s: %s", namespace, error)
            await asyncio.sleep(BEAT_SECONDS)

    async def _beat(self, namespace: str) -> None:
        found = await self._api.get_lease(namespace, NAME)
        body = lease.beacon(
            found, name=NAME, namespace=namespace, identity=self._identity, now=self._wall()
        )
        written = await self._api.write_lease(namespace, body, create=found is None)
        version = str(written["metadata"]["resourceVersion"])
        # The watch may have been faster than the answer; an older beat that is still awaited
        # keeps its time.
        if not _reached(self._seen.get(namespace, ""), version):
            since = self._awaited.get(namespace, ("", self._clock()))[1]
            self._awaited[namespace] = (version, since)


def _reached(seen: str, written: str) -> bool:
    if seen.isdecimal() and written.isdecimal():
        return int(seen) >= int(written)
    return seen == written
