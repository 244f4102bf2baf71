"""`foreman completion`: the script that makes a shell complete foreman's verbs, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "foreman"
VARIABLE = "_FOREMAN_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example: eval "$(foreman completion bash)"       in ~/.bashrc
             eval "$(foreman completion zsh)"        in ~/.zshrc
             foreman completion fish | source        in ~/.config/fish/config.fish
    """
    made = get_completion_class(shell)
    assert made is not None, "click knows all three"
    click.echo(made(context.find_root().command, {}, PROGRAM, VARIABLE).source())
