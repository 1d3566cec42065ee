"""Calls over grpc.aio: one try, told as our errors.

grpc.aio raises `asyncio.CancelledError` both when our own task is cancelled and when the *other
side* ends a call with CANCELLED. Only the first may travel on as a cancellation; the second says
that nobody serves the call any more.

And it loses the status of a stream that the other side has ended while we were writing to it
(grpc#36066): `cause_lost` tells, and a unary call brings the cause to light.
"""

import asyncio
from typing import Final, TypeVar

import grpc
import grpc.aio
from google.protobuf import message

from penstock import _calls, _settings, _status, errors

Answer = TypeVar("Answer", bound=message.Message)
Value = TypeVar("Value")

_OVERWRITTEN: Final = "Internal error from Core"


def error_of(failure: BaseException) -> errors.PenstockError:
    """The error that a call ended with. Raises a cancellation that is our own."""
    if not isinstance(failure, asyncio.CancelledError):
        return _status.from_call(failure)
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise failure
    return _status.gone()


def cause_lost(error: errors.PenstockError) -> bool:
    """A stream has ended, and grpc.aio has overwritten why."""
    return error.code is grpc.StatusCode.INTERNAL and error.message == _OVERWRITTEN


async def once(
    channel: grpc.aio.Channel,
    call: _calls.Call[Answer, Value],
    *,
    token: _settings.Token,
    seconds: float,
) -> Value:
    """One try. Raises PenstockError."""
    method: grpc.aio.UnaryUnaryMultiCallable[message.Message, Answer] = channel.unary_unary(
        call.path,
        request_serializer=type(call.request).SerializeToString,
        response_deserializer=call.answer.FromString,
    )
    running = method(call.request, timeout=seconds, metadata=token.metadata())
    try:
        answer = await running
    except (grpc.RpcError, asyncio.CancelledError) as failure:
        raise error_of(failure) from None
    finally:
        # An abandoned call is never cancelled by itself (grpc#43462).
        running.cancel()
    return call.read(answer)
