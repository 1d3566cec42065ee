"""`up` and `down`: WorkerPools on this machine, without Kubernetes.

Reads the manifests, claims the state folder, and leaves the rest to `penstock_operator.local`.
`--detach` starts the same command in a session of its own and waits until it is ready.
"""

import asyncio
import importlib.util
import logging
import logging.handlers
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import click

from penstock.cli import board, failures, manifests

LIBRARIES: Final = {
    "aiohttp": "aiohttp",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "prometheus_client": "prometheus-client",
}
"""What the dispatcher imports, by module."""
PROGRAM: Final = (sys.executable, "-P", "-m", "penstock.cli")
READY_SECONDS_MAX: Final = 120.0
PROBLEM_SECONDS_MAX: Final = 10.0
"""How long `up --detach` watches workers that do not stay alive before it says so."""
POLL_SECONDS: Final = 0.05
LOG_BYTES_MAX: Final = 4 * 1024 * 1024

state_option = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    envvar="PENSTOCK_STATE",
    show_envvar=True,
    metavar="DIR",
    help="Journal, logs and address; default: ~/.local/state/penstock/POOL.",
)


@click.command("up")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=pathlib.Path),
    metavar="FILE",
    help="WorkerPool manifests; repeatable.",
)
@click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=pathlib.Path),
    metavar="DIR",
    help="Where the workers run and find their handlers; default: the manifest's folder.",
)
@state_option
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Of the dispatcher, on 127.0.0.1; default: 50051, or a free one if that is taken.",
)
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when ready.")
def up(
    files: tuple[pathlib.Path, ...],
    app_dir: pathlib.Path | None,
    state: pathlib.Path | None,
    port: int | None,
    detach: bool,
) -> None:
    """Run WorkerPools on this machine: a dispatcher and worker processes, no Kubernetes.

    The worker container's args (and command, env) say what runs; its image is not used. Other
    commands find the fleet, and its pool if it has one, without --address and --pool.

    Ctrl-C drains: new tasks are refused, running ones finish, waiting ones stay for the next 'up'.
    A second Ctrl-C, or Ctrl-\\, stops at once.

    \b
    Exit status:
      0    drained
      1    the drain time-out has passed, what still ran runs again next time;
           with --detach: the workers do not stay alive
      3    the dispatcher cannot serve
      130  stopped at once
    """
    _check_machine()
    members = _members(files, app_dir=app_dir)
    from penstock_operator.local import state as states

    first = members[0].how.pool
    path = state or states.default_folder(os.environ, namespace=first.namespace, pool=first.name)
    folder = states.Folder(path.expanduser().absolute())
    if port is not None:
        _check_port(port)
    if detach:
        _detach(folder, files=files, app_dir=app_dir, port=port)
        return
    for member in members:
        for note in member.how.notes:
            click.echo(f"penstock: note: {note}", err=True)
    try:
        with folder.claimed():
            (folder.path / "pools.yaml").write_text(
                "\n---\n".join(each.read_text() for each in dict.fromkeys(files))
            )
            status = _run(members, folder=folder, port=port)
    except states.InUse as error:
        raise _in_use(error) from None
    words = {0: "drained", 1: "the drain time-out has passed", 130: "stopped at once"}
    click.echo(f"penstock: {words[status]}; tasks that wait are kept in {folder.path}", err=True)
    raise click.exceptions.Exit(status)


def _check_port(port: int) -> None:
    from penstock_operator.local import service

    if service.free(port) is None:
        raise failures.InputError(
            f"port {port} of {service.HOST} is taken or not ours to use: name another with --port, "
            "or none for one that is free"
        )


def _check_machine() -> None:
    if not hasattr(os, "pidfd_open"):
        raise failures.InputError("the local fleet needs Linux: use a cluster on this machine")
    missing = [name for module, name in LIBRARIES.items() if not importlib.util.find_spec(module)]
    if missing:
        raise failures.InputError(
            f"the dispatcher needs {missing[0]}: pip install 'penstock[cli,dispatcher]'"
        )


def _members(files: Sequence[pathlib.Path], *, app_dir: pathlib.Path | None) -> list[Any]:
    from penstock_operator import fields
    from penstock_operator.local import fleet, launch

    members: dict[str, fleet.Member] = {}
    for path in dict.fromkeys(files):
        for pool in manifests.read(path):
            if pool.full_name in members:
                raise failures.InputError(f"{path}: {pool.full_name} is there already: rename it")
            try:
                how = launch.launch_of(pool, surroundings=os.environ, python=sys.executable)
            except fields.InvalidManifest as error:
                raise failures.InputError(f"{path}: {error}") from None
            members[pool.full_name] = fleet.Member(how=how, folder=app_dir or path.parent)
    return list(members.values())


