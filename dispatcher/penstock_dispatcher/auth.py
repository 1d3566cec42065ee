"""Who may call what: bearer tokens, roles, namespaces.

A token names a role; a role opens services. `submit`: TaskService and reading PoolService; `work`:
WorkerService; `fleet`: FleetService; `admin`: TaskService and all of PoolService. Health and
reflection are open. With `clients: open`, a call without a token counts as `submit` everywhere.

The file is read again when it changes; one that cannot be read, or does not say what it should,
leaves the last good one in force. Tokens are looked up by their SHA-256, so that nothing can be
learnt from how long a comparison takes.

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

TOKENS_MAX: Final = 10_000
LOOK_SECONDS: Final = 1.0
"""The file's time stamp is looked at no more often than this."""
_BEARER: Final = "bearer "
_TOKEN_FIELDS: Final = frozenset({"name", "role", "namespaces", "token"})
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


ANYBODY: Final = "anybody"
_EVERYTHING: Final = Identity(ANYBODY, "admin")
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


def caller(peer: str) -> str:
    """Whom this call counts for: its token's name, or, without one, the host it comes from. `peer`
    is gRPC's address of the other end.
    """
    name = _caller.get().name
    if name != ANYBODY:
        return name
    return peer.rpartition(":")[0] or peer


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
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"not JSON: {error}") from error
    content = _fields(content, "the file", frozenset({"clients", "tokens"}))
    clients = content.get("clients", "token")
    if clients not in ("open", "token"):
        raise PolicyError(f'clients must be "open" or "token", is {clients!r}')
    listed = content.get("tokens", [])
    if not isinstance(listed, list) or len(listed) > TOKENS_MAX:
        raise PolicyError(f"tokens must be a list, of at most {TOKENS_MAX}")
    tokens: dict[bytes, Identity] = {}
    for number, entry in enumerate(listed):
        place = f"tokens[{number}]"
        digest, identity = _token(_fields(entry, place, _TOKEN_FIELDS), place)
        if digest in tokens:
            raise PolicyError(f"{place}.token is that of {tokens[digest].name}, too")
        tokens[digest] = identity
    return Policy(clients_open=clients == "open", tokens=tokens)


def _fields(found: Any, place: str, known: frozenset[str]) -> dict[str, Any]:
    """A JSON object with no other fields: a misspelt one would quietly allow more."""
    if not isinstance(found, dict):
        raise PolicyError(f"{place} must be a JSON object")
    for field in found:
        if field not in known:
            raise PolicyError(f"{place} has the fields {', '.join(sorted(known))}, not {field!r}")
    return found


def _token(entry: dict[str, Any], place: str) -> tuple[bytes, Identity]:
    """One entry: the token's digest, and who it is."""
    name = entry.get("name") or place
    role, token, namespaces = entry.get("role"), entry.get("token"), entry.get("namespaces")
    if not isinstance(name, str):
        raise PolicyError(f"{place}.name must be text")
    if not isinstance(role, str) or role not in ROLES:
        raise PolicyError(f"{place}.role must be one of {', '.join(sorted(ROLES))}")
    if not isinstance(token, str) or not token:
        raise PolicyError(f"{place}.token must not be empty")
    digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
    if namespaces is None:
        return digest, Identity(name, role)
    if not isinstance(namespaces, list) or not all(isinstance(one, str) for one in namespaces):
        raise PolicyError(f"{place}.namespaces must be a list of names")
    if "*" in namespaces:
        return digest, Identity(name, role)
    if role == "fleet":
        raise PolicyError(
            f"{place}.namespaces must be left out: an operator configures every pool, and its token"
            " cannot be held to some namespaces"
        )
    return digest, Identity(name, role, frozenset(namespaces))


class PolicyFile:
    """A policy that follows its file."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._stamp = self._now_stamp()
        self._looked = time.monotonic()
        self._policy = self._read()

    def _read(self) -> Policy:
        try:
            return parse(self._path.read_text(encoding="utf-8"))
        except (PolicyError, UnicodeDecodeError) as error:
            raise PolicyError(f"{self._path}: {error}") from error

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
                    self._policy = self._read()
                    self._stamp = stamp
                    _log.info("read %s again: %d tokens", self._path, len(self._policy.tokens))
            except PolicyError as error:
                self._stamp = stamp  # said once, not each second until somebody mends it
                _log.warning("keeping the last good tokens: %s", error)
            except OSError as error:
                _log.warning("keeping the last good tokens: %s", error)
        return self._policy


def identify(policy: Policy, authorization: str | None, service: str, method: str) -> Identity:
    """Who calls. Raises Refusal."""
    if authorization is None:
        anybody = Identity(ANYBODY, "submit")
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
