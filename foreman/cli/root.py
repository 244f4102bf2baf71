"""`foreman` itself: its verbs, its version, and how an error of ours ends a command."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import click
import orjson
from click.shell_completion import CompletionItem, add_completion_class

from foreman import __version__
from foreman.cli.completion import WordsOfBash
from foreman.cli.daemon import INTERRUPTED, NOT_TRIED, end_unwritten, ending


class Verb(NamedTuple):
    """A verb: where its command is, and what it does in a few words."""

    place: str
    words: str


#: The verbs as the help lists them, by what one wants. A verb's module is imported when it is asked for: most of them
#: need nothing of the daemon, and nobody wants to wait for it then.
SECTIONS: Final[Mapping[str, Mapping[str, Verb]]] = {
    "Jobs": {
        "submit": Verb("submit:submit", "Queue a job, or many from a file."),
        "jobs": Verb("jobs:jobs", "List jobs."),
        "show": Verb("show:show", "One job: how it stands, why, what happened to it."),
        "why": Verb("show:why", "One sentence: why a job waits."),
        "logs": Verb("follow:logs", "A job's answer, live with -f."),
        "cancel": Verb("change:cancel", "Give jobs up."),
        "retry": Verb("change:retry", "Make the same jobs anew."),
    },
    "What goes on": {
        "ps": Verb("ps:ps", "What is in memory, what runs, what waits."),
        "top": Verb("ps:top", "The same, live."),
        "events": Verb("follow:events", "The log of all that happens, live with -f."),
    },
    "The daemon": {
        "serve": Verb("serve:serve", "Run it."),
        "doctor": Verb("doctor:doctor", "Check all that it needs, and say what to do."),
        "demo": Verb("demo:demo", "See it at work; needs no Ollama."),
        "webhook-listen": Verb("webhook_listen:webhook_listen", "Receive webhooks and print them, to try them out."),
    },
    "The log": {
        "audit": Verb("audit:audit_", "Check that nothing in a database was changed."),
        "backup": Verb("backup:backup_", "Copy the database beside a running daemon, and audit the copy."),
        "compact": Verb("compact:compact_", "Move old events into a compressed archive."),
        "export": Verb("export:export", "Write the log as lines of JSON."),
        "import": Verb("export:import_", "Make a database of an export."),
        "replay": Verb("replay:replay", "Rebuild from the log, look at a moment, try other rules."),
    },
    "The shell": {
        "completion": Verb("completion:completion", "Complete verbs and names."),
    },
}
add_completion_class(WordsOfBash)
#: A help page in wide lines is half as long; in wider ones it is hard to read.
HELP_WIDTH: Final = 120
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
VERBS: Final = {name: verb for verbs in SECTIONS.values() for name, verb in verbs.items()}


class Group(click.Group):
    """Imports a verb when it is used, and ends it with one clear line instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        module, _, attribute = verb.place.partition(":")
        command = getattr(import_module(f"foreman.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is asked for. One that there is not is told with those that look like it."""
        name, *rest = args
        if ctx.resilient_parsing:  # what is being typed is no mistake yet
            return super().resolve_command(ctx, args)
        if name == "help":
            named = [part for part in rest if not part.startswith("-")][:1]
            return self.resolve_command(ctx, [*named, "--help"]) if named else _end_with_help(ctx)
        if name not in VERBS and not name.startswith("-"):
            alike = " or ".join(map(repr, get_close_matches(name, VERBS)))
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {alike}?" if alike else ""))
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read what stands before the verb."""
        with _told(args[:]):
            return super().make_context(info_name, args, parent, **extra)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs that begin so, without importing them."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=verb.words) for name, verb in VERBS.items() if name.startswith(incomplete)]

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb."""
        _mend_streams()
        try:
            with ending(as_json="--json" in ctx.args), _told(ctx.args):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs in their sections."""
        width = max(map(len, VERBS))
        for title, verbs in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", verb.words) for name, verb in verbs.items()])


def _end_with_help(ctx: click.Context) -> NoReturn:
    click.echo(ctx.get_help())
    ctx.exit()


@contextmanager
def _told(arguments: Sequence[str]) -> Iterator[None]:
    """Say that stdout is full, and as JSON, if that was asked for, what is wrong with the command line."""
    try:
        yield
    except click.UsageError as error:
        if "--json" not in arguments:
            raise
        hint = f"{error.ctx.command_path} --help" if error.ctx else None
        click.echo(orjson.dumps({"error": error.format_message(), "code": "usage", "hint": hint}), err=True)
        sys.exit(NOT_TRIED)
    except OSError as error:
        if error.errno not in FULL:
            raise
        end_unwritten(error)


def _mend_streams() -> None:
    """Nobody is troubled by a stream that was closed, or by a letter that the locale of the terminal does not have."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
    epilog="The daemon is looked for at FOREMAN_URL, and asked with the token in FOREMAN_TOKEN.",
)
@click.version_option(__version__, prog_name="foreman")
def main() -> None:
    """A durable queue in front of one Ollama server that stays Ollama on the wire."""
