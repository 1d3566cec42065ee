"""Where the dispatcher is and who we are: the options that every command shares."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

import penstock
from penstock import _settings
from penstock.cli import failures

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_OPTIONS = (
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


def connected(
    command: Callable[Concatenate[penstock.SyncClient, _Arguments], _Result],
) -> Callable[..., _Result]:
    """Give a command the connection's options, and a client made of them as first argument."""

    @functools.wraps(command)
    def wrapped(
        *positional: Any,
        address: str,
        token_file: str | None,
        request_timeout: float,
        **named: Any,
    ) -> _Result:
        # For the line that an error becomes.
        click.get_current_context().find_root().obj = address
        try:
            client = penstock.SyncClient(address, token_file=token_file, timeout=request_timeout)
        except ValueError as error:
            raise failures.InputError(f"{error}: see --address") from None
        with client:
            return command(client, *positional, **named)

    decorated: Callable[..., _Result] = wrapped
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
