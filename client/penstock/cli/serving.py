"""`dispatcher`: the queue without Kubernetes, its pools from the same manifests."""

import pathlib

import click

from penstock.cli import failures, manifests


@click.command(
    "dispatcher",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path),
    metavar="FILE",
    help="WorkerPool manifests.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def dispatcher(config: pathlib.Path | None, arguments: tuple[str, ...]) -> None:
    """Run a dispatcher here, with the pools of --config FILE (WorkerPool manifests).

    The other ARGUMENTS are those of penstock-dispatcher: 'penstock dispatcher --help' lists them.
    """
    try:
        from penstock_dispatcher import __main__ as program
    except ModuleNotFoundError as error:
        raise failures.InputError(
            f"the dispatcher needs {error.name}: pip install 'penstock[dispatcher]'"
        ) from None
    from penstock_operator import spec

    pools = [] if config is None else [spec.pool_config(each) for each in manifests.read(config)]
    raise click.exceptions.Exit(program.main(list(arguments), pools=pools))
