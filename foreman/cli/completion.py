"""`foreman completion`: the script that makes a shell complete foreman's verbs, options and names."""

from __future__ import annotations

import os
from itertools import pairwise

import click
from click.shell_completion import BashComplete, CompletionItem, get_completion_class, split_arg_string

PROGRAM = "foreman"
VARIABLE = "_FOREMAN_COMPLETE"


class WordsOfBash(BashComplete):
    """Completes `qwen3:8b` and `--state=failed`, each of which bash takes for three words and wants the last of."""

    #: What bash has of the name already and does not want again.
    _before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the one at it."""
        at = max(1, int(os.environ["COMP_CWORD"]))
        typed = split_arg_string(os.environ["COMP_WORDS"])[1 : at + 1]
        typed += [""] * (at - len(typed))
        words: list[str] = []
        for before, word in pairwise(["", *typed]):
            if words and ":" in (before, word):
                words[-1] += word
                self._before = words[-1][: words[-1].rfind(":") + 1]
            elif word != "=" or not before.startswith("--"):
                words.append(word)
                self._before = ""
        if typed[-1] == "=":
            words.append("")
        *others, incomplete = words
        return others, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        """The rest of a name whose beginning is there."""
        item.value = item.value.removeprefix(self._before)
        return super().format_completion(item)


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
