"""The whole local fleet: dispatcher, link, pools, and the signals that stop them.

A first SIGINT, SIGTERM or SIGHUP drains: the pools take no new tasks, workers finish what they run
and leave, for at most each pool's drain time-out; what waits stays in the journal. A second one, or
SIGQUIT, stops at once: what ran runs again next time. `run` returns the exit status:

    0    drained: nothing was running any more
    1    the drain time-out has passed: what still ran was handed back, and runs again next time
    130  stopped at once
"""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from penstock_operator import dispatcher_link, spec
from penstock_operator.local import children, launch, picture, pool, service, state

EPOCH: Final = 1
"""Of the operator's leadership: here nobody else leads."""
RECONNECT_SECONDS_MAX: Final = 0.3
"""The dispatcher is ours alone, and near: nobody is served by patience."""
SHOW_SECONDS: Final = 0.25
TIDY_LOGS_SECONDS: Final = 10.0
HAND_BACK_SECONDS: Final = 8.0
"""Beyond the drain time-out, for workers to hand back what they run."""

DRAINED: Final = 0
NOT_DRAINED: Final = 1
AT_ONCE: Final = 130


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A pool of the fleet, and the folder that its workers run in."""

    how: launch.Launch
    folder: pathlib.Path


class LocalFleet:
    """`dispatcher(listen, data)` is the command of the dispatcher. `show` is called several times a
    second.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        folder: state.Folder,
        port: int,
        dispatcher: Callable[[str, str], Sequence[str]],
        show: Callable[[picture.Picture], None],
    ) -> None:
        self._folder = folder
        self._show = show
        self._started = time.monotonic()
        self._stage = picture.Stage.STARTING
        self._closing = False
        self._asked = asyncio.Event()
        self._at_once = asyncio.Event()
        self.address = f"{service.HOST}:{port}"
        self._link = dispatcher_link.DispatcherLink(
            address=self.address,
            token_file="",
            operator_id=f"local-{os.getpid()}",
            epoch=lambda: EPOCH,
            wake=self._wake,
            wake_all=self._wake_all,
            clock=time.monotonic,
            reconnect_seconds_max=RECONNECT_SECONDS_MAX,
        )
        self._service = service.Service(
            dispatcher(self.address, str(folder.journal)),
            environment={
                name: value
                for name, value in os.environ.items()
                if not name.startswith(launch.PREFIX)
            },
            folder=folder.path,
            log=folder.logs / "dispatcher.log",
            serving=lambda: self._link.synced_for() > 0,
        )
        self._pools = {
            member.how.pool.full_name: pool.LocalPool(
                member.how,
                link=self._link,
                address=self.address,
                folder=member.folder,
                logs=folder.logs,
                wall=time.time,
                changed=self._remember,
            )
            for member in members
        }
        self._record = state.Record(
            pid=os.getpid(),
            start_time=state.start_time(os.getpid()) or 0,
            address=self.address,
            pools=tuple(self._pools),
        )

    def _remember(self) -> None:
        if self._closing:
            return  # nobody hears any more that they have ended: the next fleet reports it
        self._folder.remember({name: each.names() for name, each in self._pools.items()})

    def _wake(self, name: str) -> None:
        if name in self._pools:
            self._pools[name].wake()

    def _wake_all(self) -> None:
        for each in self._pools.values():
            each.wake()

    # ------------------------------------------------------------ running

    async def run(self) -> int:
        """Run until a signal; returns the exit status. Raises service.Failed, Deposed, OSError."""
        self._heed_signals()
        self._folder.write(self._record)
        earlier = self._folder.remembered()
        for name, each in self._pools.items():
            self._link.upsert(spec.pool_config(each.spec))
            each.report_earlier(earlier.get(name, {}))
        keepers = [asyncio.create_task(each.run()) for each in self._pools.values()]
        others = [
            asyncio.create_task(self._service.run(), name="dispatcher"),
            asyncio.create_task(self._link.run(), name="link"),
            asyncio.create_task(self._tick(), name="tick"),
        ]
        asked = asyncio.create_task(self._asked.wait())
        status = AT_ONCE
        try:
            await asyncio.wait((*keepers, *others, asked), return_when=asyncio.FIRST_COMPLETED)
            for task in (*keepers, *others):
                if task.done():
                    task.result()  # none of them ends but by an exception
            await _cancelled(keepers)
            status = await self._drain()
        finally:
            self._closing = True
            for each in self._pools.values():
                each.kill()
            await self._service.stop(at_once=status == AT_ONCE)
            await _cancelled([*keepers, *others, asked])
        return status

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop_asked)
        loop.add_signal_handler(signal.SIGQUIT, self._stop_at_once)

    def _stop_asked(self) -> None:
        if self._asked.is_set():
            self._at_once.set()
        self._asked.set()

    def _stop_at_once(self) -> None:
        self._at_once.set()
        self._asked.set()

    # ------------------------------------------------------------ the end

    async def _drain(self) -> int:
        if self._at_once.is_set():
            return AT_ONCE
        self._stage = picture.Stage.DRAINING
        patience = max(each.spec.drain_timeout_seconds for each in self._pools.values())
        begun = time.monotonic()
        for each in self._pools.values():
            self._link.delete(name=each.spec.full_name, uid=each.spec.uid)
            each.stop()
        while any(each.processes for each in self._pools.values()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._at_once.wait()
            if self._at_once.is_set():
                return AT_ONCE
            if time.monotonic() - begun > patience + HAND_BACK_SECONDS:
                break
        return DRAINED if time.monotonic() - begun < patience else NOT_DRAINED

    # ------------------------------------------------------------ showing

    async def _tick(self) -> None:
        tidied_at = float("-inf")
        while True:
            if time.monotonic() - tidied_at > TIDY_LOGS_SECONDS:
                tidied_at = time.monotonic()
                children.tidy(self._folder.logs)
            self._tell()
            await asyncio.sleep(SHOW_SECONDS)

    def _tell(self) -> None:
        ready = all(each.had_minimum for each in self._pools.values())
        if ready and self._stage is picture.Stage.STARTING:
            self._stage = picture.Stage.RUNNING
        problem = next((each.problem for each in self._pools.values() if each.problem), "")
        record = dataclasses.replace(
            self._record,
            ready=self._record.ready or ready,
            problem=self._service.problem or problem,
        )
        if record != self._record:
            self._record = record
            self._folder.write(record)
        self._show(
            picture.Picture(
                stage=self._stage,
                seconds=time.monotonic() - self._started,
                now=time.time(),
                address=self.address,
                pools=tuple(each.picture() for each in self._pools.values()),
                problem=self._service.problem,
            )
        )


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
