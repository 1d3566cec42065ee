"""`dispatcher`: the queue without Kubernetes, its pools from the same manifests."""

import pathlib
from collections.abc import Iterator
from typing import Any

import click
import yaml

from penstock.cli import failures


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
    pools = [] if config is None else list(_pools(config))
    raise click.exceptions.Exit(program.main(list(arguments), pools=pools))


def _pools(path: pathlib.Path) -> Iterator[Any]:
    # The operator's reader of manifests is pure: none of the operator's libraries is needed.
    from penstock_operator import fields, spec

    try:
        documents = [each for each in yaml.safe_load_all(path.read_text()) if each is not None]
    except yaml.YAMLError as error:
        raise failures.InputError(f"{path} is not YAML: {error}") from None
    if not documents:
        raise failures.InputError(f"{path} holds no WorkerPool: add one, or leave --config out")
    for number, document in enumerate(documents, start=1):
        try:
            yield spec.pool_config(spec.parse_manifest(document))
        except fields.InvalidManifest as error:
            raise failures.InputError(f"{path} document {number}: {error}") from None
