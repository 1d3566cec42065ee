"""What every handler has in common: refusals become rich statuses, and open calls are counted.

`answered` wraps a handler, unary or streaming (all are coroutines that take a request or an
iterator, and the context). Calls that last are limited (`limits`). Whatever else a handler raises
is a fault of ours: gRPC answers UNKNOWN and logs it.
"""

import asyncio
import collections
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf import message, message_factory
from google.protobuf.descriptor import ServiceDescriptor

from penstock_dispatcher import auth, errors, limits


class Calls:
    """Calls that are open at the moment, by method."""

    def __init__(self) -> None:
        self.open: collections.Counter[str] = collections.Counter()
        self.limited = {method: limits.Open(method) for method in limits.LIMITS}
        self._none_open = asyncio.Event()
        self._none_open.set()

    @contextlib.contextmanager
    def opened(self, method: str) -> Iterator[None]:
        """A call is open for the length of the block."""
        self.open[method] += 1
        self._none_open.clear()
        try:
            yield
        finally:
            self.open[method] -= 1
            if not self.open.total():
                self._none_open.set()

    async def none_open(self) -> None:
        """Return when no call is open."""
        await self._none_open.wait()


class _Service(Protocol):
    calls: Calls


_S = TypeVar("_S", bound=_Service)
_R = TypeVar("_R")
_Context = grpc.aio.ServicerContext[Any, Any]
_Handler = Callable[[_S, Any, Any], Awaitable[_R]]


async def refuse(context: _Context, refusal: errors.Refusal) -> NoReturn:
    """End the call with the refusal's status, details and push-back."""
    await context.abort(refusal.row.code, refusal.text, refusal.trailers())
    raise AssertionError("abort raises")


def answered(handler: _Handler[_S, _R]) -> _Handler[_S, _R]:
    """See the module's docstring."""
    name = handler.__name__
    work = _limited(name, handler) if name in limits.LIMITS else handler

    @functools.wraps(handler)
    async def call(service: _S, request: Any, context: Any) -> _R:
        with service.calls.opened(name):
            try:
                return await work(service, request, context)
            except errors.Refusal as refusal:
                await refuse(context, refusal)

    return call


def _limited(name: str, handler: _Handler[_S, _R]) -> _Handler[_S, _R]:
    async def call(service: _S, request: Any, context: Any) -> _R:
        with service.calls.limited[name].by(auth.caller(context.peer())):
            return await handler(service, request, context)

    return call


_MAKE = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def handlers(service: object, descriptor: ServiceDescriptor) -> grpc.GenericRpcHandler:
    """The methods of `service` that are there, for a server; gRPC itself answers UNIMPLEMENTED for
    those of the descriptor that are not. Requests are read with the generated code, or with what
    the service has in `readers`, by method.
    """
    made = {}
    readers: Mapping[str, Callable[[bytes], Any]] = getattr(service, "readers", {})
    for method in descriptor.methods:
        handler = getattr(service, method.name, None)
        if handler is not None:
            request = message_factory.GetMessageClass(method.input_type)
            made[method.name] = _MAKE[method.client_streaming, method.server_streaming](
                handler, readers.get(method.name, request.FromString), _serialized
            )
    return grpc.method_handlers_generic_handler(descriptor.full_name, made)


def _serialized(answer: message.Message | bytes) -> bytes:
    """Some are serialized already (see `convert.frames`)."""
    return answer if isinstance(answer, bytes) else answer.SerializeToString()
