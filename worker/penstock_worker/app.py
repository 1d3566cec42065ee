"""The registry: which function runs which type of task. This is the API that users write against.

    worker = Worker()

    @worker.task("digest")
    def digest(task: Task) -> bytes:
        return hashlib.sha256(task.payload).digest()

A handler takes the `Task` and returns its result: bytes as they are, a str as UTF-8, None as
nothing, anything else as JSON. It may be a plain function (runs in a thread of the pool's slots) or
`async` (runs in an event loop of its own, apart from the dispatcher's stream). The decorator
returns the function unchanged, so that tests call it directly.
"""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from penstock_worker import task as tasks

TYPE_LENGTH_MAX = 128

Handler = Callable[[tasks.Task], Any] | Callable[[tasks.Task], Awaitable[Any]]
_H = TypeVar("_H", bound=Callable[..., Any])


class Worker:
    """Handlers by task type."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    @overload
    def task(self, name: _H, /) -> _H: ...
    @overload
    def task(self, name: str | None = None, /) -> Callable[[_H], _H]: ...
    def task(self, name: Any = None, /) -> Any:
        """Register a handler for tasks of type `name` (the function's name if left out).

        ValueError if the type is taken, or not 1 to 128 characters long.
        """
        if callable(name):
            return self._register(name.__name__, name)
        return lambda function: self._register(name or function.__name__, function)

    def _register(self, type_: str, function: _H) -> _H:
        if not 1 <= len(type_) <= TYPE_LENGTH_MAX:
            raise ValueError(f"task type must have 1 to {TYPE_LENGTH_MAX} characters: {type_!r}")
        if type_ in self._handlers:
            raise ValueError(f"task type {type_!r} has a handler already: use another name")
        self._handlers[type_] = function
        return function

    @property
    def types(self) -> tuple[str, ...]:
        """The task types with a handler, sorted."""
        return tuple(sorted(self._handlers))

    def handler(self, type_: str) -> Handler | None:
        """The handler of a type."""
        return self._handlers.get(type_)

    def run(self) -> int:
        """Serve the pool named by the environment until SIGTERM; returns the exit status.

        The same as `penstock-worker module:worker`.
        """
        from penstock_worker import modes, starting

        return starting.serve(modes.Threads(self))


def is_async(handler: Handler) -> bool:
    """Runs in the event loop."""
    call = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
    return asyncio.iscoroutinefunction(call) or inspect.iscoroutinefunction(call)


def encode(result: Any) -> tuple[bytes, str]:
    """A handler's result as (bytes, content type). TypeError if it cannot be."""
    match result:
        case None:
            return b"", ""
        case bytes() | bytearray() | memoryview():
            return bytes(result), "application/octet-stream"
        case str():
            return result.encode(), "text/plain; charset=utf-8"
        case _:
            return json.dumps(result).encode(), "application/json"
