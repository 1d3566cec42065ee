"""Channel arguments: gRPC passes over a name that it does not know, without a word."""

import importlib.util
import pathlib

import pytest

from penstock import _settings
from penstock_dispatcher import server
from penstock_operator import dispatcher_link
from penstock_worker import stream
from rig import dispatchers

ARGUMENTS = {
    "client": _settings.CHANNEL_OPTIONS,
    "worker": stream.CHANNEL_OPTIONS,
    "operator": dispatcher_link.CHANNEL_OPTIONS,
    "dispatcher": server.OPTIONS,
    "tests": dispatchers.CHANNEL_OPTIONS,
}


@pytest.mark.parametrize("whose", ARGUMENTS)
def test_grpc_knows_every_argument(whose: str) -> None:
    library = importlib.util.find_spec("grpc._cython.cygrpc")
    assert library is not None
    assert library.origin is not None
    known = pathlib.Path(library.origin).read_bytes()
    names = [name for name, _ in ARGUMENTS[whose]]
    assert names
    assert [name for name in names if f"{name}\0".encode() not in known] == []


@pytest.mark.parametrize("whose", ["client", "worker", "operator"])
def test_they_take_what_the_dispatcher_sends(whose: str) -> None:
    sent_max = dict(server.OPTIONS)["grpc.max_send_message_length"]
    assert dict(ARGUMENTS[whose])["grpc.max_receive_message_length"] == sent_max
