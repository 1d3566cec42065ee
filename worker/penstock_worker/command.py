"""Runs any command, once an attempt: the shell around `command_terms` and `capture`.

The payload is written while the output is read, so neither waits for the other. A result that
outgrows its bound ends the command as a cancel would; until it has ended, its output is read and
thrown away. When the command has ended, the pipes are read to their end: what it has started, such
as a shell's `>(gzip)`, may still write. Whoever holds them open for longer than a moment is not
waited for, and what is left in the process group is killed.
"""

import asyncio
import contextlib
import dataclasses
import logging
import signal
from typing import Final

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import (
    capture,
    command_files,
    command_terms,
    keeping,
    memory_events,
    outcomes,
    pipes,
)
from penstock_worker import supervisor as supervisors

logger = logging.getLogger("penstock.worker")

LINE_BYTES_MAX: Final = 8192
"""Of standard error in the log; longer lines come in parts."""
STDERR_PIECE_BYTES: Final = 4096
"""Taken at a time: each line of it is logged, while the other commands wait."""
LOOK_SECONDS: Final = 0.5
"""Between two looks at what the command tells of its progress."""
LEFT_OVER_SECONDS_MAX: Final = 2.0
"""Until the pipes of a command that has ended are read to their end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A program and its arguments; `executable` is the file."""

    arguments: tuple[str, ...]
    executable: str


class Runner:
    """See the module's docstring."""

    def __init__(
        self,
        keeper: keeping.Keeping,
        command: Command,
        terms: command_terms.Terms,
        memory: memory_events.Counter,
    ) -> None:
        self._keeper = keeper
        self._command = command
        self._terms = terms
        self._memory = memory

    async def run(
        self, attempt: supervisors.Running, assignment: wire.Assignment
    ) -> wire.TaskOutcome:
        """One attempt, to its end."""
        if attempt.stopping.is_set():
            return self._outcome(attempt, 0, stopped=True)
        task = assignment.task
        priority = task.priority if task.HasField("priority") else None
        kills = self._memory.kills()
        output = _Output(attempt)
        with (
            pipes.Writer(attempt.task.payload) as stdin,
            pipes.Reader(output.out) as stdout,
            pipes.Reader(output.error, piece_bytes_max=STDERR_PIECE_BYTES) as stderr,
            command_files.Files(attempt.task) as files,
        ):
            try:
                child = await self._keeper.start(
                    self._command.arguments,
                    executable=self._command.executable,
                    environment=command_terms.environment(attempt.task, priority)
                    | files.environment,
                    descriptors=(stdin.theirs, stdout.theirs, stderr.theirs),
                )
            except keeping.KeeperLostError:
                raise
            except OSError as error:
                return command_terms.not_started(self._command.arguments[0], error)
            for pipe in (stdin, stdout, stderr):
                pipe.begin()
            stopping = asyncio.create_task(_stop(attempt, child, output))
            looking = asyncio.create_task(_look(files))
            try:
                status = await child.ended
                if not await pipes.all_read(stdout, stderr, seconds=LEFT_OVER_SECONDS_MAX):
                    logger.warning(
                        "what the command has left running holds its output open; it is not"
                        " waited for task=%s",
                        attempt.task.name,
                    )
            finally:
                stopping.cancel()
                looking.cancel()
                child.let_go()
            files.look()
        output.end()
        return self._outcome(
            attempt,
            status,
            stopped=output.stopped,
            output=output,
            kills=self._memory.kills() - kills,
        )

    def _outcome(
        self,
        attempt: supervisors.Running,
        status: int,
        *,
        stopped: bool,
        output: "_Output | None" = None,
        kills: int = 0,
    ) -> wire.TaskOutcome:
        ended = command_terms.Ended(
            status=status,
            seconds=attempt.seconds,
            result=output.result.content() if output else b"",
            too_large=output is not None and output.result.too_large,
            stderr=output.tail.text() if output else "",
            stopped_for=attempt.stopped_for if stopped else "",
            memory_kills=max(0, kills),
        )
        return command_terms.outcome_of(ended, self._terms)

    async def close(self) -> None:
        """Nothing is kept between attempts."""


class _Output:
    """What one command writes, and whether it was stopped."""

    def __init__(self, attempt: supervisors.Running) -> None:
        self.result = capture.Result(outcomes.RESULT_BYTES_MAX)
        self.tail = capture.Tail(command_terms.STDERR_CHARACTERS_MAX)
        self.stopped = False
        self.flooded = asyncio.Event()
        """The result has outgrown its bound."""
        self._lines = capture.Lines(LINE_BYTES_MAX)
        self._name = attempt.task.name

    def out(self, piece: bytes) -> None:
        """Standard output."""
        self.result.feed(piece)
        if self.result.too_large:
            self.flooded.set()

    def error(self, piece: bytes) -> None:
        """Standard error."""
        self.tail.feed(piece)
        self._log(self._lines.feed(piece))

    def end(self) -> None:
        """Nothing more comes."""
        self._log(self._lines.end())

    def _log(self, lines: list[str]) -> None:
        for line in lines:
            logger.info("task stderr task=%s %s", self._name, line)


async def _look(files: command_files.Files) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        files.look()


async def _stop(attempt: supervisors.Running, child: keeping.Child, output: _Output) -> None:
    """End the child when the attempt is told to stop, or has written too much."""
    told = asyncio.create_task(attempt.stopping.wait())
    flooded = asyncio.create_task(output.flooded.wait())
    try:
        await asyncio.wait((told, flooded), return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
        flooded.cancel()
    if child.ended.done():
        return
    output.stopped = attempt.stopping.is_set()
    child.signal(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(supervisors.kill_after_seconds(attempt.grace_seconds)):
            await asyncio.shield(child.ended)
    child.signal(signal.SIGKILL)
