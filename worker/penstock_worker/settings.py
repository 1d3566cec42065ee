"""The worker's configuration: from the environment that the operator (or the local fleet) sets."""

import dataclasses
import os
import socket
import uuid
from collections.abc import Mapping
from typing import Final

SLOTS_MAX: Final = 1000


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
    return Settings(
        pool=pool,
        address=env.get("PENSTOCK_ADDRESS") or "127.0.0.1:50051",
        pool_uid=env.get("PENSTOCK_POOL_UID", ""),
        revision=env.get("PENSTOCK_REVISION", ""),
        slots=int(_number(env, "PENSTOCK_SLOTS", 1, least=1, most=SLOTS_MAX)),
        pod_name=env.get("PENSTOCK_POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        pod_uid=env.get("PENSTOCK_POD_UID") or str(uuid.uuid4()),
        token_file=env.get("PENSTOCK_TOKEN_FILE", ""),
        http_port=int(_number(env, "PENSTOCK_HTTP_PORT", 0, least=0, most=65535)),
        drain_timeout_seconds=_number(
            env, "PENSTOCK_DRAIN_TIMEOUT_SECONDS", 600, least=0, most=604800
        ),
    )


def _number(
    env: Mapping[str, str], name: str, default: float, *, least: float, most: float
) -> float:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name} must be a number, is {text!r}") from None
    if not least <= value <= most:
        raise SettingsError(f"{name} must be {least:g} to {most:g}, is {text}")
    return value
