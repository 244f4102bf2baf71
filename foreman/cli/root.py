"""`foreman` itself: its verbs, its version, and how an error of ours ends a command."""

from __future__ import annotations

import sys

import click

from foreman import __version__
from foreman.cli.demo import demo
from foreman.cli.doctor import doctor
from foreman.cli.serve import serve
from foreman.cli.webhook_listen import webhook_listen
from foreman.errors import ForemanError

#: Exit status of a command that foreman ends with an error of its own.
FAILED = 1


class Group(click.Group):
    """Ends a command with one clear line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except ForemanError as error:
            click.echo(f"foreman: {error}", err=True)
            if error.hint:
                click.echo(f"  {error.hint}", err=True)
            sys.exit(FAILED)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="foreman")
def main() -> None:
    """A durable queue in front of one Ollama server that stays Ollama on the wire."""


main.add_command(demo)
main.add_command(doctor)
main.add_command(serve)
main.add_command(webhook_listen)
