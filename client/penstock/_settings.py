"""Where the dispatcher is, and who we are: arguments first, then the environment.

PENSTOCK_ADDRESS     host:port, default 127.0.0.1:50051
PENSTOCK_TOKEN       the bearer token itself, or
PENSTOCK_TOKEN_FILE  a file that holds it, read again when it changes
PENSTOCK_POOL        the pool that is meant when none is named
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Final

from penstock import _names, _task, _times

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
DEFAULT_TIMEOUT_SECONDS: Final = 30.0

KEEPALIVE_MS: Final = 20_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
CONNECT_MS_MAX: Final = 5_000
RECONNECT_MS_MIN: Final = 100
RECONNECT_MS_MAX: Final = 2_000
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024

CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # Otherwise there are two pings while a call waits, and then one a minute.
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own default grows to two minutes: too long after a restart of the dispatcher.
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_MIN),
    # In spite of its name: how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # Retries are ours alone, see `_retry`.
    ("grpc.service_config_disable_resolution", 1),
)


class NoPoolError(ValueError):
    """No pool is named, and there is no default."""


class Token:
    """The bearer token, as call metadata. A file is read again when its time or size changes."""

    def __init__(self, *, token: str | None = None, path: pathlib.Path | None = None) -> None:
        self._path = path
        self._seen: tuple[int, int] = (-1, -1)
        self._metadata = _bearer(token) if token else ()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Raises OSError if the file cannot be read."""
        if self._path is not None:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size)
            if seen != self._seen:
                self._metadata = _bearer(self._path.read_text(encoding="utf-8").strip())
                self._seen = seen
        return self._metadata


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _address(given: str | None, environ: Mapping[str, str]) -> str:
    found = given if given is not None else environ.get("PENSTOCK_ADDRESS") or DEFAULT_ADDRESS
    if not found or "/" in found.replace("unix:///", "").replace("dns:///", ""):
        raise ValueError(f"the dispatcher's address must be host:port, is {found!r}")
    return found


def _token(
    given: str | None, path: str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> Token:
    if given is not None and path is not None:
        raise ValueError("give a token or a token file, not both")
    if given is None and path is None:
        given = environ.get("PENSTOCK_TOKEN") or None
        path = None if given else environ.get("PENSTOCK_TOKEN_FILE") or None
    return Token(token=given, path=None if path is None else pathlib.Path(path))


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a client was told, completed. `pool` is a full name."""

    address: str
    token: Token
    pool: str | None
    timeout_seconds: float

    def pool_name(self, pool: str | None) -> str:
        """The full name of a pool, or of the default one. Raises ValueError."""
        if pool is not None:
            return _names.pool(pool)
        if self.pool is None:
            raise NoPoolError("which pool? Name one, or set PENSTOCK_POOL")
        return self.pool

    def task_name(self, task: _task.Task | str, pool: str | None) -> str:
        """The full name of a task. Raises ValueError."""
        if isinstance(task, _task.Task):
            return task.name
        return _names.task(task, within=self.pool if pool is None else _names.pool(pool))

    def seconds(self, timeout: _times.Seconds | None) -> float:
        """A call's time-out. Raises ValueError for a negative one."""
        if timeout is None:
            return self.timeout_seconds
        return _times.to_seconds(timeout, name="timeout")


def resolve(
    *,
    address: str | None,
    token: str | None,
    token_file: str | os.PathLike[str] | None,
    pool: str | None,
    timeout: _times.Seconds,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Arguments first, then the environment. Raises ValueError for what cannot be right."""
    environ = os.environ if environ is None else environ
    default_pool = pool if pool is not None else environ.get("PENSTOCK_POOL") or None
    return Settings(
        address=_address(address, environ),
        token=_token(token, token_file, environ),
        pool=None if default_pool is None else _names.pool(default_pool),
        timeout_seconds=_times.to_seconds(timeout, name="timeout"),
    )
