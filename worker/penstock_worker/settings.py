"""The worker's configuration: from the environment that the operator (or the local fleet) sets."""

import dataclasses
import logging
import os
import re
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SLOTS_MAX: Final = 1000
_POOL: Final = re.compile(r"namespaces/[^/\s]+/pools/[^/\s]+")


class SettingsError(Exception):
    """A variable is missing or unusable; the message names it and says what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """See `docs/reference/worker.md`. `http_port` 0 = no readiness server; `token_file` "" = no
    token.
    """

    pool: str
    address: str = "127.0.0.1:50051"
    pool_uid: str = ""
    revision: str = ""
    slots: int = 1
    pod_name: str = ""
    pod_uid: str = ""
    token_file: str = ""
    http_port: int = 0
    drain_timeout_seconds: float = 600.0
    log_level: str = "INFO"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read `PENSTOCK_…`; SettingsError names the variable that is wrong."""
    env = os.environ if environment is None else environment
    pool = env.get("PENSTOCK_POOL", "")
    if not pool:
        raise SettingsError(
            "PENSTOCK_POOL is not set: the operator sets it in pods; elsewhere use"
            " PENSTOCK_POOL=namespaces/default/pools/NAME"
        )
    if not pool.startswith("namespaces/"):
        namespace, _, name = pool.rpartition("/")
        pool = f"namespaces/{namespace or 'default'}/pools/{name}"
    if not _POOL.fullmatch(pool):
        raise SettingsError(
            f"PENSTOCK_POOL must be NAME, NAMESPACE/NAME or namespaces/NAMESPACE/pools/NAME, is"
            f" {env['PENSTOCK_POOL']!r}"
        )
    return Settings(
        pool=pool,
        address=env.get("PENSTOCK_ADDRESS") or "127.0.0.1:50051",
        pool_uid=env.get("PENSTOCK_POOL_UID", ""),
        revision=env.get("PENSTOCK_REVISION", ""),
        slots=_whole(env, "PENSTOCK_SLOTS", 1, least=1, most=SLOTS_MAX),
        pod_name=env.get("PENSTOCK_POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        pod_uid=env.get("PENSTOCK_POD_UID") or str(uuid.uuid4()),
        token_file=_readable(env, "PENSTOCK_TOKEN_FILE"),
        http_port=_whole(env, "PENSTOCK_HTTP_PORT", 0, least=0, most=65535),
        drain_timeout_seconds=_number(
            env, "PENSTOCK_DRAIN_TIMEOUT_SECONDS", 600, least=0, most=604800
        ),
        log_level=_level(env, "PENSTOCK_LOG_LEVEL"),
    )


def _level(env: Mapping[str, str], name: str) -> str:
    level = (env.get(name) or "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        raise SettingsError(
            f"{name} must be DEBUG, INFO, WARNING, ERROR or CRITICAL, is {env[name]!r}"
        )
    return level


def _readable(env: Mapping[str, str], name: str) -> str:
    path = env.get(name, "")
    if path:
        try:
            Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(f"{name}: cannot read {path!r}: {cause}") from None
    return path


def _whole(env: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    value = _number(env, name, default, least=least, most=most)
    if not value.is_integer():
        raise SettingsError(f"{name} must be a whole number, is {env[name]}")
    return int(value)


def _number(
    env: Mapping[str, str], name: str, default: float, *, least: float, most: float
) -> float:
    text = env.get(name, "")
    if not text:
        return float(default)
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name} must be a number, is {text!r}") from None
    if not least <= value <= most:
        raise SettingsError(f"{name} must be {least:g} to {most:g}, is {text}")
    return value
