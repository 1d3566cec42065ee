"""Messages between a worker and its handler processes: a length of four bytes, then the message.

They are those of the worker's stream, whose meaning they keep: `WorkResponse` to the child
(assignments, cancel), `WorkRequest` back (hello when the handlers are loaded, outcomes).
"""

import asyncio
import socket
import struct
from typing import Final, TypeVar

from google.protobuf import message

_LENGTH: Final = struct.Struct("!I")
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024

_M = TypeVar("_M", bound=message.Message)


async def send(link: socket.socket, frame: message.Message) -> None:
    """Send one, whole. Raises OSError if the other end is gone."""
    content = frame.SerializeToString()
    await asyncio.get_running_loop().sock_sendall(link, _LENGTH.pack(len(content)) + content)


async def receive(link: socket.socket, kind: type[_M]) -> _M | None:
    """The next one; None = the other end is gone, or speaks otherwise."""
    try:
        head = await _exactly(link, _LENGTH.size)
        (size,) = _LENGTH.unpack(head)
        if size > FRAME_BYTES_MAX:
            return None
        return kind.FromString(await _exactly(link, size))
    except (OSError, EOFError, message.DecodeError):
        return None


async def _exactly(link: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        piece = await asyncio.get_running_loop().sock_recv(link, size - len(found))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)
