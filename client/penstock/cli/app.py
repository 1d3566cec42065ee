"""The program: its commands, and the one place where errors become a line and an exit status."""

import os
import sys
from collections.abc import Sequence
from importlib import metadata

import click

from penstock import _settings, errors
from penstock.cli import (
    afterlife,
    completing,
    connection,
    draining,
    failures,
    local,
    looking,
    operating,
    overview,
    purging,
    restoring,
    serving,
    submitting,
    tasks,
    updating,
    watching,
)

_EXPECTED = (
    errors.PenstockError,
    failures.InputError,
    failures.NoDispatcherError,
    failures.AdminNeededError,
    ValueError,
    OSError,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("penstock"), prog_name="penstock")
def penstock() -> None:
    """Submit tasks to worker pools, and see what becomes of them."""


for _command in (
    submitting.submit,
    tasks.get,
    tasks.list_,
    tasks.wait,
    tasks.cancel,
    updating.update,
    tasks.dead_letters,
    afterlife.retry,
    afterlife.delete,
    watching.watch,
    looking.pools,
    looking.workers,
    overview.top,
    operating.pause,
    operating.resume,
    draining.drain,
    draining.undrain,
    purging.purge,
    restoring.restore,
    serving.dispatcher,
    local.up,
    local.down,
    completing.completion,
):
    penstock.add_command(_command)


def run(arguments: Sequence[str], *, program: str = "penstock", kube: bool = False) -> int:
    """Run one command; returns the exit status. Nothing but a bug of ours raises. `kube`: the
    dispatcher is that of the current kube context, unless the command line says otherwise.
    """
    if instruction := os.environ.get(completing.VARIABLE):
        return completing.complete(penstock, instruction)
    context: click.Context | None = None
    try:
        context = penstock.make_context(program, list(arguments) or ["--help"])
        context.meta[connection.KUBE] = kube
        with context:
            penstock.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else program
        line = " ".join(error.format_message().split()).rstrip(".")
        return _fail(failures.Failure(f"{line}: see '{path} --help'", failures.USAGE))
    except (click.Abort, KeyboardInterrupt):
        return failures.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.BROKEN_PIPE
    except _EXPECTED as error:
        address = context.obj if context is not None and context.obj else _settings.DEFAULT_ADDRESS
        return _fail(failures.of(error, address=address))
    return 0


def _fail(failure: failures.Failure) -> int:
    print(f"penstock: {failure.line}", file=sys.stderr)
    return failure.status
