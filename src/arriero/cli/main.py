"""The command `arriero`: one verb per file of this package, loaded when it is called.

Decides what a user sees of a failure: one readable message on stderr and the exit status
(0 done, 1 failed while running, 2 wrong configuration or usage, 130 interrupted). No verb catches
errors for that; a traceback is shown only with `arriero --traceback`.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

import click

from arriero.cli.standard_files import hold_nothing_back, open_standard_files, remark
from arriero.errors import ArrieroError, ConfigError, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = {
    "serve": "Serve the models and tasks of a configuration.",
    "chat": "Talk to a task in the terminal.",
    "ps": "List what a running server serves.",
    "ingest": "Put documents into a memory of a running server.",
    "ls": "List what a configuration declares.",
    "pull": "Fetch starter models into the cache.",
    "config": "Check, show or describe a configuration.",
    "memory": "Check, keep and carry memories.",
    "keys": "Make, list, rotate and revoke API keys.",
    "token": "Make a JSON Web Token.",
    "engine": "Show or build the native engine library.",
    "version": "Print the version.",
}
"""Verb -> its line in `--help`. `arriero.cli.VERB.command` is the click command."""


class Verbs(click.Group):
    """A group that imports a verb's module only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = import_module(f"arriero.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0], VERBS, 1)
        if args[0] not in VERBS and near and not args[0].startswith("-"):
            ctx.fail(f'no verb "{args[0]}"; did you mean "{near[0]}"?')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="On failure show where it happened.")
@click.pass_context
def verbs(context: click.Context, traceback: bool) -> None:
    """Serve, feed and cloak language models."""
    context.ensure_object(dict)


def main() -> None:
    """Run the command line of this process and exit."""
    open_standard_files()
    hold_nothing_back("stderr")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; failures are told on stderr."""
    try:
        status = verbs.main(list(arguments), prog_name="arriero", standalone_mode=False)
    except Exception as exc:
        if "--traceback" in arguments and not isinstance(exc, click.ClickException):
            raise
        return tell(exc)
    except KeyboardInterrupt:
        return 130
    return status if isinstance(status, int) else 0


def tell(failure: Exception) -> int:
    """Show the failure in one message and return the exit status that goes with it."""
    match failure:
        case click.ClickException():
            with suppress(OSError):
                failure.show()
            return failure.exit_code
        case click.Abort():
            return 130
        case BrokenPipeError():
            return 0
        case ConfigError():
            return say(failure.message, status=2)
        case Unauthorized():
            return say(f"{failure.message} (keys are given as ARRIERO_API_KEY, or with --api-key)", status=1)
        case ArrieroError():
            return say(failure.message, status=1)
        case OSError(filename=str(file), strerror=str(reason)):
            return say(f"{file}: {reason}", status=1)
        case OSError():
            return say(str(failure), status=1)
        case _:
            name = type(failure).__name__
            return say(f"internal error: {name}: {failure} (arriero --traceback shows where)", status=1)


def say(message: str, *, status: int) -> int:
    """Print the message on stderr and return the status."""
    remark(f"arriero: {message}")
    return status
