"""Where the dispatcher is and who we are: the options that every command shares. What they find is
`finding`'s business.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

import penstock
from penstock import _settings
from penstock.cli import failures, finding

KUBE = "penstock.kube"
"""In a context's `meta`: the program's name says that the kube context has the dispatcher."""
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_NAMESPACE_HELP = "Where --kube finds it; default: the context's namespace."
_KUBE_NAMESPACE = click.option(
    "--kube-namespace", "--namespace", "kube_namespace", metavar="NAMESPACE", help=_NAMESPACE_HELP
)
_KUBE_NAMESPACE_ONLY = click.option("--kube-namespace", metavar="NAMESPACE", help=_NAMESPACE_HELP)
"""For a command that has a --namespace of its own."""

_FINDING = (
    click.option(
        "--address",
        envvar="PENSTOCK_ADDRESS",
        metavar="HOST:PORT",
        default=_settings.DEFAULT_ADDRESS,
        show_default=True,
        show_envvar=True,
        help="The dispatcher.",
    ),
    click.option(
        "--kube",
        is_flag=True,
        envvar="PENSTOCK_KUBE",
        show_envvar=True,
        help="The dispatcher of the current kube context, through kubectl port-forward.",
    ),
)
_CALLING = (
    click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="Holds the bearer token; default $PENSTOCK_TOKEN, then $PENSTOCK_TOKEN_FILE.",
    ),
    click.option(
        "--request-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a call may take, its retries included.",
    ),
)

pool = click.option(
    "-p",
    "--pool",
    envvar="PENSTOCK_POOL",
    show_envvar=True,
    metavar="POOL",
    help="The pool: 'pool' (in namespace default), 'namespace/pool', or its full name.",
)
POOL_ARGUMENT = click.argument("pool", metavar="[POOL]", required=False)


def connected(
    command: Callable[Concatenate[penstock.SyncClient, _Arguments], _Result],
) -> Callable[..., _Result]:
    """Give a command the connection's options, and a client made of them as first argument."""

    @functools.wraps(command)
    def wrapped(
        *positional: Any,
        address: str,
        kube: bool,
        kube_namespace: str | None,
        token_file: str | None,
        request_timeout: float,
        **named: Any,
    ) -> _Result:
        context = click.get_current_context()
        wanted = finding.Wanted(
            address=address,
            address_by=finding.said(context, "address"),
            kube_by=finding.said(context, "kube") if kube else None,
            kube_implied=context.meta.get(KUBE, False),
            kube_namespace=kube_namespace,
        )
        with finding.dispatcher(wanted) as found:
            # For the line that an error becomes.
            context.find_root().obj = found.address
            try:
                client = penstock.SyncClient(
                    found.address,
                    token_file=token_file,
                    pool=found.pool,
                    timeout=request_timeout,
                )
            except ValueError as error:
                raise failures.InputError(f"{error}: see --address") from None
            with client:
                return command(client, *positional, **named)

    decorated: Callable[..., _Result] = wrapped
    own_namespace = "namespace" in inspect.signature(command).parameters
    where = _KUBE_NAMESPACE_ONLY if own_namespace else _KUBE_NAMESPACE
    for option in reversed((*_FINDING, where, *_CALLING)):
        decorated = option(decorated)
    return decorated
