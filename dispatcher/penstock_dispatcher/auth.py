"""Who may call what: bearer tokens, roles, namespaces.

A token names a role; a role opens services. `submit`: TaskService and reading PoolService; `work`:
WorkerService; `fleet`: FleetService; `admin`: TaskService and all of PoolService. Health and
reflection are open. With `clients: open`, a call without a token counts as `submit` everywhere.

The file is read again when it changes; a file that cannot be read leaves the last good one in
force. Tokens are looked up by their SHA-256, so that nothing can be learnt from how long a
comparison takes.

An interceptor decides about the role, before a request is read; handlers ask `check_namespace` when
they know which pool it is about.
"""

import contextvars
import dataclasses
import hashlib
import json
import logging
import pathlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from penstock_dispatcher import errors

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""The file's time stamp is looked at no more often than this."""
_BEARER: Final = "bearer "
_READING: Final = frozenset({"GetPool", "ListPools", "ListWorkers"})
_TASKS: Final = "penstock.v1.TaskService"
_POOLS: Final = "penstock.v1.PoolService"
_SERVICE_OF_ROLE: Final = {
    "work": "penstock.v1.WorkerService",
    "fleet": "penstock.v1.FleetService",
}
ROLES: Final = frozenset({"submit", "work", "fleet", "admin"})


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A caller. `namespaces` None = all."""

    name: str
    role: str
    namespaces: frozenset[str] | None = None

    def may_call(self, service: str, method: str) -> bool:
        """May this role call that method?"""
        if self.role == "submit":
            return service == _TASKS or (service == _POOLS and method in _READING)
        if self.role == "admin":
            return service in (_TASKS, _POOLS)
        return _SERVICE_OF_ROLE[self.role] == service


_EVERYTHING: Final = Identity("anybody", "admin")
_caller: contextvars.ContextVar[Identity] = contextvars.ContextVar("caller", default=_EVERYTHING)


def check_namespace(namespace: str) -> None:
    """Raises Refusal if this call's identity has no business in the namespace."""
    allowed = _caller.get().namespaces
    if allowed is not None and namespace not in allowed:
        raise errors.Refusal(
            errors.Reason.PERMISSION_DENIED,
            f"{_caller.get().name} may not use namespace {namespace}",
        )


def sees_namespace(namespace: str) -> bool:
    """May this call's identity see the namespace in a list?"""
    allowed = _caller.get().namespaces
    return allowed is None or namespace in allowed


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """What the file says. `tokens`: SHA-256 of a token → who it is."""

    clients_open: bool
    tokens: dict[bytes, Identity]


class PolicyError(Exception):
    """The file does not say what it should; the message names the place."""


def parse(text: str) -> Policy:
    """Read a policy from JSON. Raises PolicyError."""
    try:
        content = json.loads(text)
        clients = content.get("clients", "token")
        listed = content.get("tokens", [])
    except (ValueError, AttributeError) as error:
        raise PolicyError(f"not a JSON object: {error}") from error
    if clients not in ("open", "token"):
        raise PolicyError(f'clients must be "open" or "token", is {clients!r}')
    tokens: dict[bytes, Identity] = {}
    for number, entry in enumerate(listed):
        name = entry.get("name") or f"token {number}"
        if entry.get("role") not in ROLES:
            raise PolicyError(f"tokens[{number}].role must be one of {', '.join(sorted(ROLES))}")
        if not isinstance(entry.get("token"), str) or not entry["token"]:
            raise PolicyError(f"tokens[{number}].token must not be empty")
        namespaces = entry.get("namespaces")
        everywhere = namespaces is None or "*" in namespaces
        digest = hashlib.sha256(entry["token"].encode()).digest()
        tokens[digest] = Identity(
            name, entry["role"], None if everywhere else frozenset(namespaces)
        )
    return Policy(clients_open=clients == "open", tokens=tokens)


class PolicyFile:
    """A policy that follows its file."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._stamp = self._now_stamp()
        self._looked = time.monotonic()
        self._policy = parse(path.read_text(encoding="utf-8"))

    def _now_stamp(self) -> tuple[int, int, int]:
        # Secrets are mounted through links that are swapped: the inode changes, too.
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def current(self) -> Policy:
        """The policy in force."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            try:
                stamp = self._now_stamp()
                if stamp != self._stamp:
                    self._policy = parse(self._path.read_text(encoding="utf-8"))
                    self._stamp = stamp
                    _log.info("read %s again: %d tokens", self._path, len(self._policy.tokens))
            except (OSError, PolicyError) as error:
                _log.warning("keeping the last good tokens: %s: %s", self._path, error)
        return self._policy


def identify(policy: Policy, authorization: str | None, service: str, method: str) -> Identity:
    """Who calls. Raises Refusal."""
    if authorization is None:
        anybody = Identity("anybody", "submit")
        if policy.clients_open and anybody.may_call(service, method):
            return anybody
        raise errors.Refusal(
            errors.Reason.UNAUTHENTICATED,
            "this call needs a token: metadata 'authorization: Bearer TOKEN'",
        )
    token = authorization[len(_BEARER) :] if authorization.lower().startswith(_BEARER) else ""
    identity = policy.tokens.get(hashlib.sha256(token.strip().encode()).digest())
    if identity is None:
        raise errors.Refusal(errors.Reason.UNAUTHENTICATED, "this token is not known")
    if not identity.may_call(service, method):
        raise errors.Refusal(
            errors.Reason.PERMISSION_DENIED,
            f"{identity.name} has role {identity.role}, which may not call {service}/{method}",
        )
    return identity


_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Interceptor(grpc.aio.ServerInterceptor):
    """Lets a call pass, or answers it in its handler's place."""

    def __init__(self, policy: PolicyFile) -> None:
        self._policy = policy

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        _, service, method = handler_call_details.method.split("/", 2)
        if handler is None or not service.startswith("penstock."):
            return handler
        given = dict(handler_call_details.invocation_metadata or ()).get("authorization")
        try:
            authorization = given.decode() if isinstance(given, bytes) else given
            _caller.set(identify(self._policy.current(), authorization, service, method))
        except errors.Refusal as refusal:
            return _refusing(handler, refusal)
        return handler


def _refusing(handler: Any, refusal: errors.Refusal) -> Any:
    """A handler of the same shape that only refuses."""

    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(refusal.row.code, refusal.text, refusal.trailers())

    if handler.request_streaming and handler.response_streaming:
        make = grpc.stream_stream_rpc_method_handler
    elif handler.request_streaming:
        make = grpc.stream_unary_rpc_method_handler
    elif handler.response_streaming:
        make = grpc.unary_stream_rpc_method_handler
    else:
        make = grpc.unary_unary_rpc_method_handler
    return make(refuse, handler.request_deserializer, handler.response_serializer)
