"""What was found, as people or programs want it: table, json, yaml, or names alone.

A `Column` says how one field looks in a table; the other formats show every field of the value.
Rows may be endless: json and yaml write a document for each, json in one line, and a table comes in
parts.
"""

import base64
import dataclasses
import datetime as dt
import enum
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import click
import rich.console
import rich.markup
import rich.table
import yaml

import penstock

Row = TypeVar("Row")
#: A longer table is printed in parts: no list is too long to begin with.
ROWS_PER_TABLE_MAX = 1_000
#: Wide enough for any row: a table that nobody reads on a terminal is not cut.
WIDTH_UNLIMITED = 10_000

option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "name"]),
    default="table",
    show_default=True,
    help="json: one object a line.",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a table."""

    title: str
    show: Callable[[Row], str]


def console(*, stderr: bool = False) -> rich.console.Console:
    """A console that colours a terminal, and cuts nothing where there is none."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return rich.console.Console(
        stderr=stderr, width=None if terminal else WIDTH_UNLIMITED, highlight=False, soft_wrap=True
    )


def write(
    rows: Iterable[Row], *, columns: tuple[Column[Row], ...], form: str, name: Callable[[Row], str]
) -> None:
    """Print the rows in the form of the `-o` option; `name` is what `-o name` shows."""
    if form == "name":
        for row in rows:
            click.echo(name(row))
    elif form == "json":
        for row in rows:
            click.echo(json.dumps(plain(row), ensure_ascii=False))
    elif form == "yaml":
        for row in rows:
            click.echo("---\n" + yaml.safe_dump(plain(row), sort_keys=False), nl=False)
    else:
        remaining, printed = iter(rows), console()
        part = list(itertools.islice(remaining, ROWS_PER_TABLE_MAX))
        printed.print(table(part, columns=columns))
        while part := list(itertools.islice(remaining, ROWS_PER_TABLE_MAX)):
            printed.print(table(part, columns=columns, header=False))


def counted(found: penstock.Bulk | penstock.Purge | penstock.Restore, what: str) -> None:
    """Print the first names, then, beside what programs read, how many there are of `what`."""
    for name in found.sample:
        click.echo(name)
    click.echo(f"{found.count} {what}", err=True)


def table(
    rows: Iterable[Row], *, columns: tuple[Column[Row], ...], header: bool = True
) -> rich.table.Table:
    """The rows as a table without lines."""
    made = rich.table.Table(box=None, header_style="bold", pad_edge=False, show_header=header)
    for number, column in enumerate(columns):
        made.add_column(column.title, no_wrap=True, overflow="fold" if number else "ignore")
    for row in rows:
        made.add_row(*(rich.markup.escape(column.show(row)) for column in columns))
    return made


def plain(value: Any) -> Any:
    """A value of the client as JSON can say it: times in RFC 3339, bytes as text or base64."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def text_of(data: bytes) -> str:
    """Text as it is; anything else in base64, and said to be so."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(data).decode()


def ago(moment: dt.datetime | None, *, now: dt.datetime) -> str:
    """How long ago, in one unit and a half: `12s`, `3m20s`, `5h`, `2d`."""
    if moment is None:
        return "-"
    return span((now - moment).total_seconds())


def span(seconds: float | None) -> str:
    """A length of time for people; `-` = not known."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s".replace(".0s", "s")
    if whole < 60:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m{whole % 60}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86_400:
        return f"{whole // 3600}h"
    return f"{whole // 86_400}d"