def _in_use(error: Any) -> failures.InputError:
    return failures.InputError(
        f"{error}: stop it with 'penstock down --state {error.path}', or name another --state"
    )


def _run(members: list[Any], *, folder: Any, port: int | None) -> int:
    from penstock_operator import dispatcher_link
    from penstock_operator.local import fleet, service

    handler = logging.handlers.RotatingFileHandler(
        folder.logs / "fleet.log", maxBytes=LOG_BYTES_MAX, backupCount=1
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)

    def dispatcher(listen: str, data: str) -> list[str]:
        # With the pools from its first moment on, so that it admits as soon as it serves.
        return [
            *(*PROGRAM, "dispatcher"),
            *("--config", str(folder.path / "pools.yaml")),
            *("--listen", listen, "--http", "", "--data", data),
        ]

    async def run() -> int:
        return await fleet.LocalFleet(
            members,
            folder=folder,
            port=port or service.choose_port(),
            dispatcher=dispatcher,
            show=shown.show,
        ).run()

    try:
        with board.Board() as shown:
            return asyncio.run(run())
    except (service.Failed, dispatcher_link.Deposed) as error:
        line = f"{error}: its log is {folder.logs / 'dispatcher.log'}"
        click.echo(f"penstock: {line}", err=True)
        raise click.exceptions.Exit(failures.UNREACHABLE) from None


# ---------------------------------------------------------------- in the background


def _detach(
    folder: Any, *, files: Sequence[pathlib.Path], app_dir: pathlib.Path | None, port: int | None
) -> None:
    from penstock_operator.local import children
    from penstock_operator.local import state as states

    try:
        with folder.claimed():
            pass  # in use is better said here than in a log
    except states.InUse as error:
        raise _in_use(error) from None
    arguments = [part for path in files for part in ("--file", str(path))]
    arguments += ["--app-dir", str(app_dir)] if app_dir else []
    arguments += ["--port", str(port)] if port else []
    log = folder.logs / "up.log"
    log.write_bytes(b"")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*PROGRAM, "up", "--state", str(folder.path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        record = _until_ready(folder, process)
    except BaseException:
        process.terminate()
        raise
    if record is None:
        line = children.last_line(log).removeprefix("penstock: ")
        click.echo(f"penstock: {line or f'it has ended: its log is {log}'}", err=True)
        raise click.exceptions.Exit(process.returncode or failures.NOT_SUCCEEDED)
    stop = f"penstock down --state {folder.path}"
    if not record.ready:
        problem = record.problem or "it is not ready yet"
        click.echo(f"penstock: {problem}; it goes on trying until '{stop}'", err=True)
        raise click.exceptions.Exit(failures.NOT_SUCCEEDED)
    click.echo(f"ready at {record.address}, process {record.pid}; stop it with '{stop}'")


def _until_ready(folder: Any, process: subprocess.Popen[bytes]) -> Any:
    """The record of a fleet that is ready, or stays in trouble; None = its process has ended."""
    begun = time.monotonic()
    fine = begun
    while process.poll() is None:
        now = time.monotonic()
        record = folder.read()
        if record is not None and record.pid == process.pid:
            fine = fine if record.problem else now
            late = now - begun > READY_SECONDS_MAX or now - fine > PROBLEM_SECONDS_MAX
            if record.ready or late:
                return record
        time.sleep(POLL_SECONDS)
    return None


@click.command("down")
@state_option
@click.option("--now", is_flag=True, help="Stop at once; what runs is run again next time.")
def down(state: pathlib.Path | None, now: bool) -> None:
    """Stop a local fleet: refuse new tasks, finish what runs. Waiting tasks are kept."""
    from penstock_operator.local import state as states

    environ = os.environ if state is None else {**os.environ, states.VARIABLE: str(state)}
    running = states.running(environ)
    if not running:
        where = state or states.root(os.environ)
        click.echo(f"penstock: no local fleet runs in {where}: nothing to stop", err=True)
        raise click.exceptions.Exit(failures.MISSING)
    if len(running) > 1:
        paths = ", ".join(str(folder.path) for folder, _ in running)
        raise failures.InputError(f"several local fleets run: say --state with one of {paths}")
    _, record = running[0]
    try:
        with states.Process(record) as process:
            process.send(signal.SIGQUIT if now else signal.SIGTERM)
            if not process.ended(seconds=1.0):
                click.echo("finishing what runs; 'penstock down --now' stops at once", err=True)
            while not process.ended(seconds=60.0):
                pass
    except ProcessLookupError:
        pass  # it has ended meanwhile
    click.echo("stopped")
