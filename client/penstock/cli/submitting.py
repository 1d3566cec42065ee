"""`submit`: one task, or as many as a file of JSON lines or standard input holds."""

import contextlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final

import click
import rich.progress

import penstock
from penstock.cli import connection, failures, output, source, waiting
from penstock.cli import tasks as tasks_command

PLAIN_EVERY: Final = 10_000
"""Without a terminal, a line of progress after so many tasks."""


@click.command("submit")
@click.argument("task_type", metavar="[TYPE]", required=False)
@connection.pool
@click.option("--payload", "text", metavar="TEXT", help="The payload, as text.")
@click.option("--json", "as_json", metavar="JSON", help="The payload, as JSON.")
@click.option(
    "--payload-file", type=click.File("rb"), metavar="FILE", help="The payload's file; - = stdin."
)
@click.option(
    "-f",
    "--file",
    type=click.Path(allow_dash=True, exists=True, dir_okay=False),
    metavar="FILE",
    help="Many tasks, one JSON object a line; - = stdin.",
)
@click.option("--priority", type=int, metavar="N", help="Higher first; default: the pool's.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@click.option(
    "--fairness-key", default="", metavar="KEY", help="Whose it is, such as a tenant's name."
)
@click.option(
    "--concurrency-key", default="", metavar="KEY", help="What it works on; few of one run at once."
)
@click.option("--slots", type=click.IntRange(min=1), metavar="N", help="Of one worker; default: 1.")
@click.option("--task-id", default="", metavar="ID", help="Default: chosen by the dispatcher.")
@click.option(
    "--request-id", default="", metavar="ID", help="The same one again makes no second task."
)
@click.option(
    "--delay", type=click.FloatRange(min=0), metavar="SECONDS", help="Not to start before."
)
@click.option(
    "--retry-for",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Come back to a full pool when it says, for so long; default: give up at once.",
)
@click.option(
    "--max-wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait in line at a full pool, for so long at most; one task only.",
)
@click.option(
    "--max-queue-time",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Refuse it if it would start later than that.",
)
@click.option("--wait", is_flag=True, help="Until all are over; exits with 1 if one failed.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Of --wait.")
@output.option
@connection.connected
def submit(
    client: penstock.SyncClient,
    task_type: str | None,
    pool: str | None,
    text: str | None,
    as_json: str | None,
    payload_file: IO[bytes] | None,
    file: str | None,
    priority: int | None,
    labels: tuple[str, ...],
    fairness_key: str,
    concurrency_key: str,
    slots: int | None,
    task_id: str,
    request_id: str,
    delay: float | None,
    retry_for: float | None,
    max_wait: float | None,
    max_queue_time: float | None,
    wait: bool,
    timeout: float | None,
    output: str,
) -> None:
    """Submit a task of TYPE, or many from a file; once it is accepted, it survives anything."""
    retry = None if retry_for is None else penstock.Retry(max_elapsed_seconds=retry_for)
    single: dict[str, Any] = {
        "priority": priority,
        "labels": source.labels(labels),
        "fairness_key": fairness_key,
        "concurrency_key": concurrency_key,
        "task_id": task_id,
        "request_id": request_id,
        "delay": delay,
        "max_queue_time": max_queue_time,
    }
    if slots is not None:
        single["slots"] = slots
    if file is None:
        if task_type is None:
            raise failures.InputError("which type of task? Name it, or give a --file")
        body = source.payload(text=text, as_json=as_json, file=payload_file)
        if max_wait is not None:
            single |= {"admission": penstock.Admission.WAIT, "max_wait": max_wait}
        task = client.submit(task_type, body, pool=pool, retry=retry, **single)
        if wait:
            task = waiting.until_over(client, task, timeout=timeout)
        tasks_command.show(task, form=output)
        if wait and not task.succeeded:
            raise click.exceptions.Exit(failures.NOT_SUCCEEDED)
        return
    if max_wait is not None:
        raise failures.InputError("--max-wait with --file: many tasks keep trying with --retry-for")
    single |= {"payload": text, "json": as_json, "payload_file": payload_file}
    for option, value in single.items():
        if value not in (None, "", {}):
            name = "label" if option == "labels" else option.replace("_", "-")
            raise failures.InputError(f"--{name} with --file: each line says everything but TYPE")
    _submit_file(
        client,
        file,
        default_type=task_type,
        pool=pool,
        retry=retry,
        wait=wait,
        timeout=timeout,
        form=output,
    )


def _submit_file(
    client: penstock.SyncClient,
    file: str,
    *,
    default_type: str | None,
    pool: str | None,
    retry: penstock.Retry | None,
    wait: bool,
    timeout: float | None,
    form: str,
) -> None:
    total = source.count(file, default_type=default_type)
    accepted, names, refused = 0, list[str](), list[penstock.PenstockError]()
    summary = "{} accepted, {} refused".format
    try:
        with contextlib.ExitStack() as stack:
            lines: Iterable[str] = sys.stdin
            if file != "-":
                lines = stack.enter_context(pathlib.Path(file).open(encoding="utf-8"))
            wanted = source.submissions(lines, default_type=default_type, name=file)
            step = stack.enter_context(progress("submitted", total))
            outcomes = client.submit_many(wanted, pool=pool, retry=retry)
            for outcome in stack.enter_context(contextlib.closing(outcomes)):
                step()
                accepted += outcome.ok
                if outcome.error is not None:
                    refused.append(outcome.error)
                elif wait:
                    names.append(outcome.name)
                _print_outcome(outcome, form=form)
    except (failures.InputError, penstock.PenstockError):
        if accepted or refused:
            click.echo(f"before that, {summary(accepted, len(refused))}", err=True)
        raise
    click.echo(summary(accepted, len(refused)), err=True)
    failed = 0
    if wait and names:
        with progress("over", len(names)) as step:
            for name in names:
                failed += not waiting.until_over(client, name, timeout=timeout).succeeded
                step()
        click.echo(f"{len(names) - failed} succeeded, {failed} did not", err=True)
    if refused:
        raise refused[0]
    if failed:
        raise click.exceptions.Exit(failures.NOT_SUCCEEDED)


def _print_outcome(outcome: penstock.Outcome, *, form: str) -> None:
    if form == "name" and outcome.ok:
        click.echo(outcome.name)
    elif form in ("json", "yaml"):
        error = outcome.error
        found = {"name": outcome.name} if error is None else {"error": error.message}
        click.echo(json.dumps({**found, "request_id": outcome.request_id}))


class _Step:
    """Counts, and shows the count."""

    def __init__(self, show: Callable[[int], None]) -> None:
        self.count = 0
        self._show = show

    def __call__(self) -> None:
        self.count += 1
        self._show(self.count)


@contextlib.contextmanager
def progress(word: str, total: int | None) -> Iterator[_Step]:
    """A bar on a terminal, now and then a line elsewhere; both on standard error."""
    if not sys.stderr.isatty():

        def tell(count: int) -> None:
            if count % PLAIN_EVERY == 0:
                click.echo(f"{count} {word}", err=True)

        yield _Step(tell)
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
    )
    with rich.progress.Progress(
        *columns, console=output.console(stderr=True), transient=True
    ) as bars:
        bar = bars.add_task(word, total=total)
        yield _Step(lambda count: bars.update(bar, completed=count))
