"""`completion`: what a shell needs to complete commands and options. The script is click's; it asks
this program for words, with `VARIABLE` set.
"""

from collections.abc import Sequence
from typing import Final

import click
from click import shell_completion

VARIABLE: Final = "_PENSTOCK_COMPLETE"
PROGRAM: Final = "penstock"
_NO_FILES: Final = 4
"""What kubectl is told at the end: propose no file names (cobra's ShellCompDirectiveNoFileComp)."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes 'penstock' in a shell.

    \b
    bash:  eval "$(penstock completion bash)"          in ~/.bashrc
    zsh:   eval "$(penstock completion zsh)"           in ~/.zshrc, after compinit
    fish:  penstock completion fish | source           in ~/.config/fish/config.fish
    """
    complete(context.find_root().command, f"{shell}_source")


def complete(program: click.Command, instruction: str) -> int:
    """Answer a shell with `SHELL_source` or `SHELL_complete`; returns the exit status."""
    return shell_completion.shell_complete(program, {}, PROGRAM, VARIABLE, instruction)


def complete_for_kubectl(program: click.Command, words: Sequence[str]) -> int:
    """Answer kubectl, which gives what follows `kubectl penstock`, the unfinished word last: a
    proposal a line, its help after a tab, and a directive. Returns the exit status.
    """
    *before, unfinished = words or [""]
    asked = shell_completion.ShellComplete(program, {}, PROGRAM, VARIABLE)
    for found in asked.get_completions(before, unfinished):
        if found.type == "plain":
            said = " ".join((found.help or "").split())
            click.echo(f"{found.value}\t{said}" if said else found.value)
    click.echo(f":{_NO_FILES}")
    return 0
