"""Runs Python handlers in processes of their own: what `--isolation process` means.

A process for each slot in use, started when it is first needed and used again for the next task, so
that a module is imported once a slot. It is asked to stop as a handler in a thread is; when it has
not stopped as the grace ends, the process is killed, and the slot's next task gets a new one. A
process that ends by itself, by `os._exit` or by a crash, takes its own attempt with it and no
other: that is told as a worker loss, with the cause.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import Final

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import framing, keeping, memory_events, outcomes
from penstock_worker import supervisor as supervisors
from penstock_worker import told as tolds

END_SECONDS_MAX: Final = 2.0
"""How long a process that has closed its socket may take to end."""


class _Process:
    """A handler process, and the socket to it."""

    def __init__(self, child: keeping.Child, link: socket.socket) -> None:
        self.child, self.link = child, link
        self.ready = self.assigned = False
        self.busy = False
        """Taken for an attempt, and has not answered yet."""

    async def run(self, assignment: wire.Assignment, told: tolds.Told) -> wire.TaskOutcome | None:
        """The outcome of one attempt; None = the process is gone. What the handler tells until then
        goes to `told`.
        """
        self.busy = True
        if not self.ready:
            hello = await framing.receive(self.link, wire.WorkRequest)
            if hello is None or hello.WhichOneof("message") != "hello":
                return None
            self.ready = True
        given = wire.WorkResponse(assignments=wire.Assignments(assignments=[assignment]))
        try:
            await framing.send(self.link, given)
        except OSError:
            return None
        self.assigned = True  # only now: another message would get in between
        while True:
            answer = await framing.receive(self.link, wire.WorkRequest)
            if answer is None or not answer.HasField("progress"):
                break
            told.pass_on(answer.progress.progress)
        if answer is None or len(answer.outcomes.outcomes) != 1:
            return None
        self.busy = self.assigned = False
        return answer.outcomes.outcomes[0]

    async def ask_to_stop(self, lease_id: str, reason: str) -> None:
        """As CancelLease does."""
        cancel = wire.CancelLease(lease_id=lease_id, reason=reason)
        with contextlib.suppress(OSError):
            await framing.send(self.link, wire.WorkResponse(cancel=cancel))

    async def end(self) -> int:
        """Make sure that it ends; its wait status."""
        self.link.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS_MAX):
                    return await asyncio.shield(self.child.ended)
            self.child.signal(signal.SIGKILL)
            return await asyncio.shield(self.child.ended)
        finally:
            self.child.let_go()


class Runner:
    """See the module's docstring. `where` names the handlers, as on the command line."""

    def __init__(
        self,
        keeper: keeping.Keeping,
        memory: memory_events.Counter,
        *,
        where: str,
        log_level: str,
    ) -> None:
        self._keeper, self._memory = keeper, memory
        self._command = (sys.executable, "-m", "penstock_worker.child", where, log_level)
        self._idle: list[_Process] = []

    async def run(
        self, attempt: supervisors.Running, assignment: wire.Assignment
    ) -> wire.TaskOutcome:
        """One attempt, to its end."""
        if attempt.stopping.is_set():
            return _stopped(attempt)
        kills = self._memory.kills()
        process = await self._take()
        running = asyncio.create_task(process.run(assignment, attempt.task.told))
        stopping = asyncio.create_task(_stop(attempt, process))
        try:
            outcome = await running
        finally:
            stopping.cancel()
            running.cancel()
        if outcome is not None:
            self._idle.append(process)
            return outcome
        status = await process.end()
        if attempt.stopping.is_set():
            return _stopped(attempt)
        return _died(status, ready=process.ready, memory_kills=self._memory.kills() - kills)

    async def _take(self) -> _Process:
        """The one that was used last, or a new one. Raises OSError."""
        while self._idle:
            process = self._idle.pop()
            if not process.child.ended.done():
                return process
            await process.end()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                child = await self._keeper.start(
                    self._command,
                    executable=sys.executable,
                    environment={},
                    descriptors=(theirs.fileno(), 1, 2),
                )
        except BaseException:
            ours.close()
            raise
        return _Process(child, ours)

    async def close(self) -> None:
        """End those that wait."""
        for process in self._idle:
            process.link.close()
        self._idle.clear()


def _stopped(attempt: supervisors.Running) -> wire.TaskOutcome:
    return outcomes.stopped("", attempt.stopped_for, attempt.seconds)


async def _stop(attempt: supervisors.Running, process: _Process) -> None:
    """Ask when the attempt is told to stop, and kill when the grace is over."""
    await attempt.stopping.wait()
    if process.assigned:
        await process.ask_to_stop(attempt.lease_id, attempt.stopped_for)
        await asyncio.sleep(supervisors.kill_after_seconds(attempt.grace_seconds))
    if process.busy:
        process.child.signal(signal.SIGKILL)


def _died(status: int, *, ready: bool, memory_kills: int) -> wire.TaskOutcome:
    when = "while the handler ran" if ready else "before its handlers were loaded"
    if os.WIFEXITED(status):
        how = f"exited with status {os.WEXITSTATUS(status)}"
    elif status == keeping.KILLED:
        return outcomes.killed("the handler's process", memory_kills)
    else:
        # Another one may carry the flag of a core dump beside its number.
        how = f"was ended by {outcomes.signal_name(os.WTERMSIG(status))}"
    return outcomes.lost(
        "PROCESS_DIED", f"the handler's process {how} {when}; the worker's log has what it wrote"
    )
