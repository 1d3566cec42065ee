"""The operator's own settings: flags, each with an environment variable that gives its default.

`read` refuses what it does not understand, with the flag's name.
"""

import argparse
import dataclasses
import pathlib
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from penstock_operator import resources, template

SERVICE_ACCOUNT_NAMESPACE: Final = pathlib.Path(
    "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one operator process needs to know."""

    namespaces: tuple[str, ...]
    """Served ones; each needs the rights listed in `cluster`."""
    operator_namespace: str
    """Where the Lease of the leadership is."""
    operator_id: str
    dispatcher_address: str
    token_file: str
    """Of the bearer token for the dispatcher; empty = none is sent. Read anew at every connect."""
    workers: resources.WorkerSettings
    security: template.SecurityPolicy
    lease_name: str
    http_host: str
    http_port: int
    """0 = any free one, -1 = no HTTP."""
    log_level: str


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from the command line and the environment. Exits with a message on bad ones."""
    parser = argparse.ArgumentParser(
        prog="penstock-operator",
        description="Watches WorkerPools, scales their workers on demand, and reports.",
        epilog="Every flag has an environment variable, named in brackets; an empty one is as good"
        " as none, where the flag's help does not say what empty means.",
    )

    def flag(name: str, variable: str, default: str, text: str, *, empty: bool = False) -> None:
        """`empty` says something, other than `default`."""
        found = environment.get(variable, default)
        parser.add_argument(
            f"--{name}",
            default=found if empty else found or default,
            type=str if empty or not default else _filled,
            help=f"{text} [{variable}; {default or 'empty'}]",
        )

    own = environment.get("PENSTOCK_POD_NAMESPACE") or _own_namespace()
    identity = environment.get("PENSTOCK_POD_NAME") or socket.gethostname()
    flag("namespaces", "PENSTOCK_NAMESPACES", "", "namespaces to serve, by commas; empty = its own")
    flag("operator-namespace", "PENSTOCK_OPERATOR_NAMESPACE", own, "namespace of its Lease")
    flag("operator-id", "PENSTOCK_OPERATOR_ID", identity, "its name in the Lease")
    flag("lease-name", "PENSTOCK_LEASE_NAME", "penstock-operator", "the Lease of the leadership")
    flag(
        "dispatcher-address",
        "PENSTOCK_DISPATCHER_ADDRESS",
        "127.0.0.1:50051",
        "host:port of the dispatcher",
    )
    flag("token-file", "PENSTOCK_TOKEN_FILE", "", "file with the token for the dispatcher")
    flag(
        "worker-address",
        "PENSTOCK_WORKER_ADDRESS",
        "",
        "host:port that workers connect to; empty = the dispatcher's address",
    )
    flag(
        "worker-token-secret",
        "PENSTOCK_WORKER_TOKEN_SECRET",
        "penstock-worker",
        "Secret with the workers' token (key token); empty = workers need none",
        empty=True,
    )
    flag(
        "template-allow",
        "PENSTOCK_TEMPLATE_ALLOW",
        "",
        f"what pod templates may hold, by commas: {', '.join(sorted(template.ALLOWABLE))}",
    )
    flag(
        "template-service-accounts",
        "PENSTOCK_TEMPLATE_SERVICE_ACCOUNTS",
        "default",
        "service accounts that pod templates may name, by commas; empty = none",
        empty=True,
    )
    flag(
        "protected-secrets",
        "PENSTOCK_PROTECTED_SECRETS",
        "",
        "Secrets that pod templates may not read, by commas",
    )
    flag("http-host", "PENSTOCK_HTTP_HOST", "0.0.0.0", "address of the HTTP port")  # noqa: S104
    flag("http-port", "PENSTOCK_HTTP_PORT", "8080", "health and metrics; 0 = any, -1 = none")
    flag("log-level", "PENSTOCK_LOG_LEVEL", "info", f"one of {', '.join(LOG_LEVELS)}")
    given = parser.parse_args(arguments)

    allow = _list(given.template_allow)
    unknown = allow - template.ALLOWABLE
    if unknown:
        parser.error(
            f"--template-allow: {', '.join(sorted(unknown))} is unknown; "
            f"choose from {', '.join(sorted(template.ALLOWABLE))}"
        )
    if given.log_level not in LOG_LEVELS:
        parser.error(f"--log-level: must be one of {', '.join(LOG_LEVELS)}, is {given.log_level}")
    try:
        http_port = int(given.http_port)
    except ValueError:
        parser.error(f"--http-port: must be a number, is {given.http_port}")
    if not -1 <= http_port <= 65535:
        parser.error(f"--http-port: must be from -1 to 65535, is {http_port}")
    namespaces = tuple(sorted(_list(given.namespaces))) or (given.operator_namespace,)
    return Settings(
        namespaces=namespaces,
        operator_namespace=given.operator_namespace,
        operator_id=given.operator_id,
        dispatcher_address=given.dispatcher_address,
        token_file=given.token_file,
        workers=resources.WorkerSettings(
            address=given.worker_address or given.dispatcher_address,
            token_secret=given.worker_token_secret,
        ),
        security=template.SecurityPolicy(
            allow=allow,
            service_accounts=_list(given.template_service_accounts) | {""},
            protected_secrets=_list(given.protected_secrets),
        ),
        lease_name=given.lease_name,
        http_host=given.http_host,
        http_port=http_port,
        log_level=given.log_level,
    )


def _filled(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _list(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _own_namespace() -> str:
    if SERVICE_ACCOUNT_NAMESPACE.exists():
        return SERVICE_ACCOUNT_NAMESPACE.read_text().strip()
    return "default"
