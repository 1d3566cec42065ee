"""The leadership ends in time, however slow the API server is."""

import asyncio
from typing import Any

import pytest

from penstock_operator import cluster, leader, lease
from rig import virtual_time


class Leases:
    """A Lease, whose writes take `seconds` and then succeed, or fail, or are lost on the way."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None
        self.written: list[float] = []
        """When each write took effect."""
        self.seconds = 0.0
        self.refusal: Exception | None = None

    async def get_lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self.body

    async def write_lease(
        self, namespace: str, body: dict[str, Any], *, create: bool
    ) -> dict[str, Any]:
        if self.refusal is None:
            self.written.append(asyncio.get_running_loop().time())
            meta = {**body["metadata"], "resourceVersion": str(len(self.written))}
            self.body = {**body, "metadata": meta}
        await asyncio.sleep(self.seconds)
        if self.refusal is not None:
            raise self.refusal
        assert self.body is not None
        return self.body


async def leading(leases: Leases) -> leader.Leader:
    clock = asyncio.get_running_loop().time
    one = leader.Leader(
        api=leases,  # type: ignore[arg-type]
        namespace="n",
        name="l",
        identity="me",
        wall=clock,
        clock=clock,
    )
    await one.acquire()
    return one


def lost_after(*, seconds: float, refusal: Exception | None, acquired_in: float = 0.0) -> float:
    """How long after its last write a leader still holds on, when every renewal goes like that."""

    async def history() -> float:
        leases = Leases()
        leases.seconds = acquired_in
        one = await leading(leases)
        leases.seconds, leases.refusal = seconds, refusal
        with pytest.raises(leader.Lost):
            await one.hold()
        return asyncio.get_running_loop().time() - leases.written[-1]

    return virtual_time.run(history())


REFUSED = cluster.ApiError(500, "not now")


@pytest.mark.parametrize(
    ("seconds", "refusal", "acquired_in"),
    [(0.0, REFUSED, 0.0), (4.0, REFUSED, 0.0), (3600.0, REFUSED, 0.0), (4.0, REFUSED, 4.0)],
    ids=["refused at once", "refused slowly", "never answered", "taken slowly"],
)
def test_a_leader_that_cannot_renew_has_gone_before_another_may_come(
    seconds: float, refusal: Exception, acquired_in: float
) -> None:
    held = lost_after(seconds=seconds, refusal=refusal, acquired_in=acquired_in)
    assert held <= lease.RENEW_DEADLINE_SECONDS + 0.01
    assert held < lease.DURATION_SECONDS - 4


def test_slow_renewals_that_succeed_keep_the_leadership() -> None:
    async def history() -> list[float]:
        leases = Leases()
        one = await leading(leases)
        leases.seconds = 3.0
        holding = asyncio.ensure_future(one.hold())
        await asyncio.sleep(120)
        assert not holding.done()
        holding.cancel()
        return leases.written

    written = virtual_time.run(history())
    assert len(written) > 20


def test_a_lease_that_somebody_else_holds_is_lost_at_once() -> None:
    async def history() -> None:
        leases = Leases()
        one = await leading(leases)
        leases.refusal = cluster.Conflict(409, "changed")
        assert leases.body is not None
        taken = {**leases.body["spec"], "holderIdentity": "other"}
        leases.body = {**leases.body, "spec": taken}
        with pytest.raises(leader.Lost, match="somebody else"):
            await one.hold()

    virtual_time.run(history())
