"""What a worker runs, and how: handlers in threads, handlers in processes, or any command.

A mode is a value that the command line makes, before anything heavy is imported; `work` then makes
the machinery.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from penstock_worker import app, settings

if TYPE_CHECKING:
    from penstock_worker import attempts, command, command_terms, keeping

Lost = Callable[[], None]
"""Called when the worker cannot run anything any more; in any thread."""


class Mode(Protocol):
    """See the module's docstring."""

    @property
    def types(self) -> tuple[str, ...]:
        """Task types that it runs; none = any."""

    def work(
        self,
        config: settings.Settings,
        on_end: "attempts.OnEnd",
        on_progress: "attempts.OnProgress",
        lost: Lost,
    ) -> "attempts.Attempts[Any]":
        """What runs the attempts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Threads:
    """Handlers in this process."""

    worker: app.Worker

    @property
    def types(self) -> tuple[str, ...]:
        """Those with a handler."""
        return self.worker.types

    def work(
        self,
        config: settings.Settings,
        on_end: "attempts.OnEnd",
        on_progress: "attempts.OnProgress",
        _: Lost,
    ) -> "attempts.Attempts[Any]":
        """An executor."""
        from penstock_worker import executor

        return executor.Executor(self.worker, config.slots, on_end, on_progress)


@dataclasses.dataclass(frozen=True, slots=True)
class Processes:
    """Handlers in processes of their own. `where` is where these find them."""

    worker: app.Worker
    where: str

    @property
    def types(self) -> tuple[str, ...]:
        """Those with a handler."""
        return self.worker.types

    def work(
        self,
        config: settings.Settings,
        on_end: "attempts.OnEnd",
        on_progress: "attempts.OnProgress",
        lost: Lost,
    ) -> "attempts.Attempts[Any]":
        """A supervisor of handler processes."""
        from penstock_worker import isolation, memory_events, supervisor

        memory = memory_events.of_this_container()

        def make(keeper: "keeping.Keeping") -> isolation.Runner:
            return isolation.Runner(keeper, memory, where=self.where, log_level=config.log_level)

        return supervisor.Supervisor(make, on_end, on_progress, lost)


@dataclasses.dataclass(frozen=True, slots=True)
class Exec:
    """A command for each attempt."""

    command: "command.Command"
    terms: "command_terms.Terms"
    types: tuple[str, ...]

    def work(
        self,
        _: settings.Settings,
        on_end: "attempts.OnEnd",
        on_progress: "attempts.OnProgress",
        lost: Lost,
    ) -> "attempts.Attempts[Any]":
        """A supervisor of commands."""
        from penstock_worker import command, memory_events, supervisor

        memory = memory_events.of_this_container()

        def make(keeper: "keeping.Keeping") -> command.Runner:
            return command.Runner(keeper, self.command, self.terms, memory)

        return supervisor.Supervisor(make, on_end, on_progress, lost)
