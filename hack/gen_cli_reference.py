"""Makes docs/reference/cli.md from the commands' own help and the table of exit statuses.

python hack/gen_cli_reference.py            # write it
python hack/gen_cli_reference.py --check    # exit 1 when it is not fresh
"""

import pathlib
import sys

import click

from penstock.cli import app, failures

TARGET = pathlib.Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
HEADER = """\
# The command `penstock`

<!-- Made by hack/gen_cli_reference.py from the program's own help; do not edit. -->

`pip install 'penstock[cli]'`. What is found goes to standard output, all else to standard error.

## Which dispatcher

The first of these that says something:

1. `--address HOST:PORT`
2. `--kube`, or `kubectl penstock …` instead of `penstock …`: the dispatcher of the current kube
   context, in its namespace or in that of `--kube-namespace` (`--namespace`, where a command has no
   other use for that). `kubectl port-forward` is started for it, and ended with the command; so
   whoever does this must be allowed to list Services, get Pods, and create `pods/portforward`.
3. `PENSTOCK_ADDRESS`
4. the local fleet that runs on this machine (`penstock up`), and its pool if it has one only
5. `PENSTOCK_KUBE=1`, which is `--kube` for whoever names no address
6. 127.0.0.1:50051

So `export PENSTOCK_ADDRESS=… PENSTOCK_POOL=…`, or `PENSTOCK_KUBE=1`, once is enough. kubectl finds
`kubectl-penstock` on `PATH`, where pip puts it beside `penstock`.

## Completion

`eval "$(penstock completion bash)"` in `~/.bashrc`; zsh and fish are below.
`kubectl penstock` completes by itself when kubectl does: it asks `kubectl_complete-penstock`,
which is installed beside it and has to be on `PATH` as well.

## Filters

`--filter` takes terms joined by `AND`: `state=PENDING`, `type=NAME`, `priority=N` and
`label.KEY=VALUE`. All of them have to hold, and a value is compared as a whole.

A value may be quoted, `label.team="maps"`, and has to be where it has quotes, blanks at an end, or
` AND ` in it: one that is not quoted and might be meant otherwise is refused (`INVALID_FIELD`).
Between the quotes `\\"` is a quote, `\\\\` a backslash, and everything else is itself. A key that
has `=` or any of these in it is quoted, too: `label."a=b"="c"`.

`--type` and `--label KEY=VALUE` take values as they are, without quotes of their own; the first `=`
ends the KEY.

## Exit status

An error is one line that says what to do next, and one of these:

"""


def exit_statuses() -> str:
    """The table in the docstring of `penstock.cli.failures`."""
    _, _, table = (failures.__doc__ or "").partition("\n\n")
    rows = [line.split(maxsplit=1) for line in table.strip().splitlines()]
    lines = ["| status | meaning |", "|---|---|", *(f"| {code} | {text} |" for code, text in rows)]
    return "\n".join(lines)


def render() -> str:
    """The whole page."""
    parts = [HEADER + exit_statuses()]
    group = app.penstock
    for name in sorted(group.commands):
        command = group.commands[name]
        context = click.Context(
            command, info_name=f"penstock {name}", terminal_width=88, max_content_width=88
        )
        parts.append(f"## penstock {name}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check; returns the exit status."""
    fresh = render()
    if "--check" in arguments:
        if not TARGET.exists() or TARGET.read_text() != fresh:
            print("docs/reference/cli.md is not fresh: run python hack/gen_cli_reference.py")
            return 1
        return 0
    TARGET.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
