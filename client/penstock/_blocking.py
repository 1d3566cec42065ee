"""Calls over grpc's blocking API: one try, told as our errors."""

from typing import TypeVar

import grpc
from google.protobuf import message

from penstock import _calls, _settings, _status

Answer = TypeVar("Answer", bound=message.Message)
Value = TypeVar("Value")


def once(
    channel: grpc.Channel,
    call: _calls.Call[Answer, Value],
    *,
    token: _settings.Token,
    seconds: float,
) -> Value:
    """One try. Raises PenstockError."""
    method: grpc.UnaryUnaryMultiCallable[message.Message, Answer] = channel.unary_unary(
        call.path,
        request_serializer=type(call.request).SerializeToString,
        response_deserializer=call.answer.FromString,
    )
    try:
        answer = method(call.request, timeout=seconds, metadata=token.metadata())
    except grpc.RpcError as failure:
        raise _status.from_call(failure) from None
    return call.read(answer)
